"""Historical features: a point-in-time join for rows from elsewhere, and the candidates of a date, by the SQL of the training rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from types import TracebackType
from typing import Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.config_types import duration_text, in_microseconds
from feature_store.engines import Engine
from feature_store.engines.sql_template import render_sql
from feature_store.features.event_log import Log, described_items, engine_of_store, load_log, microseconds, offered
from feature_store.features.histories import build_histories, read_positions, type_names
from feature_store.features.listwise_context import LISTWISE, listwise_columns, request_codes
from feature_store.features.requests import RowMaker, number_requests, request_range
from feature_store.features.statistics import REQUEST_STATISTICS, compares_candidates, context_of_keys, statistics_of
from feature_store.features.timelines import Timelines
from feature_store.store.store import Store
from feature_store.tables.casting import MICROSECOND, as_array, to_categories, to_numbers, to_times
from feature_store.tables.column_names import HISTORY_TYPES
from feature_store.tables.contracts import DataError, NoEvents
from feature_store.tables.equal_rows import number_equal_rows
from feature_store.tables.given_rows import column_of, text_ids
from feature_store.tables.ranges import ranges

BATCH = 1_000_000  # rows of candidates in memory at a time
_AHEAD = timedelta(days=7)  # users of so long before a date that has no event yet


class FeatureLookup:
    """Histories and statistics for any number of frames; use as a context manager.

    Opening it reads the log; a frame then costs little, least of all when the frames come in order of time.

    Parameters
    ----------
    store : Store
    config : AssemblyConfig
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Later events are left out.
    """

    def __init__(self, store: Store, config: AssemblyConfig, engine_config: FeatureStoreConfig, as_of: datetime | None = None) -> None:
        self._store, self._config, self._engine_config, self._as_of = store, config, engine_config, as_of

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._engine = stack.enter_context(engine_of_store(self._engine_config, self._store))
            whole = offered(self._store.log_contract)
            # what the log calls so belongs to its requests, and cannot be joined
            self.statistics = statistics_of(self._config.statistics, whole)
            log = load_log(self._engine, self._store, self._as_of, context=context_of_keys(self._config.statistics, whole))
            self._context = log.context
            self._categorical = frozenset(log.categorical)
            typed = log.typed if log.history_types else ()
            build_histories(self._engine, self._config.history.max_length, typed)
            self._timelines = Timelines(self._engine, self._config.statistics, log, source="request")
            self._engine.drop("log", "clicks", "label_clicks", "runs")  # what is looked up from here on has tables of its own
            self._positions = read_positions(self._engine, typed)
            self._item_ids = as_array(self._engine.fetch("select item_code, item_id from items", by=["item_code"])["item_id"])
            self._whole = whole
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def items(self) -> pa.Table:
        """``item_id`` and the attributes of all items that the store knows, all text."""
        return described_items(self._engine, self._whole)

    def of(self, frame: pa.Table) -> pa.Table:
        """Add what :func:`features_for` describes to a frame."""
        item = text_ids(frame, "item_id")
        user = text_ids(frame, "user_id") if "user_id" in frame.column_names else pa.nulls(frame.num_rows, pa.string())
        time = moments_of(frame)
        context = {inside: _context_values(frame, name, name in self._categorical) for inside, name in self._context.items()}
        # what a user's rows of one moment share is looked up once for all of them
        request = number_equal_rows([time, user, *context.values()])
        number, first, rows = np.unique(request, return_index=True, return_counts=True)
        requests = pa.table({"user_id": user, "timestamp": time, **context}).take(first).append_column("request", pa.array(number))
        self._engine.upload("frame_requests", requests)
        self._engine.upload("frame_rows", pa.table({"place": np.arange(frame.num_rows), "request": request, "item_id": item}))
        self._engine.table("requests", "rows/frame_requests.sql", context="".join(f", f.{inside}" for inside in context))
        found = pa.concat_tables(self._chunks(rows))
        found = found.take(pa.array(np.argsort(found["row"].to_numpy())))
        columns = self._histories(found)
        no_user = user.is_null()
        for one in self.statistics:
            if one.kind in LISTWISE:
                continue
            column = as_array(found[self._timelines.columns.get(one.name, one.name)]).cast(pa.float32())
            if "user" in one.key:  # 0 for a user who never clicked, but unknown without a user
                column = pc.if_else(no_user, pa.scalar(None, pa.float32()), column)
            columns[one.name] = column
        of_users = {name for facts in self._whole.facts if facts.kind == "user" for name in facts.categorical}
        for name, inside in self._timelines.categorical.items():
            column = as_array(found[inside]).cast(pa.string())
            columns[name] = pc.if_else(no_user, pa.scalar(None, pa.string()), column) if name in of_users else column
        if compares_candidates(self.statistics):
            columns |= listwise_columns(self.statistics, columns, request_codes(frame))
        for name, column in columns.items():
            if name not in frame.column_names:
                frame = frame.append_column(name, column)
        return frame

    def _chunks(self, rows: np.ndarray) -> Iterator[pa.Table]:
        """Statistics and history offsets of the frame's rows, chunk by chunk of the requests, which have so many ``rows`` each."""
        of_request = [one.name for one in self.statistics if one.name in REQUEST_STATISTICS and one.kind != "fact"]
        columns = ", ".join(f"r.{name}" for name in ("history_start", "history_end", *of_request))
        engine = self._engine
        # a chunk begins with the request that fills the one before; without rows, one chunk of none gives the types
        filled = np.cumsum(rows) // self._engine_config.chunk
        for first, last in pairwise([0, *(np.flatnonzero(np.diff(filled)) + 1), len(rows)]):
            engine.table("chunk_requests", f"select * from requests where request >= {first} and request < {last}")
            self._timelines.move(*engine.rows("select coalesce(min(timestamp), 0), coalesce(max(timestamp), 0) from chunk_requests")[0])
            self._timelines.see_users(self._config.history.max_length)
            engine.table("chunk_rows", "rows/frame_rows.sql", first=first, last=last)
            query, parameters = self._timelines.row_statistics()
            yield engine.fetch(f"select {columns}, s.* from chunk_rows r join ({render_sql(query, parameters)}) s on s.row = r.row")

    def _histories(self, found: pa.Table) -> dict[str, pa.Array]:
        """Lists of raw item ids and of times, and of types where these are several, from offsets into the click pool."""
        start, end = found["history_start"].to_numpy(), found["history_end"].to_numpy()
        index, offsets = ranges(start, end)
        clicks = self._positions.take(pa.array(index)).combine_chunks()
        items = self._item_ids.take(as_array(clicks["item_code"]))
        unknown = pa.scalar(None, pa.int64())
        times = pc.if_else(as_array(clicks["time_known"]), as_array(clicks["timestamp"]), unknown).cast(MICROSECOND)
        bounds = pa.array(offsets, pa.int32())
        lists = {"history": items, "history_timestamps": times}
        if self._whole.history_types:
            lists[HISTORY_TYPES] = type_names(as_array(clicks["type_code"]), self._whole.history_codes())
        return {name: pa.ListArray.from_arrays(bounds, values) for name, values in lists.items()}


