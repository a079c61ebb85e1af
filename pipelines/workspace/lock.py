"""One live run per workspace: an advisory lock that the kernel frees when its process dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from feature_store.tables.files import UnsafeFile, kind_of
from feature_store.tables.json_models import JsonModel
from pipelines.errors import WorkspaceLocked

LOCK = ".lock"


class LockOwner(JsonModel):
    """The process that holds a workspace, what it does there, and since when."""

    pid: int | str = "?"
    host: str = "?"
    command: str = "?"
    since: str = "?"


@contextmanager
def workspace_lock(workspace: Path, command: str, otherwise: str = "choose another --workspace") -> Iterator[None]:
    """Hold the workspace, or another folder that one run works in, for the body of a ``with`` statement.

    The lock is ``flock`` on a file, so that of a killed run is free at once: nothing has to be cleaned up or timed out.

    Parameters
    ----------
    workspace : Path
        Created where it does not exist.
    command : str
        What the message to others says about this run.
    otherwise : str
        What else others may do, for the same message.

    Raises
    ------
    WorkspaceLocked
        At once, without waiting, when another process holds it.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    descriptor = _open(workspace / LOCK, os.O_RDWR | os.O_CREAT)
    held = [descriptor]
    try:
        if not _acquire(descriptor):
            owner = _owner(descriptor)
            raise WorkspaceLocked(
                f"{workspace} is in use by process {owner.pid} on {owner.host} ({owner.command}) since {owner.since}; "
                f"wait for it, stop it, or {otherwise}"
            )
        if not os.fstat(descriptor).st_nlink:
            raise WorkspaceLocked(f"{workspace} was removed by a run that ended in this moment; give the same command again")
        # A forked worker shares the lock; closing its copy lets the lock go when this process dies, not when its last worker does.
        os.register_at_fork(after_in_child=lambda: _close(held))
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        owner = LockOwner(pid=os.getpid(), host=socket.gethostname(), command=command, since=since)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner.to_json()).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        held.clear()
        os.close(descriptor)


@contextmanager
def held_file(path: Path) -> Iterator[None]:
    """Let one process at a time into the block, for a moment: others wait, and what a killed one held is free at once.

    Raises
    ------
    UnsafeFile
        When the lock's file is a link, or none.
    """
    descriptor = _open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    """Open the lock's file; what it is written into must be no file elsewhere, and what it is read from must not be waited for."""
    if path.is_symlink():
        raise UnsafeFile(f"{path} is a link; remove it")
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise UnsafeFile(f"{path} is {kind_of(mode)}; remove it")
    return descriptor


def _close(held: list[int]) -> None:
    while held:
        os.close(held.pop())


def _acquire(descriptor: int) -> bool:
    """Try for a moment, because `status` holds the lock for an instant when it looks whether somebody else does."""
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


def holder(workspace: Path) -> LockOwner | None:
    """Who holds the workspace now; None where nobody does."""
    try:
        descriptor = _open(workspace / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(descriptor)
    finally:
        os.close(descriptor)
    return None


def _owner(descriptor: int) -> LockOwner:
    try:
        return LockOwner.from_json(json.loads(os.pread(descriptor, 4096, 0)))
    except ValueError:  # caught while the owner writes it
        return LockOwner()
