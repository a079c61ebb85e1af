"""Stage ``ingest``: new rows of the raw log into the store, then the store's events into rows to learn from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_store.config import SplitConfig
from feature_store.readers import READERS
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import digest_of, write_json
from feature_store.text.ingest import resource_files
from pipelines.errors import ConfigError
from pipelines.tasks import task_of
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext

INGESTED = ".ingested.json"  # digest of the inputs that the store was last brought up to date with


def bring_store_up_to_date(run: RunContext) -> dict[str, str]:
    """Bring the store up to date with the raw log; the digest of what it then holds, and the logical time where that matters.

    Raises
    ------
    DataError
        When the log broke its contract; the store is as it was.
    """
    _ingest_what_is_new(run)
    as_of = None if run.config.split is None else logical_time(run.as_of, run.store, run.config.split)
    return {"store": run.store.digest(run.as_of)} | ({"as_of": as_of.isoformat()} if as_of else {})


def _ingest_what_is_new(run: RunContext) -> None:
    source = run.config.source
    folder = run.workspace / "artifacts" / "ingest"
    known = read_json(folder / INGESTED) or {}
    views, checkpoint = (run.config.tokens.teacher, run.config.tokens.student), run.config.pretrain.checkpoint
    resources = {name for view in views for name in (view.vocabulary, view.vectors) if name}
    named = sorted(resources | ({checkpoint} if checkpoint else set()))
    settings = digest_of([source.model_dump(mode="json"), named] if named else source.model_dump(mode="json"))
    if run.data is None and source.reader != "simulated":
        # Later commands need not repeat --data as long as they mean the log that was ingested.
        if known.get("source") != settings or not _whole(run.store):
            raise ConfigError(f"source.reader {source.reader} reads files: name their folder with --data DIR")
        return

    reader = READERS[source.reader](source, run.data)
    if checkpoint:
        resources |= checkpoint_files(checkpoint, run.data)
    files = [*reader.files(), *resource_files(run.data, resources).values()]
    digests = run.memo.digests({path.as_posix(): path for path in files})
    state = {"source": settings, "inputs": digest_of([reader.fingerprint(), sorted(digests.items())])}
    if known == state and _whole(run.store):
        return
    if run.read_only:
        raise DataError("the raw log is not ingested as it is now; run `ctr-kd ingest`")
    task_of(run.config).ingest(run, resources, folder / "failed", lambda text: run.report(text, "ingest"))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / INGESTED, state)


def checkpoint_files(name: str, data: Path | None) -> set[str]:
    """Files of the BERT that ``pretrain.checkpoint`` names, relative to the data folder.

    Raises
    ------
    DataError
        When no folder of that name holds one.
    """
    from ctr_kd.huggingface.folder import InterchangeError, folder_files

    try:
        return {f"{name}/{file}" for file in folder_files(Path(data or "") / name)}
    except InterchangeError as error:
        raise DataError(f"pretrain.checkpoint: {error}") from None


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
    facts = task_of(context.config).assemble(context)
    context.record(facts | {"quarantined_rows": context.store.quarantined_rows()})


STAGE = Stage(
    "ingest",
    assemble_rows,
    # The engine's memory and threads are no keys: they change how fast rows are assembled, not the rows.
    keys=("source", "split", "candidates", "history", "statistics", "vocabulary", "tokens"),
    outside=bring_store_up_to_date,
)
