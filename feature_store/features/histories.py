"""Click histories at a point in time, as offsets into one pool of clicks.

The history of a user at t is every click with a time before t that was known before t, in order of time (ties by item), cut to
the newest ``max_length``. A sample holds two offsets, so the clicks behind them must lie next to each other. As long as a
user's clicks become known in the order in which they happen, every history is a prefix of one sequence. When one arrives that
is older than a click already known, a new *run* starts: a copy of the newest clicks with the late one in its place, to which
later clicks are appended. The last run of each user is complete and in order of time; it is marked ``canonical``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.engines import Engine
from feature_store.features.asof_lookup import Lookup

HISTORIES = Lookup(
    "histories",
    keys=("user_code",),
    columns=("run_start", "history_end", "clicks", "last_time", "last_item"),
    asked="chunk_requests",
)

CLICKS = pa.schema(
    [
        ("item", pa.int32()),
        ("timestamp", pa.int64()),
        ("time_known", pa.bool_()),
        ("known_at", pa.int64()),
        ("user", pa.int32()),
        ("canonical", pa.bool_()),
    ]
)


def build_histories(engine: Engine, max_length: int, typed: Sequence[str] = ()) -> None:
    """Make ``runs``, ``positions`` (the click pool) and ``histories`` (looked up by user and time) from ``clicks``, and ``typed`` of its
    columns in the pool."""
    engine.table("arrivals", "histories/arrivals.sql")
    engine.table("runs", "histories/runs.sql", max_length=max_length)
    columns = {"of_click": "".join(f", c.{name}" for name in typed), "columns": "".join(f", {name}" for name in typed)}
    engine.table("positions", "histories/positions.sql", max_length=max_length, **columns)
    engine.table("histories", "histories/histories.sql")
    engine.drop("arrivals")


def write_clicks(engine: Engine, path: Path, typed: Sequence[str] = ()) -> None:
    """Write the click pool; the position of a row is the offset that samples hold.

    A user's rows lie together. Those with ``canonical`` are each of their clicks exactly once, in order of time; the others are
    runs that histories before a late click need. ``known_at`` tells which clicks a training until some time may use.
    """
    schema = pa.schema([*CLICKS, *((name, pa.int8()) for name in typed)])
    columns = ", ".join(["item_code as item", "timestamp", "time_known", "known_at", 'user_code as "user"', "canonical", *typed])
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for batch in engine.stream(f"select {columns} from positions order by position"):
            writer.write_batch(batch.cast(schema))


def read_positions(engine: Engine, typed: Sequence[str] = ()) -> pa.Table:
    """The click pool in memory, in order of position: ``item_code``, ``timestamp``, ``time_known``, and ``typed`` columns."""
    more = [(name, pa.int8()) for name in typed]
    return pa.Table.from_batches(
        engine.stream(f"select {', '.join(['item_code', 'timestamp', 'time_known', *typed])} from positions order by position"),
        pa.schema([("item_code", pa.int32()), ("timestamp", pa.int64()), ("time_known", pa.bool_()), *more]),
    )


def type_names(codes: pa.Array, names: Mapping[str, int]) -> pa.Array:
    """Names of types (values,) by their codes.

    Examples
    --------
    >>> type_names(pa.array([3, 1, 3], pa.int8()), {"click": 1, "purchase": 3}).to_pylist()
    ['purchase', 'click', 'purchase']
    """
    place = pc.index_in(codes, value_set=pa.array(list(names.values()), pa.int8()))
    return pa.array(list(names), pa.string()).take(place)
