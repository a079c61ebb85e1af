"""Popularity: a model without a network, below which no teacher and no student should fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.isotonic import IsotonicRegression

from ctr_kd.baselines.columns import Columns, numbers
from ctr_kd.metrics.checks import Floats, UndefinedMetric, check_rows, check_weight


@dataclass(frozen=True)
class Popularity:
    """Click probability from the clicks of the candidate so far: the recent ones first, the older ones where those tie.

    The probability is an isotonic fit on the training rows with a slight slope (`RAMP` in all) laid over it. So the rows stay in the
    order of their counts also where the fit is flat, and have a log loss all the same. Should popular items be clicked less, which
    happens where candidates are drawn by popularity, the order stays that of popularity (its AUC is then below 0.5) and the
    probability is the average rate.
    """

    counts: tuple[str, str]
    grid: Floats  # (points,), rising
    rate: Floats  # (points,), strictly rising

    RAMP = 1e-4

    @classmethod
    def fit(cls, columns: Columns, label: ArrayLike, counts: tuple[str, str], weight: ArrayLike | None = None) -> Popularity:
        """Fit on training rows.

        Parameters
        ----------
        columns : mapping of name to array, shape (rows,)
        label : array of 0 and 1, shape (rows,)
        counts : (str, str)
            Columns with the recent clicks and the clicks of a longer window; null counts as 0.
        weight : array, shape (rows,), optional
            Of each row in the rates.
        """
        order = _popularity(columns, counts)
        clicked, order = check_rows(label, order)
        if not len(order):
            raise UndefinedMetric("popularity cannot be fitted: there are no training rows")
        counts_as = np.ones(len(order)) if weight is None else check_weight(weight, len(order), positive=True)
        clicked, order, counts_as = clicked[counts_as > 0], order[counts_as > 0], counts_as[counts_as > 0]
        grid, inverse = np.unique(order, return_inverse=True)
        rows = np.bincount(inverse, weights=counts_as)
        rates = np.bincount(inverse, weights=clicked * counts_as) / rows
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(grid, rates, sample_weight=rows).predict(grid)
        if len(grid) > 10_000:
            kept = np.unique(np.linspace(0, len(grid) - 1, 10_000).astype(np.int64))
            grid, fitted = grid[kept], fitted[kept]
        # Points below and far above the training counts, so that any item is still in its place among them.
        beyond = grid[-1] + 10.0 ** np.arange(13)
        ramp = np.concatenate([np.linspace(0, 0.5, len(grid) + 2)[1:], np.linspace(0.5, 1, len(beyond) + 2)[1:-1]])
        grid = np.concatenate([[-1.0], grid, beyond])
        fitted = np.concatenate([fitted[:1], fitted, np.full(len(beyond), fitted[-1])])
        return cls(counts, grid, (1 - cls.RAMP) * fitted + cls.RAMP * ramp)

    def predict(self, columns: Columns) -> Floats:
        """Click probability of each row, shape (rows,).

        Examples
        --------
        >>> train = {"recent": [0, 0, 3, 3], "older": [0, 0, 5, 5]}
        >>> model = Popularity.fit(train, label=[0, 0, 0, 1], counts=("recent", "older"))
        >>> probability = model.predict({"recent": [0, 3, 3], "older": [0, 5, 6]})
        >>> probability.round(2).tolist(), bool(probability[1] < probability[2])
        ([0.0, 0.5, 0.5], True)
        """
        return np.interp(_popularity(columns, self.counts), self.grid, self.rate)


def _popularity(columns: Columns, counts: tuple[str, str]) -> Floats:
    """Recent clicks plus a fraction that grows with the older ones: one number in the lexicographic order of both counts."""
    recent, older = (np.nan_to_num(numbers(columns, name), nan=0.0) for name in counts)
    return recent + older / (1 + older)
