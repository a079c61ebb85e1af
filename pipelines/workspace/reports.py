"""Figures of commands that are no part of the pipeline, beside its newest report."""

from __future__ import annotations

import shutil
from pathlib import Path

from feature_store.tables.json_files import write_json
from pipelines.workspace.artifacts import MANIFEST, Artifact, point
from pipelines.workspace.context import StageContext


def publish_beside(context: StageContext, names: tuple[str, ...]) -> None:
    """Put files of the stage beside the newest report of a pipeline; where there is none, they are the newest report.

    A report that the pipeline makes later is without them until their command is given again, which takes a moment.
    """
    reports = context.workspace / "reports"
    latest = reports / "latest"
    if (latest / "report.html").exists():
        _copy(context.output, latest.resolve(), names)
        return
    folder = reports / context.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    _copy(context.output, folder, names)
    write_json(folder / MANIFEST, {"stage": context.stage, "digest": (Artifact(context.output).manifest or {})["digest"]})
    point(latest, folder.name)  # last: a kill before it repeats all of this


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        temporary = target / f".{name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(target / name)
