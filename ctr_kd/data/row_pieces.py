"""Rows of a Parquet file as tables: all in one, or of a file that is too large for that, in pieces that cut no request in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.data import disk_arrays
from feature_store.tables.parquet_files import open_pieces, read_parquet


@dataclass(frozen=True)
class RowPieces:
    """Rows of a file, in their order, which can be gone through as often as is asked: at least one table.

    Attributes
    ----------
    file : Path
        In the layout of ``rows.parquet``, or of texts without requests.
    split : str, optional
        Whose rows; None: all.
    columns : tuple of str, optional
        Those to read; None reads all.
    in_pieces : bool
        Whether about :data:`ctr_kd.data.disk_arrays.PIECE` rows are read at a time; else all are one table, which is read once.
    """

    file: Path
    split: str | None = None
    columns: tuple[str, ...] | None = None
    in_pieces: bool = False

    @cached_property
    def count(self) -> int:
        """Rows there are."""
        if not self.in_pieces:
            return self.whole.num_rows
        if self.split is None:
            return pq.read_metadata(self.file).num_rows
        return sum(table.num_rows for table in self._read(["split"]))

    @cached_property
    def whole(self) -> pa.Table:
        """All rows in one table."""
        return read_parquet(self.file, self.columns, None if self.split is None else [("split", "=", self.split)])

    def __iter__(self) -> Iterator[pa.Table]:
        if not self.in_pieces:
            yield self.whole
            return
        there = pq.read_schema(self.file).names
        names = there if self.columns is None else list(self.columns)
        whole_requests = "request" in there
        needed = {*names, *(["split"] if self.split is not None else []), *(["request"] if whole_requests else [])}
        held: pa.Table | None = None  # until it is known whether its last request goes on
        for table in self._read([name for name in there if name in needed]):
            if held is None:
                held = table
                continue
            last = _begin_of_last(held["request"].to_numpy()) if whole_requests else held.num_rows
            if last:
                yield held.slice(0, last).select(names)
            held = pa.concat_tables([held.slice(last), table])
        yield (pq.read_schema(self.file).empty_table() if held is None else held).select(names)

    def _read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns, the split's among them where one is chosen, in pieces wherever they end."""
        with open_pieces(self.file) as rows:
            for batch in rows.iter_batches(disk_arrays.PIECE, columns=list(columns)):
                table = pa.Table.from_batches([batch])
                yield table if self.split is None else table.filter(pc.equal(table["split"], self.split))


def _begin_of_last(request: np.ndarray) -> int:
    """Where the last request of some rows begins; 0 where there are none.

    Examples
    --------
    >>> _begin_of_last(np.array([3, 3, 4, 4]))
    2
    """
    return int(np.flatnonzero(request != request[-1])[-1]) + 1 if len(request) and request[0] != request[-1] else 0
