"""Where people find what a run says: a folder for each report, and ``latest``, which names the newest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from feature_store.tables.files import sha256_of
from pipelines.workspace.artifacts import Artifact, point, publish_directory, read_json, read_json_as
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.manifest import MANIFEST, ReportManifest

PAGE, METRICS = "report.html", "metrics.json"


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
    for name in (PAGE, METRICS):
        shutil.copyfile(context.output / name, temporary / name)
    publish_directory(temporary, final)
    point(reports / "latest", context.fingerprint)
    ReportManifest(stage=context.stage, digest=digest).write(final)  # last: a kill before it repeats all of this


def published_digest(folder: Path) -> str | None:
    """Digest of the artifact that a published report shows; None where there is no report."""
    manifest = read_json_as(folder / MANIFEST, ReportManifest)
    return None if manifest is None else manifest.digest


def publish_apart(context: StageContext, folder: str, names: tuple[str, ...]) -> None:
    """Put files of the stage into a folder of reports/ that is theirs alone, unless that was done before."""
    final = context.workspace / "reports" / folder
    digest = Artifact(context.output).finished.digest
    if published_digest(final) == digest and all((final / name).is_file() for name in names):
        return
    temporary = final.with_name(f".{folder}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in names:
        shutil.copyfile(context.output / name, temporary / name)
    ReportManifest(stage=context.stage, digest=digest).write(temporary)
    publish_directory(temporary, final)


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
    if (latest / PAGE).exists():
        _copy(context.output, latest.resolve(), names)
        return
    _publish_alone(context, names)


def publish_beside_run(context: StageContext, names: tuple[str, ...]) -> None:
    """Put files of the stage beside the report of the run of the same configuration on the same rows, or else into a folder of their own.

    ``latest`` goes on naming the newest report of a pipeline, where there is one.
    """
    _publish_into(context, _report_of_run(context), names)


def publish_in_report(context: StageContext, names: tuple[str, ...]) -> None:
    """Put files of the stage beside the report of this very run, which has one."""
    _publish_into(context, report_directory(context.run), names)


def experiment_directory(run: RunContext, stage: str, name: str) -> Path:
    """Where :func:`publish_beside_run` put a file of a stage: under the name ``latest`` where that names the folder."""
    reports, digest = run.workspace / "reports", sha256_of(run.artifacts[stage].path / name)
    holding = [file.parent for file in reports.glob(f"*/{name}") if sha256_of(file) == digest]
    return next((folder for folder in holding if folder.name == "latest"), holding[0] if holding else reports / "latest")


def _report_of_run(context: StageContext) -> Path | None:
    """The newest report of a pipeline that had the values of this configuration for all keys that it read."""
    reports, rows = context.workspace / "reports", context.inputs["ingest"].name
    present, found = context.config.model_dump(mode="json", by_alias=True), []
    for file in reports.glob(f"*/{METRICS}"):
        folder = file.parent
        manifest = None if folder.is_symlink() else read_json_as(folder / MANIFEST, ReportManifest)
        made = None if manifest is None else Artifact(context.workspace / "artifacts" / manifest.stage / folder.name).manifest
        if made is None or "ingest" not in made.inputs or made.inputs["ingest"].fingerprint != rows:
            continue
        if _agree((read_json(file) or {}).get("run", {}).get("configuration", {}), present):
            found.append((made.started, manifest is not None and manifest.stage == "register", folder))  # which comes after `evaluate`
    return max(found)[-1] if found else None


def _agree(read: Any, present: Any) -> bool:
    """Whether a configuration has these values; it may have other keys besides."""
    if isinstance(read, dict) and isinstance(present, dict):
        return all(key in present and _agree(value, present[key]) for key, value in read.items())
    return bool(read == present)


def _publish_into(context: StageContext, folder: Path | None, names: tuple[str, ...]) -> None:
    if folder is None:
        _publish_alone(context, names)
    else:
        _copy(context.output, folder, names)


def _publish_alone(context: StageContext, names: tuple[str, ...]) -> None:
    reports = context.workspace / "reports"
    folder = reports / context.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    _copy(context.output, folder, names)
    ReportManifest(stage=context.stage, digest=Artifact(context.output).finished.digest).write(folder)
    if not (reports / "latest" / PAGE).exists():
        point(reports / "latest", folder.name)  # last: a kill before it repeats all of this


def add_to_report(context: StageContext, source: Path, names: tuple[str, ...]) -> None:
    """Put files of another artifact beside the report that the stage has published, where they are not there yet."""
    folder = context.workspace / "reports" / context.fingerprint
    _copy(source, folder, tuple(name for name in names if not (folder / name).exists()))


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        temporary = target / f".{name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(target / name)
