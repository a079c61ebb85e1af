"""What stands in a workspace and what is missing, as text; nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feature_store.contracts import DataError
from pipelines.artifacts import read_json
from pipelines.lock import holder
from pipelines.registry import CHALLENGER, CHAMPION, peek
from pipelines.runner import RunContext, Runner
from pipelines.stages import ROAD
from pipelines.tracking import TrackingError


def status(context: RunContext, uri: str) -> str:
    """Stages, partitions, scores and aliases, one line each."""
    return "\n".join([*_head(context), *_stages(context), *_partitions(context), *_scores(context.workspace), *_aliases(context, uri)])


def _head(context: RunContext) -> Iterator[str]:
    yield f"workspace {context.workspace}" + ("" if context.workspace.exists() else " (does not exist yet)")
    live = holder(context.workspace)
    if live is not None:
        yield f"in use by process {live.get('pid')} on {live.get('host')} ({live.get('command')}) since {live.get('since')}"


def _stages(context: RunContext) -> Iterator[str]:
    yield "stages"
    for state in Runner(context, ROAD).states():
        manifest: dict[str, Any] = state.manifest or {}
        made = f"  {manifest['seconds']:.1f} s, {manifest['started']}" if state.state == "stands" else ""
        yield f"  {state.name:<9} {state.fingerprint or '-':<16} {state.state}{made}"


def _partitions(context: RunContext) -> Iterator[str]:
    try:
        dates = context.store.dates()
        manifests = [context.store.manifest(date) for date in dates]
    except DataError as error:
        yield f"events: {error}"
        return
    if not dates:
        yield "events: none ingested yet"
        return
    rows = sum(manifest["rows"] for manifest in manifests)
    quarantined = context.store.quarantined_rows()
    yield f"events: {rows:,} rows in {len(dates)} partitions, {dates[0]} to {dates[-1]}; {quarantined:,} rows in quarantine"


def _scores(workspace: Path) -> Iterator[str]:
    found = sorted((workspace / "scores").glob("date=*/_manifest.json"))
    if not found:
        yield "scores: none yet"
    for path in found:
        manifest = read_json(path) or {}
        date = path.parent.name.removeprefix("date=")
        yield f"scores: {date} {manifest.get('rows', 0):,} rows by {manifest.get('model')} version {manifest.get('model_version')}"


def _aliases(context: RunContext, uri: str) -> Iterator[str]:
    name = context.config.name
    for alias in (CHAMPION, CHALLENGER):
        try:
            version = peek(uri, name, alias)
            yield f"{alias}: " + (f"version {version} of {name}" if version else "none")
        except TrackingError as error:
            yield f"{alias}: {error}"
