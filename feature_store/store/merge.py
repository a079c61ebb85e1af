"""Merging staged rows into a part of the store: one out-of-core sort, duplicates apart, and the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.engines.duckdb_files import parquet_source
from feature_store.engines.sql_template import literal, quoted
from feature_store.store.manifests import MANIFEST, PartitionManifest, TableManifest, write_sealed
from feature_store.store.staging import encodings
from feature_store.tables.contracts import Kind
from feature_store.tables.files import sha256_of

MEMORY = "768MB"  # of the sort, before it spills to the store's disk
ROW_GROUP = 131_072  # rows; fixed, so that the same rows make the same bytes

# Rows that agree in all of these are one row. Which one stays is decided by the other columns in their order, and at
# last by file and line: the order in which rows arrive must not show. The first two are the stored order.
KEYS: dict[Kind, tuple[str, ...]] = {
    "events": ("user_id", "timestamp", "item_id", "request_id", "clicked", "type_code"),
    "items": ("item_id", "timestamp"),
    "users": ("user_id", "timestamp"),
}

Duplicates = Callable[[pa.Table, list[str]], None]


def key_of(kind: Kind, schema: pa.Schema) -> list[str]:
    """What tells the rows of a table from each other; the time of items and users only where theirs are dated."""
    return [name for name in KEYS[kind] if name in schema.names]


def sort_engine(scratch: Path) -> duckdb.DuckDBPyConnection:
    """An engine that sorts out of core below ``scratch``."""
    scratch.mkdir(parents=True, exist_ok=True)
    settings = {"memory_limit": MEMORY, "threads": min(4, os.cpu_count() or 1), "temp_directory": str(scratch)}
    return duckdb.connect(config=settings)


def _sql_type(kind: pa.DataType) -> str | None:
    return "VARCHAR" if pa.types.is_string(kind) else "BIGINT" if pa.types.is_int64(kind) else None


def _select(schema: pa.Schema, files: Sequence[Path], where: str = "") -> str:
    columns = []
    for field in schema:
        kind = _sql_type(field.type)  # only ids may differ from their stored type: a batch of integers in a log of texts
        columns.append(f"CAST({quoted(field.name)} AS {kind}) AS {quoted(field.name)}" if kind else quoted(field.name))
    return f"SELECT {', '.join(columns)} FROM {parquet_source(files)} {where}"


def sorted_rows(
    engine: duckdb.DuckDBPyConnection,
    schema: pa.Schema,
    staged: Iterable[Sequence[Path]],
    stored: Path | None,
    *,
    without: tuple[str, set[str]],
    order: Sequence[str],
) -> Iterator[pa.Table]:
    """Stream the staged rows and those of the stored file, sorted.

    Parameters
    ----------
    without : (column, values)
        Rows of the stored file that are left out: those of the input files that were read again.
    order : sequence of str
        Columns to sort by, each with an optional ``DESC``.
    """
    queries = [_select(schema, files) for files in staged]
    if stored is not None:
        column, values = without
        where = f"WHERE {quoted(column)} NOT IN ({', '.join(map(literal, sorted(values)))})" if values else ""
        queries.append(_select(schema, [stored], where))
    if not queries:
        return
    query = f"{' UNION ALL '.join(queries)} ORDER BY {', '.join(order)}"
    for batch in engine.sql(query).to_arrow_reader(ROW_GROUP):
        yield pa.Table.from_batches([batch]).cast(schema)


def _order(kind: Kind, schema: pa.Schema) -> list[str]:
    key = key_of(kind, schema)
    rest = [name for name in schema.names if name not in key]
    if kind != "events":  # of an item in several files the last file's row stays: catalogues are delivered again and again
        return [*map(quoted, key), "source DESC", "line", *(quoted(name) for name in rest if name not in ("source", "line"))]
    rest.remove("ingested_at")
    return [*map(quoted, key), "ingested_at", *map(quoted, rest)]  # of two copies of an event the one known first stays


def merge_part(
    engine: duckdb.DuckDBPyConnection,
    kind: Kind,
    schema: pa.Schema,
    *,
    staged: Iterable[Sequence[Path]],
    stored: Path | None,
    reread: set[str],
    digests: Mapping[str, str],
    folder: Path,
    on_duplicates: Duplicates,
) -> TableManifest | None:
    """Merge, drop duplicates, write the file and its manifest.

    Parameters
    ----------
    stored : Path, optional
        The part as the store has it; rows of the files in ``reread`` leave it.
    digests : mapping
        sha256 of every input file, for the manifest.
    folder : Path
        Where ``<kind>.parquet`` and the manifest go.
    on_duplicates : callable
        Takes rows that are left out, and the input files of the rows that are kept instead.

    Returns
    -------
    TableManifest or None
        None (and no file) when no row is left.
    """
    rows = sorted_rows(engine, schema, staged, stored, without=("source", reread), order=_order(kind, schema))
    facts = _Facts(kind)
    path = folder / f"{kind}.parquet"
    write_rows(path, schema, facts.watch(unique_rows(rows, kind, on_duplicates)))
    if facts.rows == 0:
        path.unlink()
        return None
    columns = hashlib.sha256(str(schema).encode()).hexdigest()
    inputs = {file: digests[file] for file in sorted(facts.sources)}
    manifest = TableManifest(rows=facts.rows, columns=columns, inputs=inputs, sha256={path.name: sha256_of(path)})
    if kind == "events":
        manifest = PartitionManifest(**manifest.to_json(), **facts.times())
    write_sealed(folder / MANIFEST, manifest)
    return manifest


def unique_rows(tables: Iterable[pa.Table], kind: Kind, on_duplicates: Duplicates) -> Iterator[pa.Table]:
    """The first row of each key, of sorted rows."""
    kept: pa.Table | None = None  # the last row kept: a key may run on into the next table
    for table in tables:
        if table.num_rows == 0:
            continue
        key = key_of(kind, table.schema)
        joined = table if kept is None else pa.concat_tables([kept, table]).combine_chunks()
        same = np.ones(joined.num_rows - 1, dtype=bool)
        for name in key:
            column = joined[name].combine_chunks()
            same &= _same(column[1:], column[:-1])
        first = np.concatenate([[True], ~same])
        fresh = first if kept is None else first[1:]  # of this table alone
        if same.any():
            kept_at = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))  # row that is kept for each row
            repeats = np.flatnonzero(~first)
            on_duplicates(joined.take(pa.array(repeats)), joined["source"].take(pa.array(kept_at[repeats])).to_pylist())
            kept = joined.slice(int(kept_at[-1]), 1)
        else:
            kept = joined.slice(joined.num_rows - 1, 1)
        yield table if fresh.all() else table.filter(pa.array(fresh))


def _same(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Elementwise equality in which null equals null."""
    equal = pc.fill_null(pc.equal(left, right), False)
    if left.null_count:
        equal = pc.or_(equal, pc.and_(left.is_null(), right.is_null()))
    result: np.ndarray = equal.to_numpy(zero_copy_only=False)
    return result


