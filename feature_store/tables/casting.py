"""Casts of raw columns to the types of the contract: text, ids, times, clicks and numbers.

Every cast takes a column of any Arrow type and returns the typed values with a mask of the rows that do not fit (a value
under the mask is null or zero). A column whose *type* cannot hold such values at all raises TypeError. Whole columns
are tried first; only a column with odd values is looked at row by row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import isnan
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

MICROSECOND = pa.timestamp("us", "UTC")
SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS = 10**6, 10**3, 1, 10**-3  # microseconds in one unit
_US_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/12/2019 2:14:46 PM
_INTEGER = r"^-?(\d{1,18}|[1-8]\d{18})$"  # fits int64
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_EXACT = 2.0**53  # a float64 holds every integer below this


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One chunk, dictionary decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # no chunk at all
            column = pa.array([], column.type)
    return column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column


def none_bad(rows: int) -> np.ndarray:
    return np.zeros(rows, dtype=bool)


def mask_of(values: pa.Array) -> np.ndarray:
    """A boolean Arrow array as NumPy; null is false."""
    return cast(np.ndarray, pc.fill_null(values, False).to_numpy(zero_copy_only=False))


def null_where(values: pa.Array, mask: np.ndarray) -> pa.Array:
    return pc.if_else(pa.array(mask), pa.scalar(None, values.type), values) if mask.any() else values


def is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind)


def _decodes(value: bytes | None) -> bool:
    if value is None:
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def to_text(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Text; the empty text is null, and the mask holds the rows whose bytes are not UTF-8.

    Floats that are integers lose their ``.0``: they are integers that a tool with no nullable integers wrote.

    Examples
    --------
    >>> to_text(pa.array([1.0, 2.5, None]))[0].to_pylist()
    ['1', '2.5', None]
    """
    kind, bad = column.type, none_bad(len(column))
    if pt.is_null(kind):
        return pa.nulls(len(column), pa.string()), bad
    if pt.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        texts = [None if isnan(v) else str(int(v)) if v == np.floor(v) and abs(v) < _EXACT else repr(v) for v in values.tolist()]
        return pa.array(texts, pa.string()), bad
    if is_text(kind) or _is_bytes(kind):
        try:
            text = column.cast(pa.binary()).cast(pa.string())  # a Parquet file may call any bytes a string: this looks at them
        except pa.ArrowInvalid:
            raw = column.cast(pa.binary())
            bad = np.array([not _decodes(value) for value in raw.to_pylist()], dtype=bool)
            text = null_where(raw, bad).cast(pa.string())
        return null_where(text, mask_of(pc.equal(pc.binary_length(text), 0))), bad
    if pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_decimal(kind) or pt.is_temporal(kind):
        return column.cast(pa.string()), bad
    raise TypeError(f"has type {kind}; expected text or numbers")


def canonical_integers(text: pa.Array) -> pa.Array | None:
    """The texts as int64 when every one of them is the canonical text of its integer (``12``, not ``012``), else None."""
    try:
        numbers = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return numbers if pc.all(pc.equal(numbers.cast(pa.string()), text), min_count=0).as_py() else None