def features_for(
    store: Store, frame: pa.Table, config: AssemblyConfig, engine_config: FeatureStoreConfig, as_of: datetime | None = None
) -> pa.Table:
    """Historical features of given rows, exactly as an assembly has them for the same user, item and time: a point-in-time join.

    Parameters
    ----------
    store : Store
    frame : pa.Table, shape (rows, columns)
        ``item_id`` and ``timestamp`` (a timestamp, date, number or text; without a zone UTC), and ``user_id`` unless nothing
        about the user is wanted. Ids compare by their text. Unknown and null ids are fine. Further columns are kept. Where candidates are
        compared (``statistics.listwise_context``), ``request_id`` too, and all rows of a request; what is compared is what the store
        knows, whatever counts the frame brings along.
    config : AssemblyConfig
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Later events are left out.

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

    See Also
    --------
    FeatureLookup : for many frames, as the log is read once only.
    """
    newest = int(moments_of(frame).max(initial=0))
    latest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=newest)  # nothing from then on is visible to any row
    with FeatureLookup(store, config, engine_config, latest if as_of is None else min(as_of, latest)) as lookup:
        return lookup.of(frame)


def compared_columns(store: Store, config: AssemblyConfig) -> list[str]:
    """Columns that compare the candidates of a request, whose rows must then be there together."""
    return [one.name for one in statistics_of(config.statistics, offered(store.log_contract)) if one.kind in LISTWISE]


