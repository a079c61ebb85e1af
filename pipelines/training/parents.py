"""Which earlier run a warm run continues, and whether it can: the newest champion that learned nothing of the window to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from feature_store.config import SourceConfig
from feature_store.config_types import is_auto
from feature_store.features.summary import ClickSummary
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json
from pipelines.config.run import RunConfig, as_it_was, with_new_keys
from pipelines.errors import ConfigError
from pipelines.registry.alias_history import line_of_champions
from pipelines.registry.lookup import alias_version, champion_changes, tags_of_version
from pipelines.registry.registry import CHAMPION, MADE_OF
from pipelines.tracking.client import tracking_uri
from pipelines.training.facts import PretrainingFacts
from pipelines.training.student_plugin import STUDENT, student_digest
from pipelines.workspace.artifacts import Artifact, ArtifactError
from pipelines.workspace.context import RunContext
from pipelines.workspace.manifest import Manifest, StageInput
from pipelines.workspace.parent import DATES, Parent, parent_of

STAGES = ("ingest", "pretrain", "finetune", "distill")
_READ = {  # what a run reads of its parent
    "ingest": ("vocabulary.json", "bins.json", "summary.json", DATES, Parent.FILE),
    "pretrain": ("training.json", "pretrained*.pt"),
    "finetune": ("teacher.pt",),
    "distill": ("student.pt", "student_alone.pt"),
}
_SHAPE = (
    "pretrain.encoder",
    "pretrain.more_encoders",
    *(f"finetune.{key}" for key in ("head_width", "cross_layers", "recency", "members")),
)
_COLUMNS = ("history", "statistics", "embeddings", "teacher_state")  # keys of stage ingest that decide which inputs a row has


class NoParent(Exception):
    """An earlier run cannot be continued. The message is one line."""


class NothingEarlier(NoParent):
    """There is no earlier run."""


def last_champion(run: RunContext) -> Parent | None:
    """What a warm run continues: the newest champion of an earlier window; None, and a line that says why, for a cold start.

    Raises
    ------
    ConfigError
        When it cannot be continued, and ``warm.without_parent`` is ``fail``.
    """
    return _or_cold(run, lambda: champion_parent(run))


def night_before(run: RunContext, artifacts: Mapping[str, Artifact], name: str) -> Parent | None:
    """What a warm night of a backtest continues: an earlier night, by its artifacts; None for a cold start."""
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
        if settings.without_parent == "fail" and not isinstance(why, NothingEarlier):
            raise ConfigError(f"{why}; set warm.without_parent: cold, or training.start: cold") from None
        say(str(why))
        return None
    if parent.late and settings.late == "restart":
        say(f"{parent.name} learned {', '.join(parent.late)} as it was before a correction (warm.late: restart)")
        return None
    if is_due(run, parent):
        say(f"the last one learned until {parent.cold_since:%Y-%m-%d %H:%M} (warm.restart_every)")
        return None
    return parent


def is_due(run: RunContext, parent: Parent) -> bool:
    """Whether a run begins cold though it could continue: the night on which both are compared."""
    return training_end(run) - parent.cold_since >= run.config.warm.restart_every


def champion_parent(run: RunContext) -> Parent:
    """The newest champion that learned an earlier window, and knew nothing that this run may not know.

    Raises
    ------
    NoParent
        When there is none, or it cannot be continued.
    """
    name, uri = run.config.name, tracking_uri(run.config, run.workspace)
    champion = alias_version(uri, name, CHAMPION)
    for version in reversed(line_of_champions(champion_changes(uri, name), champion)):
        tags = tags_of_version(uri, name, version)
        made_of = {tag.removeprefix(MADE_OF): value for tag, value in tags.items() if tag.startswith(MADE_OF)}
        if not {"ingest", "finetune", "distill"} <= made_of.keys():
            raise NoParent(f"version {version} does not say what it was made of")
        if _is_earlier(run, made_of["ingest"]):
            made_of["pretrain"] = str(_finished(run, "finetune", made_of["finetune"]).inputs["pretrain"].fingerprint)
            return parent_from(run, made_of, f"version {version}")
    raise NothingEarlier("there is no champion yet" if champion is None else "no champion learned from an earlier window")


def _is_earlier(run: RunContext, fingerprint: str) -> bool:
    """Whether an artifact of ``ingest`` is of a window before that of this run, and was made by what was known then."""
    manifest, summary = _finished(run, "ingest", fingerprint), _summary(run, fingerprint)
    if summary.split.train_until >= training_end(run) or (run.as_of is not None and summary.as_of > run.as_of):
        return False
    # A window that ends with the log has its exact end in rows that the manifests of the store do not tell.
    now = {"store": run.store.digest(run.as_of)} | ({} if run.as_of is None else {"as_of": run.as_of.isoformat()})
    before = {name: one.digest for name, one in manifest.inputs.items() if name in ("store", "as_of")}
    return run.config.need_clicks().train is None or before != now


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


def training_begin(run: RunContext) -> datetime | None:
    """Where the labels of a run begin; None where they begin with the log."""
    split = run.config.need_clicks()
    if split.train is not None:
        return training_end(run) - split.train
    return split.train_from if split.train_from is None or isinstance(split.train_from, datetime) else training_end(run) - split.train_from


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
        When an artifact is missing or damaged, or its models are of another log, other inputs or another size, or have seen what this run
        holds back from them.
    """
    manifests = {stage: _finished(run, stage, made_of[stage]) for stage in STAGES}
    for stage, manifest in manifests.items():
        _verify(run, stage, made_of[stage], manifest)
    for difference in _differences(run.config, manifests):
        raise NoParent(f"{name} {difference}")
    ingest = run.workspace / "artifacts" / "ingest" / made_of["ingest"]
    summary = _summary(run, made_of["ingest"])
    if summary.title_encoder != run.store.title_encoder():
        raise NoParent(f"{name} read vectors of titles that another encoder made")
    before, since, begin = parent_of(ingest), summary.split.train_until, training_begin(run)
    learned = PretrainingFacts.read(run.workspace / "artifacts" / "pretrain" / made_of["pretrain"]).until
    if run.config.pretrain.clicks == "before_labels" and begin is not None and learned is not None and learned > begin:
        raise NoParent(f"the encoder of {name} learned clicks that are labels now (pretrain.clicks: before_labels)")
    return Parent(
        name=name,
        since=since,
        cold_since=since if before is None else before.cold_since,
        nights=1 if before is None else before.nights + 1,
        artifacts={stage: StageInput(fingerprint=made_of[stage], digest=manifest.digest) for stage, manifest in manifests.items()},
        late=corrected_since(run, ingest),
        members=manifests["finetune"].config["finetune"].get("members", 1),
    )


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
    fingerprint = tags_of_version(uri, name, champion).get(f"{MADE_OF}ingest")
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
    before: dict[str, Any] = {}
    for stage in STAGES:
        before |= manifests[stage].config
    now = config.section((*_COLUMNS, "distill.student", "pretrain", "finetune"))
    for key in ("finetune", "distill.student"):
        if "recency" in now[key]:
            before[key] = as_it_was(before[key], now[key])
    before = {key: with_new_keys(key, value) for key, value in before.items()}
    try:
        same_log = SourceConfig.reads(before["source"]).model_validate(before["source"]).log() == config.source.log()
    except ValidationError:
        same_log = False
    if not same_log:
        yield "is of another log"
    for key in _COLUMNS:
        if before.get(key) != now.get(key):
            yield f"has other inputs ({key} was changed)"
    if (before.get("labels") or {}).get("chain", False) != config.labels.chain:
        yield "has labels that are modelled otherwise (labels.chain was changed)"
    if before.get("teacher_only") != config.section(("teacher_only",)).get("teacher_only"):
        yield "has other inputs (teacher_only was changed)"
    if before["distill.student"] != now["distill.student"]:
        yield "has another student (distill.student was changed)"
    elif student_digest(config) != {name: one.digest for name, one in manifests["distill"].inputs.items() if name.startswith(STUDENT)}:
        yield "has another student (its plug-in was changed)"
    for key in _SHAPE:
        block, _, part = key.partition(".")
        if before[block].get(part) != now[block][part] and not is_auto(now[block][part]):  # auto follows the parent
            yield f"has a teacher of another shape ({key} was changed)"
    for strategy in ("from_scratch", "next_segment"):  # what fine-tuning puts on the encoder, and takes from it
        if (before["finetune"].get("strategy") == strategy) != (config.finetune.strategy == strategy):
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


def _summary(run: RunContext, fingerprint: str) -> ClickSummary:
    folder = run.workspace / "artifacts" / "ingest" / fingerprint
    try:
        summary = ClickSummary.read(folder)
    except (OSError, ValueError, DataError) as error:
        raise NoParent(f"{folder / ClickSummary.FILE} cannot be read: {error}") from None
    if summary.made_with is None or not (folder / DATES).is_file():
        raise NoParent(f"{folder} was made by an earlier release")
    return summary


def _verify(run: RunContext, stage: str, fingerprint: str, manifest: Manifest) -> None:
    """Compare with their digests the files that are read of a parent; each once, as long as nobody touches it."""
    folder = run.workspace / "artifacts" / stage / fingerprint
    names = [name for name in manifest.files if any((folder / name).match(pattern) for pattern in _READ[stage])]
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        raise NoParent(f"{folder / lost[0]} is missing")
    found = run.memo.digests({name: folder / name for name in names})
    for name in names:
        if found[name] != manifest.files[name].sha256:
            raise NoParent(f"{folder / name} is damaged: it does not match its digest")
