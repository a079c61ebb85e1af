"""Assembly: from the store to training rows, as an artifact of a few Parquet and JSON files.

clicks.parquet   the click pool that histories point into (histories.py)
rows.parquet     a row per (request, candidate), in order of (timestamp, request, row_id)
items.parquet, users.parquet   ids and attributes; the row position is the code that the other files use
item_vectors.parquet, user_vectors.parquet   where the log has vectors of them: a column each, rows as above
vocabulary.json  tokens by feature, fitted on the training window
summary.json     splits, counts, what was left out, the check of the sampler
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.engines import Engine, open_engine
from feature_store.features.continuation import Continuation
from feature_store.features.entity_vectors import write_vectors
from feature_store.features.event_log import Log, count_pairs, load_log, offered, undescribed
from feature_store.features.histories import build_histories, write_clicks
from feature_store.features.requests import RowMaker, number_requests, request_range
from feature_store.features.row_writer import RowWriter
from feature_store.features.statistics import statistic_names
from feature_store.features.summary import CandidateSummary, ClickSummary, HistoryLimits
from feature_store.features.time_split import check_further_labels, check_split, check_weights, check_windows, resolve_split, utc
from feature_store.features.vocabulary import fit_vocabularies
from feature_store.store.store import Store
from feature_store.tables.contracts import ContextNames, DataError
from feature_store.tables.json_files import write_json
from feature_store.tables.multi_values import named_by, spread


def assemble(
    store: Store,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None,
    output: Path,
    *,
    continuation: Continuation | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> ClickSummary:
    """Make the rows of a log.

    Parameters
    ----------
    store : Store
        What was ingested.
    config : AssemblyConfig
        Splits, candidates, histories, statistics, vocabularies.
    engine_config : FeatureStoreConfig
        Memory, threads and requests at a time. The files do not depend on them, byte for byte.
    as_of : datetime, optional
        Logical time of the run: later events are left out. None takes all events.
    output : Path
        Folder for the files; made if needed.
    continuation : Continuation, optional
        What an earlier run left: older rows of the training window are thinned out, and its vocabularies grow.
    report : callable
        Takes lines of progress.

    Returns
    -------
    ClickSummary
        The content of ``summary.json``.

    Raises
    ------
    UndeclarableStatistic
        When a statistic is declared that the log cannot have.
    DataError
        When the log is empty, a split has no row or no click, or the sampler gives the label away.
    StorageError
        When the disk is full.
    """
    names = statistic_names(config.statistics, offered(store.log_contract))  # what cannot be declared is said before anything is read
    output.mkdir(parents=True, exist_ok=True)
    with open_engine(engine_config, output / "_scratch") as engine:
        log = load_log(engine, store, as_of)
        count = {name: engine.rows(f"select count(*) from {name}")[0][0] for name in ("users", "items", "clicks")}
        if count["clicks"] == 0:
            when = "" if as_of is None else f" as of {as_of.isoformat()}"
            raise DataError(f"{store.root}: holds no click{when}; check the column of clicks or the time")
        if log.has_impressions and (pairs := count_pairs(engine)):
            report(f"{pairs:,} impressions are in the log twice, with their click and without it: each is one row, clicked")
        for line in undescribed(engine):
            report(line)
        report(f"{count['clicks']:,} clicks of {count['users']:,} users on {count['items']:,} items")
        number_requests(engine, log)
        split = resolve_split(config.split, engine, as_of)
        check_windows(split, engine)
        vocabulary = fit_vocabularies(engine, log, split, config.vocabulary)
        if continuation is not None:
            vocabulary = continuation.grown(vocabulary, config.vocabulary.max_size)
        attributes = _write_entities(engine, log, output)
        widths = {
            "item": write_vectors(output / "item_vectors.parquet", store.items_file(), output / "items.parquet", log.item_vectors),
            "user": write_vectors(output / "user_vectors.parquet", store.users_file(), output / "users.parquet", log.user_vectors),
        }
        every = [name for names in attributes.values() for name in names]
        vocabulary |= {name: vocabulary[named_by(name)] for name in every}  # all places of a column have its values
        known = item_in_vocabulary(engine, vocabulary["item"])
        newest = engine.rows("select max(timestamp) from log")[0][0]
        unknown_time = engine.rows("select count(*) from log where not time_known")[0][0]
        check_types(engine, log)
        for line in clicks_apart(engine, log):
            report(line)
        typed = log.typed if log.history_types else ()
        build_histories(engine, config.history.max_length, typed)
        write_clicks(engine, output / "clicks.parquet", typed)
        if config.statistics.co_clicks is None:
            engine.drop("positions")
        wanted = None if continuation is None else continuation.condition(engine, split)
        maker = RowMaker(engine, log, config, engine_config.chunk, wanted)
        for line in maker.timelines.said():
            report(line)
        writer = RowWriter(engine, log, output / "rows.parquet", split=split, known_item=known)
        first, last = request_range(engine, split.train_from, split.test_until)
        with writer:
            for _, end in maker.chunks(first, last):
                writer.write(maker.timelines)
                report(f"{end - first:,} of {last - first:,} requests, {writer.written:,} rows")
        requests = engine.rows("select coalesce(max(request), -1) + 1 from requests")[0][0]
    check_split(split, writer.rows, writer.positives)
    if log.weighted:
        check_weights(split, writer.weight_of_clicks, writer.weight_of_others)
    check_further_labels(split, writer.further_labels)
    sampled = not log.has_impressions
    if sampled:
        writer.support.check()
    summary = ClickSummary(
        split=split.summary(),
        rows=writer.rows,
        positives=writer.positives,
        requests=writer.requests,
        users=count["users"],
        items=count["items"],
        clicks=count["clicks"],
        unseen_item_share=writer.unseen["test"] / writer.rows["test"],
        new_item_share=writer.unseen["validation"] / max(1, writer.rows["validation"]),
        excluded={**maker.excluded, "outside_split": requests - (last - first), "time_unknown": unknown_time},
        candidates=_describe_candidates(config, maker, writer) if sampled else CandidateSummary(sampled=False),
        statistics=names,
        context=ContextNames(categorical=[*log.categorical, *log.categorical_facts], dense=list(log.dense)),
        item_attributes=attributes["item"],
        user_attributes=attributes["user"],
        history=HistoryLimits(max_length=config.history.max_length, min_length=config.history.min_length),
        has_impressions=log.has_impressions,
        oracle=log.oracle,
        as_of=utc(newest + 1) if as_of is None else as_of,
        negative_sampling_rate=None if sampled else config.negative_sampling_rate,
        made_with=config.statistics,
        **({"categorical_facts": log.categorical_facts} if log.categorical_facts else {}),
        **{f"{kind}_vectors": found for kind, found in widths.items() if found},
        **({} if (encoder := store.title_encoder()) is None else {"title_encoder": encoder}),
        **({"weighted": True} if log.weighted else {}),
        **({"history_types": log.history_codes()} if log.history_types else {}),
        **({"labels": list(log.labels)} if log.labels else {}),
        **({"scores": list(log.scores)} if log.scores else {}),
    )
    write_json(output / "vocabulary.json", vocabulary)
    summary.write(output)
    return summary


def check_types(engine: Engine, log: Log) -> None:
    """Raise DataError where the log has no event of a type that it should have."""
    if log.types is None:
        return
    found = dict(engine.rows("select type_code, count(*) from log group by type_code"))
    named = log.types.by_code
    lacking = next((name for code, name in named.items() if not found.get(code)), None)
    if lacking is not None:
        known = ", ".join(name for code, name in named.items() if found.get(code)) or "none"
        raise DataError(
            f"the log has no event of type {lacking!r}; of the types that source.events.type names it has {known}: correct it there"
        )


def clicks_apart(engine: Engine, log: Log) -> Iterator[str]:
    """What to say of clicks at another time than their impressions, as a log of several types of events may have them."""
    if log.types is None or not log.has_impressions:
        return
    same = "s.user_code = c.user_code and s.item_code = c.item_code and s.request_id = c.request_id"
    count = engine.rows(
        f"select count(*) from log c where c.clicked = 1 and exists (select 1 from log s where {same} and s.clicked = 0 "
        "and s.timestamp <> c.timestamp)"
    )[0][0]
    if count:
        yield (
            f"warning: {count:,} clicks have another time than their impressions of the same request and item: each is a request by "
            "itself, and its impression counts as not clicked; give clicks the time of their impressions"
        )


def _describe_candidates(config: AssemblyConfig, maker: RowMaker, writer: RowWriter) -> CandidateSummary:
    settings = config.candidates.model_dump(mode="json")
    return CandidateSummary(sampled=True, **settings, short=maker.requests_short, support=writer.support.summary())


def item_in_vocabulary(engine: Engine, tokens: list[str]) -> np.ndarray:
    """Whether each item has a token; bool, shape (items,)."""
    ids = engine.fetch("select item_code, cast(item_id as string) as id from items", by=["item_code"])
    return np.asarray(pc.is_in(ids["id"], pa.array(tokens, pa.string())))


def _write_entities(engine: Engine, log: Log, output: Path) -> dict[str, list[str]]:
    """Write items and users; the attributes of both, those of several values in columns of their own for each place."""
    found: dict[str, list[str]] = {}
    for kind, attributes, multi in (("item", log.item_attributes, log.item_multi), ("user", log.user_attributes, log.user_multi)):
        table = engine.fetch(f"select * from {kind}s", by=[f"{kind}_code"]).rename_columns(["code", f"{kind}_id", *attributes])
        table = spread(table, multi)
        found[kind] = table.column_names[2:]
        pq.write_table(table, output / f"{kind}s.parquet", compression="zstd", store_schema=False)
    return found
