"""One live run per workspace, shown with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from feature_store.tables.files import UnsafeFile
from pipelines.errors import WorkspaceLocked
from pipelines.workspace.lock import LOCK, holder, workspace_lock
from tests.programs import HANGS

HOLD = """
import os, sys
from pathlib import Path
from pipelines.workspace.lock import workspace_lock
with workspace_lock(Path(sys.argv[1]), "ctr-kd run other.yaml"):
    if sys.argv[2] == "fork":
        forked, worker = os.pipe()
        if os.fork() == 0:
            os.write(worker, b"!")
            sys.stdin.read()
            os._exit(0)
        os.read(forked, 1)  # a worker that has not run yet still shares the lock
    print("held", flush=True)
    sys.stdin.read()  # until the test ends
"""


@contextmanager
def other_run(workspace: Path, mode: str = "plain") -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with suppress(ProcessLookupError):  # the test killed it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(HANGS)


def test_the_second_run_is_told_who_holds_the_workspace(tmp_path: Path) -> None:
    with other_run(tmp_path) as process:
        with pytest.raises(WorkspaceLocked) as error, workspace_lock(tmp_path, "me"):
            pass
        assert f"process {process.pid} on {os.uname().nodename} (ctr-kd run other.yaml) since 20" in str(error.value)
        found = holder(tmp_path)
        assert found is not None
        assert found.pid == process.pid


@pytest.mark.parametrize("mode", ["plain", "fork"])
def test_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path, mode: str) -> None:
    """Also while a worker that it had forked lives on."""
    with other_run(tmp_path, mode) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(HANGS)
        assert holder(tmp_path) is None
        with workspace_lock(tmp_path, "me"):
            found = holder(tmp_path)
            assert found is not None and found.pid == os.getpid()


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    workspace = tmp_path / "new" / "workspace"
    assert holder(workspace) is None
    for _ in range(2):
        with workspace_lock(workspace, "me"):
            pass
    assert holder(workspace) is None


def test_looking_at_a_workspace_does_not_make_it(tmp_path: Path) -> None:
    holder(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / LOCK).symlink_to("precious")
    with pytest.raises(UnsafeFile, match=r"is a link; remove it"), workspace_lock(tmp_path, "run"):
        pass
    assert (tmp_path / "precious").read_text() == "x"
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    for ask in (lambda: holder(tmp_path), lambda: workspace_lock(tmp_path, "run").__enter__()):
        with pytest.raises(UnsafeFile, match=r"is a pipe; remove it"):
            ask()