def to_ids(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids as int64 if all of them are canonical integers, else as text; the mask holds bytes that are not UTF-8 and fractions.

    Examples
    --------
    >>> to_ids(pa.array(["12", "7"]))[0].type, to_ids(pa.array(["012", "7"]))[0].type
    (DataType(int64), DataType(string))
    """
    kind = column.type
    if pt.is_null(kind):
        return pa.nulls(len(column), pa.int64()), none_bad(len(column))
    if pt.is_uint64(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if pt.is_integer(kind):
        return column.cast(pa.int64()), none_bad(len(column))
    if pt.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        empty = np.isnan(values)
        with np.errstate(invalid="ignore"):
            bad = ~empty & ~((values == np.floor(values)) & (np.abs(values) < _EXACT))
        return pa.array(np.where(empty | bad, 0, values).astype(np.int64), mask=empty | bad), bad
    if not (is_text(kind) or _is_bytes(kind)):
        raise TypeError(f"has type {kind}; an id is text or an integer")
    text, bad = to_text(column)
    numbers = canonical_integers(text)
    return (text if numbers is None else numbers), bad


def unit_of(median: float) -> float:
    """Microseconds in one unit of a numeric time, judged by its magnitude: between 1973 and 5138 only one unit fits.

    Examples
    --------
    >>> unit_of(1506825423) == SECONDS, unit_of(1506825423000) == MILLISECONDS
    (True, True)
    """
    size = abs(median)
    return SECONDS if size < 1e11 else MILLISECONDS if size < 1e14 else MICROSECONDS if size < 1e17 else NANOSECONDS


def _scaled(values: np.ndarray, unit: float) -> np.ndarray:
    """Numbers in a unit as int64 microseconds, saturated far outside any year that counts."""
    approximate = values.astype(np.float64) * unit
    inside = np.abs(approximate) < 4e18
    if values.dtype.kind == "f":
        return np.where(inside, np.round(np.where(inside, approximate, 0)), np.copysign(4e18, approximate)).astype(np.int64)
    exact = np.where(inside, values, 0)
    exact = exact // 1000 if unit == NANOSECONDS else exact * int(unit)
    return np.where(inside, exact, np.where(values < 0, -(4 * 10**18), 4 * 10**18))


def _integer_text(text: pa.Array) -> pa.Array | None:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _calendar_text(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """ISO 8601 or ``11/12/2019 2:14:46 PM`` as microseconds; a time without a zone is UTC. No nulls come in."""
    for kind in (pa.timestamp("us"), MICROSECOND):
        try:
            return text.cast(kind).cast(pa.int64()).to_numpy(), none_bad(len(text))
        except pa.ArrowInvalid:
            continue  # not all of the column has this form: try the next
    parsed = pc.strptime(text, format=_US_FORMAT, unit="us", error_is_null=True)
    micros = parsed.cast(pa.int64()).fill_null(0).to_numpy().copy()
    bad = mask_of(parsed.is_null())
    for row in np.flatnonzero(bad):
        try:
            time = datetime.fromisoformat(text[int(row)].as_py().strip())
        except ValueError:
            continue  # stays bad
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        micros[row] = pa.scalar(time, MICROSECOND).value
        bad[row] = False
    return micros, bad


def to_times(column: pa.Array, unit: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float | None]:
    """Times as microseconds since 1970 UTC.

    Parameters
    ----------
    column : pa.Array
        Timestamps, dates, numbers or text (numbers, ISO 8601, or ``11/12/2019 2:14:46 PM``).
    unit : float, optional
        Microseconds in one unit of the numbers; None judges it by the median of the column.

    Returns
    -------
    micros : np.ndarray of int64, shape (rows,)
    empty : np.ndarray of bool, shape (rows,)
        Null or NaN.
    bad : np.ndarray of bool, shape (rows,)
        Not a time.
    unit : float or None
        The unit that was used; None if there was no number.
    """
    kind, rows = column.type, len(column)
    if pt.is_timestamp(kind) or pt.is_date(kind):
        stamps = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
        return stamps.cast(pa.int64()).fill_null(0).to_numpy(), mask_of(column.is_null()), none_bad(rows), unit
    if pt.is_uint64(kind) or pt.is_decimal(kind):
        column, kind = column.cast(pa.float64(), safe=False), pa.float64()
    if pt.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        empty = np.isnan(values)
        numbers: np.ndarray = np.where(empty, 0.0, values)
        bad = np.isinf(numbers)
    elif pt.is_integer(kind):
        empty, bad = mask_of(column.is_null()), none_bad(rows)
        numbers = column.cast(pa.int64()).fill_null(0).to_numpy()
    elif is_text(kind) or _is_bytes(kind) or pt.is_null(kind):
        return _text_times(column, unit)
    else:
        raise TypeError(f"has type {kind}; a time is a timestamp, a number or text")
    known = ~(empty | bad)
    if unit is None and known.any():
        unit = unit_of(float(np.median(numbers[known])))
    return _scaled(np.where(known, numbers, 0), unit or SECONDS), empty, bad, unit


def _text_times(column: pa.Array, unit: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float | None]:
    text, bad = to_text(column)
    empty = mask_of(text.is_null()) & ~bad
    integers = _integer_text(text)
    if integers is not None:
        micros, _, _, unit = to_times(integers, unit)
        return micros, empty, bad, unit
    micros = np.zeros(len(text), dtype=np.int64)
    present = ~(empty | bad)
    whole = mask_of(pc.match_substring_regex(text, _INTEGER)) & present
    fraction = mask_of(pc.match_substring_regex(text, _NUMBER)) & present & ~whole
    calendar = present & ~whole & ~fraction
    integers = text.filter(pa.array(whole)).cast(pa.int64()).to_numpy()  # apart from the fractions: nanoseconds do not fit a float
    fractions = text.filter(pa.array(fraction)).cast(pa.float64()).to_numpy()
    if unit is None and (whole.any() or fraction.any()):
        unit = unit_of(float(np.median(np.concatenate([integers.astype(np.float64), fractions]))))
    micros[whole] = _scaled(integers, unit or SECONDS)
    micros[fraction] = _scaled(fractions, unit or SECONDS)
    if calendar.any():
        micros[calendar], bad[calendar] = _calendar_text(text.filter(pa.array(calendar)))
    return micros, empty, bad, unit


_CLICKED = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def to_clicked(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Clicks as int8 0 or 1; the mask holds everything else, null included.

    Examples
    --------
    >>> to_clicked(pa.array(["1", "0.0", "True", "2", None]))[1].tolist()
    [False, False, False, True, True]
    """
    kind = column.type
    if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind):
        values = column.cast(pa.float64(), safe=False).fill_null(-1).to_numpy()
        bad = (values != 0) & (values != 1)
        return np.where(bad, 0, values).astype(np.int8), bad
    if not (is_text(kind) or _is_bytes(kind) or pt.is_null(kind)):
        raise TypeError(f"has type {kind}; expected 0 or 1")
    text, _ = to_text(column)
    place = pc.index_in(pc.utf8_lower(text), pa.array(list(_CLICKED))).fill_null(-1).to_numpy()
    return np.array([*_CLICKED.values(), 0], dtype=np.int8)[place], place < 0


def to_numbers(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Numbers as float64, null and NaN as null; the mask holds text that is no number, and infinities."""
    kind = column.type
    if pt.is_null(kind):
        return pa.nulls(len(column), pa.float64()), none_bad(len(column))
    bad = none_bad(len(column))
    if is_text(kind) or _is_bytes(kind):
        text, bad = to_text(column)
        numeric = mask_of(pc.match_substring_regex(text, _NUMBER))
        bad = bad | (~numeric & mask_of(text.is_valid()) & ~mask_of(pc.equal(pc.utf8_lower(text), "nan")))
        column = null_where(text, ~numeric).cast(pa.float64())
    elif not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_decimal(kind)):
        raise TypeError(f"has type {kind}; expected numbers")
    if pt.is_boolean(kind):
        column = column.cast(pa.int8())
    values: Any = column.cast(pa.float64(), safe=False)
    infinite = mask_of(pc.is_inf(values))
    return null_where(values, infinite | mask_of(pc.is_nan(values))), bad | infinite