def _context_values(frame: pa.Table, name: str, categorical: bool) -> pa.Array:
    """What a key is made of: texts or numbers as a log has them; null where the frame lacks the column, or what it holds says nothing."""
    if name not in frame.column_names:
        return pa.nulls(frame.num_rows, pa.string() if categorical else pa.float32())
    try:
        values, _ = (to_categories if categorical else to_numbers)(as_array(frame[name]))
    except TypeError as error:
        raise DataError(f"column {name} {error}") from None
    return values.cast(pa.string() if categorical else pa.float32())


def columns_read(store: Store, config: AssemblyConfig) -> list[str]:
    """Columns of a frame that its features are made of: user, item, time, the context of declared keys, and the request where its
    candidates are compared."""
    request = ["request_id"] if config.statistics.listwise_context else []
    return ["user_id", "item_id", "timestamp", *request, *context_of_keys(config.statistics, offered(store.log_contract))]


def moments_of(frame: pa.Table) -> np.ndarray:
    """Times of given rows, int64 microseconds UTC (rows,). Raises DataError when one cannot be read."""
    try:
        time, empty, bad = to_times(as_array(column_of(frame, "timestamp")))
    except TypeError as error:
        raise DataError(f"column timestamp {error}") from None
    wrong = np.flatnonzero(empty | bad)
    if len(wrong):
        raise DataError(
            f"column timestamp: row {wrong[0] + 1} holds no time that can be read (so do {len(wrong)} rows in all); "
            "write ISO 8601 or leave the rows out"
        )
    return time


def candidates_on(
    store: Store,
    day: date,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None = None,
    *,
    kind: Literal["log", "live"] = "log",
    window: timedelta | None = None,
    users: timedelta | None = None,
) -> pa.Table:
    """What is to be scored for a date, in one table; :func:`candidate_batches_on` gives it in parts.

    Parameters
    ----------
    store : Store
    day : date
        In UTC.
    config : AssemblyConfig
        ``candidates`` says how a log of clicks only is sampled; ``history.min_length`` does not apply: every user is scored.
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Later events are left out.
    kind : "log" or "live"
        ``log``: the date's impressions; for a log of clicks only the date's clicks with the candidates that an assembly
        samples for them. ``live``: each user with an event on the date, with the context of the newest one, times each item
        clicked in ``window`` before the date's newest event, at the moment after it. A date that has no event yet is scored ahead: the
        moment is its beginning, the users are those of the days before, and the window ends with the newest event.
    window : timedelta, optional
        Of live items; None is ``candidates.window``.
    users : timedelta, optional
        Live: users with an event in so long before the end of the date, or before the beginning of one without an event. None: those of
        the date, or of the week before one without an event.

    Returns
    -------
    pa.Table
        ``request_id`` (that of the log; for a log of clicks only the number of the click in the log, for ``live`` that of
        the user, int64), ``user_id``, ``item_id``, ``timestamp``, and the context columns. In order of time and request.

    Raises
    ------
    DataError
        When the date has no event, or nobody had one lately, or no item is live.
    """
    return pa.concat_tables(candidate_batches_on(store, day, config, engine_config, as_of, kind=kind, window=window, users=users))


