"""Programs in processes of their own that need not load torch and MLflow, which takes seconds: they are forks of one that has."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.connection
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TIMED = ("pipelines.tasks.timing.TIMED_SECONDS", "ctr_kd.evaluation.throughput.TIMED_SECONDS")  # how long speed is measured
HANGS = 600  # seconds after which what has not ended never will: it decides nothing else
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preloaded"])


class Ended(NamedTuple):
    """How a program ended (by a signal: its number, negative), and what it wrote."""

    code: int
    out: str
    err: str


class Program:
    """``python -m MODULE ARGUMENTS...`` at the root of the project, under way; it measures speed for a moment only."""

    def __init__(self, *arguments: str, module: str = "pipelines", environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._written = [str(Path(self._folder.name) / name) for name in ("out", "err")]
        self.process = FORKS.Process(target=_run, args=(module, arguments, self._written, dict(environment or {})))
        self.process.start()

    def said(self) -> str:
        """What it wrote to standard output so far."""
        return read_or_empty(self._written[0])

    def end(self) -> Ended:
        """Wait for its end."""
        self.process.join(HANGS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"the program did not end in {HANGS} seconds; it wrote: {read_or_empty(self._written[1])}")
        with self._folder:
            return Ended(self.process.exitcode, *map(read_or_empty, self._written))


def read_or_empty(file: str) -> str:
    """Text of a file; nothing where there is none yet."""
    return Path(file).read_text(encoding="utf-8") if Path(file).exists() else ""


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait for what another process does; fails, and says so, where it never does."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < HANGS, otherwise
        time.sleep(0.02)


def run_program(*arguments: str, module: str = "pipelines") -> Ended:
    """A :class:`Program` from beginning to end."""
    return Program(*arguments, module=module).end()


def run_together(processes: int, *arguments: str, module: str = "pipelines", environment: Mapping[str, str] | None = None) -> list[Ended]:
    """Several of the same program that train together, by rank.

    What ``torchrun`` does for them: it says who they are, keeps their store, and stops those that are left when one has failed.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    together = {
        **(environment or {}),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    started = [
        Program(*arguments, module=module, environment={**together, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    left = [program.process for program in started]
    while left:
        ended = multiprocessing.connection.wait([process.sentinel for process in left], HANGS)
        failed = any(process.exitcode for process in left)
        left = [process for process in left if process.exitcode is None]
        if failed or not ended:
            for process in left:
                process.terminate()
    return [program.end() for program in started]


def _run(module: str, arguments: Sequence[str], written: Sequence[str], environment: Mapping[str, str]) -> None:
    os.chdir(ROOT)
    os.environ.update(environment)
    for stream, file in zip((sys.stdout, sys.stderr), written, strict=True):
        stream.flush()
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream.fileno())
    for name in TIMED:
        place, _, constant = name.rpartition(".")
        setattr(importlib.import_module(place), constant, 0.001)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
