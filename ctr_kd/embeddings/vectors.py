"""Vectors of items as a sum of their own and those of their attributes, in tables that grow with what is met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from feature_store.tables.multi_values import named_by

Key = tuple[str, str]  # a feature and its value; the feature of an item's own id is ITEM
ITEM = ""
UNKNOWN, NOTHING = 0, 1  # rows: of an item that was never met, and of an attribute that is null or was never met, which stays zero
SPECIAL: tuple[Key, ...] = ((ITEM, ""), (ITEM, "\0"))  # keys of these rows: no id of an item is empty
FIRST = 0.1  # standard deviation of the first vectors


class VectorRows(NamedTuple):
    """Some rows of the tables.

    Attributes
    ----------
    keys : list of (str, str)
    read, target : float16 array (rows, width)
        Vectors of an item in a history, and as a candidate.
    read_power, target_power : float32 array (rows,)
        Sums of the mean squares of their gradients.
    clicked : int64 array (rows,)
        When the item, or one with the attribute, was last clicked, microseconds UTC.
    """

    keys: list[Key]
    read: np.ndarray
    target: np.ndarray
    read_power: np.ndarray
    target_power: np.ndarray
    clicked: np.ndarray

    def some(self, rows: np.ndarray) -> VectorRows:
        """Rows at some positions."""
        columns = {name: getattr(self, name)[rows] for name in self._fields[1:]}
        return self._replace(keys=[self.keys[row] for row in rows.tolist()], **columns)


class VectorTables:
    """All vectors that are known at a time.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._rows: dict[Key, int] = {}
        self.read, self.target = (torch.zeros(1024, width) for _ in range(2))
        self.read_power, self.target_power = (torch.zeros(1024) for _ in range(2))
        self.clicked = np.zeros(1024, np.int64)
        self.add(SPECIAL)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def keys(self) -> list[Key]:
        """Of all rows, in their order."""
        return list(self._rows)

    def add(self, keys: Iterable[Key]) -> np.ndarray:
        """Rows of keys, int64 (keys,); a key that had none has one of zeros now."""
        rows = np.array([self._rows.setdefault(key, len(self._rows)) for key in keys], np.int64)
        if (missing := len(self._rows) - len(self.clicked)) > 0:
            more = max(missing, len(self.clicked) // 2)  # so that growing costs little however many come one by one
            self.read, self.target = (torch.cat([table, torch.zeros(more, self.width)]) for table in (self.read, self.target))
            self.read_power, self.target_power = (torch.cat([one, torch.zeros(more)]) for one in (self.read_power, self.target_power))
            self.clicked = np.append(self.clicked, np.zeros(more, np.int64))
        return rows

    def round(self, rows: np.ndarray) -> None:
        """Round the vectors of rows to half precision: what is written is what learning goes on from."""
        index = torch.from_numpy(rows)
        for table in (self.read, self.target):
            table[index] = table[index].half().float()

    def get(self, rows: np.ndarray) -> VectorRows:
        """What some rows hold."""
        keys = self.keys
        index = torch.from_numpy(rows)
        read, target = (table[index].half().numpy() for table in (self.read, self.target))
        read_power, target_power = (power[index].numpy() for power in (self.read_power, self.target_power))
        return VectorRows([keys[row] for row in rows.tolist()], read, target, read_power, target_power, self.clicked[rows])

    def put(self, some: VectorRows) -> np.ndarray:
        """Take what :meth:`get` gave; the rows (keys,) that it has now."""
        rows = self.add(some.keys)
        index = torch.from_numpy(rows)
        self.read[index], self.target[index] = torch.from_numpy(some.read).float(), torch.from_numpy(some.target).float()
        self.read_power[index], self.target_power[index] = torch.from_numpy(some.read_power), torch.from_numpy(some.target_power)
        self.clicked[rows] = some.clicked
        return rows

    def without(self, before: int) -> Self:
        """Tables without the rows that were last clicked before a time (microseconds UTC)."""
        kept = np.flatnonzero(self.clicked[: len(self)] >= before)
        kept = np.union1d(kept, np.arange(len(SPECIAL)))
        tables = type(self)(self.width)
        tables.put(self.get(kept))
        return tables


class Catalogue:
    """Which rows of the tables make up the vector of each item.

    Parameters
    ----------
    items : pa.Table (items, 1 + attributes)
        ``item_id`` and attributes, all text; the places of one attribute share its vectors.
    """

    def __init__(self, items: pa.Table) -> None:
        self.features = [ITEM, *map(named_by, items.column_names[1:])]
        self.codes, self.values = [], []  # by feature: the value of each item, -1 without one; and the values
        for name, column in zip(self.features, items.columns, strict=True):
            one = column.combine_chunks()
            if name != ITEM:
                coded = one.dictionary_encode()
                self.codes.append(coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))
                one = coded.dictionary
            else:
                self.codes.append(np.arange(len(one)))
            self.values.append(one.to_pylist())
        self._place: dict[Key, list[tuple[int, int]]] = {}  # column and position of each value
        for number, (name, values) in enumerate(zip(self.features, self.values, strict=True)):
            for n, value in enumerate(values):
                self._place.setdefault((name, value), []).append((number, n))
        self.forget()

    @property
    def count(self) -> int:
        """Of the items."""
        return len(self.codes[0])

    def forget(self) -> None:
        """No item and no attribute was ever met."""
        missing = [UNKNOWN, *(NOTHING for _ in self.features[1:])]
        # one more than there are values: where -1 leads
        self._row = [np.full(len(values) + 1, row) for values, row in zip(self.values, missing, strict=True)]

    def locate(self, keys: Sequence[Key], rows: np.ndarray) -> None:
        """Note the rows of keys; those that no item here has are left out."""
        for key, row in zip(keys, rows.tolist(), strict=True):
            for number, place in self._place.get(key, ()):
                self._row[number][place] = row

    def has(self, key: Key) -> bool:
        """Whether a key is of some item here, or of those of no item."""
        return key in self._place or key in SPECIAL

    def keys(self, items: np.ndarray) -> list[Key]:
        """Keys of items and of all their attributes, each once, the items first and in their order."""
        keys: list[Key] = []
        for name, codes, values in zip(self.features, self.codes, self.values, strict=True):
            here = {values[code] for code in np.unique(codes[items]) if code >= 0}
            keys += [(name, value) for value in (sorted(here) if name != ITEM else [values[code] for code in np.unique(items)])]
        return list(dict.fromkeys(keys))

    def rows(self, items: np.ndarray, hidden: np.ndarray | None = None) -> np.ndarray:
        """Rows of the tables whose sum is each item's vector, int64 (..., features).

        Parameters
        ----------
        items : int array (...)
            -1 where there is none, which has a vector of zeros.
        hidden : bool array (...), optional
            Items that are to be read as if they had never been met.
        """
        found = np.stack([row[codes[items]] for row, codes in zip(self._row, self.codes, strict=True)], axis=-1)
        if hidden is not None:
            found[hidden, 0] = UNKNOWN
        found[items < 0] = NOTHING
        return found


def distinct(*arrays: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
    """The distinct values of arrays, ascending, and the position of each element among them, int64 tensors of the arrays' shapes."""
    values, place = np.unique(np.concatenate([one.ravel() for one in arrays]), return_inverse=True)
    return values, _split(place, [one.shape for one in arrays])


def distinct_rows(*arrays: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
    """The distinct ones of the vectors along the last axis, int64 (distinct, features), and the position of each among them."""
    flat = np.concatenate([one.reshape(-1, one.shape[-1]) for one in arrays])
    values, place = np.unique(flat, axis=0, return_inverse=True)
    return values, _split(place.ravel(), [one.shape[:-1] for one in arrays])


def _split(values: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Values (all,), one array after the other, as tensors of the arrays' shapes."""
    parts = np.split(values, np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1])
    return [torch.from_numpy(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True)]
