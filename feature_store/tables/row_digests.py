"""What rows hold, as a number each: equal rows have equal ones, wherever and whenever they are made."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Digests = NDArray[np.uint64]  # (rows, 2): two lanes of 64 bits, so that among 10**9 rows two equal ones by chance have odds of 10**-20

_LANES = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_NULL = np.uint64(0x6A09E667F3BCC909)


def row_digests(table: pa.Table) -> Digests:
    """Digest (rows, 2) of each row: of its values and the names of their columns, in any order of the columns.

    Numbers count by their value as float64, whatever their width; ids, texts and categories by their text; times by their microseconds;
    lists by their elements in order. Null is a value of its own, and NaN is null.

    Parameters
    ----------
    table : Table
        Columns of numbers, texts, dictionaries of texts, booleans, times, and lists of these.

    Raises
    ------
    TypeError
        For a column of another type.

    Examples
    --------
    >>> one = row_digests(pa.table({"a": [1, 2], "b": [["x"], ["x", "y"]]}))
    >>> other = row_digests(pa.table({"b": [["x"], ["y", "x"]], "a": [1.0, 2.0]}))
    >>> (one == other).all(axis=1).tolist()
    [True, False]
    """
    total = np.zeros((table.num_rows, 2), np.uint64)
    for name in table.column_names:
        column = table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
        total += _mixed(_values(column, name) ^ _of_text(name))  # a sum does not depend on the order of the columns
    return _mixed(total)


def _values(column: pa.Array, name: str) -> Digests:
    """Digests (values, 2) of the values of a column."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column, kind = column.dictionary_encode(), pa.dictionary(pa.int32(), kind)
    if pa.types.is_dictionary(kind):
        known = np.concatenate([_of_texts(column.dictionary), np.full((1, 2), _NULL)])
        return known[column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(column, name)
    if pa.types.is_null(kind):
        return np.full((len(column), 2), _NULL)
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise TypeError(f"column {name!r} is {kind}, which has no digest")
    missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if not (pa.types.is_integer(column.type)):
        column = column.cast(pa.float64())
    value = column.fill_null(0).to_numpy(zero_copy_only=False)
    exact = value.astype(np.float64)  # equal numbers are equal whatever their width; a long id that a double cannot hold keeps its rest
    with np.errstate(invalid="ignore"):  # the largest integers: their doubles are one beyond
        rest = value.astype(np.int64) - exact.astype(np.int64) if value.dtype.kind in "iu" else np.zeros(len(value), np.int64)
    bits = (exact + 0.0).view(np.uint64) ^ rest.view(np.uint64)  # + 0.0 makes one of the two zeros
    return np.where(missing[:, None], _NULL, _mixed(bits[:, None] ^ _LANES))


def _lists(column: pa.Array, name: str) -> Digests:
    """Of lists: each element is mixed with its place, and the sum with the length."""
    length = pc.list_value_length(column)
    missing = length.is_null().to_numpy(zero_copy_only=False)
    count = length.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    begin = np.cumsum(count) - count
    elements = column.flatten()
    place = (np.arange(len(elements)) - np.repeat(begin, count)).astype(np.uint64)
    mixed = _mixed(_values(elements, name) + place[:, None] * _LANES)
    sums = np.concatenate([np.zeros((1, 2), np.uint64), np.cumsum(mixed, axis=0, dtype=np.uint64)])
    total = sums[begin + count] - sums[begin]
    return np.where(missing[:, None], _NULL, _mixed(total ^ count.astype(np.uint64)[:, None]))


def _of_texts(distinct: pa.Array) -> Digests:
    return np.array([_of_text(text) for text in distinct.cast(pa.string()).to_pylist()], np.uint64).reshape(-1, 2)


def _of_text(text: str) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest(), np.uint64)


def _mixed(values: Digests) -> Digests:
    """Each bit of the result depends on all bits of the value (the finalizer of splitmix64, Steele et al. 2014, doi:10.1145/2660193)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
