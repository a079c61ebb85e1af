"""What boosted trees read of the vectors of items and users: their numbers, and how near a candidate is to what was clicked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.features.summary import ClickSummary
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.ranges import ranges
from feature_store.tables.vectors import matrix_of

MOST_NUMBERS = 64  # of a vector that are columns of their own: a tree looks at one at a time, and hundreds cost it more than they tell
_CLICKS = 1 << 18  # whose vectors are in memory at a time


class TreeVectors:
    """Columns of rows that tell of vectors.

    Parameters
    ----------
    assembly : Path
    summary : ClickSummary
        Of the assembly.
    click_item : pa.Array (clicks,)
        Item of each click of the pool.

    Attributes
    ----------
    columns : list of str
        ``NAME_0``, ``NAME_1``, ... of vectors that are narrow enough, and ``NAME_nearness`` of those of items.
    """

    def __init__(self, assembly: Path, summary: ClickSummary, click_item: pa.Array) -> None:
        self._items = {name: _read(assembly / "item_vectors.parquet", name) for name in summary.item_vectors}
        self._users = {name: _read(assembly / "user_vectors.parquet", name) for name in summary.user_vectors}
        self._click_item = click_item
        self.columns = [column for name, table in (self._items | self._users).items() for column in _numbers(name, table)] + [
            f"{name}_nearness" for name in self._items
        ]

    def of(self, rows: pa.Table) -> dict[str, np.ndarray]:
        """The columns (rows,), NaN where there is no vector, for some rows of the assembly."""
        found: dict[str, np.ndarray] = {}
        for code, tables in (("item", self._items), ("user", self._users)):
            for name, table in tables.items():
                numbers = _numbers(name, table)
                of_rows = table[rows[code].to_numpy()] if numbers else None
                found |= {column: of_rows[:, n] for n, column in enumerate(numbers)} if of_rows is not None else {}
        return found | {f"{name}_nearness": self._nearness(table, rows) for name, table in self._items.items()}

    def _nearness(self, table: np.ndarray, rows: pa.Table) -> np.ndarray:
        """Cosine (rows,) of a candidate and the mean of the clicked items; NaN where either has no vector."""
        start, end = rows["history_start"].to_numpy(), rows["history_end"].to_numpy()
        item = rows["item"].to_numpy()
        found = np.full(len(item), np.nan, np.float32)
        first = np.ones(len(item), bool)  # of the rows that share a history
        first[1:] = (start[1:] != start[:-1]) | (end[1:] != end[:-1])
        begins = np.flatnonzero(first)
        clicks = np.cumsum((end - start)[begins])
        cuts = np.searchsorted(clicks, np.arange(0, int(clicks[-1]) if len(clicks) else 0, _CLICKS), side="right")
        for low, high in zip([0, *cuts[1:]], [*cuts[1:], len(begins)], strict=True) if len(begins) else ():
            position, bounds = ranges(start[begins[low:high]], end[begins[low:high]])
            clicked = np.nan_to_num(table[self._click_item.take(pa.array(position)).to_numpy()])
            total = np.zeros((high - low, table.shape[1]), np.float32)
            some = np.diff(bounds) > 0
            if some.any():
                total[some] = np.add.reduceat(clicked, bounds[:-1][some], axis=0)
            stop = begins[high] if high < len(begins) else len(item)
            of_rows = slice(begins[low], stop) if high > low else slice(0, 0)
            mean = total[np.cumsum(first[of_rows]) - 1]
            candidate = table[item[of_rows]]
            with np.errstate(divide="ignore", invalid="ignore"):
                found[of_rows] = (mean * candidate).sum(1) / (np.linalg.norm(mean, axis=1) * np.linalg.norm(candidate, axis=1))
        return found


def _read(file: Path, name: str) -> np.ndarray:
    """Vectors (rows, width) of a column, NaN where a row has none."""
    matrix, present = matrix_of(read_parquet(file, columns=[name])[name])
    matrix[~present] = np.nan
    return matrix


def _numbers(name: str, table: np.ndarray) -> list[str]:
    return [f"{name}_{n}" for n in range(table.shape[1])] if table.shape[1] <= MOST_NUMBERS else []