def candidate_batches_on(
    store: Store,
    day: date,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None = None,
    *,
    kind: Literal["log", "live"] = "log",
    window: timedelta | None = None,
    users: timedelta | None = None,
) -> Iterator[pa.Table]:
    """The rows of :func:`candidates_on` in order, in tables that fit memory: live candidates are users times items.

    They are a function of the partitions up to and with the date, whatever the later ones hold.
    """
    with engine_of_store(engine_config, store) as engine:
        # What was shown is in the date's own events, whatever was before.
        shown = kind == "log" and offered(store.log_contract).has_impressions
        window = window or config.candidates.window
        loaded = _load_live(engine, store, day, as_of, users) if kind == "live" else _load_day(engine, store, day, as_of, alone=shown)
        if kind == "live":
            parts = _live(engine, loaded, window)
        elif shown:
            number_requests(engine, loaded.log)
            parts = _shown(engine, loaded)
        else:
            parts = _sampled(engine, loaded, config, engine_config)
        empty = True
        for part in parts:
            empty = empty and part.num_rows == 0
            yield _as_candidates(part, loaded.log)
        if empty:
            raise _no_candidate(store, day, window)


class Live(NamedTuple):
    """Users and items of a date.

    Attributes
    ----------
    users : pa.Table
        A row per user of live candidates, in their layout and at their moment, ``item_id`` null.
    items : pa.Array
        Raw ids of the items live at that moment, in the order of their codes.
    clicks : int array (items,)
        Clicks on each in the window.
    """

    users: pa.Table
    items: pa.Array
    clicks: np.ndarray


def live_on(
    store: Store,
    day: date,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None = None,
    *,
    window: timedelta | None = None,
    users: timedelta | None = None,
) -> Live:
    """Users of a date and the items live then, from which the caller makes pairs; see :func:`candidates_on` for both.

    Raises
    ------
    DataError
        When nobody had an event lately, or no item is live.
    """
    window = window or config.candidates.window
    with engine_of_store(engine_config, store) as engine:
        loaded = _load_live(engine, store, day, as_of, users)
        of_date, items = _users_and_items(engine, loaded, window)
        if not items.num_rows:
            raise _no_candidate(store, day, window)
        no_item = pa.nulls(of_date.num_rows, items["item_id"].type)
        moments = pa.array(np.full(of_date.num_rows, loaded.moment))
        rows = of_date.append_column("item_id", no_item).append_column("timestamp", moments)
        return Live(_as_candidates(rows, loaded.log), as_array(items["item_id"]), items["clicks"].to_numpy())


class _LoadedDay(NamedTuple):
    """One date of the log that an engine holds.

    Attributes
    ----------
    log : Log
    start, end : int
        Limits of the date in microseconds, the end exclusive; of live candidates those in which their users had an event.
    newest : int
        Time of the newest event up to the date.
    moment : int
        When live candidates are asked for: just after the newest event, or at the beginning of a date that has none yet.
    """

    log: Log
    start: int
    end: int
    newest: int
    moment: int

    @property
    def columns(self) -> str:
        """The context columns, for a list of columns that has others before them."""
        return "".join(f", {name}" for name in self.log.context)

    @property
    def order(self) -> str:
        """What makes the newest of a user's events one and the same on every engine, where all else is equal."""
        return "".join(f", {name} nulls last" for name in self.log.context)


def _load_day(engine: Engine, store: Store, day: date, as_of: datetime | None, alone: bool = False) -> _LoadedDay:
    """Load the log up to and with a date, or the date alone."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    start, last = microseconds(midnight), midnight + timedelta(days=1, microseconds=-1)
    end = start + 24 * 3600 * 10**6
    if not store.event_files(last, midnight):
        raise _no_event(store, day, as_of)
    log = load_log(engine, store, as_of, until=last, since=midnight if alone else None)
    newest = engine.rows(f"select max(timestamp) from log where time_known and timestamp >= {start} and timestamp < {end}")[0][0]
    if newest is None:
        raise _no_event(store, day, as_of)
    return _LoadedDay(log, start, end, newest, newest + 1)


def _load_live(engine: Engine, store: Store, day: date, as_of: datetime | None, users: timedelta | None) -> _LoadedDay:
    """Load the log up to and with a date, which need not have an event yet."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    last = midnight + timedelta(days=1, microseconds=-1)
    start, end = microseconds(midnight), microseconds(last) + 1
    log = load_log(engine, store, as_of, until=last)
    newest = engine.rows(f"select max(timestamp) from log where time_known and timestamp < {end}")[0][0]
    if newest is None:
        raise _no_event(store, day, as_of)
    if newest >= start:
        return _LoadedDay(log, start if users is None else end - in_microseconds(users), end, newest, newest + 1)
    since = start - in_microseconds(users or _AHEAD)
    if newest < since:
        raise _no_event(store, day, as_of, f"nobody had an event in the {duration_text(users or _AHEAD)} before")
    return _LoadedDay(log, since, start, newest, start)


