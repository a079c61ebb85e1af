"""Columns beside those of a Parquet file, whose own are not decoded: their bytes are copied as they lie.

To score a file adds a number to each of its rows. To read all of them, encode them once more and compress them again would take longer than
the scoring itself.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_footer import (
    COLUMNS,
    GROUPS,
    LIST,
    MAGIC,
    ROWS,
    SCHEMA,
    STRUCT,
    Struct,
    copy_bytes,
    move_group,
    read_footer,
    write_footer,
)

_NAME, _CHILDREN = 4, 5  # of an element of a schema
_BYTES, _GROUP_ROWS, _SORTED, _COMPRESSED = 2, 3, 4, 6  # of a row group
_FACTS, _ORDERS = 5, 7  # of a footer: by key, and of the columns
_KEY, _VALUE = 1, 2
_ARROW = b"ARROW:schema"

_Order = list[tuple[bool, bytes]]  # of the columns of two files: whether each is of the second, and its name


def add_columns(source: Path, added: Path, target: Path) -> int:
    """Write the rows of a file with the columns of another one beside them.

    Parameters
    ----------
    source : Path
    added : Path
        Has as many rows in as many row groups. A column that both have is that of this file, in its old place.
    target : Path
        Written from its beginning, and left half written by an error.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    DataError
        When a file is no Parquet, or their row groups differ.
    """
    (own, own_end), (other, other_end) = read_footer(source), read_footer(added)
    own_groups, other_groups = own[GROUPS][1][1], other[GROUPS][1][1]
    if [group[_GROUP_ROWS][1] for group in own_groups] != [group[_GROUP_ROWS][1] for group in other_groups]:
        raise DataError(f"{added} has other row groups than {source}; its columns cannot stand beside those")
    own_columns, other_columns = _Columns(own), _Columns(other)
    order = own_columns.with_those_of(other_columns)
    footer = own | {SCHEMA: (LIST, (STRUCT, _schema(own_columns, other_columns, order)))}
    if _ORDERS in own and _ORDERS in other:
        footer[_ORDERS] = (LIST, (own[_ORDERS][1][0], _chosen(own_columns, own[_ORDERS][1][1], other_columns, other[_ORDERS][1][1], order)))
    else:
        footer.pop(_ORDERS, None)
    replaced = not own_columns.places.keys().isdisjoint(other_columns.places)
    for group, more in zip(own_groups, other_groups, strict=True):
        move_group(more, own_end - len(MAGIC))
        chunks = _chosen(own_columns, group[COLUMNS][1][1], other_columns, more[COLUMNS][1][1], order)
        group[COLUMNS] = (LIST, (STRUCT, chunks))
        for field in (_BYTES, _COMPRESSED):
            if field in group and field in more:
                group[field] = (group[field][0], group[field][1] + more[field][1])
        if replaced:
            group.pop(_SORTED, None)  # which names columns by their number
    if _FACTS in footer:
        footer[_FACTS] = (LIST, (STRUCT, _facts(footer[_FACTS][1][1], source, added)))
    with open(target, "wb") as out:
        for path, begin, end in ((source, 0, own_end), (added, len(MAGIC), other_end)):
            with open(path, "rb") as file:
                file.seek(begin)
                copy_bytes(file, out, end - begin)
        write_footer(footer, out)
    rows: int = own[ROWS][1]
    return rows


class _Columns:
    """The columns of a footer: by name, the elements of the schema that describe each, and the leaves that hold its values."""

    def __init__(self, footer: Struct) -> None:
        self.root, *elements = footer[SCHEMA][1][1]
        self.places: dict[bytes, tuple[slice, slice]] = {}
        self.elements = elements
        at = leaf = 0
        while at < len(elements):
            begin, first, open_elements = at, leaf, 1
            while open_elements:
                children = elements[at].get(_CHILDREN, (0, 0))[1]
                leaf += not children
                open_elements += children - 1
                at += 1
            self.places[elements[begin][_NAME][1]] = slice(begin, at), slice(first, leaf)

    def with_those_of(self, others: _Columns) -> _Order:
        """The columns of both: those that only the others have come last."""
        return [(name in others.places, name) for name in self.places] + [(True, name) for name in others.places if name not in self.places]


def _schema(own: _Columns, other: _Columns, order: _Order) -> list[Struct]:
    root = own.root | {_CHILDREN: (own.root[_CHILDREN][0], len(order))}
    columns = [(other if is_other else own, name) for is_other, name in order]
    return [root, *(element for columns_of, name in columns for element in columns_of.elements[columns_of.places[name][0]])]


def _chosen(own: _Columns, of_own: Sequence[Any], other: _Columns, of_other: Sequence[Any], order: _Order) -> list[Any]:
    """What is said of the leaves, in the new order."""
    said = [(other, of_other, name) if is_other else (own, of_own, name) for is_other, name in order]
    return [one for columns, leaves, name in said for one in leaves[columns.places[name][1]]]


def _facts(facts: Sequence[Struct], source: Path, added: Path) -> list[Struct]:
    """Facts by their keys; what Arrow says there of the columns' types tells of all of them."""
    schema = pq.read_schema(source)
    for column in pq.read_schema(added):
        place = schema.get_field_index(column.name)
        schema = schema.append(column) if place < 0 else schema.set(place, column)
    written = base64.b64encode(schema.serialize().to_pybytes())
    return [fact | {_VALUE: (fact[_VALUE][0], written)} if fact[_KEY][1] == _ARROW else fact for fact in facts]
