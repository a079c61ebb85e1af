"""Trainings of a stage that do not wait for each other, side by side: one in this process, the others in processes of their own.

Two steps that are each too small for two cores take less time on a core each. A process of its own leaves what it trained in the
checkpoint folder of the stage, from which this one takes it, as it does where a killed run had finished it. So whatever becomes of a
process, nothing is lost: what it had not finished is trained here, from its last checkpoint on.

The cores are shared among the trainings whether they run at once or in turn, since the number of threads moves the last bits of a model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self, TypeVar

from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.disk_arrays import too_many
from pipelines.config.run import RunConfig
from pipelines.errors import FailedElsewhere
from pipelines.exit_codes import exit_code, explain
from pipelines.workspace.child_processes import SPAWN, as_children_begin, begin_child, how_it_ended, say
from pipelines.workspace.console import WARNING, Console
from pipelines.workspace.context import RunContext, StageContext

LEAST_WORK = 300_000  # rows that a training reads, each as often as it is read: fewer are done by the time a process has loaded torch

Trained = TypeVar("Trained")
Train = Callable[[StageContext, str], object]


def train_side_by_side(
    context: StageContext,
    names: Sequence[str],
    here: Callable[[str], Trained],
    elsewhere: Train,
    *,
    settings: TrainingConfig,
    rows: int,
    large_steps: bool = False,
) -> dict[str, Trained]:
    """Train several models that do not depend on each other.

    Several processes that train together (``torchrun``), a GPU, and the parallel trials of a search have no cores left: there, and with
    few rows or so many that memory does not hold them for each, one is trained after the other with all threads.

    Parameters
    ----------
    context : StageContext
    names : sequence of str
        Of the trainings.
    here : callable
        Trains one of them by name, or takes it from the checkpoint folder where it is finished.
    elsewhere : callable
        Does the same in another process, which has nothing but a context of the same stage: a function of a module. It leaves the finished
        model in the checkpoint folder.
    settings : TrainingConfig
        Of all of them.
    rows : int
        From which each of them learns.
    large_steps : bool
        Whether a step by itself keeps several cores busy: then nothing is won.

    Returns
    -------
    dict
        What ``here`` gives, by name.

    Raises
    ------
    FailedElsewhere
        When a training failed in another process.
    """
    import torch

    from ctr_kd.training.devices import choose_device

    shared = context.processes.count > 1 or choose_device(settings).type != "cpu"
    worth_it = rows * settings.epochs >= LEAST_WORK and not too_many(rows * len(names))
    if len(names) == 1 or shared or large_steps or not worth_it:
        return {name: here(name) for name in names}
    threads = torch.get_num_threads()
    processes = 1 if context.run.making else min(len(names), threads)
    torch.set_num_threads(max(1, threads // len(names)))
    try:
        with _begun(context, elsewhere, [names[number::processes] for number in range(1, processes)]) as children:
            trained = {name: here(name) for name in names[::processes]}
            for child in children:
                child.wait()
        return {name: trained[name] if name in trained else here(name) for name in names}
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Order:
    """What a process is told: a stage of a run, and which of its trainings it is to do."""

    stage: str
    keys: tuple[str, ...]
    config: dict[str, Any]
    workspace: Path
    data: Path | None
    as_of: datetime | None
    inputs: Mapping[str, Path]
    output: Path
    names: Sequence[str]
    threads: int

    @classmethod
    def of(cls, context: StageContext, names: Sequence[str], threads: int) -> Self:
        config = context.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        place = (context.workspace, context.data, context.as_of, context.inputs, context.output)
        return cls(context.stage, context.keys, config, *place, names, threads)

    def context(self, console: Console) -> StageContext:
        """The stage, in the process that was told."""
        run = RunContext(RunConfig.model_validate(self.config), self.workspace, self.data, self.as_of, console=console)
        return StageContext(run, self.stage, self.keys, dict(self.inputs), self.output)


class _Child:
    """A process with some of the trainings; its lines are passed on as they come."""

    def __init__(self, context: StageContext, elsewhere: Train, order: _Order) -> None:
        self._context, self._names = context, order.names
        self._failure: FailedElsewhere | None = None
        self._finished = False
        self._pipe, theirs = SPAWN.Pipe(duplex=False)
        self.process: BaseProcess = SPAWN.Process(target=train_in_child, args=(theirs, elsewhere, order))
        with as_children_begin(order.threads):
            self.process.start()
        theirs.close()  # or nobody would notice that the process is gone
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait(self) -> None:
        """Wait until it has ended, and say so where it ended without finishing.

        Raises
        ------
        FailedElsewhere
            When a training failed.
        """
        self._listener.join()
        self.process.join()
        if self._failure is not None:
            raise self._failure
        if not self._finished:
            names = ", ".join(self._names)
            self._context.report(
                f"{WARNING}the process that trained {names} {how_it_ended(self.process)}; the training goes on in this one"
            )

    def end(self) -> None:
        """End it, whatever it is at: its checkpoints appear complete or not at all."""
        self.process.kill()
        self.process.join()
        self._listener.join()

    def _listen(self) -> None:
        while True:
            try:
                said = json.loads(self._pipe.recv_bytes())
            except (EOFError, OSError):
                return
            if "line" in said:
                self._context.report(said["line"])
            elif "failure" in said:
                self._failure = FailedElsewhere(said["failure"], said["code"])
            else:
                self._finished = True


@contextmanager
def _begun(context: StageContext, elsewhere: Train, shares: Sequence[Sequence[str]]) -> Iterator[list[_Child]]:
    """Processes that have begun their trainings; none of them outlives the body of the ``with`` statement."""
    import torch

    children: list[_Child] = []
    try:
        for names in shares:
            children += [_Child(context, elsewhere, _Order.of(context, names, torch.get_num_threads()))]
        yield children
    finally:
        for child in children:
            child.end()


# --- in such a process -----------------------------------------------------------------------------------------------


class _Told(Console):
    """Passes each line on to the process that prints them."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe, self._rich = pipe, None

    def report(self, text: str, stage: str | None = None, **fields: Any) -> None:
        say(self._pipe, line=text)


def train_in_child(pipe: Connection, train: Train, order: _Order) -> None:
    """Do the trainings of an order, and say how they went."""
    begin_child()
    import torch

    torch.set_num_threads(order.threads)
    context = order.context(_Told(pipe))
    try:
        for name in order.names:
            train(context, name)
    except MemoryError:
        return  # without a word: the process that asked tries again when there is room for one
    except Exception as error:  # the process that asked says it, and ends as if it had failed itself
        say(pipe, failure=explain(error, order.workspace), code=exit_code(error))
    else:
        say(pipe, finished=True)
