"""Parts through a model, in this process or in one worker process per core."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import pyarrow as pa

from pipelines.registry.loaded_model import LoadedModel, load_model_folder
from pipelines.scoring.parts import Finished, Part, PartsFolder, ScoringStopped, stop, write_part
from pipelines.scoring.worker import Answer, fault_of, hand_over, handed_over, receive, score_part
from pipelines.workspace.child_processes import SPAWN, as_children_begin, begin_child, how_it_ended
from pipelines.workspace.stopwatch import Stopwatch


class InProcess:
    """Scores in this process."""

    def __init__(self, model: LoadedModel, version: str, folder: PartsFolder, name: str, *, stopwatch: Stopwatch) -> None:
        self._model, self._version, self._folder, self._name, self._stopwatch = model, version, folder, name, stopwatch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def score(self, parts: Iterator[Part]) -> Iterator[Finished]:
        """Number and counts of each part, as soon as its file is written."""
        for part in parts:
            try:
                counts = write_part(self._model, self._version, part, self._folder.path, self._stopwatch)
            except Exception as error:
                fault, text = fault_of(error)
                if fault == "program":
                    raise
                stop(fault, text, self._name, part.first, self._folder)
            yield part.number, counts


class WorkerPool:
    """Scores in worker processes, of which each has a part and one more part waits; use as a context manager."""

    def __init__(self, model: LoadedModel, version: str, folder: PartsFolder, workers: int, name: str, *, stopwatch: Stopwatch) -> None:
        self._task = (model.path, version, folder.path)
        self._folder, self._count, self._name, self._stopwatch = folder, workers, name, stopwatch
        stopwatch.cores = workers
        self._asked: set[Future[Answer]] = set()
        self._workers: set[BaseProcess] = set()

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(self._count, SPAWN, initializer=begin_work)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            for worker in self._workers:
                worker.kill()  # what it writes appears complete or not at all
        self._pool.shutdown(cancel_futures=True)

    def score(self, parts: Iterator[Part]) -> Iterator[Finished]:
        """Number and counts of each part, as soon as its file is written: in the order in which they are finished."""
        try:
            for part in parts:
                if len(self._asked) > self._count:
                    yield from self._finished()
                self._ask(part)
                del part  # or memory would hold it beside the next one
            while self._asked:
                yield from self._finished()
        except BrokenProcessPool:
            self._lost()

    def _ask(self, part: Part) -> None:
        hand_over(part, self._folder)
        self._stopwatch.lap("reading", part.rows)
        others = set(multiprocessing.active_children())
        with as_children_begin(threads=1):
            self._asked.add(self._pool.submit(work, *self._task, part.number, self._stopwatch.wanted))
        self._workers |= set(multiprocessing.active_children()) - others

    def _finished(self) -> Iterator[Finished]:
        """Wait for a part, at least, and give what is finished."""
        done, self._asked = wait(self._asked, return_when=FIRST_COMPLETED)
        for one in sorted(done, key=lambda one: one.exception() is not None):  # what is finished counts, whatever became of the others
            answer = one.result()
            self._stopwatch.add(answer.costs)
            yield answer.finished("in a scoring worker", self._name, self._folder)

    def _lost(self) -> NoReturn:
        self._pool.shutdown()  # which waits for all workers: the first one that died is why the others were stopped
        worker = min(self._workers, key=lambda one: one.exitcode == -signal.SIGTERM)
        how = how_it_ended(worker)
        if worker.exitcode == -signal.SIGKILL:
            how += "; fewer score.workers or a smaller score.batch_rows need less"
        raise ScoringStopped(f"a scoring worker (process {worker.pid}) {how}; {self._folder.what_is_kept()}") from None


# --- in a worker -----------------------------------------------------------------------------------------------------


def begin_work() -> None:
    """Called once in every worker, before its first part."""
    pa.set_cpu_count(1)
    begin_child()


def work(model: Path, version: str, folder: Path, number: int, profiled: bool = False) -> Answer:
    """Score a part that was handed over, and tell where that is wanted what it cost."""
    stopwatch = Stopwatch(profiled)
    stopwatch.start()
    file = handed_over(folder, number)
    part = receive(file)
    file.unlink()
    stopwatch.lap("reading", part.rows)
    return score_part(partial(_opened, model), version, part, folder, stopwatch)


@cache
def _opened(path: Path) -> LoadedModel:
    return load_model_folder(path)
