"""What a raw value means: casts of raw columns to text, categories, ids, times, clicks and numbers.

This file travels inside the exported student, so that a value means in a request what it meant in the log. It needs numpy and pyarrow,
and no other file of ours.

Every cast takes a column of any Arrow type and returns the typed values with a mask of the rows that do not fit (a value
under the mask is null or zero). A column whose *type* cannot hold such values at all raises TypeError. What a value means depends on
no other value: whole columns are tried first only because that is faster.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

MICROSECOND = pa.timestamp("us", "UTC")
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # no click log is older; zeros and dates read as seconds fall below it
LARGEST = float(np.finfo(np.float32).max)  # models read float32, in which anything beyond is infinite
_US_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/12/2019 2:14:46 PM
_INTEGER = r"^-?(\d{1,18}|[1-8]\d{18})$"  # fits int64
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^(?:-?(0)|(-?[1-9]\d{0,15}))\.0+$"  # 12.0, as a tool without nullable integers writes 12
_ZEROS = r"(?:\.0+|(\.\d*[1-9])0+)(Z?|[+-]\d{4})$"  # of 12.00, 1.50 and 10:00:00.500000Z
_LATEST = 2.0**63  # nanoseconds since 1970: no number beyond is a time
_YEARS = 2.5e17  # microseconds from 1970 to 9892: Python has no time much beyond
_UNITS = {"D": (86_400 * 10**6, 1), "s": (10**6, 1), "ms": (10**3, 1), "us": (1, 1), "ns": (1, 10**3)}  # microseconds: factor, divisor
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
    """Text as it is written; the empty text is null, and the mask holds the rows whose bytes are not UTF-8.

    Numbers and times have their shortest text, floats and decimals that are integers without ``.0``.

    Examples
    --------
    >>> to_text(pa.array([1.0, 2.5, None]))[0].to_pylist()
    ['1', '2.5', None]
    """
    kind, bad = column.type, none_bad(len(column))
    if pt.is_null(kind):
        return pa.nulls(len(column), pa.string()), bad
    if pt.is_floating(kind):
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype != np.float64:
            exact, shortest = values.astype(np.float64), values.astype(str).astype(np.float64)
            values = np.where(exact == np.floor(exact), exact, shortest)  # 0.1 of 32 bits is 0.1, and not 0.10000000149
        return _without_fraction(pa.array(values.astype(str), pa.string(), mask=np.isnan(values))), bad
    if is_text(kind) or _is_bytes(kind):
        try:
            text = column.cast(pa.binary()).cast(pa.string())  # a Parquet file may call any bytes a string: this looks at them
        except pa.ArrowInvalid:
            raw = column.cast(pa.binary())
            bad = np.array([not _decodes(value) for value in raw.to_pylist()], dtype=bool)
            text = null_where(raw, bad).cast(pa.string())
        return null_where(text, mask_of(pc.equal(pc.binary_length(text), 0))), bad
    if pt.is_decimal(kind) or pt.is_temporal(kind):
        return pc.replace_substring_regex(column.cast(pa.string()), _ZEROS, r"\1\2"), bad
    if pt.is_integer(kind) or pt.is_boolean(kind):
        return column.cast(pa.string()), bad
    raise TypeError(f"has type {kind}; expected text or numbers")


def _without_fraction(text: pa.Array) -> pa.Array:
    """Texts with ``12`` for ``12.0``: it is an integer that a tool with no nullable integers wrote."""
    if not pc.any(pc.match_substring(text, ".0"), min_count=0).as_py():
        return text
    return pc.replace_substring_regex(text, _WHOLE, r"\1\2")


def to_categories(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Values of a category as text; the mask is that of :func:`to_text`.

    One value has one text, whatever type or file it came in: ``12.0`` is ``12``, and ``True`` is ``true``.

    Examples
    --------
    >>> to_categories(pa.array(["12.0", "True", "tv"]))[0].to_pylist(), to_categories(pa.array([True, None]))[0].to_pylist()
    (['12', 'true', 'tv'], ['true', None])
    """
    text, bad = to_text(column)
    if is_text(column.type) or _is_bytes(column.type):
        text = _without_fraction(text)
        boolean = pc.is_in(text, pa.array(["True", "TRUE", "False", "FALSE"]))
        if pc.any(boolean, min_count=0).as_py():
            text = pc.if_else(boolean, pc.utf8_lower(text), text)
    return text, bad


