"""Where people find what a run says: a folder for each report, and ``latest``, which names the newest."""

from __future__ import annotations

import shutil
from pathlib import Path

from feature_store.tables.json_files import write_json
from pipelines.workspace.artifacts import Artifact, point, publish_directory, read_json
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.manifest import MANIFEST


def publish_report(context: StageContext) -> None:
    """Put the report under reports/ and let ``latest`` name it, unless that was done before."""
    reports = context.workspace / "reports"
    digest = Artifact(context.output).finished.digest
    final = reports / context.fingerprint
    if (read_json(final / MANIFEST) or {}).get("digest") == digest:
        return
    temporary = reports / f".{context.fingerprint}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("report.html", "metrics.json"):
        shutil.copyfile(context.output / name, temporary / name)
    publish_directory(temporary, final)
    point(reports / "latest", context.fingerprint)
    write_json(final / MANIFEST, {"stage": context.stage, "digest": digest})  # last: a kill before it repeats all of this


def report_directory(run: RunContext) -> Path | None:
    """The newest report of this run's stages."""
    for stage in ("register", "evaluate"):
        if stage in run.artifacts:
            return run.workspace / "reports" / run.artifacts[stage].path.name
    return None


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
    write_json(folder / MANIFEST, {"stage": context.stage, "digest": Artifact(context.output).finished.digest})
    point(latest, folder.name)  # last: a kill before it repeats all of this


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        temporary = target / f".{name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(target / name)
