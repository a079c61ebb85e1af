"""Parts through a model, in this process or in one worker per core; finished ones are left out, and a fault says what to do."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ctr_kd.export.scoring_statistics import ScoringCounts
from feature_store.tables.contracts import DataError
from pipelines.config.run import RunConfig
from pipelines.registry.loaded_model import OpenedModel
from pipelines.scoring.parts import Part, PartsFolder, ScoringStopped, write_part
from pipelines.scoring.worker import fault_of, send
from pipelines.workspace.console import Progress

if TYPE_CHECKING:
    from pipelines.scoring.spark_executor import SparkPool

Finished = tuple[int, ScoringCounts]

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 5.0  # seconds in which a worker that has nothing more to do ends


def score_parts(
    model: OpenedModel, version: str, parts: Iterator[Part], folder: PartsFolder, config: RunConfig, name: str, progress: Progress
) -> None:
    """Score all parts that are not finished yet.

    Parameters
    ----------
    model : OpenedModel
    version : str
    parts : iterator of Part
        Those that stand in the folder already are passed over.
    folder : PartsFolder
    config : RunConfig
        ``score.engine`` and ``score.workers`` say who scores; where one part is all there is, this process does.
    name : str
        What the rows are, for messages.
    progress : Progress
        Counts rows.

    Raises
    ------
    DataError
        When rows cannot be scored; it names the first row of their part.
    ScoringStopped
        When a worker died, or memory or a disk is full.
    """
    progress.advance(folder.resumed)
    missing = (part for part in parts if part.number not in folder.finished)
    ahead = [part for part in (next(missing, None), next(missing, None)) if part is not None]
    count = config.score.workers or cores()
    pool: SparkPool | Pool | Alone
    if config.score.engine == "spark" and ahead:
        from pipelines.scoring.spark_executor import SparkPool

        pool = SparkPool(model, version, folder, config.feature_store, name)
    elif count > 1 and len(ahead) > 1:
        pool = Pool(model, version, folder, count, name)
    else:
        pool = Alone(model, version, folder, name)
    with pool:
        for number, counts in pool.score(_each(ahead, missing)):
            folder.finished[number] = counts
            progress.advance(counts.rows)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(ahead: list[Part], others: Iterator[Part]) -> Iterator[Part]:
    """Those that were looked at already, each let go of when it is given away, and the others."""
    while ahead:
        yield ahead.pop(0)
    yield from others


class Alone:
    """Scores in this process."""

    def __init__(self, model: OpenedModel, version: str, folder: PartsFolder, name: str) -> None:
        self._model, self._version, self._folder, self._name = model, version, folder, name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def score(self, parts: Iterator[Part]) -> Iterator[Finished]:
        """Number and counts of each part, as soon as its file stands."""
        for part in parts:
            try:
                counts = write_part(self._model, self._version, part, self._folder.path)
            except Exception as error:
                fault, text = fault_of(error)
                if fault == "program":
                    raise
                stop(fault, text, self._name, part.first, self._folder)
            yield part.number, counts


class Pool:
    """Scores in worker processes, each of which is given a part when it has nothing to do; use as a context manager."""

    def __init__(self, model: OpenedModel, version: str, folder: PartsFolder, workers: int, name: str) -> None:
        task = json.dumps({"model": str(model.path), "version": version, "folder": str(folder.path)})
        self._command = [sys.executable, "-m", "pipelines.scoring.worker", task]
        self._folder, self._count, self._name = folder, workers, name
        self._workers: list[subprocess.Popen[bytes]] = []
        self._selector = selectors.DefaultSelector()
        self._first: dict[int, int] = {}  # row of each part that is being scored

    def __enter__(self) -> Self:
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # the code that runs here, wherever this was started
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        for _ in range(self._count):
            worker = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603
            self._workers.append(worker)
            self._selector.register(_pipe(worker.stdout), selectors.EVENT_READ, worker)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            if kind is not None:
                worker.kill()  # what it writes appears complete or not at all
            with suppress(BrokenPipeError):  # it is dead, and what was meant for it is lost
                _pipe(worker.stdin).close()
        for worker in self._workers:
            try:
                worker.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            _pipe(worker.stdout).close()
        self._selector.close()

    def score(self, parts: Iterator[Part]) -> Iterator[Finished]:
        """Number and counts of each part, as soon as its file stands: in the order in which they are finished."""
        for part in parts:
            worker, finished = self._wait()
            self._first[part.number] = part.first
            try:
                send(_pipe(worker.stdin), part)
            except BrokenPipeError:
                self._lost(worker)
            del part  # or it would stand beside the next one
            if finished:
                yield finished
        while self._first:
            _, finished = self._wait()
            if finished:
                yield finished

    def _wait(self) -> tuple[subprocess.Popen[bytes], Finished | None]:
        """A worker that has nothing to do, and what it has finished, if anything."""
        key, _ = self._selector.select()[0]
        worker: subprocess.Popen[bytes] = key.data
        line = _pipe(worker.stdout).readline()
        if not line.endswith(b"\n"):
            self._lost(worker)
        answer: dict[str, Any] = json.loads(line)
        if "ready" in answer:
            return worker, None
        first = self._first.pop(answer["number"])
        if answer.get("fault") == "program":
            error = RuntimeError(f"in a scoring worker, {self._name}, rows from {first + 1:,} on: {answer['text']}")
            error.add_note(answer["trace"])
            raise error
        if "fault" in answer:
            stop(answer["fault"], answer["text"], self._name, first, self._folder)
        return worker, (answer["number"], ScoringCounts.from_dict(answer["counts"]))

    def _lost(self, worker: subprocess.Popen[bytes]) -> NoReturn:
        code = worker.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with code {code}"
        hint = ", as systems do that run out of memory; fewer score.workers or a smaller score.batch_rows need less" if code == -9 else ""
        raise ScoringStopped(f"a scoring worker (process {worker.pid}) {how}{hint}; {self._folder.what_stands()}") from None


def _pipe(stream: Any) -> Any:
    assert stream is not None  # noqa: S101
    return stream


def stop(fault: str, text: str, name: str, first: int, folder: PartsFolder) -> NoReturn:
    if fault == "data":
        raise DataError(f"{name}, rows from {first + 1:,} on: {text}") from None
    if fault == "disk":
        raise folder.full(text) from None
    raise ScoringStopped(f"not enough memory ({text}); lower score.batch_rows or score.workers; {folder.what_stands()}") from None
