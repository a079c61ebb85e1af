"""Assembly: from the store to training rows, as an artifact of a few Parquet and JSON files.

    clicks.parquet   the click pool that histories point into (history.py)
    rows.parquet     a row per (request, candidate), in order of (timestamp, request, row_id)
    items.parquet, users.parquet   ids and attributes; the row position is the code that the other files use
    vocabulary.json  tokens by feature, fitted on the training window
    summary.json     splits, counts, what was left out, the check of the sampler
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.candidates import Support
from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.contracts import DataError
from feature_store.engines.embedded import EmbeddedEngine
from feature_store.history import build_histories, write_clicks
from feature_store.log import Log, load
from feature_store.requests import RowMaker, number_requests, request_range
from feature_store.serving import candidates_on, features_for
from feature_store.split import SPLITS, Split, check_split, iso, resolve_split
from feature_store.statistics import statistic_names
from feature_store.store import Store
from feature_store.vocabulary import fit_vocabularies

__all__ = ["assemble", "candidates_on", "features_for"]

ROW_GROUP = 122_880


def assemble(
    store: Store,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None,
    output: Path,
    report: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
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
        Logical time of the run: later events exist for nobody. None takes all events.
    output : Path
        Folder for the files; made if needed.
    report : callable
        Takes lines of progress.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    DataError
        When the log is empty, a split has no row or no click, or the sampler gives the label away.
    StorageError
        When the disk is full.
    """
    output.mkdir(parents=True, exist_ok=True)
    with EmbeddedEngine(engine_config, output / "_scratch") as engine:
        log = load(engine, store, as_of)
        count = {name: engine.rows(f"select count(*) from {name}")[0][0] for name in ("users", "items", "clicks")}
        if count["clicks"] == 0:
            when = "" if as_of is None else f" as of {as_of.isoformat()}"
            raise DataError(f"{store.root}: holds no click{when}; check the column of clicks or the time")
        report(f"{count['clicks']:,} clicks of {count['users']:,} users on {count['items']:,} items")
        number_requests(engine, log)
        split = resolve_split(config.split, engine, as_of)
        vocabulary = fit_vocabularies(engine, log, split, config.vocabulary)
        _write_entities(engine, log, output)
        known = item_in_vocabulary(engine, vocabulary["item"])
        newest = engine.rows("select max(timestamp) from log")[0][0]
        unknown_time = engine.rows("select count(*) from log where not time_known")[0][0]
        if not log.has_impressions:
            engine.drop("log")
        build_histories(engine, config.history.max_length)
        write_clicks(engine, output / "clicks.parquet")
        engine.drop("positions")
        maker = RowMaker(engine, log, config, engine_config.chunk)
        writer = RowWriter(engine, log, split, known, output / "rows.parquet")
        first, last = request_range(engine, split.train_from, split.test_until)
        with writer:
            for _, end in maker.chunks(first, last):
                writer.write(maker)
                report(f"{end - first:,} of {last - first:,} requests, {writer.written:,} rows")
        requests = engine.rows("select coalesce(max(request), -1) + 1 from requests")[0][0]
    check_split(split, writer.rows, writer.positives)
    if not log.has_impressions:
        writer.support.check()
    summary = {
        "split": split.summary(),
        "rows": writer.rows,
        "positives": writer.positives,
        "requests": writer.requests,
        **count,
        "unseen_item_share": writer.unseen / writer.rows["test"],
        "excluded": {**maker.excluded, "outside_split": requests - (last - first), "time_unknown": unknown_time},
        "candidates": {**config.candidates.model_dump(mode="json"), "sampled": True, "short": maker.requests_short, "support": writer.support.summary()}
        if not log.has_impressions
        else {"sampled": False},
        "statistics": writer.statistics,
        "context": {"categorical": list(log.categorical), "dense": list(log.dense)},
        "item_attributes": list(log.item_attributes),
        "user_attributes": list(log.user_attributes),
        "history": config.history.model_dump(mode="json"),
        "has_impressions": log.has_impressions,
        "oracle": log.oracle,
        "as_of": iso(newest + 1) if as_of is None else as_of.isoformat(),
        "negative_sampling_rate": None,
    }
    _write_json(output / "vocabulary.json", vocabulary)
    _write_json(output / "summary.json", summary)
    return summary


