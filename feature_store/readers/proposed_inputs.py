"""What the columns of a table could be an input as, guessed of their names and of the rows that were looked at, each with the reason."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.tables.casting import EARLIEST, MICROSECOND, as_array, is_text, to_categories, to_numbers, to_text, to_times

FEW = 200  # values that can be looked at one by one
NUMBERS = 40  # whole numbers, where more of them are different; fewer are names of categories
TELLS = 0.97  # AUC of one column above which it has probably seen the click
TITLES = 20  # titles, where more of them are different; fewer are names of categories
MANY = 2000  # values of a text that are too many for one
TIMES = r"^(timestamp|time|ts|event_?time|click_?time(stamp)?|click_timestamp|date_?time|created_?at|occurred_?at|logged_?at|date|day|dt)$"
AFTER = r"dwell|duration|time_?spent|read_?time|revenue|purchas|convert|conversion|order|watch_?time|scroll|bounce|bought|paid"
_EARLIEST = pa.scalar(EARLIEST, MICROSECOND).value


class Column(NamedTuple):
    """A column that has a role, and why."""

    name: str
    why: str


def words_of(name: str) -> str:
    """A name in small letters, its words joined by one sign.

    Examples
    --------
    >>> words_of("Is Click?")
    'is_click'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def are_times(column: pa.Array) -> bool:
    try:
        time, empty, bad = to_times(column)
    except TypeError:
        return False
    wrong = empty | bad | (time < _EARLIEST)  # a number may be a price
    return bool(len(column)) and bool(wrong.mean() < 0.01)


class Inputs(NamedTuple):
    """Columns by what they could be an input as, each with the reason; ``title`` holds one name at most."""

    categorical: list[Column]
    multi: list[Column]
    dense: list[Column]
    vector: list[Column]
    title: list[str]
    left: list[Column]


def inputs_of(rows: pa.Table, taken: set[str], clicked: np.ndarray | None = None) -> Inputs:
    """What the columns of a table could be an input as; ``clicked`` (rows,) says what none of them may know."""
    found = Inputs([], [], [], [], [], [])
    for name in rows.column_names:
        if name in taken:
            continue
        column, lower = as_array(rows[name]), name.lower()
        kind = column.type
        if re.fullmatch(r"|__index_level_\d+__|unnamed: ?\d+", lower):
            found.left.append(Column(name or "a column without a name", "is the number of the row, as pandas writes it"))
            continue
        if re.search(TIMES, lower) and are_times(column):
            found.left.append(Column(name, "is another time: what it holds never comes again"))
            continue
        width = _width(column)
        if width:
            found.vector.append(Column(name, f"a vector of {width:,} numbers each row"))
            continue
        pieces = _pieces(column)
        if pieces is not None and pieces <= MANY:
            found.multi.append(Column(name, f"several values a row, {pieces:,} different ones in {rows.num_rows:,} rows"))
            continue
        if pa.types.is_nested(kind):
            found.left.append(Column(name, f"holds {kind}, which no model reads"))
            continue
        if re.search(AFTER, lower):
            found.left.append(
                Column(name, "looks like something that is known after the click only; what is not known at a request must not be read")
            )
            continue
        if clicked is not None and 0 < column.null_count < len(column) and np.array_equal(np.asarray(column.is_valid()), clicked):
            found.left.append(Column(name, "is filled where a row was clicked and nowhere else: it knows the answer"))
            continue
        text, bad = to_categories(column)
        values = text.filter(pa.array(~bad)).drop_null()
        count = pc.count_distinct(values).as_py()
        if clicked is not None and tells_click(column, clicked) > TELLS:
            found.left.append(Column(name, "tells clicked rows from the others all by itself: is it written after the click?"))
            continue
        if count < 2:
            found.left.append(Column(name, "has one value or none in the rows that were looked at"))
        elif not found.title and count > TITLES and re.search(r"title|name|headline", lower) and not _is_number(column):
            found.title.append(name)
        elif _is_number(column) and (count > NUMBERS or _has_fractions(column)):
            (found.left if _is_unique(count, len(values)) and pa.types.is_integer(kind) else found.dense).append(
                Column(name, f"numbers, {count:,} different ones in {rows.num_rows:,} rows")
            )
        elif count <= MANY and count <= max(2, len(values) / 2):
            found.categorical.append(Column(name, f"{count:,} different values in {rows.num_rows:,} rows"))
        elif _is_number(column) and not _is_unique(count, len(values)):
            found.dense.append(Column(name, f"numbers, {count:,} different ones in {rows.num_rows:,} rows"))
        else:
            found.left.append(
                Column(name, f"{count:,} different values in {rows.num_rows:,} rows: too many to learn from, too few rows of each")
            )
    return found


def tells_click(column: pa.Array, clicked: np.ndarray) -> float:
    """AUC of a column's values, by their numbers or by the share of clicked rows of each; .5 for a column of too many values.

    Examples
    --------
    >>> tells_click(pa.array(["landed", "bounced", "landed"]), np.array([True, False, True]))
    1.0
    """
    scores = [to_numbers(column)[0].fill_null(0).to_numpy(zero_copy_only=False)] if _is_number(column) else []
    code = to_categories(column)[0].fill_null("").dictionary_encode().indices.to_numpy(zero_copy_only=False)
    shown = np.bincount(code)
    if len(shown) <= min(FEW, len(clicked) / 20 + 2):
        scores.append((np.bincount(code, clicked) / shown)[code])
    return max((_auc(score, clicked) for score in scores), default=0.5)


def _auc(score: np.ndarray, clicked: np.ndarray) -> float:
    """Of a score or its reverse (Mann-Whitney, ties by half); .5 where all rows are alike."""
    positive = int(clicked.sum())
    if not 0 < positive < len(clicked):
        return 0.5
    _, rank, ties = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(ties) - (ties - 1) / 2
    auc = (middle[rank][clicked].sum() - positive * (positive + 1) / 2) / (positive * (len(clicked) - positive))
    return float(max(auc, 1 - auc))


def _is_number(column: pa.Array) -> bool:
    if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        return False
    try:
        _, bad = to_numbers(column)
    except TypeError:
        return False
    return not bad.any()


def _width(column: pa.Array) -> int:
    """Numbers of the vectors of a column: lists of fractions, or lists of a fixed size, which are all as long; 0 where it holds none."""
    kind = column.type
    fixed = pa.types.is_fixed_size_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    lists = (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_floating(kind.value_type)
    widths = pc.unique(pc.list_value_length(column).drop_null()).to_pylist() if fixed or lists else []
    return widths[0] if len(widths) == 1 and widths[0] > 1 else 0


def _pieces(column: pa.Array) -> int | None:
    """How many different values the lists of a column, or its texts between bars, hold; None where it holds neither."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if not (is_text(kind.value_type) or pa.types.is_integer(kind.value_type)):
            return None
        return int(pc.count_distinct(pc.list_flatten(column)).as_py())
    try:
        text = to_text(column)[0].drop_null()
    except TypeError:
        return None
    if not len(text) or pc.mean(pc.match_substring(text, "|").cast(pa.float64())).as_py() < 0.1:
        return None
    return int(pc.count_distinct(pc.list_flatten(pc.split_pattern(text, "|"))).as_py())


def _has_fractions(numbers: pa.Array) -> bool:
    values = to_numbers(numbers)[0].drop_null().to_numpy(zero_copy_only=False)
    return bool((values != np.floor(values)).any())


def _is_unique(count: int, rows: int) -> bool:
    return rows > 20 and count > 0.95 * rows
