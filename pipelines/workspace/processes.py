"""Several processes on one pipeline (``torchrun``): the first one runs it, the others help where a stage trains.

Helpers decide nothing: they hold no lock, look at no artifact and write no file. They wait until the first process names a stage,
take part in it, and wait again. So whatever the first process finds up to date, they cannot disagree with it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ctr_kd.training.distributed import ALONE, Processes, ProcessLost, join_processes
from pipelines.config.run import RunConfig
from pipelines.errors import FailedElsewhere
from pipelines.exit_codes import exit_code, explain
from pipelines.workspace.context import RunContext, Stage, StageContext


@contextmanager
def connected_processes(workspace: Path) -> Iterator[Processes]:
    """Connect to the other processes for the body of a ``with`` statement; a failure of one is a failure of all.

    Raises
    ------
    FailedElsewhere
        When it was another process that failed.
    """
    processes = ALONE
    try:
        with join_processes() as processes:
            yield processes
    except BaseException as error:
        # The launcher stops whoever is left once one process ended; this one is ending too, and still has a word to say.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        first = processes.fail({"text": explain(error, workspace), "code": exit_code(error)})
        # What the failure of another looks like from here: its connection closes, and the launcher stops this process.
        if isinstance(error, (ProcessLost, KeyboardInterrupt)) and first.get("rank", processes.rank) != processes.rank:
            raise FailedElsewhere(f"process {first['rank']}: {first['text']}", first["code"]) from error
        raise


def release_helpers(processes: Processes) -> None:
    """Let the helpers end: the pipeline is done."""
    processes.tell(None)


def run_shared_stages(run: RunContext, pipeline: Sequence[Stage]) -> None:
    """Take part in the stages that the first process announces, until it releases the helpers."""
    stages = {stage.name: stage for stage in pipeline}
    while (task := run.processes.tell()) is not None:
        stage = stages[task["stage"]]
        inputs = {name: Path(path) for name, path in task["inputs"].items()}
        own = replace(run, config=RunConfig.model_validate(task["config"]))  # a proof trains teachers of several seeds and arms
        stage.run(StageContext(own, stage.name, stage.keys, inputs, Path(task["output"])))
