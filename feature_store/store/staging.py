"""Scratch files of one ingestion: typed rows by kind and date, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.tables.contracts import ID_COLUMNS, Kind

STAGING_BYTES = 192 << 20  # typed rows held in memory before they go to disk
_DAY = 86_400_000_000  # microseconds

Part = tuple[Kind, str]  # ("events", "2024-01-31"), ("items", ""), ("users", "")


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """How Parquet lays out the columns. Texts and items repeat, users and times grow: half the time and size of the standard."""
    repeating = [field.name for field in schema if field.name == "item_id" or pa.types.is_string(field.type)]
    growing = [field.name for field in schema if pa.types.is_int64(field.type) or pa.types.is_timestamp(field.type)]
    growing = [name for name in growing if name not in repeating]
    return {"use_dictionary": repeating, "column_encoding": dict.fromkeys(growing, "DELTA_BINARY_PACKED")}


class Staging:
    """Typed rows on their way into partitions.

    Batches of one part may differ in the type of their ids; files of one type lie in one folder, and the merge casts them.
    """

    def __init__(self, folder: Path, limit: int = STAGING_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        self._held: dict[tuple[Part, str], list[pa.Table]] = defaultdict(list)
        self._bytes = 0
        self._files: dict[Part, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))

    def add(self, kind: Kind, rows: pa.Table) -> None:
        """Take typed rows, events by the date of their time."""
        if rows.num_rows == 0:
            return
        types = "-".join(str(rows.schema.field(name).type) for name in ID_COLUMNS[kind])
        for date, table in _by_date(rows) if kind == "events" else [("", rows)]:
            self._held[(kind, date), types].append(table)
            self._bytes += table.nbytes
        if self._bytes > self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        for (part, types), tables in self._held.items():
            folder = self._folder / part[0] / part[1] / types
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{len(self._files[part][types]):06d}.parquet"
            table = pa.concat_tables(tables)
            pq.write_table(table, path, compression="lz4", **encodings(table.schema))
            self._files[part][types].append(path)
        self._held.clear()
        self._bytes = 0

    def parts(self) -> dict[Part, list[list[Path]]]:
        """Files by part; the files of an inner list share their types."""
        self.flush()
        return {part: list(by_types.values()) for part, by_types in self._files.items()}


def _by_date(rows: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    days = rows["timestamp"].combine_chunks().cast(pa.int64()).to_numpy() // _DAY
    if days.min() == days.max():
        return [(str(np.datetime64(int(days[0]), "D")), rows)]
    return [(str(np.datetime64(int(day), "D")), rows.filter(pa.array(days == day))) for day in np.unique(days)]
