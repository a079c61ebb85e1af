"""What whoever works on a workspace begins and ends with: the run's context, the lock, and the tracker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ctr_kd.training.distributed import ALONE, Processes
from pipelines.config.run import RunConfig
from pipelines.errors import BoundBroken, GateRefused
from pipelines.tracking.client import tracking_uri
from pipelines.tracking.relocate import follow_workspace
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.artifacts import recover
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.runner import Runner


def run_context(
    config: RunConfig,
    workspace: Path,
    data: Path | str | None,
    as_of: datetime | None,
    console: Console,
    *,
    options: dict[str, Any] | None = None,
    read_only: bool = False,
    processes: Processes = ALONE,
) -> RunContext:
    """What all stages of a run share; ``data`` is a folder, or a URL where it is a text. See :class:`RunContext`."""
    folder, url = (None, data) if isinstance(data, str) else (data, None)
    run = RunContext(
        config,
        workspace,
        folder,
        as_of,
        options={} if options is None else options,
        read_only=read_only,
        console=console,
        processes=processes,
        url=url,
    )
    if config.training.start == "warm":
        from pipelines.training.parents import last_champion

        run.find_parent = last_champion
    return run


@contextmanager
def locked_workspace(context: RunContext, pipeline: Sequence[Stage], who: str) -> Iterator[Runner]:
    """The workspace under lock, with a runner of a pipeline on it and a tracker that knows how it ended.

    Parameters
    ----------
    context : RunContext
    pipeline : sequence of Stage
    who : str
        What those are told who come second.
    """
    workspace = context.workspace
    with workspace_lock(workspace, who):
        if context.config.tracking.uri is None:
            follow_workspace(workspace)
        for published in ("reports", "scores"):
            recover(workspace / published)
        tracker = context.tracker = Tracker(tracking_uri(context.config, workspace), workspace, context.report)
        try:
            yield Runner(context, pipeline)
        except BaseException as error:
            # A refusal or an alarm is a result: the pipeline was gone to its end.
            tracker.finish(None if isinstance(error, (GateRefused, BoundBroken)) else error)
            raise
        tracker.finish()
