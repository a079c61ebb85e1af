"""Stage ``ingest``: new rows of the raw log into the store, then the store's events into rows to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from feature_store.config import SplitConfig
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import digest_of, write_json
from pipelines.errors import ConfigError
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext

_FEW_CLICKS = 400  # of a window: fewer leave an AUC uncertain by .02 and more
INGESTED = ".ingested.json"  # digest of the inputs that the store was last brought up to date with


def inputs(run: RunContext) -> dict[str, str]:
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
    from feature_store.readers import READERS
    from feature_store.text.ingest import ingest_texts, resource_files

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
    from feature_store.store.ingest import ingest

    bring_in = partial(ingest_texts, resources=resources) if source.reader == "text" else ingest
    bring_in(source, run.data, run.store, folder / "failed", lambda text: run.report(text, "ingest"))
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


def run(context: StageContext) -> None:
    """Assemble rows and vocabularies: of clicks with their pool (:func:`feature_store.features.training_set.assemble`), to which the
    clicks' tokens are added, or of texts (:func:`feature_store.text.dataset.assemble_texts`)."""
    from ctr_kd.data.samples import Assembly
    from feature_store.features.training_set import assemble
    from feature_store.text.dataset import assemble_texts

    config = context.config
    if config.source.reader == "text":
        texts = assemble_texts(context.store, config.tokens, context.output, context.report)
        context.record({"rows": texts.rows, "leaked": texts.leaked, "quarantined_rows": context.store.quarantined_rows()})
        return
    summary = assemble(context.store, config.assembly, config.feature_store, context.as_of, context.output, context.report)
    Assembly(context.output, config.history.max_length).write_pool()
    for line in thin_windows(summary.positives):
        context.report(line)
    context.record({"rows": summary.rows, "requests": summary.requests, "quarantined_rows": context.store.quarantined_rows()})


def thin_windows(clicks: Mapping[str, int]) -> list[str]:
    """What to say of validation and test where their clicks are too few to tell models apart.

    The half width of an AUC's 95 % interval is about 0.43 over the root of the clicks at an AUC of .7 (Hanley and McNeil 1982, equation 1,
    with many more rows that were not clicked).

    Examples
    --------
    >>> thin_windows({"train": 9, "validation": 900, "test": 46})
    ['test holds 46 clicks: an AUC on them is uncertain by about 0.06; give it a wider window in split']
    """
    few = {split: clicks[split] for split in ("validation", "test") if 0 < clicks[split] < _FEW_CLICKS}
    return [
        f"{split} holds {count} clicks: an AUC on them is uncertain by about {0.43 / count**0.5:.2f}; give it a wider window in split"
        for split, count in few.items()
    ]


STAGE = Stage(
    "ingest",
    run,
    # The engine's memory and threads are no keys: they change how fast rows are assembled, not the rows.
    keys=("source", "split", "candidates", "history", "statistics", "vocabulary", "tokens"),
    outside=inputs,
)