class _Facts:
    """What a manifest says of the rows, gathered while they pass."""

    def __init__(self, kind: Kind) -> None:
        self._timed = kind == "events"
        self.rows = 0
        self.sources: set[str] = set()
        self._times: list[datetime] = []
        self._known: list[datetime] = []

    def watch(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            if table.num_rows:
                self.rows += table.num_rows
                self.sources.update(pc.unique(table["source"]).to_pylist())
                if self._timed:
                    self._times += pc.min_max(table["timestamp"]).as_py().values()
                    self._known.append(pc.max(table["ingested_at"]).as_py())
            yield table

    def times(self) -> dict[str, datetime]:
        """First and last time of the events, and when the last one became known."""
        return {"min_timestamp": min(self._times), "max_timestamp": max(self._times), "max_ingested_at": max(self._known)}


def write_rows(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables with row groups of a fixed size, however the tables are cut."""
    with pq.ParquetWriter(path, schema, compression="zstd", **encodings(schema)) as writer:
        held: list[pa.Table] = []
        for table in tables:
            held.append(table)
            if sum(map(len, held)) >= ROW_GROUP:
                joined = pa.concat_tables(held)
                full = len(joined) - len(joined) % ROW_GROUP
                writer.write_table(joined.slice(0, full), row_group_size=ROW_GROUP)
                held = [joined.slice(full)]
        rest = pa.concat_tables(held) if held else schema.empty_table()
        if len(rest):
            writer.write_table(rest, row_group_size=ROW_GROUP)
