"""The command that removes what a workspace no longer needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import click

from pipelines.cli.options import Options, common
from pipelines.cli.session import session
from pipelines.registry.champion_record import lost_champion, registry_lost
from pipelines.registry.needed_artifacts import needed_artifacts
from pipelines.stages import PIPELINE
from pipelines.tracking.client import ARTIFACTS, DATABASE, sqlite_uri, tracking_uri
from pipelines.tracking.old_runs import remove_runs
from pipelines.workspace.context import RunContext
from pipelines.workspace.retention import Removal, removals, size_of
from pipelines.workspace.runner import Runner


@click.command("prune")
@common
@click.option("--keep", type=click.IntRange(min=1), help="Newest artifacts of each stage that stay [default: retention.keep, 7]")
@click.option("--days", type=click.FloatRange(min=0), help="What is younger stays [default: retention.age, 30 days]")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
def prune_command(options: Options) -> None:
    """Remove what nothing needs any more: old artifacts, reports, scorings that were never finished, and their runs in MLflow.

    What is up to date for this configuration stays, and so does whatever champion, challenger and all to which a rollback leads were made
    of, the newest of each stage, what is young, and all that any of these was made from. The store, the scores and the registered versions
    are never touched. What went is made again by whoever asks for it.

    \b
    Examples:
      ctr-kd prune conf/globo.yaml --workspace work/globo --dry-run
      ctr-kd prune conf/globo.yaml --workspace work/globo --keep 3 --days 7
      ctr-kd run conf/globo.yaml --workspace work/globo --set retention.after_run=true             after each run
    """
    with session("prune", options, PIPELINE) as runner:
        retention = runner.context.config.retention
        keep = options.more["keep"] or retention.keep
        age = retention.age if options.more["days"] is None else timedelta(days=options.more["days"])
        click.echo(prune(runner.context, keep, age, options.more["dry_run"]))


def prune(run: RunContext, keep: int, age: timedelta, dry_run: bool = False) -> str:
    """Remove what nothing needs; returns what went, in lines. What stays :class:`pipelines.config.retention.RetentionConfig` says."""
    from ctr_kd.report.findings import several, size

    goes = old(run, keep, datetime.now(UTC) - age)
    lines = [f"{one.kind} {one.path.relative_to(run.workspace)}: {size(one.bytes)}" for one in goes] if dry_run else []
    counted = [several(count, kind) for kind, count in Counter(one.kind for one in goes).items()]
    freed = sum(one.bytes for one in goes)
    if not dry_run:
        before = size_of(run.workspace / ARTIFACTS)
        for one in goes:
            one.carry_out()
        runs = remove_runs_of(run, {one.path.name for one in goes})
        counted += [f"{several(runs, 'run')} in MLflow"] if runs else []
        freed += before - size_of(run.workspace / ARTIFACTS)
    if not counted:
        return "nothing to remove"
    return "\n".join([*lines, f"{'would remove' if dry_run else 'removed'} {', '.join(counted)}: {size(freed)}"])


def remove_runs_of(run: RunContext, gone: Collection[str]) -> int:
    """Remove the runs of artifacts that are gone; how many. In the workspace's own database also those of an earlier, killed removal."""
    uri, artifacts = tracking_uri(run.config, run.workspace), run.workspace / "artifacts"
    own = uri == sqlite_uri(run.workspace / DATABASE)

    def is_gone(fingerprint: str) -> bool:
        return bool(fingerprint) and (fingerprint in gone or own) and not any(artifacts.glob(f"*/{fingerprint}"))

    return remove_runs(uri, run.config.tracking.experiment or run.config.name, is_gone)


def old(run: RunContext, keep: int, before: datetime) -> list[Removal]:
    """What nothing needs, in the order in which it may go; see :func:`pipelines.workspace.retention.removals`.

    Raises
    ------
    ArtifactError
        When the registry is not the one that the workspace knew: what its champion needs is unknown.
    TrackingError
        When the registry does not answer.
    """
    config, workspace = run.config, run.workspace
    lost = lost_champion(workspace, config)
    if lost is not None:
        raise registry_lost(workspace, config, lost)
    looked_at = replace(run, read_only=True, artifacts={})
    Runner(looked_at, PIPELINE).states()
    alive = {(stage, artifact.path.name) for stage, artifact in looked_at.artifacts.items()}
    alive |= set(needed_artifacts(tracking_uri(config, workspace), config.name, workspace))
    return removals(workspace, alive, keep, before)
