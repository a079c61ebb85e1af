"""Listwise context: what is known of a candidate beside what is known of the others of its request.

What is shown together is known before any of it is clicked. It says how many others compete for the click, and whether a story that has
many clicks has many for this page. Pairs that never met were shown beside nothing: theirs is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_store.config_statistics import Listwise, Statistic
from feature_store.tables.casting import as_array, to_times
from feature_store.tables.contracts import DataError
from feature_store.tables.equal_rows import request_of_rows
from feature_store.tables.given_rows import column_of, text_ids

SIZE = "request_size"
LISTWISE = ("size", "share", "rank")  # kinds of statistics


def listwise_statistics(asked: Sequence[Listwise], statistics: Sequence[Statistic], of_items: Set[str]) -> Iterator[Statistic]:
    """The columns that are asked for, of those statistics in whose key the item is, or one of its attributes (``of_items``).

    Examples
    --------
    >>> clicks = Statistic("item_clicks", "clicks on the item", "count", ("item",))
    >>> [one.name for one in listwise_statistics(("size", "share", "rank"), [clicks], {"item"})]
    ['request_size', 'item_clicks_of_request', 'item_clicks_rank']
    """
    if "size" in asked:
        yield Statistic(SIZE, "candidates of the request", "size", ())
    for one in statistics:
        if of_items.isdisjoint(one.key):
            continue
        if "share" in asked:
            meaning = f"{one.meaning}: share of the sum over the request's candidates"
            yield Statistic(f"{one.name}_of_request", meaning, "share", one.key, of=one.name)
        if "rank" in asked:
            meaning = f"{one.meaning}: share of the request's other candidates that have less"
            yield Statistic(f"{one.name}_rank", meaning, "rank", one.key, of=one.name)


def listwise_columns(
    statistics: Sequence[Statistic], columns: Mapping[str, pa.Array | pa.ChunkedArray], request: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """The listwise columns among some statistics.

    Parameters
    ----------
    statistics : sequence of Statistic
    columns : mapping of str to float32 array (rows,)
        Those that candidates are compared by, among others.
    request : int64 array (rows,)
        Rows with one number are candidates of one request, wherever they stand.

    Returns
    -------
    dict of str to float32 array (rows,)
        A share is null where the value is, or where the sum is 0; a null adds nothing to it. A rank, between 0 and 1, is null where the
        value is, and for a candidate that is alone; a null is less than any value, and equal values have equal ranks.
    """
    if not any(one.kind in LISTWISE for one in statistics):
        return {}
    _, code, size = np.unique(request, return_inverse=True, return_counts=True)
    found: dict[str, NDArray[np.float64]] = {}
    for one in statistics:
        if one.kind == "size":
            found[one.name] = size[code].astype(np.float64)
        elif one.kind in ("share", "rank"):
            value = as_array(columns[one.of]).to_numpy(zero_copy_only=False).astype(np.float64)  # null is nan
            found[one.name] = _shares(value, code) if one.kind == "share" else _ranks(value, code, size)
    return {name: pa.array(values, pa.float32(), from_pandas=True) for name, values in found.items()}


def _shares(value: NDArray[np.float64], code: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.bincount(code, np.nan_to_num(value))[code] if len(code) else value
    return np.divide(value, total, out=np.full(len(value), np.nan), where=total != 0)


def _ranks(value: NDArray[np.float64], code: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.float64]:
    known = np.where(np.isnan(value), -np.inf, value)
    order = np.lexsort((known, code))
    in_order, request = known[order], code[order]
    place, first = np.arange(len(order)), np.cumsum(size) - size  # of each request
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(request) != 0) | (in_order[1:] != in_order[:-1])
    less = np.empty(len(order))
    less[order] = np.maximum.accumulate(np.where(new, place, 0)) - first[request]  # the first of equal values says it for all
    others = size[code] - 1
    return np.divide(less, others, out=np.full(len(value), np.nan), where=(others > 0) & ~np.isnan(value))


def request_columns(table: pa.Table) -> tuple[NDArray[np.int64], pa.Array, pa.Array | None]:
    """What says which rows were shown together: time in microseconds, request id and, where users are known, user id as texts.

    Parameters
    ----------
    table : pa.Table
        ``request_id``, ``timestamp``, and ``user_id`` where users are known.

    Raises
    ------
    DataError
        When the table does not say which rows were shown together, or a value cannot be an id or a time.
    """
    if "request_id" not in table.column_names:
        raise DataError(
            "column request_id is missing; statistics.listwise_context compares the candidates of a request, so the rows must say which "
            "belong together"
        )
    try:
        time = to_times(as_array(column_of(table, "timestamp")))[0]
    except TypeError as error:
        raise DataError(f"column timestamp {error}") from None
    return time, text_ids(table, "request_id"), text_ids(table, "user_id") if "user_id" in table.column_names else None


def request_codes(table: pa.Table) -> NDArray[np.int64]:
    """Number of the request of each row (rows,) of a table that :func:`request_columns` describes."""
    return request_of_rows(*request_columns(table))
