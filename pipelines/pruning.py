"""What a workspace no longer needs, and removing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from feature_store.tables.json_files import write_json
from pipelines.registry.champion_record import lost_champion, registry_lost
from pipelines.registry.needed_artifacts import needed_artifacts
from pipelines.stages import PIPELINE
from pipelines.tracking.client import ARTIFACTS, TrackingError, tracking_uri
from pipelines.tracking.old_runs import remove_runs
from pipelines.workspace.artifacts import ArtifactError, read_json
from pipelines.workspace.context import RunContext
from pipelines.workspace.retention import Removal, removals, size_of
from pipelines.workspace.runner import Runner

_BEGUN = ".prune.json"  # in the workspace: fingerprints of what a removal takes, until their runs are gone too


def prune(run: RunContext, keep: int, age: timedelta) -> str:
    """Remove what nothing needs; returns what went. What stays :class:`pipelines.config.retention.RetentionConfig` says."""
    from ctr_kd.report.findings import several

    goes, before = old(run, keep, age), size_of(run.workspace / ARTIFACTS)
    begun = run.workspace / _BEGUN
    gone = {one.path.name for one in goes} | set((read_json(begun) or {}).get("fingerprints", []))  # a removal may have been killed
    if gone:
        write_json(begun, {"fingerprints": sorted(gone)})
    for one in goes:
        one.carry_out()
    # to a server other workspaces may have written runs of equal artifacts
    runs = remove_runs(tracking_uri(run.config, run.workspace), gone) if gone and run.config.tracking.uri is None else 0
    begun.unlink(missing_ok=True)
    of_runs = [f"{several(runs, 'run')} in MLflow"] if runs else []
    return _counted("removed", goes, of_runs, before - size_of(run.workspace / ARTIFACTS))


def prune_after_run(run: RunContext) -> None:
    """What :func:`prune` does, after a run that is done: where the registry does not answer, the next one prunes."""
    retention = run.config.retention
    try:
        run.report(prune(run, retention.keep, retention.age), "prune")
    except (ArtifactError, TrackingError) as error:
        run.report(f"warning: nothing was removed: {error}", "prune")


def would_remove(run: RunContext, keep: int, age: timedelta) -> str:
    """What :func:`prune` would remove, a line each, and how much that is."""
    from ctr_kd.report.findings import size

    goes = old(run, keep, age)
    lines = [f"{one.kind} {one.path.relative_to(run.workspace)}: {size(one.bytes)}" for one in goes]
    return "\n".join([*lines, _counted("would remove", goes)])


def _counted(what: str, goes: Collection[Removal], more: Collection[str] = (), freed: int = 0) -> str:
    from ctr_kd.report.findings import several, size

    counted = [*(several(count, kind) for kind, count in Counter(one.kind for one in goes).items()), *more]
    return f"{what} {', '.join(counted)}: {size(freed + sum(one.bytes for one in goes))}" if counted else "nothing to remove"


def old(run: RunContext, keep: int, age: timedelta) -> list[Removal]:
    """What nothing needs, in the order in which it may go; see :func:`pipelines.workspace.retention.removals`.

    Raises
    ------
    ArtifactError
        When it is unknown what is needed: the log cannot be looked at, or the registry is not the one that the workspace knew.
    TrackingError
        When the registry does not answer.
    """
    config, workspace = run.config, run.workspace
    lost = lost_champion(workspace, config)
    if lost is not None:
        raise registry_lost(workspace, config, lost)
    looked_at = replace(run, config=run.as_given, read_only=True, artifacts={})
    for state in Runner(looked_at, PIPELINE).states():
        if state.name == PIPELINE[0].name and state.state.startswith("unknown"):
            raise ArtifactError(f"what is up to date is {state.state}")
    alive = {(stage, artifact.path.name) for stage, artifact in looked_at.artifacts.items()}
    alive |= set(needed_artifacts(tracking_uri(config, workspace), config.name, workspace))
    return removals(workspace, alive, keep, datetime.now(UTC) - age)
