"""Columns of rows that somebody gave us, or one line that says what is wrong with them."""

from __future__ import annotations

import pyarrow as pa

from feature_store.tables.casting import as_array, id_values
from feature_store.tables.contracts import DataError, nearest


def column_of(frame: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by its name. Raises DataError when there is none."""
    if name not in frame.column_names:
        raise DataError(f"column {name} is missing; {nearest(name, frame.column_names)}")
    return frame[name]


def text_ids(frame: pa.Table, name: str) -> pa.Array:
    """Ids of a column as texts, null where there is none. Raises DataError when a value cannot be an id."""
    try:
        values, bad = id_values(as_array(column_of(frame, name)))
    except TypeError as error:
        raise DataError(f"column {name} {error}") from None
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"column {name} must hold text or integer ids; row {row + 1} of {bad.sum()} that do not holds {frame[name][row]}")
    return values.cast(pa.string())
