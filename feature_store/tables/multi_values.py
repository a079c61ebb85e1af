"""Columns whose rows hold several values, such as the genres of a film: one text in the store, and places for values in the rows of models.

The store keeps such a cell as one text, its values separated by a sign that no value holds. Models read a column per place: ``genre`` holds
the first value, ``genre[2]`` the second, and all of them look their values up in one table, whose vectors are summed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.tables.casting import as_array, is_text, to_categories, to_text

BETWEEN = "\x1f"  # the unit separator of ASCII
MOST = 32  # values of one cell: each is a place in every token
_PLACE = re.compile(r"(.+)\[(\d+)\]")


def to_value_sets(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Cells of lists (or of single values) as texts of the store; no values is null.

    Parameters
    ----------
    column : pa.Array (rows,)
        Lists of anything that is a category, or categories. A value that a cell has twice counts once; null is none.

    Returns
    -------
    text : pa.Array (rows,)
    bad : bool array (rows,)
        Cells with a value that is not UTF-8, or with more than :data:`MOST` values.

    Raises
    ------
    TypeError
        When the column cannot hold such values.

    Examples
    --------
    >>> text, bad = to_value_sets(pa.array([["b", "a", "b"], [], None]))
    >>> text.to_pylist(), bad.tolist()
    (['b\\x1fa', None, None], [False, False, False])
    """
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return to_categories(column)
    # of a null, a list of a fixed size has values all the same
    lists = pa.array(column.to_pylist(), pa.large_list(kind.value_type)) if pa.types.is_fixed_size_list(kind) else column
    lists = lists.cast(pa.large_list(kind.value_type))
    parents, flat = pc.list_parent_indices(lists), as_array(pc.list_flatten(lists))
    values, wrong = to_categories(flat)
    bad = np.zeros(len(column), bool)
    bad[parents.to_numpy()[wrong]] = True
    cells: list[dict[str, None]] = [{} for _ in range(len(column))]
    for parent, value in zip(parents.to_pylist(), pc.replace_substring(values, BETWEEN, " ").to_pylist(), strict=True):
        if value is not None and value.strip():
            cells[parent][value.strip()] = None
    bad |= np.array([len(cell) > MOST for cell in cells], bool)
    texts = [BETWEEN.join(cell) if cell and not wrong else None for cell, wrong in zip(cells, bad, strict=True)]
    return pa.array(texts, pa.string()), bad


def separated(column: pa.Array, separator: str) -> pa.Array:
    """Cells of text (or bytes, or whatever has a text) as lists of what stands between a separator.

    Examples
    --------
    >>> separated(pa.array(["a| b", None]), "|").to_pylist(), separated(pa.array([3]), "|").to_pylist()
    ([[b'a', b' b'], None], [[b'3']])
    """
    text = column if is_text(column.type) or pa.types.is_binary(column.type) else to_text(column)[0]
    return pc.split_pattern(text.cast(pa.binary()), separator.encode())


def values_of(cell: str | None) -> list[str]:
    """The values of a text of the store."""
    return [] if cell is None else cell.split(BETWEEN)


def count_values(cells: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """How often each value occurs, of texts of the store and how often each of those does; most frequent first, ties by their text.

    Examples
    --------
    >>> count_values([("a\\x1fb", 2), ("b", 1)])
    [('b', 3), ('a', 2)]
    """
    counts: Counter[str] = Counter()
    for cell, count in cells:
        counts.update(dict.fromkeys(values_of(cell), count))
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def place_name(name: str, place: int) -> str:
    """The column of a place, counted from 1.

    Examples
    --------
    >>> place_name("genre", 1), place_name("genre", 2)
    ('genre', 'genre[2]')
    """
    return name if place == 1 else f"{name}[{place}]"


def named_by(column: str) -> str:
    """The name of the column whose values one of its places holds.

    Examples
    --------
    >>> named_by("genre[2]"), named_by("genre"), named_by("genre[x]")
    ('genre', 'genre', 'genre[x]')
    """
    found = _PLACE.fullmatch(column)
    return column if found is None else found[1]


def spread(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """A table with columns for the places of its columns of several values; as many as its fullest cell needs.

    Examples
    --------
    >>> spread(pa.table({"id": [1, 2], "genre": ["a\\x1fb", None], "year": [3, 4]}), ["genre"]).to_pydict()
    {'id': [1, 2], 'genre': ['a', None], 'genre[2]': ['b', None], 'year': [3, 4]}
    """
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in table.column_names:
        if name not in names:
            columns[name] = table[name]
            continue
        cells = [values_of(cell) for cell in table[name].to_pylist()]
        for place in range(1, max([1, *map(len, cells)]) + 1):
            columns[place_name(name, place)] = pa.array([cell[place - 1] if len(cell) >= place else None for cell in cells], pa.string())
    return pa.table(columns)
