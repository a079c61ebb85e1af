"""What raw values mean to a student of clicks: columns of any type as times, numbers, vectors and indices of its vocabularies.

What a value means says ``casting.py``, by which the log was read. What has no meaning there is refused, and the message names the column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Set
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.export.click_files import Casting, StudentSignature, column_of

T = TypeVar("T")
Meaning = Callable[[pa.Array], tuple[T, np.ndarray]]  # typed values, and which of them do not fit: a function of casting.py
TYPES = "history_types"  # of the events of a history
STATE = "teacher_state"  # its numbers as one list, in place of a column for each
PAD, UNKNOWN = 0, 1  # of every vocabulary, as the project has them; this file imports nothing of it
NO_TIME = np.iinfo(np.int64).min  # for an unknown time, among microseconds
_TIMES = ("timestamp", "history_timestamps")
# Refusals of Python objects: where they are of several types, or of one that Arrow lacks, or a text holds half of a surrogate pair.
_REFUSALS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError)
_CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class ClickRowsError(ValueError):
    """Rows of histories and candidates that cannot be scored; the message names the column."""


class Rows:
    """Rows, or requests, by column: what is asked for is taken out as one array, since many columns of a few rows cost more than the rows.

    Parameters
    ----------
    table : pyarrow Table (rows, columns)
        At least one row.

    Attributes
    ----------
    batch : RecordBatch
        All of them.
    """

    def __init__(self, table: pa.Table) -> None:
        batches = table.to_batches()
        self.batch = batches[0] if len(batches) == 1 else table.combine_chunks().to_batches()[0]  # of dictionaries one
        self._place = {name: place for place, name in enumerate(table.column_names)}

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def __getitem__(self, name: str) -> pa.Array:
        return self.batch.column(self._place[name])

    def __len__(self) -> int:
        rows: int = self.batch.num_rows
        return rows

    def numbers(self, names: list[str]) -> np.ndarray | None:
        """Some columns as (rows, names) with NaN for null; None where one holds anything but numbers."""
        try:
            tensor = self.batch.select([self._place[name] for name in names]).to_tensor(null_to_nan=True, row_major=False)
        except pa.ArrowException:
            return None
        numbers: np.ndarray = tensor.to_numpy()
        return numbers


class ClickColumns:
    """The raw columns that a student reads, and what is meant by them.

    Parameters
    ----------
    signature : StudentSignature
    casting : Casting
        Of the student.
    widths : mapping of str to int
        Numbers in each vector that the student reads, by name.

    Attributes
    ----------
    names : list of str
        All columns that are read.
    categorical : list of str
        Context whose values have a vocabulary.
    described : list of str
        Attributes and vectors of items.
    attributes : list of str
        Those of them that have a vocabulary.
    dense : list of str
        Numbers, by their place among those that the graph reads.
    state : list of str
        Columns of the teacher's state.
    """

    def __init__(self, signature: StudentSignature, casting: Casting, widths: Mapping[str, int]) -> None:
        self.casting = casting
        self.has_types = bool(signature.get("has_types"))
        _, *features = [name for name in signature["tokens"] if name != "gap"]
        self.described = [name for name in features if not (self.has_types and name == TYPES)]
        self.attributes = [name for name in self.described if name not in widths]
        self.categorical = [name for name in signature["categorical"] if name not in widths]
        self.state = [name for name in signature["dense"] if re.fullmatch(rf"{STATE}_\d+", name)]
        self._categories = {*self.attributes, *signature["categorical"], *([TYPES] if self.has_types else [])}
        self.dense = list(signature["dense"])
        self._lists = ["history", "history_timestamps", *([TYPES] if self.has_types else [])]
        self._widths = {**widths, **({STATE: len(self.state)} if self.state else {})}
        numbers = [*signature["dense"], *([STATE] if self.state else [])]
        self.names = [*self._lists, "item_id", "timestamp", *signature["categorical"], *numbers]
        self._earliest = casting.EARLIEST.timestamp() * 1e6

    def check(self, *schemas: pa.Schema) -> None:
        """Whether tables have the columns that every row needs, and lists where lists belong.

        Raises
        ------
        ClickRowsError
        """
        found = {name: (schema, place) for schema in schemas for place, name in enumerate(schema.names)}
        for name in ("history", "item_id", "timestamp"):
            if name not in found:
                raise ClickRowsError(f"column {name} is missing: a row needs history, item_id and timestamp")
        for name in self._lists:
            if name in found:
                schema, place = found[name]
                kind = schema.field(place).type
                if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_null(kind)):
                    raise ClickRowsError(f"column {name} must hold lists, not {kind}")

    def to_table(self, frame: pd.DataFrame | Mapping[str, list[object]]) -> pa.Table:
        """Those columns of a pandas frame, or of lists by name, that the model reads, as a scorer takes them."""
        columns = {}
        for name in self.names:
            if name in frame:
                columns[name] = self.column(frame[name], name)
        return pa.table(columns)

    def column(self, values: pd.Series | list[object], name: str) -> pa.Array:
        """A column of Python objects; where they are of several types, each means what it means alone."""
        if name in self._lists or name in self._widths:
            return self._column_of_lists([_list(value, name) for value in values], name)
        if isinstance(values, pd.Series) and values.dtype in (np.float32, np.float64):
            return pa.array(values.to_numpy(), from_pandas=True)  # which takes a third of the time of a series
        try:
            return pa.array(values, from_pandas=True)
        except _REFUSALS:
            return pa.array([self._text(value, name) for value in values], pa.string())

    def _column_of_lists(self, rows: list[list[object] | np.ndarray | None], name: str) -> pa.Array:
        try:
            return pa.array(rows, from_pandas=True)
        except _REFUSALS:
            if name in self._widths:
                raise ClickRowsError(f"column {name} must hold lists of {self._widths[name]} numbers") from None
            texts = [None if row is None else [self._text(value, name) for value in row] for row in rows]
            return pa.array(texts, pa.list_(pa.string()))

    def _text(self, value: object, name: str) -> str | None:
        """The text of a value by the meaning of its column."""
        if _is_null(value):
            return None
        try:
            column = pa.array([value if not isinstance(value, int) or -(2**63) <= value < 2**63 else str(value)])
        except _REFUSALS:
            found = repr(value)[:80] if isinstance(value, str) else type(value).__name__
            raise ClickRowsError(f"column {name} must hold {self._kind(name)}, not {found}") from None
        self.typed(column, name)
        text: str | None = self.casting.to_text(column)[0][0].as_py()
        return text

    def with_state(self, table: pa.Table) -> pa.Table:
        """Rows whose teacher's state comes as one list, with a column for each of its numbers that they lack."""
        if not self.state or STATE not in table.column_names:
            return table
        numbers, present = vectors_of(column_of(table, STATE), len(self.state), STATE)
        found = np.full((table.num_rows, len(self.state)), np.nan, np.float32)
        found[present] = numbers
        for place, name in enumerate(self.state):
            if name not in table.column_names:
                table = table.append_column(name, pa.array(found[:, place], from_pandas=True))
        return table

    def typed(self, column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array | np.ndarray:
        """Values of a column, or of its lists, as they are meant.

        Raises
        ------
        ClickRowsError
            When one has no meaning there: what ingestion would set apart is not scored.
        """
        return _typed(self.meaning(name), column, name, self._kind(name))

    def numbers(self, rows: Rows, names: list[str]) -> np.ndarray:
        """Columns of numbers, float32 (rows, names), with NaN for null; raises ClickRowsError where one is none, or too large."""
        numbers = rows.numbers(names)
        if numbers is None:
            numbers = np.array([self._as_numbers(rows[name], name) for name in names]).T
        if numbers.dtype != np.float32:
            with np.errstate(over="ignore"):
                numbers = numbers.astype(np.float32)
        infinite = np.isinf(numbers)
        if infinite.any():
            name = names[int(infinite.any(axis=0).argmax())]
            self.typed(rows[name], name)  # which says what is wrong
        return numbers

    def meaning(self, name: str) -> Meaning[pa.Array] | Meaning[np.ndarray]:
        """What decides what the values of a column, or of its lists, mean."""
        if name in _TIMES:
            return self._moments
        if name in self.dense:
            return self.casting.number_values
        if name in self._widths:
            return _as_it_is
        return self.casting.to_categories if name in self._categories else self.casting.id_values

    def _as_numbers(self, column: pa.Array, name: str) -> np.ndarray:
        is_float = pa.types.is_float32(column.type) or pa.types.is_float64(column.type)
        return column.to_numpy(zero_copy_only=False) if is_float else self.typed(column, name)

    def _kind(self, name: str) -> str:
        """What a column must hold, for messages."""
        if name in _TIMES:
            return "times since 1990"
        return "numbers" if name in self.dense else "text or integer ids"

    def _moments(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Microseconds since 1970; a number that lies before any log is no time, it was meant otherwise."""
        micros, empty, bad = self.casting.to_times(column)
        if not pa.types.is_temporal(column.type):
            bad = bad | (~empty & (micros < self._earliest))
        return np.where(empty, NO_TIME, micros), bad


def vectors_of(column: pa.Array, width: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (rows with a vector, width) of lists, and which rows have one (rows,); raises ClickRowsError where one is none."""
    present = np.zeros(len(column), bool)
    if column.null_count == len(column):
        return np.zeros((0, width), np.float32), present
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        raise ClickRowsError(f"column {name} must hold lists of {width} numbers, not {column.type}")
    length = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    try:
        numbers = pc.list_flatten(column).cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ClickRowsError(f"column {name} must hold lists of {width} numbers, not {column.type}") from None
    present = length > 0
    if (length[present] != width).any() or not np.isfinite(numbers).all():
        raise ClickRowsError(f"column {name} must hold lists of {width} numbers, all of them there and finite")
    return numbers.reshape(-1, width), present


def _as_it_is(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    return column, np.zeros(len(column), bool)


class Lookup:
    """Index of a raw value: 0 for null, 1 for unknown, ``first`` and up for the vocabulary; values compare by their text."""

    def __init__(self, tokens: pa.ChunkedArray, first: int, meaning: Meaning[pa.Array], name: str) -> None:
        tokens = tokens.combine_chunks() if isinstance(tokens, pa.ChunkedArray) else tokens
        self.first, self.meaning, self.name = first, meaning, name
        self.tokens = meaning(tokens)[0].cast(pa.string())  # as values are: an earlier release stored 12.0 as it was written
        text = self.tokens.to_pylist()
        self.index = {token: first + i for i, token in enumerate(text)}
        self.integers = pa.array([_canonical_integer(token) for token in text], pa.int64())
        self._numbered = pa.array([], pa.string()), np.zeros(1, np.int32)

    def __call__(self, values: pa.Array | pa.ChunkedArray, name: str | None = None) -> np.ndarray:
        found = self._as_written(values)
        if found is not None:
            return found
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if pa.types.is_dictionary(values.type):
            found = self._of_dictionary(values, name or self.name)
            if found is not None:
                return found
        if pa.types.is_string(values.type) and len(values) >= max(4096, len(self.tokens)):
            return self._of_many(values, name or self.name)
        values = _typed(self.meaning, values, name or self.name, "text or integer ids")
        if values.null_count == len(values):
            return np.full(len(values), PAD, np.int32)
        if len(values) < 256:  # to find out which values differ costs more than to look a few up
            return self._each(values)
        if len(values) < max(4096, len(self.tokens)):  # and so does a hash table of the vocabulary; requests repeat items and histories
            coded = values.dictionary_encode()
            known = np.append(self._each(coded.dictionary), np.int32(PAD))
            return known[coded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]
        return self._within(values, self.integers if pa.types.is_int64(values.type) else self.tokens)

    def _of_dictionary(self, values: pa.DictionaryArray, name: str) -> np.ndarray | None:
        """Indices of values that are given by their number in a dictionary; None where that holds something bad, which none may have."""
        told, known = self._numbered
        if not values.dictionary.equals(told):  # the chunks of one reading share it
            try:
                known = np.append(self(values.dictionary, name), np.int32(PAD))
            except ClickRowsError:
                return None
            self._numbered = values.dictionary, known
        return known[values.indices.cast(pa.int64()).fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]

    def _of_many(self, values: pa.Array, name: str) -> np.ndarray:
        """Indices of texts: what one means that is no token as it stands is found out for those alone."""
        index = self._within(values, self.tokens)
        other = np.flatnonzero(index == UNKNOWN)
        if len(other):
            written = values.take(pa.array(other))
            typed = _typed(self.meaning, written, name, "text or integer ids")
            if not typed.equals(written):
                index[other] = self._within(typed, self.tokens) if pa.types.is_string(typed.type) else self._each(typed)
        return index

    def _within(self, values: pa.Array, tokens: pa.Array) -> np.ndarray:
        found = pc.index_in(values, value_set=tokens, skip_nulls=True)
        index = pc.fill_null(found, UNKNOWN - self.first).to_numpy(zero_copy_only=False) + np.int32(self.first)
        if values.null_count:
            index[values.is_null().to_numpy(zero_copy_only=False)] = PAD
        return index.astype(np.int32, copy=False)

    def _as_written(self, values: pa.Array | pa.ChunkedArray) -> np.ndarray | None:
        """Indices of a few texts that are all tokens as they stand, which takes a tenth of the time; else None."""
        if len(values) >= 256 or not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):  # pandas has large ones
            return None
        try:
            found = [PAD if v is None else self.index.get(v) for v in values.to_pylist()]
        except UnicodeDecodeError:
            return None
        return None if None in found else np.array(found, np.int32)

    def _each(self, values: pa.Array) -> np.ndarray:
        return np.array([PAD if v is None else self.index.get(str(v), UNKNOWN) for v in values.to_pylist()], np.int32)


def _canonical_integer(text: str) -> int | None:
    """The int64 whose text this is; None for ``012``, ``-0``, words, and what does not fit."""
    number = int(text) if _CANONICAL_INTEGER.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _typed(meaning: Meaning[T], values: pa.Array | pa.ChunkedArray, name: str, kind: str) -> T:
    """Values as they are meant; raises ClickRowsError, naming the column, when one has no meaning there."""
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count == len(values):
        values = pa.nulls(len(values))  # nulls alone may have any type
    try:
        typed, bad = meaning(values)
    except TypeError:
        raise ClickRowsError(f"column {name} must hold {kind}, not {values.type}") from None
    if bad.any():
        row = int(bad.argmax())
        raise ClickRowsError(f"column {name} must hold {kind}, not {_shown(values.slice(row, 1))}")
    return typed


def _shown(value: pa.Array) -> str:
    """One value, for messages; a text may hold bytes that are none."""
    try:
        return repr(value[0].as_py())[:80]
    except UnicodeDecodeError:
        return repr(value.cast(pa.binary())[0].as_py())[:80]


def _list(value: object, name: str) -> list[object] | np.ndarray | None:
    """A list out of a Python object, or None for null."""
    if isinstance(value, (list, np.ndarray)):
        return value
    if _is_null(value):
        return None
    # Text and mappings can be iterated too, but over letters and keys; a set has no order.
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise ClickRowsError(f"column {name} must hold lists, not {type(value).__name__}")
    return list(value)


def _is_null(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))
