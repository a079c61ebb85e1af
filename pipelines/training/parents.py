"""Which earlier run a warm run continues, and whether it can: the newest champion that learned nothing of the window to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feature_store.config import SourceConfig
from feature_store.features.summary import ClickSummary
from feature_store.tables.json_files import load_json
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.registry.alias_history import line_of_champions
from pipelines.registry.lookup import alias_version, champion_changes, version_tags
from pipelines.registry.registry import CHAMPION
from pipelines.tracking.client import tracking_uri
from pipelines.workspace.artifacts import Artifact, ArtifactError
from pipelines.workspace.context import RunContext
from pipelines.workspace.manifest import Manifest, StageInput
from pipelines.workspace.parent import DATES, Parent, parent_of

STAGES = ("ingest", "pretrain", "finetune", "distill")
_DIGEST = "digest."  # begins the tags of a version that name what it was made of
_SHAPE = ("pretrain.encoder", "pretrain.more_encoders", *(f"finetune.{key}" for key in ("head_width", "cross_layers", "members")))
_COLUMNS = ("history", "statistics", "embeddings")  # keys of stage ingest that decide which inputs a row has


class NoParent(Exception):
    """An earlier run cannot be continued. The message is one line."""


def last_champion(run: RunContext) -> Parent | None:
    """What a warm run continues: the newest champion of an earlier window; None, and a line that says why, for a cold start.

    Raises
    ------
    ConfigError
        When it cannot be continued, and ``warm.without_parent`` is ``fail``.
    """
    return _or_cold(run, lambda: champion_parent(run))


def night_before(run: RunContext, artifacts: Mapping[str, Artifact], name: str) -> Parent | None:
    """What a warm night of a backtest continues: the night before it, by its artifacts; None for a cold start."""
    found = {stage: artifacts[stage].path.name for stage in STAGES}
    return _or_cold(run, lambda: parent_from(run, found, name))


def _or_cold(run: RunContext, find: Callable[[], Parent]) -> Parent | None:
    settings = run.config.warm

    def say(text: str) -> None:
        if not run.read_only:
            run.report(f"a cold start: {text}", "ingest")

    try:
        parent = find()
    except NoParent as why:
        if settings.without_parent == "fail":
            raise ConfigError(f"{why}; set warm.without_parent: cold, or training.start: cold") from None
        say(str(why))
        return None
    if parent.late and settings.late == "restart":
        say(f"{parent.name} learned {', '.join(parent.late)} as it was before a correction (warm.late: restart)")
        return None
    if parent.nights >= settings.restart_every:
        say(f"{parent.nights} nights since the last one (warm.restart_every)")
        return None
    return parent


def is_due(run: RunContext, parent: Parent) -> bool:
    """Whether a run begins cold though it could continue: the night on which both are compared."""
    return parent.nights >= run.config.warm.restart_every


def champion_parent(run: RunContext) -> Parent:
    """The newest champion whose training window ended before that of this run.

    Raises
    ------
    NoParent
        When there is none, or it cannot be continued.
    """
    name, uri = run.config.name, tracking_uri(run.config, run.workspace)
    champion = alias_version(uri, name, CHAMPION)
    for version in reversed(line_of_champions(champion_changes(uri, name), champion)):
        made_of = {tag.removeprefix(_DIGEST): value for tag, value in version_tags(uri, name, version).items() if tag.startswith(_DIGEST)}
        if not {"ingest", "finetune", "distill"} <= made_of.keys():
            raise NoParent(f"version {version} does not say what it was made of")
        if not _is_of_this_window(run, made_of["ingest"]):
            made_of["pretrain"] = str(_finished(run, "finetune", made_of["finetune"]).inputs["pretrain"].fingerprint)
            return parent_from(run, made_of, f"version {version}")
    raise NoParent("there is no champion yet" if champion is None else "no champion learned from an earlier window")


def _is_of_this_window(run: RunContext, fingerprint: str) -> bool:
    """Whether an artifact of ``ingest`` is of the window of this run, or of a later one."""
    manifest = _finished(run, "ingest", fingerprint)
    if ClickSummary.read(run.workspace / "artifacts" / "ingest" / fingerprint).split.train_until >= training_end(run):
        return True
    # A window that ends with the log has its exact end in rows that the manifests of the store do not tell.
    now = {"store": run.store.digest(run.as_of)} | ({} if run.as_of is None else {"as_of": run.as_of.isoformat()})
    before = {name: one.digest for name, one in manifest.inputs.items() if name in ("store", "as_of")}
    return run.config.need_clicks().train is not None and before == now


def training_end(run: RunContext) -> datetime:
    """Where the training window of a run ends; of one that ends with the log, as far as its partitions tell."""
    split = run.config.need_clicks()
    if split.train_until is not None:
        return split.train_until
    if split.validation is None or split.test is None:
        raise NoParent("split has no windows in time")
    if run.as_of is not None:
        return run.as_of - split.test - split.validation
    newest = max((run.store.manifest(date).max_timestamp for date in run.store.dates()), default=datetime(1970, 1, 1, tzinfo=UTC))
    return newest - split.test - split.validation


def parent_from(run: RunContext, made_of: Mapping[str, str], name: str) -> Parent:
    """An earlier run as a parent, once it is known that its models can be continued.

    Parameters
    ----------
    run : RunContext
        The one that would continue it.
    made_of : mapping of str to str
        Fingerprints of its :data:`STAGES`.
    name : str
        What it is called.

    Raises
    ------
    NoParent
        When an artifact is missing or damaged, or its models are of another log, other inputs or another size.
    """
    manifests = {stage: _finished(run, stage, made_of[stage]) for stage in STAGES}
    artifacts = {stage: StageInput(fingerprint=made_of[stage], digest=manifest.digest) for stage, manifest in manifests.items()}
    for difference in _differences(run.config, manifests):
        raise NoParent(f"{name} {difference}")
    ingest = run.workspace / "artifacts" / "ingest" / made_of["ingest"]
    for stage, manifest in manifests.items():
        _verify(run, stage, made_of[stage], manifest)
    before = parent_of(ingest)
    since = ClickSummary.read(ingest).split.train_until
    nights = 1 if before is None else before.nights + 1
    return Parent(name=name, since=since, nights=nights, artifacts=artifacts, late=corrected_since(run, ingest))


def corrected_since(run: RunContext, ingest: Path) -> list[str]:
    """Dates that an artifact of ``ingest`` was made of, all of them before its training ended, and that hold something else now.

    The last date of a window is left out: a day that is not over grows.
    """
    last, now = ClickSummary.read(ingest).split.train_until.date().isoformat(), run.store.partition_digests()
    return [date for date, digest in load_json(ingest / DATES).items() if date < last and digest != now.get(date)]


def nights_that_learned_otherwise(run: RunContext) -> Iterator[str]:
    """Lines about dates that were corrected after the champion, or a night that it continues, learned them."""
    name, uri = run.config.name, tracking_uri(run.config, run.workspace)
    champion = alias_version(uri, name, CHAMPION)
    if run.config.training.start != "warm" or champion is None:
        return
    fingerprint = version_tags(uri, name, champion).get(f"{_DIGEST}ingest")
    title, folder = f"version {champion}", run.workspace / "artifacts" / "ingest" / str(fingerprint)
    nights: dict[str, list[str]] = {}
    while (folder / DATES).is_file():
        for date in corrected_since(run, folder):
            nights.setdefault(date, []).append(title)
        parent = parent_of(folder)
        if parent is None:
            break
        title, folder = parent.name, parent.folder(run.workspace, "ingest")
    for date in sorted(nights):
        yield f"events: {date} was corrected after {', '.join(reversed(nights[date]))} learned it; warm.late: {run.config.warm.late}"


def _differences(config: RunConfig, manifests: Mapping[str, Manifest]) -> Iterator[str]:
    """Why models cannot be continued by a run of a configuration, the first reason first."""
    ingest = manifests["ingest"].config
    if SourceConfig.model_validate(ingest["source"]).log() != config.source.log():
        yield "is of another log"
    now = config.section(_COLUMNS)
    for key in _COLUMNS:
        if ingest.get(key) != now[key]:
            yield f"has other inputs ({key} was changed)"
    values: dict[str, Any] = {}
    for stage in ("pretrain", "finetune", "distill"):
        values |= manifests[stage].config
    if values["distill.student"] != config.section(("distill.student",))["distill.student"]:
        yield "has another student (distill.student was changed)"
    for key in _SHAPE:
        block, _, part = key.partition(".")
        if values[block][part] != config.section((key,))[key]:
            yield f"has a teacher of another shape ({key} was changed)"
    if (values["finetune"]["strategy"] == "from_scratch") != (config.finetune.strategy == "from_scratch"):
        yield "has another teacher (finetune.strategy was changed)"


def _finished(run: RunContext, stage: str, fingerprint: str) -> Manifest:
    artifact = Artifact(run.workspace / "artifacts" / stage / fingerprint)
    try:
        manifest = artifact.manifest
    except ArtifactError as error:
        raise NoParent(str(error)) from None
    if manifest is None:
        raise NoParent(f"{artifact.path}, which the champion was made of, is not there any more")
    return manifest


def _verify(run: RunContext, stage: str, fingerprint: str, manifest: Manifest) -> None:
    """Compare with their digests the files that are read of a parent; each once, as long as nobody touches it."""
    folder = run.workspace / "artifacts" / stage / fingerprint
    read = {
        "ingest": ("vocabulary.json", "bins.json", "summary.json", DATES, Parent.FILE),
        "pretrain": ("training.json", "pretrained*.pt"),
        "finetune": ("teacher.pt",),
        "distill": ("student.pt", "student_alone.pt"),
    }[stage]
    names = [name for name in manifest.files if any((folder / name).match(pattern) for pattern in read)]
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        raise NoParent(f"{folder / lost[0]} is missing")
    found = run.memo.digests({name: folder / name for name in names})
    for name in names:
        if found[name] != manifest.files[name].sha256:
            raise NoParent(f"{folder / name} is damaged: it does not match its digest")
