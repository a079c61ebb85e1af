"""Features for rows that come from elsewhere, and the candidates of a date to be scored: the same SQL as for training rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.casts import MICROSECOND, as_array, to_text, to_times
from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.contracts import DataError, nearest
from feature_store.engines.embedded import EmbeddedEngine
from feature_store.history import build_histories, read_positions
from feature_store.log import Log, load, microseconds
from feature_store.requests import RowMaker, number_requests, request_range
from feature_store.statistics import ROW_STATISTICS, Timelines, in_microseconds, statistic_names
from feature_store.store import Store


@contextmanager
def _engine(config: FeatureStoreConfig) -> Iterator[EmbeddedEngine]:
    with tempfile.TemporaryDirectory(prefix="ctr_kd_") as scratch, EmbeddedEngine(config, Path(scratch) / "engine") as engine:
        yield engine


def features_for(
    store: Store, frame: pa.Table, config: AssemblyConfig, engine_config: FeatureStoreConfig, as_of: datetime | None = None
) -> pa.Table:
    """Histories and statistics for rows of one's own, exactly as an assembly has them for the same user, item and time.

    Parameters
    ----------
    store : Store
    frame : pa.Table, shape (rows, columns)
        ``item_id`` and ``timestamp`` (a timestamp, date, number or text; without a zone UTC), and ``user_id`` unless nothing
        about the user is wanted. Ids compare by their text. Unknown and null ids are fine. Further columns are kept.
    config : AssemblyConfig
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Later events exist for nobody.

    Returns
    -------
    pa.Table, shape (rows, columns + history, history_timestamps, statistics)
        The same rows in the same order. ``history`` lists raw item ids, oldest first, ``history_timestamps`` their times (null
        where unknown). A user without clicks has an empty history; without a user id the user's statistics are null. A
        column that the frame already has stays as it is.

    Raises
    ------
    DataError
        When a required column is missing, or a time cannot be read.
    """
    item = _text_ids(frame, "item_id")
    user = _text_ids(frame, "user_id") if "user_id" in frame.column_names else pa.nulls(frame.num_rows, pa.string())
    time = _times(frame)
    latest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(time.max(initial=0)))  # nothing from then on is visible
    with _engine(engine_config) as engine:
        log = load(engine, store, latest if as_of is None else min(as_of, latest), context=False)
        names = statistic_names(log.has_impressions)
        build_histories(engine, config.history.max_length)
        engine.upload("frame", pa.table({"place": np.arange(len(time)), "user_id": user, "item_id": item, "timestamp": time}))
        engine.table("requests", "requests_frame.sql")
        timelines = Timelines(engine, config.statistics, log.has_impressions)
        parts = list(_chunks(engine, timelines, config.history.max_length, len(time), engine_config.chunk, log))
        found = pa.concat_tables(parts) if parts else None
        positions = read_positions(engine)
        item_ids = engine.fetch("select item_code, item_id from items", by=["item_code"])["item_id"]
    if found is None:
        return frame
    found = found.take(pa.array(np.argsort(found["place"].to_numpy())))
    nobody = user.is_null()
    columns = dict(zip(("history", "history_timestamps"), _histories(found, positions, item_ids), strict=True))
    for name in names:
        of_user = name in ("user_clicks", "user_item_clicks")  # counts are 0 for an unknown user, but unknown without any
        column = as_array(found[name]).cast(pa.float32())
        columns[name] = pc.if_else(nobody, pa.scalar(None, pa.float32()), column) if of_user else column
    for name, column in columns.items():
        if name not in frame.column_names:
            frame = frame.append_column(name, column)
    return frame


def _chunks(engine: EmbeddedEngine, timelines: Timelines, max_length: int, rows: int, chunk: int, log: Log) -> Iterator[pa.Table]:
    """Statistics and history offsets of the frame's rows, in order of time."""
    of_request = [name for name in statistic_names(log.has_impressions) if name not in ROW_STATISTICS]
    for start in range(0, rows, chunk):
        engine.table("chunk_requests", f"select * from requests where request >= {start} and request < {start + chunk}")
        timelines.move(*engine.rows("select min(timestamp), max(timestamp) from chunk_requests")[0])
        timelines.see_users(max_length)
        engine.table("chunk_rows", "select request as row, * from seen_requests")
        query, parameters = timelines.row_statistics()
        columns = ", ".join(f"q.{name}" for name in ("place", "history_start", "history_end", *of_request))
        yield engine.fetch(f"select {columns}, s.* from seen_requests q join ({engine.render(query, parameters)}) s on s.row = q.request")


def _text_ids(frame: pa.Table, name: str) -> pa.Array:
    try:
        return to_text(as_array(_column(frame, name)))[0]
    except TypeError as error:
        raise DataError(f"column {name} {error}") from None


