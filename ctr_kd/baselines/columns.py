"""Columns by their names, of whatever holds them: a dict of arrays (NumPy, pandas or Arrow), a ``pyarrow.Table``, a data frame."""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.metrics.checks import Floats


class Columns(Protocol):
    """Anything that gives a column by its name."""

    def __getitem__(self, name: str, /) -> Any: ...


def column_of(columns: Columns, name: str) -> pa.Array:
    """A column in one piece.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    try:
        column = columns[name]
    except KeyError:
        raise ValueError(f"column {name} is missing") from None
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        column = pa.array(column, from_pandas=True)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def numbers(columns: Columns, name: str) -> Floats:
    """A column as float64, null as nan."""
    return pc.cast(column_of(columns, name), pa.float64()).to_numpy(zero_copy_only=False)


def categories(columns: Columns, name: str) -> pa.DictionaryArray:
    """A column as codes of texts: the text of each value that there is, once or more often, and its place for each row."""
    column = column_of(columns, name)
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, pc.cast(coded.dictionary, pa.string()))
