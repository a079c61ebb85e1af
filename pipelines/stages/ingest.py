"""Stage ``ingest``: new rows of the raw log into the store, then the store's events into rows to learn from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from feature_store.config import SplitConfig
from feature_store.contracts import DataError
from feature_store.store import Store
from pipelines.artifacts import digest_of, read_json, write_json
from pipelines.config import ConfigError
from pipelines.runner import RunContext, Stage, StageContext

INGESTED = ".ingested.json"  # digest of the inputs that the store was last brought up to date with


def inputs(run: RunContext) -> dict[str, str]:
    """Bring the store up to date with the raw log; the digest of what it then holds, and the logical time where that matters.

    Raises
    ------
    DataError
        When the log broke its contract; the store is as it was.
    """
    _ingest_what_is_new(run)
    as_of = logical_time(run.as_of, run.store, run.config.split)
    return {"store": run.store.digest(run.as_of)} | ({"as_of": as_of.isoformat()} if as_of else {})


def _ingest_what_is_new(run: RunContext) -> None:
    source = run.config.source
    folder = run.workspace / "artifacts" / "ingest"
    known = read_json(folder / INGESTED) or {}
    settings = digest_of(source.model_dump(mode="json"))
    if run.data is None and source.reader != "simulated":
        # Later commands need not repeat --data as long as they mean the log that was ingested.
        if known.get("source") != settings or not _whole(run.store):
            raise ConfigError(f"source.reader {source.reader} reads files: name their folder with --data DIR")
        return
    from feature_store.readers import READERS

    reader = READERS[source.reader](source, run.data)
    digests = run.memo.digests({path.as_posix(): path for path in reader.files()})
    state = {"source": settings, "inputs": digest_of([reader.fingerprint(), sorted(digests.items())])}
    if known == state and _whole(run.store):
        return
    if run.read_only:
        raise DataError("the raw log is not ingested as it is now; run `ctr-kd ingest`")
    from feature_store.ingest import ingest

    ingest(source, run.data, run.store, folder / "failed", lambda text: run.report(f"ingest: {text}"))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / INGESTED, state)


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


def run(context: StageContext) -> None:
    """Assemble rows, click pool and vocabularies; see :func:`feature_store.assemble.assemble`. Adds the clicks' tokens."""
    from ctr_kd.samples import Assembly
    from feature_store.assemble import assemble

    config = context.config
    context.store.verify(context.as_of)
    summary = assemble(context.store, config.assembly, config.feature_store, context.as_of, context.output, context.report)
    Assembly(context.output, config.history.max_length).write_pool()
    context.record({"rows": summary["rows"], "requests": summary["requests"], "quarantined_rows": context.store.quarantined_rows()})


STAGE = Stage(
    "ingest",
    run,
    code_version=2,
    # The engine's memory and threads are no keys: they change how fast rows are assembled, not the rows.
    keys=("source", "split", "candidates", "history", "statistics", "vocabulary"),
    outside=inputs,
)
