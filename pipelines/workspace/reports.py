"""Where people find what a run says: a folder for each report, and ``latest``, which names the newest."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.workspace.artifacts import Artifact, point, publish_directory, read_json_as
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.manifest import MANIFEST, ReportManifest


def publish_report(context: StageContext) -> None:
    """Put the report under reports/ and let ``latest`` name it, unless that was done before."""
    reports = context.workspace / "reports"
    digest = Artifact(context.output).finished.digest
    final = reports / context.fingerprint
    if published_digest(final) == digest:
        return
    temporary = reports / f".{context.fingerprint}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("report.html", "metrics.json"):
        shutil.copyfile(context.output / name, temporary / name)
    publish_directory(temporary, final)
    point(reports / "latest", context.fingerprint)
    ReportManifest(stage=context.stage, digest=digest).write(final)  # last: a kill before it repeats all of this


def published_digest(folder: Path) -> str | None:
    """Digest of the artifact that a published report shows; None where there is no report."""
    manifest = read_json_as(folder / MANIFEST, ReportManifest)
    return None if manifest is None else manifest.digest


def report_directory(run: RunContext) -> Path | None:
    """The newest report of this run's stages."""
    for stage in ("register", "evaluate"):
        if stage in run.artifacts:
            return run.workspace / "reports" / run.artifacts[stage].path.name
    return None


def publish_beside(context: StageContext, names: tuple[str, ...]) -> None:
    """Put files of the stage beside the newest report of a pipeline; where there is none, they are the newest report.

    A report that the pipeline makes later is without them until their command is given again, which takes a moment; see also
    :func:`add_to_report`.
    """
    reports = context.workspace / "reports"
    latest = reports / "latest"
    if (latest / "report.html").exists():
        _copy(context.output, latest.resolve(), names)
        return
    folder = reports / context.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    _copy(context.output, folder, names)
    ReportManifest(stage=context.stage, digest=Artifact(context.output).finished.digest).write(folder)
    point(latest, folder.name)  # last: a kill before it repeats all of this


def add_to_report(context: StageContext, source: Path, names: tuple[str, ...]) -> None:
    """Put files of another artifact beside the report that the stage has published, where they are not there yet."""
    folder = context.workspace / "reports" / context.fingerprint
    _copy(source, folder, tuple(name for name in names if not (folder / name).exists()))


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        temporary = target / f".{name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(target / name)