def canonical_integers(text: pa.Array) -> pa.Array | None:
    """The texts as int64 when every one of them is the canonical text of its integer (``12``, not ``012``), else None."""
    try:
        numbers = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return numbers if pc.all(pc.equal(numbers.cast(pa.string()), text), min_count=0).as_py() else None


def id_values(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids as int64 or text, which compare by their text; the mask holds bytes that are not UTF-8, and numbers with a fraction.

    Examples
    --------
    >>> id_values(pa.array(["12.0", "7", "N1"]))[0].to_pylist(), id_values(pa.array([12.0, 1.5]))[1].tolist()
    (['12', '7', 'N1'], [False, True])
    """
    kind = column.type
    if pt.is_null(kind):
        return pa.nulls(len(column), pa.int64()), none_bad(len(column))
    if pt.is_integer(kind):
        same = column if pt.is_int64(kind) else column.cast(pa.string() if pt.is_uint64(kind) else pa.int64())
        return same, none_bad(len(column))
    if pt.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        empty = np.isnan(values)
        with np.errstate(invalid="ignore"):
            bad = ~empty & ~((values == np.floor(values)) & (np.abs(values) < _EXACT))
        return pa.array(np.where(empty | bad, 0, values).astype(np.int64), mask=empty | bad), bad
    if pt.is_decimal(kind):
        text, _ = to_text(column)
        bad = mask_of(pc.match_substring_regex(text, "[.E]"))
        return null_where(text, bad), bad
    if not (is_text(kind) or _is_bytes(kind)):
        raise TypeError(f"has type {kind}; an id is text or an integer")
    text, bad = to_text(column)
    return _without_fraction(text), bad


def to_ids(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """:func:`id_values` as int64 if all of them are canonical integers, else as text.

    Examples
    --------
    >>> to_ids(pa.array(["12", "7"]))[0].type, to_ids(pa.array(["012", "7"]))[0].type
    (DataType(int64), DataType(string))
    """
    values, bad = id_values(column)
    numbers = canonical_integers(values) if is_text(values.type) else None
    return (values if numbers is None else numbers), bad


def _microseconds(values: np.ndarray) -> np.ndarray:
    """Numbers since 1970 as int64 microseconds; each says its unit by its size: between 1973 and 5138 only one fits.

    Examples
    --------
    >>> _microseconds(np.array([1506825423, 1506825423000, 1506825423000000, 1506825423000000999])).tolist()
    [1506825423000000, 1506825423000000, 1506825423000000, 1506825423000000]
    """
    size = np.abs(values.astype(np.float64))
    up, down = np.select([size < 1e11, size < 1e14], [10**6, 10**3], 1), np.where(size < 1e17, 1, 1000)
    if values.dtype.kind == "f":
        return np.round(values * up / down).astype(np.int64)
    return values * up // down


def _integer_text(text: pa.Array) -> pa.Array | None:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _iso_text(text: pa.Array) -> np.ndarray | None:
    """ISO 8601 as microseconds, null as 0; None where not all texts have one form of it. A time without a zone is UTC."""
    for kind in (pa.timestamp("us"), MICROSECOND):
        try:
            return text.cast(kind).cast(pa.int64()).fill_null(0).to_numpy()
        except pa.ArrowInvalid:
            continue  # not all of the column has this form: try the next
    return None


def _calendar_text(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """ISO 8601 or ``11/12/2019 2:14:46 PM`` as microseconds; a time without a zone is UTC. No nulls come in."""
    iso = _iso_text(text)
    if iso is not None:
        return iso, none_bad(len(text))
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


def to_times(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times as microseconds since 1970 UTC.

    Parameters
    ----------
    column : pa.Array
        Timestamps, dates, numbers or text (numbers, ISO 8601, or ``11/12/2019 2:14:46 PM``). Numbers are seconds, milliseconds,
        microseconds or nanoseconds since 1970; a time without a zone is UTC.

    Returns
    -------
    micros : np.ndarray of int64, shape (rows,)
    empty : np.ndarray of bool, shape (rows,)
        Null or NaN.
    bad : np.ndarray of bool, shape (rows,)
        Not a time.
    """
    kind, rows = column.type, len(column)
    if pt.is_timestamp(kind) or pt.is_date(kind):
        stamps = column.to_numpy(zero_copy_only=False)
        up, down = _UNITS[np.datetime_data(stamps.dtype)[0]]
        empty = np.isnat(stamps)
        counted = np.where(empty, 0, stamps.view(np.int64))
        bad = np.abs(counted.astype(np.float64)) * (up / down) > _YEARS
        return np.where(bad, 0, counted) * up // down, empty, bad
    if pt.is_uint64(kind) or pt.is_decimal(kind):
        column, kind = column.cast(pa.float64(), safe=False), pa.float64()
    if pt.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        empty, bad = np.isnan(values), np.abs(values) >= _LATEST
        return _microseconds(np.where(empty | bad, 0.0, values)), empty, bad
    if pt.is_integer(kind):
        return _microseconds(column.cast(pa.int64()).fill_null(0).to_numpy()), mask_of(column.is_null()), none_bad(rows)
    if is_text(kind) or _is_bytes(kind) or pt.is_null(kind):
        return _text_times(column)
    raise TypeError(f"has type {kind}; a time is a timestamp, a number or text")


def _text_times(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    text, bad = to_text(column)
    empty = mask_of(text.is_null()) & ~bad
    integers = _integer_text(text)
    if integers is not None:
        return to_times(integers)[0], empty, bad
    iso = _iso_text(text)  # which no number is: requests say their times so, and what follows takes ten times as long for few
    if iso is not None:
        return iso, empty, bad
    micros = np.zeros(len(text), dtype=np.int64)
    present = ~(empty | bad)
    whole = mask_of(pc.match_substring_regex(text, _INTEGER)) & present
    fraction = mask_of(pc.match_substring_regex(text, _NUMBER)) & present & ~whole
    calendar = present & ~whole & ~fraction
    # Integers apart from the fractions: nanoseconds do not fit a float.
    micros[whole] = _microseconds(text.filter(pa.array(whole)).cast(pa.int64()).to_numpy())
    micros[fraction], _, bad[fraction] = to_times(text.filter(pa.array(fraction)).cast(pa.float64()))
    if calendar.any():
        micros[calendar], bad[calendar] = _calendar_text(text.filter(pa.array(calendar)))
    return micros, empty, bad


_CLICKED = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def to_clicked(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Clicks as int8 0 or 1; the mask holds everything else, null included.

    Examples
    --------
    >>> to_clicked(pa.array(["1", "0.0", "True", "2", None]))[1].tolist()
    [False, False, False, True, True]
    """
    kind = column.type
    if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind):
        values = column.cast(pa.float64(), safe=False).fill_null(-1).to_numpy()
        bad = (values != 0) & (values != 1)
        return np.where(bad, 0, values).astype(np.int8), bad
    if not (is_text(kind) or _is_bytes(kind) or pt.is_null(kind)):
        raise TypeError(f"has type {kind}; expected 0 or 1")
    text, _ = to_text(column)
    place = pc.index_in(pc.utf8_lower(text), pa.array(list(_CLICKED))).fill_null(-1).to_numpy()
    return np.array([*_CLICKED.values(), 0], dtype=np.int8)[place], place < 0


def number_values(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as float64 with NaN for null; the mask holds text that is no number, infinities, and what float32 cannot hold.

    Examples
    --------
    >>> number_values(pa.array(["1.5", "", "inf"]))
    (array([1.5, nan, nan]), array([False, False,  True]))
    """
    kind = column.type
    bad = none_bad(len(column))
    if is_text(kind) or _is_bytes(kind):
        text, bad = to_text(column)
        numeric = mask_of(pc.match_substring_regex(text, _NUMBER))
        bad = bad | (~numeric & mask_of(text.is_valid()) & ~mask_of(pc.equal(pc.utf8_lower(text), "nan")))
        column = null_where(text, ~numeric).cast(pa.float64())
    elif pt.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind)):
        raise TypeError(f"has type {kind}; expected numbers")
    if not pt.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    values = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    beyond = np.abs(values) > LARGEST
    return (np.where(beyond, np.nan, values), bad | beyond) if beyond.any() else (values, bad)


def to_numbers(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """:func:`number_values` as an Arrow column, null where there is no number."""
    values, bad = number_values(column)
    return pa.array(values, mask=np.isnan(values)), bad
