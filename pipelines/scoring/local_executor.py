"""Parts through a model, in this process or in one worker process per core."""

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
from typing import Any, NoReturn, Self

from ctr_kd.export.scoring_statistics import ScoringCounts
from pipelines.registry.loaded_model import OpenedModel
from pipelines.scoring.parts import Finished, Part, PartsFolder, ScoringStopped, stop, write_part
from pipelines.scoring.worker import fault_of, send

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 5.0  # seconds in which a worker that has nothing more to do ends


class Alone:
    """Scores in this process."""

    def __init__(self, model: OpenedModel, version: str, folder: PartsFolder, name: str) -> None:
        self._model, self._version, self._folder, self._name = model, version, folder, name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def score(self, parts: Iterator[Part]) -> Iterator[Finished]:
        """Number and counts of each part, as soon as its file is written."""
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
        """Number and counts of each part, as soon as its file is written: in the order in which they are finished."""
        for part in parts:
            worker, finished = self._wait()
            self._first[part.number] = part.first
            try:
                send(_pipe(worker.stdin), part)
            except BrokenPipeError:
                self._lost(worker)
            del part  # or memory would hold it beside the next one
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
        raise ScoringStopped(f"a scoring worker (process {worker.pid}) {how}{hint}; {self._folder.what_is_kept()}") from None


def _pipe(stream: Any) -> Any:
    assert stream is not None  # noqa: S101
    return stream
