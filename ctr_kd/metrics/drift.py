"""Drift of scores: their distribution over fixed bins, and how far two distributions are from each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 20


@dataclass(frozen=True)
class ScoreDistribution:
    """Rows by score.

    Attributes
    ----------
    edges : float64 array (bins - 1,)
        Inner edges, ascending; a score equal to an edge falls into the bin above it.
    rows : int64 array (bins,)
    """

    edges: NDArray[np.float64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, score: ArrayLike, bins: int = BINS) -> Self:
        """Bins of equally many scores, as far as ties allow.

        Parameters
        ----------
        score : array (rows,)
        bins : int

        Raises
        ------
        ValueError
            When there are no scores.

        Examples
        --------
        >>> ScoreDistribution.of([0.1, 0.2, 0.3, 0.4], bins=2).to_dict()
        {'edges': [0.25], 'rows': [2, 2]}
        """
        values = np.asarray(score, np.float64)
        if not len(values):
            raise ValueError("a distribution needs scores, and there are none")
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        return cls(edges, count_by_bin(values, edges))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave; ValueError when it is no distribution."""
        edges, rows = np.asarray(values["edges"], np.float64), np.asarray(values["rows"], np.int64)
        if len(rows) != len(edges) + 1 or (np.diff(edges) <= 0).any() or (rows < 0).any() or not rows.sum():
            raise ValueError("a distribution has ascending edges, one bin more, and rows in them")
        return cls(edges, rows)

    def to_dict(self) -> dict[str, list[float] | list[int]]:
        """``edges`` and ``rows``, as JSON has them."""
        return {"edges": self.edges.tolist(), "rows": self.rows.tolist()}


def count_by_bin(score: NDArray, edges: NDArray) -> NDArray[np.int64]:
    """Scores in each bin, int64 (edges + 1,).

    Parameters
    ----------
    score : float array (rows,)
    edges : float array (edges,)
        Ascending; a score equal to one falls into the bin above it.
    """
    return np.bincount(np.searchsorted(edges, score, side="right"), minlength=len(edges) + 1).astype(np.int64)


def population_stability_index(expected: ArrayLike, observed: ArrayLike) -> float:
    """PSI of two distributions over the same bins: sum of (q - p) ln(q / p), 0 when they are equal.

    A habit of credit scoring calls less than 0.1 stable and more than 0.25 a shift that asks for attention.

    Parameters
    ----------
    expected, observed : array of counts, shape (bins,)
        Half a row is added to every bin, so that an empty one costs a lot and not infinity.

    Raises
    ------
    ValueError
        When the bins are not equally many, or there is no row on one side.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, chapter 9; Yurdakul (2018), Statistical Properties of Population Stability Index.

    Examples
    --------
    >>> population_stability_index([10, 10], [100, 100])
    0.0
    >>> round(population_stability_index([500, 500], [900, 100]), 3)
    0.876
    """
    before, after = np.asarray(expected, np.float64), np.asarray(observed, np.float64)
    if before.shape != after.shape:
        raise ValueError(f"the distributions have {len(before)} and {len(after)} bins")
    if not before.sum() or not after.sum():
        raise ValueError("a distribution without rows is near to none")
    p, q = ((rows + 0.5) / (rows.sum() + 0.5 * len(rows)) for rows in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def index_by_chance(expected: ArrayLike, observed: ArrayLike, confidence: float = 0.99) -> float:
    """The stability index that so few rows stay below with this confidence where nothing drifts.

    Of two samples of one distribution, n and m rows over some bins, the index is about (1/n + 1/m) times a chi-squared variable with one
    degree of freedom less than there are bins.

    Parameters
    ----------
    expected, observed : array of counts, shape (bins,)
    confidence : float

    References
    ----------
    Yurdakul (2018), Statistical Properties of Population Stability Index.

    Examples
    --------
    >>> round(index_by_chance([5] * 20, [10] * 20), 3), round(index_by_chance([5000] * 20, [10000] * 20), 6)
    (0.543, 0.000543)
    """
    from scipy.stats import chi2

    before, after = np.asarray(expected).sum(), np.asarray(observed).sum()
    return float(chi2.ppf(confidence, len(np.atleast_1d(expected)) - 1) * (1 / before + 1 / after))