def item_in_vocabulary(engine: EmbeddedEngine, tokens: list[str]) -> np.ndarray:
    """Whether each item has a token; bool, shape (items,)."""
    ids = engine.fetch("select item_code, cast(item_id as varchar) as id from items", by=["item_code"])
    return np.asarray(pc.is_in(ids["id"], pa.array(tokens, pa.string())))


class RowWriter:
    """Writes the rows of one chunk after the other and counts them.

    Parameters
    ----------
    engine : EmbeddedEngine
    log : Log
    split : Split
    known_item : np.ndarray of bool, shape (items,)
        Whether each item is in the vocabulary.
    path : Path
    """

    def __init__(self, engine: EmbeddedEngine, log: Log, split: Split, known_item: np.ndarray, path: Path) -> None:
        self.engine, self.log, self.split, self.path = engine, log, split, path
        self.known_item = known_item
        names = set(log.context.values())  # a column of the log wins over a statistic of the same name
        self.statistics = [name for name in statistic_names(log.has_impressions) if name not in names]
        self.rows, self.positives, self.requests = (dict.fromkeys(SPLITS, 0) for _ in range(3))
        self.unseen = 0
        self.support = Support()
        self.written = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, maker: RowMaker) -> None:
        """Write the rows of the chunk that the maker stands on."""
        query, parameters = maker.timelines.row_statistics()
        statistics = self.engine.fetch(query, by=["row"], **parameters)
        rows = self.engine.fetch("select row, request, source, item_code, label from chunk_rows", by=["row"])
        if rows.num_rows == 0:
            return
        requests = self.engine.fetch(
            "select request, user_code, timestamp, history_start, history_end, user_clicks, user_gap, hour from kept_requests", by=["request"]
        )
        sources = self._sources(rows)
        request = rows["request"].to_numpy()
        of_request = requests.take(pa.array(np.searchsorted(requests["request"].to_numpy(), request)))
        time = of_request["timestamp"].to_numpy()
        split = self.split.number(time)
        label, item = rows["label"].to_numpy(), rows["item_code"].to_numpy()
        columns: dict[str, pa.Array] = {
            "row_id": pa.array(np.arange(self.written, self.written + len(label))),
            "request": rows["request"],
            "user": of_request["user_code"],
            "item": rows["item_code"],
            "timestamp": of_request["timestamp"],
            "label": rows["label"],
            "split": pa.DictionaryArray.from_arrays(pa.array(split), pa.array(SPLITS)),
            "history_start": of_request["history_start"],
            "history_end": of_request["history_end"],
        }
        for name in self.statistics:
            columns[name] = (statistics if name in statistics.column_names else of_request)[name].cast(pa.float32())
        for name, outside in self.log.context.items():
            columns[outside] = sources[name]
        if self.log.oracle:
            columns["click_probability"] = sources["click_probability"]
        table = pa.table(columns)
        if self._writer is None:
            plain = [name for name, column in columns.items() if pa.types.is_dictionary(column.type)]
            self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd", use_dictionary=plain, store_schema=False)
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.written += len(label)
        new = np.flatnonzero(np.diff(request, prepend=-1))
        for number, name in enumerate(SPLITS):
            here = split == number
            self.rows[name] += int(here.sum())
            self.positives[name] += int(label[here].sum())
            self.requests[name] += int(here[new].sum())
        self.unseen += int((~self.known_item[item[split == SPLITS.index("test")]]).sum())
        if not self.log.has_impressions:
            self.support.add(label, statistics["pool_count"].to_numpy())

    def _sources(self, rows: pa.Table) -> pa.Table:
        """The context columns of the log's row that each row comes from."""
        if not self.log.columns:
            return pa.table({})
        number = "impression" if self.log.has_impressions else "request"
        source = rows["source"].to_numpy()
        names = ", ".join((number, *self.log.columns))
        log = self.engine.fetch(f"select {names} from requests where {number} >= {source[0]} and {number} <= {source[-1]}", by=[number])
        return log.take(pa.array(source - source[0]))


def _write_entities(engine: EmbeddedEngine, log: Log, output: Path) -> None:
    for kind, attributes in (("item", log.item_attributes), ("user", log.user_attributes)):
        table = engine.fetch(f"select * from {kind}s", by=[f"{kind}_code"])
        pq.write_table(table.rename_columns(["code", f"{kind}_id", *attributes]), output / f"{kind}s.parquet", compression="zstd", store_schema=False)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
