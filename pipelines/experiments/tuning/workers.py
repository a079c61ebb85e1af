"""The processes that trials run in: one that is killed, or that runs out of memory, ends its trial and no other.

A process has one trial after the other, since loading torch takes seconds. Orders, points of learning curves and answers are JSON.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Self

from pipelines.config.run import RunConfig
from pipelines.exit_codes import explain
from pipelines.experiments.tuning.trials import Order, Trained, TrialStopped, Watcher, train_trial
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.child_processes import SPAWN, as_children_begin, begin_child, how_it_ended, say
from pipelines.workspace.console import Console, LogFormat
from pipelines.workspace.context import RunContext

FOLDER = "tune"  # in a workspace
_LOCKS = ".making"


@dataclass(frozen=True)
class Plan:
    """What every process is told once: the run as it is configured."""

    config: dict[str, Any]
    workspace: Path
    data: Path | None
    url: str | None
    as_of: datetime | None
    copies: dict[str, str]
    ingest: Path
    log_format: LogFormat

    @classmethod
    def of(cls, run: RunContext, log_format: LogFormat) -> Self:
        """Of a run whose rows are up to date."""
        config = run.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return cls(config, run.workspace, run.data, run.url, run.as_of, run.copies, run.artifacts["ingest"].path, log_format)

    def context(self) -> RunContext:
        """The run, in the process that was told."""
        return RunContext(
            RunConfig.model_validate(self.config),
            self.workspace,
            self.data,
            self.as_of,
            url=self.url,
            copies=dict(self.copies),
            artifacts={"ingest": Artifact(self.ingest)},
            making=self.workspace / FOLDER / _LOCKS,
        )


@dataclass(frozen=True)
class Point:
    """A trial whose training has come so far; it waits to be told whether it goes on."""

    order: Order
    step: int
    value: float


@dataclass(frozen=True)
class Ended:
    """A trial that has ended: with what it gave, or with the reason why it gave nothing."""

    order: Order
    state: Literal["trained", "stopped", "failed"]
    trained: Trained | None = None
    reason: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    order: Order | None = None


@dataclass
class Pool:
    """Processes that have a trial each; use as a context manager.

    Attributes
    ----------
    plan : Plan
    count : int
    """

    plan: Plan
    count: int
    _workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.process.kill()  # what it makes appears complete or not at all, and a training goes on from its checkpoint
        for worker in self._workers:
            worker.process.join()

    @property
    def under_way(self) -> list[Order]:
        """Trials that are being trained."""
        return [worker.order for worker in self._workers if worker.order is not None]

    @property
    def has_room(self) -> bool:
        """Whether a process has no trial."""
        return len(self.under_way) < self.count

    def begin(self, order: Order) -> None:
        """Give a trial to a process that has none."""
        worker = next((worker for worker in self._workers if worker.order is None), None)
        if worker is None:
            worker = self._start()
            self._workers.append(worker)
        worker.order = order
        try:
            worker.pipe.send_bytes(json.dumps(order.to_json()).encode())
        except OSError:  # it was killed while it had nothing to do; the next event says so
            return

    def answer(self, point: Point, goes_on: bool) -> None:
        """Tell a trial whether it goes on."""
        for worker in self._workers:
            if worker.order == point.order:
                try:
                    worker.pipe.send_bytes(b"on" if goes_on else b"stop")
                except OSError:
                    return

    def give_up(self, order: Order) -> None:
        """End a trial, whatever it is at."""
        worker = next(worker for worker in self._workers if worker.order == order)
        self._remove(worker)

    def events(self, timeout: float | None) -> list[Point | Ended]:
        """What trials have to say; empty where none says anything for so many seconds."""
        ready = wait([worker.pipe for worker in self._workers if worker.order is not None], timeout)
        return [self._heard(worker) for worker in list(self._workers) if worker.pipe in ready]

    def _heard(self, worker: _Worker) -> Point | Ended:
        order = worker.order
        assert order is not None  # noqa: S101
        try:
            said = json.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            worker.process.join()
            reason = f"its process {how_it_ended(worker.process)}"
            self._remove(worker)
            return Ended(order, "failed", reason=reason)
        if said["state"] == "point":
            return Point(order, said["step"], said["value"])
        worker.order = None
        trained = None if said.get("trained") is None else Trained.from_json(said["trained"])
        return Ended(order, said["state"], trained, said.get("reason", ""))

    def _remove(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)

    def _start(self) -> _Worker:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=work, args=(theirs, self.plan), daemon=True)
        share = max(1, (os.cpu_count() or 1) // self.count) if self.count > 1 else None
        with as_children_begin(None if "OMP_NUM_THREADS" in os.environ else share):
            process.start()
        theirs.close()  # or nobody would notice that the process is gone
        return _Worker(process, ours)


# --- in such a process -----------------------------------------------------------------------------------------------


class _TrialConsole(Console):
    """Names the trial in each line; says nothing of stages that stand, and draws no bars, since several processes write at once."""

    def __init__(self, title: str, log_format: LogFormat) -> None:
        super().__init__(log_format=log_format)
        self._title, self._rich = title, None

    def report(self, text: str, stage: str | None = None, **fields: Any) -> None:
        if not text.startswith("up to date"):
            super().report(text, f"{self._title}, {stage}" if stage else self._title, **fields)


def work(pipe: Connection, plan: Plan) -> None:
    """Train one trial after the other, until nobody asks any more."""
    begin_child()
    warnings.simplefilter("ignore")

    def goes_on(step: int, value: float) -> bool:
        say(pipe, state="point", step=step, value=value)
        return pipe.recv_bytes() == b"on"

    while True:
        try:
            order = Order.from_json(json.loads(pipe.recv_bytes()))
        except EOFError:
            return
        own = plan.context()
        own.console = _TrialConsole(order.title, plan.log_format)
        own.watch = Watcher(goes_on)
        try:
            trained = train_trial(own, order)
        except TrialStopped:
            say(pipe, state="stopped")
        except Exception as error:  # it diverged, ran out of memory or cannot be: the others go on
            say(pipe, state="failed", reason=explain(error, plan.workspace))
        else:
            say(pipe, state="trained", trained=trained.to_json())