def _times(frame: pa.Table) -> np.ndarray:
    try:
        time, empty, bad, _ = to_times(as_array(_column(frame, "timestamp")))
    except TypeError as error:
        raise DataError(f"column timestamp {error}") from None
    wrong = np.flatnonzero(empty | bad)
    if len(wrong):
        raise DataError(f"column timestamp: row {wrong[0] + 1} has no time that can be read ({len(wrong)} such rows); fill it or leave the row out")
    return time


def _column(frame: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in frame.column_names:
        raise DataError(f"column {name} is missing; {nearest(name, frame.column_names)}")
    return frame[name]


def _histories(found: pa.Table, positions: pa.Table, item_ids: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Lists of raw item ids and of times from offsets into the click pool."""
    start, end = found["history_start"].to_numpy(), found["history_end"].to_numpy()
    length = end - start
    offsets = np.concatenate([[0], np.cumsum(length)])
    index = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - start, length)  # the positions of all histories, one after the other
    clicks = positions.take(pa.array(index)).combine_chunks()
    items = as_array(item_ids).take(as_array(clicks["item_code"]))
    unknown = pa.scalar(None, pa.int64())
    times = pc.if_else(as_array(clicks["time_known"]), as_array(clicks["timestamp"]), unknown).cast(MICROSECOND)
    lists = pa.LargeListArray if offsets[-1] >= 2**31 else pa.ListArray
    starts = pa.array(offsets, pa.int64() if lists is pa.LargeListArray else pa.int32())
    return lists.from_arrays(starts, items), lists.from_arrays(starts, times)


def candidates_on(
    store: Store,
    day: date,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None = None,
    kind: Literal["log", "live"] = "log",
) -> pa.Table:
    """What is to be scored for a date.

    Parameters
    ----------
    store : Store
    day : date
        In UTC.
    config : AssemblyConfig
        ``candidates`` says how a log of clicks only is sampled; ``history.min_length`` does not apply: every user is scored.
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Later events exist for nobody.
    kind : "log" or "live"
        ``log``: the date's impressions; for a log of clicks only the date's clicks with the candidates that an assembly
        samples for them. ``live``: each user with an event on the date, with the context of the newest one, times each item
        clicked in ``candidates.window`` before the end of the date (of the log, if that ends earlier on that date).

    Returns
    -------
    pa.Table
        ``request_id`` (that of the log; for a log of clicks only the number of the click in the log, for ``live`` that of
        the user, int64), ``user_id``, ``item_id``, ``timestamp``, and the context columns. In order of time and request.

    Raises
    ------
    DataError
        When the date has no event, or no item is live.
    """
    start = microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
    end = start + 24 * 3600 * 10**6
    with _engine(engine_config) as engine:
        log = load(engine, store, as_of)
        newest = engine.rows(f"select max(timestamp) from log where time_known and timestamp >= {start} and timestamp < {end}")[0][0]
        if newest is None:
            span = engine.rows("select min(timestamp), max(timestamp) from log where time_known")[0]
            held = "no event" if span[0] is None else " to ".join((datetime(1970, 1, 1) + timedelta(microseconds=t)).date().isoformat() for t in span)
            raise DataError(f"{store.root}: no event on {day.isoformat()}; the log holds {held}")
        columns = "".join(f", {name}" for name in log.columns if name != "click_probability")
        if kind == "live":
            window = in_microseconds(config.candidates.window)
            parameters = {"columns": columns, "start": start, "end": end, "moment": newest + 1, "window": window}
            table = engine.fetch("candidates_live.sql", by=["row"], **parameters)
            if table.num_rows == 0:
                raise DataError(
                    f"{store.root}: no item was clicked in the {config.candidates.window} before the end of {day.isoformat()}; "
                    "use a longer candidates.window"
                )
        elif log.has_impressions:
            number_requests(engine, log)
            table = engine.fetch("candidates_impressions.sql", by=["row"], columns=columns, start=start, end=end)
        else:
            table = _sampled_on(engine, log, config, engine_config, columns, start, end)
    fields = ["request_id", "user_id", "item_id", "timestamp", *log.context]
    plain = {outside: table[name] for name, outside in zip(fields, fields[:4] + list(log.context.values()), strict=True)}
    plain["timestamp"] = plain["timestamp"].cast(MICROSECOND)
    for name in log.categorical:
        plain[name] = plain[name].cast(pa.string())
    return pa.table(plain)


def _sampled_on(
    engine: EmbeddedEngine, log: Log, config: AssemblyConfig, engine_config: FeatureStoreConfig, columns: str, start: int, end: int
) -> pa.Table:
    config = config.model_copy(update={"history": config.history.model_copy(update={"min_length": 0})})
    number_requests(engine, log)
    build_histories(engine, config.history.max_length)
    maker = RowMaker(engine, log, config, engine_config.chunk)
    parts = [
        engine.fetch("candidates_sampled.sql", by=["row"], columns=columns, first=first, last=last)
        for first, last in maker.chunks(*request_range(engine, start, end))
    ]
    return pa.concat_tables(parts)
