"""What is up to date in a workspace and what is missing, as text; nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from feature_store.tables.contracts import DataError, NotIngested
from feature_store.tables.plain_text import plain
from pipelines.exit_codes import explain
from pipelines.metrics import Metrics
from pipelines.registry.alias_history import breaks_in, history_table
from pipelines.registry.champion_record import lost_champion, registry_lost
from pipelines.registry.lookup import alias_version, champion_changes
from pipelines.registry.registry import CHALLENGER, CHAMPION
from pipelines.scoring.backfill import why_stale
from pipelines.scoring.manifest import ScoresManifest
from pipelines.scoring.partitions import failed_attempts, read_partition, scored_dates
from pipelines.stages import PIPELINE
from pipelines.stages.ingest import COPY
from pipelines.tracking.client import ARTIFACTS, DATABASE, TrackingError
from pipelines.training.parents import nights_that_learned_otherwise
from pipelines.workspace.artifacts import ArtifactError, read_manifest
from pipelines.workspace.context import RunContext
from pipelines.workspace.lock import holder
from pipelines.workspace.manifest import MANIFEST, Manifest
from pipelines.workspace.retention import TEACHER_STATES, VECTORS, size_of
from pipelines.workspace.runner import Runner
from pipelines.workspace.tables import text_table


def status(context: RunContext, uri: str) -> str:
    """Stages, partitions, scores and aliases, one line each."""
    return "\n".join(
        [
            *map(plain, _head(context)),
            *_stages(context),
            *map(plain, _shipped(context)),
            *map(plain, _partitions(context)),
            *map(plain, _corrected(context)),
            *map(plain, _scores(context, uri)),
            *map(plain, _aliases(context, uri)),
            *map(plain, _disk(context)),
            *_champions(context, uri),
        ]
    )


def first_damage(context: RunContext) -> Exception | None:
    """What is damaged in a workspace, the first of it: manifests of the store, of artifacts and of scores; None where all can be read."""
    try:
        for partition in context.store.dates():
            context.store.manifest(partition)
        for path in sorted(context.workspace.glob(f"artifacts/*/*/{MANIFEST}")):
            read_manifest(path.parent, Manifest)
        for day in scored_dates(context.workspace):
            read_partition(context.workspace, day)
        lost = lost_champion(context.workspace, context.config)
        return None if lost is None else registry_lost(context.workspace, context.config, lost)
    except (NotIngested, TrackingError):  # said where the store and the aliases are
        return None
    except (DataError, ArtifactError) as error:
        return error


def _head(context: RunContext) -> Iterator[str]:
    yield f"workspace {context.workspace}" + ("" if context.workspace.exists() else " (does not exist yet)")
    live = holder(context.workspace)
    if live is not None:
        yield f"in use by process {live.pid} on {live.host} ({live.command}) since {live.since}"


def _stages(context: RunContext) -> Iterator[str]:
    rows, of_other_code = [("stage", "artifact", "state")], False
    for state in Runner(context, PIPELINE).states():
        if state.state == "up to date" and state.manifest is not None:
            more = f"  {state.manifest.seconds:.1f} s, {state.manifest.started}"
        else:  # who trained with --set and asks without it should not think that their work is lost
            named = state.state.startswith("made by other code")  # that one is said already
            of_other_code = of_other_code or named
            others = sum(path.parent.name != state.fingerprint for path in _artifacts(context, state.name)) - named
            more = f"; {others} made with other settings or inputs {'is' if others == 1 else 'are'} kept" if others else ""
        rows.append((state.name, state.fingerprint or "-", f"{state.state}{more}"))
    yield "stages"
    yield text_table(rows, indent=2)
    if of_other_code:
        yield "  `ctr-kd run` makes the stages of other code again; the earlier artifacts are kept"


def _shipped(context: RunContext) -> Iterator[str]:
    """Which student ships by the newest evaluation that is up to date, by how much, and why."""
    if "evaluate" in context.artifacts:
        shipping = Metrics.read(context.artifacts["evaluate"].path).shipping
        if shipping is not None:
            yield shipping.sentence


def _artifacts(context: RunContext, stage: str) -> Iterator[Path]:
    """Manifests of whatever was made by a stage."""
    return (context.workspace / "artifacts" / stage).glob(f"*/{MANIFEST}")


def _partitions(context: RunContext) -> Iterator[str]:
    try:
        dates = context.store.dates()
        manifests = [context.store.manifest(date) for date in dates]
    except DataError as error:
        yield f"events: {explain(error)}"
        return
    if not dates:
        yield "events: none ingested yet"
        return
    rows = sum(manifest.rows for manifest in manifests)
    quarantined = context.store.quarantined_rows()
    yield f"events: {rows:,} rows in {len(dates)} partitions, {dates[0]} to {dates[-1]}; {quarantined:,} rows in quarantine"


def _corrected(context: RunContext) -> Iterator[str]:
    """Dates that warm nights learned as they were before a correction."""
    try:
        yield from nights_that_learned_otherwise(context)
    except (DataError, TrackingError, OSError, ValueError):  # said where the store, the aliases and the stages are
        return


def _scores(context: RunContext, uri: str) -> Iterator[str]:
    """Each scored date with what is stale about it, and the dates whose last attempt failed."""
    days = scored_dates(context.workspace)
    if not days:
        yield "scores: none yet"
    try:
        champion = alias_version(uri, context.config.name, CHAMPION)
    except TrackingError:
        champion = None  # said below, where the aliases are
    for day in days:
        try:
            manifest = read_partition(context.workspace, day)
        except ArtifactError as error:
            yield f"scores: {day} damaged: {error}"
            continue
        if manifest is None:
            yield f"scores: {day} stale: an earlier release wrote its manifest"
            continue
        by = f"by {manifest.model} version {manifest.model_version}"
        reasons = _stale(context, day, manifest)
        if champion is not None and manifest.model == context.config.name and manifest.model_version != champion:
            reasons.append(f"champion is version {champion} now")
        yield f"scores: {day} {manifest.rows:,} rows {by}" + (f"; stale: {'; '.join(reasons)}" if reasons else "")
    for day, reason in failed_attempts(context.workspace).items():
        yield f"scores: {day} last attempt failed: {reason}"


def _stale(context: RunContext, day: date, manifest: ScoresManifest) -> list[str]:
    try:
        return why_stale(context, day, manifest)
    except DataError as error:
        return [explain(error)]


def _aliases(context: RunContext, uri: str) -> Iterator[str]:
    name = context.config.name
    for alias in (CHAMPION, CHALLENGER):
        try:
            version = alias_version(uri, name, alias)
            yield f"{alias}: " + (f"version {version} of {name}" if version else "none")
        except TrackingError as error:
            yield f"{alias}: {error}"


def _champions(context: RunContext, uri: str) -> Iterator[str]:
    """Who replaced whom."""
    try:
        changes = champion_changes(uri, context.config.name)
    except TrackingError:  # said above
        return
    if changes:
        yield "champions so far"
        yield history_table(changes, indent=2)
        for line in breaks_in(changes, alias_version(uri, context.config.name, CHAMPION)):
            yield f"  not in order: {line}: two commands at once, or the alias was moved by other means"


def _disk(context: RunContext) -> Iterator[str]:
    """What takes the room of the workspace."""
    from ctr_kd.report.findings import size

    parts = {name: size_of(context.workspace / name) for name in ("store", COPY, VECTORS, TEACHER_STATES, "artifacts", "scores", "reports")}
    parts["MLflow"] = sum(size_of(context.workspace / name) for name in (DATABASE, ARTIFACTS))
    if any(parts.values()):
        taken = ", ".join(f"{name} {size(value)}" for name, value in parts.items() if value)
        yield f"disk: {taken}; `ctr-kd prune` removes what nothing needs"