def _no_event(store: Store, day: date, as_of: datetime | None, what: str = "no event on") -> NoEvents:
    dates = store.dates(as_of)
    held = f"{dates[0]} to {dates[-1]}" if dates else "no event at all"
    return NoEvents(f"{store.root}: {what} {day.isoformat()}; the log holds {held}")


def _no_candidate(store: Store, day: date, window: timedelta) -> DataError:
    return DataError(
        f"{store.root}: no candidate on {day.isoformat()}: no item was clicked in the {duration_text(window)} before; use a longer window"
    )


def _as_candidates(table: pa.Table, log: Log) -> pa.Table:
    columns = {name: table[name] for name in ("request_id", "user_id", "item_id", "timestamp")}
    columns["timestamp"] = columns["timestamp"].cast(MICROSECOND)
    for name, outside in log.context.items():
        columns[outside] = table[name].cast(pa.string()) if outside in log.categorical else table[name]
    return pa.table(columns)


def _shown(engine: Engine, day: _LoadedDay) -> Iterator[pa.Table]:
    range_of = "select min(impression), max(impression) + 1 from requests where timestamp >= ${start} and timestamp < ${end}"
    # The date has an event, and impressions are numbered in order of time.
    first, last = engine.rows(range_of, start=day.start, end=day.end)[0]
    query, columns = "candidates/candidates_impressions.sql", day.columns
    for begin in range(first, last, BATCH):
        yield engine.fetch(query, by=["row"], columns=columns, first=begin, last=min(begin + BATCH, last))


def _sampled(engine: Engine, day: _LoadedDay, config: AssemblyConfig, engine_config: FeatureStoreConfig) -> Iterator[pa.Table]:
    config = config.model_copy(update={"history": config.history.model_copy(update={"min_length": 0})})
    number_requests(engine, day.log)
    build_histories(engine, config.history.max_length)
    maker = RowMaker(engine, day.log, config, engine_config.chunk)
    for first, last in maker.chunks(*request_range(engine, day.start, day.end)):
        yield engine.fetch("candidates/candidates_sampled.sql", by=["row"], columns=day.columns, first=first, last=last)


def _live(engine: Engine, day: _LoadedDay, window: timedelta) -> Iterator[pa.Table]:
    users, live = _users_and_items(engine, day, window)
    items = as_array(live["item_id"])
    step = max(1, BATCH // max(1, len(items)))
    for first in range(0, users.num_rows, step):
        block = users.slice(first, step)
        user, item = np.divmod(np.arange(block.num_rows * len(items)), max(1, len(items)))
        rows = block.take(pa.array(user)).append_column("item_id", items.take(pa.array(item)))
        yield rows.append_column("timestamp", pa.array(np.full(len(user), day.moment)))


def _users_and_items(engine: Engine, day: _LoadedDay, window: timedelta) -> tuple[pa.Table, pa.Table]:
    limits = {"start": day.start, "end": day.end}
    users = engine.fetch("candidates/live_users.sql", by=["request_id"], columns=day.columns, order=day.order, **limits)
    asked = {"clicks": day.log.label_clicks, "moment": day.newest + 1, "window": in_microseconds(window)}
    return users, engine.fetch("candidates/live_items.sql", by=["item_code"], **asked)
