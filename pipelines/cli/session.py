"""What every command that works on a workspace begins and ends with: the locked workspace, and the helping processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from pipelines.cli.options import Options
from pipelines.registry.lookup import alias_version
from pipelines.registry.registry import CHAMPION
from pipelines.session import locked_workspace
from pipelines.stages import SHARED
from pipelines.tracking.client import tracking_uri
from pipelines.workspace.context import Stage
from pipelines.workspace.processes import connected_processes, release_helpers, run_shared_stages
from pipelines.workspace.runner import Runner, RunSummary


@contextmanager
def session(command: str, options: Options, pipeline: Sequence[Stage]) -> Iterator[Runner]:
    """The workspace under lock, with a runner of a pipeline on it and a tracker that knows how it ended."""
    config = options.config()
    click.get_current_context().find_root().obj["workspace"] = options.workspace
    with connected_processes(options.workspace) as processes:
        context = options.context(config, processes=processes)
        if processes.leads:
            with locked_workspace(context, pipeline, f"ctr-kd {command} {options.conf}") as runner:
                yield runner
            release_helpers(processes)
        else:
            run_shared_stages(context, SHARED)
    if not processes.leads:
        raise click.exceptions.Exit(0)  # the command's own work is that of the first process


def say_what_was_done(summary: RunSummary) -> None:
    """One line: the stages that were made, or that there was nothing to do."""
    if summary.made:
        click.echo(f"made {', '.join(summary.made)} in {summary.seconds:.1f} s")
    else:
        click.echo(f"nothing to do: {', '.join(summary.up_to_date)} are up to date ({summary.seconds:.1f} s)")


def ensure_model(runner: Runner, model: str | None) -> None:
    """Have a model to score with: the one that was named, the champion, or else a champion made now."""
    config = runner.context.config
    if model is None and alias_version(tracking_uri(config, runner.context.workspace), config.name, CHAMPION) is None:
        runner.run(last="register")
    else:
        runner.run(last="ingest")
