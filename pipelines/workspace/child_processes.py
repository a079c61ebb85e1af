"""Processes that a command begins for a part of its work: what they inherit, and that none of them outlives it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

SPAWN = multiprocessing.get_context("spawn")  # not forked: a copy of this process, whose libraries have threads, may hang


@contextmanager
def as_children_begin(threads: int | None) -> Iterator[None]:
    """What a process that is spawned in the body of a ``with`` statement inherits.

    It is deaf to Ctrl-C, which reaches every process: the one that began it ends it. And it has no main module, since it would run the
    script that asks for the work once more.

    Parameters
    ----------
    threads : int or None
        For its linear algebra; None leaves them as they are.
    """
    main, before = sys.modules["__main__"], os.environ.get("OMP_NUM_THREADS")
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if threads is not None and before is None:
            del os.environ["OMP_NUM_THREADS"]
        elif before is not None:
            os.environ["OMP_NUM_THREADS"] = before
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def how_it_ended(process: BaseProcess) -> str:
    """In a few words, of a process that has ended without its answer."""
    code = process.exitcode or 0
    if code >= 0:
        return f"ended by itself with code {code}"
    hint = ", as systems do with what runs out of memory" if -code == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


# --- in such a process -----------------------------------------------------------------------------------------------


def begin_child() -> None:
    """Called first in every child: it ends with the process that began it, however that one went."""
    os.dup2(2, 1)  # whatever a library prints is no result of the command
    threading.Thread(target=_end_with_parent, daemon=True).start()


def say(pipe: Connection, **said: Any) -> None:
    """Tell the process that began this one something, as JSON."""
    pipe.send_bytes(json.dumps(said).encode())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
