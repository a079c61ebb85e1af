"""Rows that are equal in some columns, under one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def number_equal_rows(columns: Sequence[pa.Array | NDArray[np.int64]]) -> NDArray[np.int64]:
    """Numbers (rows,) from 0 on, rising with the first column if that is one of numbers; nulls are equal.

    Parameters
    ----------
    columns : sequence of pyarrow array, or int64 array (rows,)

    Examples
    --------
    >>> number_equal_rows([np.array([7, 5, 7, 5]), pa.array(["b", "a", "b", None])]).tolist()
    [2, 1, 2, 0]
    """
    keys = [column if isinstance(column, np.ndarray) else _codes(column) for column in columns]
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    for key in keys:
        new[1:] |= np.diff(key[order]) != 0
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new)
    return number


def request_of_rows(time: NDArray[np.int64], request_id: pa.Array, user_id: pa.Array | None) -> NDArray[np.int64]:
    """Number of the request of each row (rows,), as in the store: rows of one time, user and request id are one, and one without an id is
    alone.

    Parameters
    ----------
    time : int64 array (rows,), microseconds
    request_id, user_id : pyarrow array of text (rows,)
        None where no row has a user.

    Examples
    --------
    >>> ids, users = pa.array(["7", "7", "7", "7", None, None]), pa.array(["a", "b", "a", "a", "a", "a"])
    >>> request_of_rows(np.array([1, 1, 1, 2, 1, 1]), ids, users).tolist()
    [2, 3, 2, 4, 0, 1]
    """
    alone = request_id.is_null().to_numpy(zero_copy_only=False)
    users = [] if user_id is None else [user_id]
    return number_equal_rows([time, request_id, *users, np.where(alone, np.arange(len(alone)), -1)])


def _codes(column: pa.Array) -> NDArray[np.int64]:
    return np.asarray(column.dictionary_encode().indices.fill_null(-1)).astype(np.int64)
