"""What one column of the rows tells of the click by itself, before any model: its nulls, quantiles and AUC, and its drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctr_kd.evaluation.tables import MetricValue
from ctr_kd.metrics.checks import UndefinedMetric
from ctr_kd.metrics.drift import ScoreDistribution, count_by_bin, index_by_chance, population_stability_index
from ctr_kd.metrics.ranking import auc_score

QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
LEAK = 0.95  # a column that ranks as well as this by itself is hardly a fact of the time before the click
_ENOUGH = 10  # rows of each label: of fewer, an AUC near 1 is chance


class Column(NamedTuple):
    """A column of some rows.

    Attributes
    ----------
    value : float array (rows,)
        NaN is null, and so is what is infinite.
    clicked : bool array (rows,)
    weight : float array (rows,), optional
        Of each row in the AUC of the values; what is counted, nulls among it, is rows.
    """

    value: NDArray[np.floating]
    clicked: NDArray[np.bool_]
    weight: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class WindowFigures:
    """A column in one window of time.

    Attributes
    ----------
    rows, clicks : int
    nulls, null_clicks : int
        Rows without a value, and clicks among them.
    quantiles : dict of str to float, optional
        Of the values, by the names of ``QUANTILES``; None where there is none.
    auc : MetricValue
        The chance that a click has a larger value than a row without a click, of the rows that have a value; a tie counts one half.
    """

    rows: int
    clicks: int
    nulls: int
    null_clicks: int
    quantiles: dict[str, float] | None
    auc: MetricValue

    @property
    def null_auc(self) -> MetricValue:
        """The AUC of ranking the rows without a value before the others: far from .5 where being null says something."""
        others = self.rows - self.clicks
        if not self.nulls:
            return _undefined("every row has a value")
        if not self.clicks or not others:
            return _undefined(f"all {self.rows} labels are {int(self.clicks > 0)}")
        return _value(0.5 + (self.null_clicks / self.clicks - (self.nulls - self.null_clicks) / others) / 2)

    @property
    def leaking(self) -> tuple[float, str] | None:
        """The AUC that is too good to be true, .5 or more, and what has it; None where nothing has."""
        known_clicks = self.clicks - self.null_clicks
        known_others = self.rows - self.nulls - known_clicks
        for found, fewest, what in (
            (self.auc, min(known_clicks, known_others), "its values alone tell"),
            (self.null_auc, min(self.clicks, self.rows - self.clicks), "where it is null alone tells"),
        ):
            if found.value is not None and fewest >= _ENOUGH and max(found.value, 1 - found.value) >= LEAK:
                return max(found.value, 1 - found.value), what
        return None

    def to_json(self) -> dict[str, Any]:
        """All of it, an undefined AUC with its reason."""
        counts = {name: getattr(self, name) for name in ("rows", "clicks", "nulls", "null_clicks")}
        return {
            **counts,
            "null_share": self.nulls / self.rows if self.rows else None,
            "quantiles": self.quantiles,
            "auc": self.auc.to_json(),
            "null_auc": self.null_auc.to_json(),
        }


@dataclass(frozen=True)
class FeatureFigures:
    """A column on the rows of training and of validation.

    Attributes
    ----------
    train, validation : WindowFigures
    psi : MetricValue
        Population stability index between both, over bins of the training values and one of the nulls.
    psi_by_chance : float, optional
        What so few rows stay below where nothing drifts; None where there is no index.
    """

    train: WindowFigures
    validation: WindowFigures
    psi: MetricValue
    psi_by_chance: float | None

    @property
    def clicks_at(self) -> Literal["higher", "lower"] | None:
        """Which values have more clicks, as training says, or where it does not, validation; None where neither does."""
        for window in (self.train, self.validation):
            if window.auc.value is not None and window.auc.value != 0.5:
                return "higher" if window.auc.value > 0.5 else "lower"
        return None

    @property
    def strength(self) -> float:
        """How far the AUC on validation is from .5, either way; -1 where it is undefined, so that such a column is the last."""
        return -1.0 if self.validation.auc.value is None else abs(self.validation.auc.value - 0.5)

    @property
    def leak(self) -> str | None:
        """In words, where the column by itself ranks too well to be a fact of the time before the click."""
        for name, window in (("validation", self.validation), ("training", self.train)):
            if (found := window.leaking) is not None:
                auc, what = found
                return f"{what} clicks from the rest, AUC {auc:.4f} on {name}"
        return None

    def to_json(self) -> dict[str, Any]:
        """All of it; what is undefined is null with its reason."""
        return {
            "clicks_at": self.clicks_at,
            "leak": self.leak,
            "psi": self.psi.to_json(),
            "psi_by_chance": self.psi_by_chance,
            "train": self.train.to_json(),
            "validation": self.validation.to_json(),
        }


def measure_feature(train: Column, validation: Column) -> FeatureFigures:
    """Measure a column by itself.

    Parameters
    ----------
    train, validation : Column

    Examples
    --------
    >>> train = Column(np.array([1.0, 2.0, 3.0, np.nan]), np.array([False, False, True, True]))
    >>> found = measure_feature(train, Column(np.array([5.0, 4.0]), np.array([False, True])))
    >>> found.train.auc.value, found.train.nulls, found.validation.auc.value, found.clicks_at
    (1.0, 1, 0.0, 'higher')
    """
    psi, by_chance = _drift(train.value, validation.value)
    return FeatureFigures(_measure_window(train), _measure_window(validation), psi, by_chance)


def _measure_window(column: Column) -> WindowFigures:
    known = np.isfinite(column.value)
    value, clicked = column.value[known], column.clicked[known]
    clicks, nulls = int(column.clicked.sum()), len(column.value) - len(value)
    quantiles = None
    if len(value):
        # The text of a number of 32 bits is short; the same number in 64 bits has a tail of digits that means nothing.
        found = np.quantile(value, list(QUANTILES.values())).astype(value.dtype)
        quantiles = {name: float(str(number)) for name, number in zip(QUANTILES, found, strict=True)}
    auc = _auc(clicked, value, nulls, None if column.weight is None else column.weight[known])
    return WindowFigures(len(column.value), clicks, nulls, clicks - int(clicked.sum()), quantiles, auc)


def _auc(clicked: NDArray[np.bool_], value: NDArray[np.floating], nulls: int, weight: NDArray[np.floating] | None) -> MetricValue:
    if nulls and not len(value):
        return _undefined(f"none of the {nulls} rows has a value")
    try:
        return _value(auc_score(clicked, value, weight))
    except UndefinedMetric as undefined:
        return _undefined(f"{undefined.reason} where there is a value" if nulls else undefined.reason)


def _drift(train: NDArray[np.floating], validation: NDArray[np.floating]) -> tuple[MetricValue, float | None]:
    """The stability index, and what chance alone keeps it below."""
    before, after = (value[np.isfinite(value)] for value in (train, validation))
    if not len(before) or not len(validation):
        return _undefined("no row of training has a value" if len(validation) else "validation has no rows"), None
    distribution = ScoreDistribution.of(before)
    expected, observed = distribution.rows, count_by_bin(after, distribution.edges)
    nulls = len(train) - len(before), len(validation) - len(after)
    if any(nulls):
        expected, observed = np.append(expected, nulls[0]), np.append(observed, nulls[1])
    return _value(population_stability_index(expected, observed)), index_by_chance(expected, observed)


def _value(value: float) -> MetricValue:
    return MetricValue(value, has_interval=False)


def _undefined(reason: str) -> MetricValue:
    return MetricValue(reason=reason, has_interval=False)
