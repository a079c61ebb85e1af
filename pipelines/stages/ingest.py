"""Stage ``ingest``: new rows of the raw log into the store, then the store's events into rows to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from feature_store.config import SplitConfig
from feature_store.config_types import is_url
from feature_store.features.summary import ClickSummary
from feature_store.readers import any_reader
from feature_store.readers.remote_log import copy_of_log, copy_of_table, pattern_behind, table_url
from feature_store.store.ingest import VALUES
from feature_store.store.manifests import CONTRACT
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError, DataFolderError
from feature_store.tables.json_files import digest_of
from feature_store.tables.json_models import JsonFile
from feature_store.tables.named_files import named_path
from feature_store.text.ingest import resource_files
from pipelines.config.run import scalar
from pipelines.errors import ConfigError
from pipelines.tasks import task_of
from pipelines.training.budgets import settled
from pipelines.workspace.artifacts import Artifact, read_json_as
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.retention import TEACHER_STATES, VECTORS

COPY = "raw"  # in a workspace: the files behind a URL
_SHOWN = 3  # keys that a refusal names


class Ingested(JsonFile):
    """What the store was last brought up to date with.

    Attributes
    ----------
    source, inputs : str
        Digests of the settings and of the input files.
    name : str, optional
        Of the configuration; release 0.2 wrote neither it nor what follows.
    log : dict, optional
        Settings that decide what the store holds; see :meth:`feature_store.config.SourceConfig.log`.
    data : str, optional
        The data folder, absolute, or a URL; None for a log without files.
    """

    FILE: ClassVar[str] = ".ingested.json"

    source: str
    inputs: str
    name: str | None = None
    log: dict[str, Any] | None = None
    data: str | None = None


def bring_store_up_to_date(run: RunContext) -> dict[str, str]:
    """Bring the store up to date with the raw log; the digest of what it then holds, the logical time where that matters, and the run that
    this one continues, where it continues one.

    Raises
    ------
    DataError
        When the log broke its contract; the store is as it was.
    """
    ingest_new_rows(run)
    as_of = None if run.config.split is None else logical_time(run.as_of, run.store, run.config.split)
    parent = run.parent = run.find_parent(run)
    continued = {} if parent is None else {**parent.input("ingest"), "warm": digest_of([parent.decides, run.config.warm.replay])}
    return {"store": run.store.digest(run.as_of)} | ({"as_of": as_of.isoformat()} if as_of else {}) | continued


def ingest_new_rows(run: RunContext) -> None:
    """Bring the store up to date with the raw log."""
    source = run.config.source
    folder = run.workspace / "artifacts" / "ingest"
    known = read_json_as(folder / Ingested.FILE, Ingested)
    _refuse_another_log(run, known)
    views, checkpoint = (run.config.tokens.teacher, run.config.tokens.student), run.config.pretrain.checkpoint
    resources = {name for view in views for name in (view.vocabulary, view.vectors) if name}
    named = sorted(resources | ({checkpoint} if checkpoint else set()))
    # Without defaults, so that a key of a later release does not make of it another log. No row depends on the rate, and what `labels`
    # says is in `events`.
    read = source.model_dump(mode="json", exclude_defaults=True, exclude={"negative_sampling_rate", "labels"})
    settings = digest_of([read, named] if named else read)
    needs_files = source.needs_folder
    # by its log where an earlier release wrote the digest of the settings in another way
    is_known = known is not None and (known.source == settings or known.log == source.log()) and _whole(run.store)
    url = _url_of(run, known)
    if url is not None and needs_files and not _copied(run, url, is_known):
        return
    data = run.data or (_remembered_folder(run, known) if needs_files else None)
    if data is None and needs_files:
        # Later commands need not repeat --data as long as they mean the log that was ingested.
        if not is_known:
            raise ConfigError(f"source.reader {source.reader} reads files: name their folder with --data DIR")
        return

    if not _tables_copied(run, is_known):
        return
    reader = any_reader(source.with_copies(run.copies), data)
    try:
        files = reader.files()
        resources |= checkpoint_files(checkpoint, data, run.config.tokens.teacher.lowercase) if checkpoint else set()
        files = [*files, *resource_files(data, resources).values()]
        if source.title_encoder is not None:
            from pipelines.tasks.title_vectors import encoder_files  # late: few logs have one

            files = [*files, *encoder_files(source.title_encoder, data)]
    except DataFolderError as error:
        if run.data is not None or not is_known:
            raise
        run.report(f"warning: {error}; the store stays as it is", "ingest")  # the folder of an earlier command, emptied since
        return
    digests = run.memo.digests({path.absolute().as_posix(): path for path in files})
    inputs = digest_of([reader.fingerprint(), sorted(digests.items()), VALUES])
    if known is None or (known.source, known.inputs) != (settings, inputs) or not _whole(run.store):
        if run.read_only:
            raise DataError("the raw log is not ingested as it is now; run `ctr-kd ingest`")
        if run.data is None and data is not None:
            run.report(f"new input in {data}, the data folder of an earlier command", "ingest")
        run.data = data
        task_of(run.config).ingest(run, resources, folder / "failed", lambda text: run.report(text, "ingest"))
    run.data = data  # later stages may read files beside the log
    place = (url or str(data.absolute())) if data is not None and needs_files else None
    now = Ingested(source=settings, inputs=inputs, name=run.config.name, log=source.log(), data=place)
    if not run.read_only and (known is None or known.to_json() != now.to_json()):
        folder.mkdir(parents=True, exist_ok=True)
        now.write(folder)


def _url_of(run: RunContext, known: Ingested | None) -> str | None:
    """The URL below which the log lies: of the table that it is, of this command or of an earlier one; None for a folder."""
    own = table_url(run.config.source)
    if own is not None:
        if run.url not in (None, own) or (run.data is not None and run.url is None):
            raise ConfigError(
                "source.events.delta is a URL, and so is the log's place: leave --data out, or name the table's folder below it"
            )
        return own
    if run.url is not None or run.data is not None or known is None or known.data is None:
        return run.url
    return known.data if is_url(known.data) else None


def _copied(run: RunContext, url: str, is_known: bool) -> bool:
    """Let the data folder be a copy of what is behind a URL, brought up to date; false where it cannot be reached and need not be."""
    folder = run.workspace / COPY
    if run.read_only:
        run.data = folder if folder.is_dir() else None
        return run.data is not None
    try:
        scores = [teacher.scores.path for teacher in run.config.distill.teachers if teacher.scores is not None and teacher.scores.path]
        run.data = copy_of_log(run.config.source, url, folder, lambda text: run.report(text, "ingest"), scores)
    except DataError as error:
        if run.url is not None or not is_known:
            raise
        run.report(f"warning: {error}; the store stays as it is", "ingest")
        return False
    run.url = url
    return True


def _tables_copied(run: RunContext, is_known: bool) -> bool:
    """Bring copies of items and users that are behind URLs of their own up to date; false where one cannot be had and need not be."""
    for kind in ("items", "users"):
        block = getattr(run.config.source, kind)
        if block is None or not is_url(block.path):
            continue
        folder = run.workspace / f"{COPY}_{kind}"
        try:
            if run.read_only:
                run.copies[kind] = str(folder.absolute() / pattern_behind(block.path)[1])
            else:
                run.copies[kind] = str(copy_of_table(block.path, folder, lambda text: run.report(text, "ingest")))
        except DataError as error:
            if not is_known:
                raise
            run.report(f"warning: {error}; the store stays as it is", "ingest")
            return False
    return True


def _refuse_another_log(run: RunContext, known: Ingested | None) -> None:
    """Raises ConfigError where the store was made of another log, unless this very stage is forced: what rotated away is lost with it."""
    now = run.config.source.log()
    if known is None or known.log is None or known.log == now or run.force or not (run.store.root / CONTRACT).is_file():
        return
    keys = [key for key in {**known.log, **now} if known.log.get(key) != now.get(key)]
    before, after = (_shown(log, keys) for log in (known.log, now))
    raise ConfigError(
        f"{run.store.root} holds the log of configuration {known.name} ({before}), and {run.config.name} has another ({after}): "
        "give it another --workspace, or let `ctr-kd ingest --force` replace what is there"
    )


def _shown(log: dict[str, Any], keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more keys" if len(keys) > _SHOWN else ""
    return ", ".join(f"{key}: {scalar(log[key])}" if key in log else f"no {key}" for key in keys[:_SHOWN]) + more


def remembered_folder(workspace: Path) -> Path | None:
    """The data folder that an earlier command on a workspace named; None where it named none."""
    known = read_json_as(workspace / "artifacts" / "ingest" / Ingested.FILE, Ingested)
    return None if known is None or known.data is None or is_url(known.data) else Path(known.data)


def _remembered_folder(run: RunContext, known: Ingested | None) -> Path | None:
    """The data folder that an earlier command named; None, and a line that says so, where there is none any more."""
    if known is None:
        return None
    if known.data is not None and Path(known.data).is_dir():
        return Path(known.data)
    missing = "no command named a data folder" if known.data is None else f"the data folder {known.data} is not there any more"
    run.report(f"warning: {missing}, so nothing new is looked for and the store stays as it is; --data DIR names one", "ingest")
    return None


def checkpoint_files(name: str, data: Path | None, lowercase: bool) -> set[str]:
    """Files of the BERT that ``pretrain.checkpoint`` names, as :func:`feature_store.tables.named_files.named_path` reads them.

    Raises
    ------
    DataError
        When no folder of that name holds one, or its words are read in another way than they were learned.
    """
    from ctr_kd.huggingface.folder import InterchangeError, folder_files, has_capitals, lowercases

    folder = named_path(name, data)
    try:
        files, learned = folder_files(folder), lowercases(folder)
    except InterchangeError as error:
        raise DataError(f"pretrain.checkpoint: {error}") from None
    # Its words have the last word: bert-base-chinese, which has small letters alone, says `do_lower_case: false`.
    if learned not in (None, lowercase) and has_capitals(folder) != learned:
        known = "small letters alone" if learned else "capital letters, too"
        raise DataError(f"pretrain.checkpoint: {folder} has learned {known}: write tokens.teacher.lowercase: {str(learned).lower()}")
    return {f"{name}/{file}" for file in files}


def _whole(store: Store) -> bool:
    try:
        return bool(store.contract)
    except DataError:  # never filled, removed since, or interrupted: ingestion repairs it
        return False


def logical_time(as_of: datetime | None, store: Store, split: SplitConfig) -> datetime | None:
    """The logical time as far as it makes a difference: None where it hides nothing and bounds no window."""
    if as_of is None or split.train is not None:
        return as_of
    return as_of if as_of <= newest_known(store) else None


def newest_known(store: Store) -> datetime:
    """Just after the last event, and after the last row became known."""
    return (store.known_until() or datetime(1970, 1, 1, tzinfo=UTC)) + timedelta(microseconds=1)


def assemble_rows(context: StageContext) -> None:
    """Assemble rows and vocabularies of what the store holds."""
    config, parent = context.config, context.run.parent
    if parent is not None:  # whose statistics its models read, and states of the same encoder
        earlier = ClickSummary.read(parent.folder(context.workspace, "ingest"))
        config = config.model_copy(update={"statistics": earlier.made_with, "teacher_state": earlier.teacher_state})
        context.report(f"continues {parent.name}, whose training ended {parent.since:%Y-%m-%d %H:%M}: warm night {parent.nights}")
        for date in parent.late:
            context.report(f"warning: {date} was corrected since {parent.name} learned it, and what was learned is not unlearned")
        parent.write(context.output)
    elif config.chooses_statistics:
        # Known to this stage alone, not to the task: an edit of the trees that try statistics is none of the code of other stages.
        from pipelines.tasks.statistics_trial import with_chosen_statistics

        config = with_chosen_statistics(context)
    facts = task_of(config).assemble(context)
    ledger = context.store.ledger
    version = {} if ledger is None or ledger.version is None else {"table_version": str(ledger.version)}  # a text: no figure to track
    context.record(facts | {"quarantined_rows": context.store.quarantined_rows()} | version)


def vectors_are_there(context: StageContext) -> bool:
    """Whether the item vectors and teacher states that the rows read, and that later stages read too, are still where they were made."""
    facts = Artifact(context.output).finished.facts
    needed = [(VECTORS, "facts.json"), (TEACHER_STATES, "encoder.json"), (TEACHER_STATES, "every-*/states.json")]
    return all(facts.get(name) is None or any((context.workspace / name / facts[name]).glob(file)) for name, file in needed)


STAGE = Stage(
    "ingest",
    assemble_rows,
    up_to_date=vectors_are_there,
    # The engine's memory and threads are no keys: they change how fast rows are assembled, not the rows.
    keys=("source", "split", "candidates", "history", "statistics", "vocabulary", "embeddings", "teacher_state", "tokens"),
    outside=bring_store_up_to_date,
    settle=settled,
)
