"""Reading a Parquet file as it is, wherever it lies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from feature_store.tables.parquet_footer import numbered_throughout

_BUFFER = 1 << 20  # bytes


def open_pieces(path: Path, numbered: Collection[str] = ()) -> pq.ParquetFile:
    """A file to be read in pieces, of whose columns little is held at a time: a row group may be larger than memory, and fetching ahead
    would keep all of it.

    Of the columns that are ``numbered``, and of lists there, texts that the file holds as numbers of distinct ones are read so.
    """
    file = pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER)
    texts = {leaf.path for leaf in map(file.schema.column, range(len(file.schema))) if leaf.logical_type.type == "STRING"}
    chosen = [leaf for leaf in texts if numbered and leaf.split(".")[0] in numbered]
    chosen = sorted(numbered_throughout(path).intersection(chosen)) if chosen else []
    if not chosen:
        return file
    file.close()
    return pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER, read_dictionary=chosen)


def read_parquet(path: Path, columns: Sequence[str] | None = None, filters: Sequence[tuple[str, str, Any]] | None = None) -> pa.Table:
    """Rows of one file of this machine.

    Arrow's own ``read_table`` takes folders called ``key=value`` above a file for columns, which it prefers to the file's; of relative
    paths it takes some for URLs, and ``~`` for the user's home.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        Those to read; None reads all.
    filters : sequence of (column, comparison, value), optional
        Rows to read: those for which all of them hold.
    """
    chosen = None if columns is None else list(columns)
    local = {"partitioning": None, "filesystem": LocalFileSystem()}
    return pq.read_table(path.absolute(), columns=chosen, filters=filters and list(filters), **local)  # noqa: TID251
