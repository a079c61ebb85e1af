"""What an evaluation found, typed; ``to_json`` gives the tables of metrics.json and report.json. What is undefined is null, never NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class MetricValue:
    """A metric of a model on some rows.

    Attributes
    ----------
    value : float, dict or None
        A dict where the metric is a table of its own, as the report by class is; None where it is undefined.
    low, high : float or None
        Ends of its 95 % bootstrap interval.
    reason : str or None
        Why the value or the interval is undefined.
    has_interval : bool
        False for a metric that is reported without one.
    counts : mapping of str to int
        Facts beside the value, such as the number of users left out.
    """

    value: Any = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    has_interval: bool = True
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> Any:
        """``value``, ``low`` and ``high``, or the value alone where the metric has no interval; with a ``reason`` where one is null.

        Examples
        --------
        >>> MetricValue(0.7, 0.6, 0.8).to_json(), MetricValue(0.7, has_interval=False).to_json(), MetricValue(reason="no rows").to_json()
        ({'value': 0.7, 'low': 0.6, 'high': 0.8}, 0.7, {'value': None, 'reason': 'no rows'})
        """
        if self.reason is None and not self.has_interval:
            return self.value
        bounds = {} if self.value is None else {"low": self.low, "high": self.high}
        return {"value": self.value, **bounds, **({"reason": self.reason} if self.reason else {}), **self.counts}


@dataclass(frozen=True)
class MetricDifference:
    """A metric of a first model minus that of a second, on the same rows.

    Attributes
    ----------
    difference : float
    low, high : float or None
        Ends of its paired 95 % bootstrap interval.
    p_value : float or None
        Two-sided, of no difference.
    reason : str or None
        Why the interval is undefined.
    """

    difference: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields; ``reason`` only where there is one."""
        return {name: value for name, value in asdict(self).items() if name != "reason" or value is not None}


ModelMetrics = dict[str, MetricValue]  # by the metric's name


@dataclass(frozen=True)
class SliceMetrics:
    """Metrics of a model on a part of the rows, and how many rows that are."""

    rows: int
    metrics: ModelMetrics

    def to_json(self) -> dict[str, Any]:
        """``rows``, and the metrics beside it."""
        return {"rows": self.rows, **metrics_json(self.metrics)}


def metrics_json(metrics: Mapping[str, MetricValue]) -> dict[str, Any]:
    """Metrics of a model as metrics.json has them."""
    return {name: value.to_json() for name, value in metrics.items()}


@dataclass(frozen=True)
class Evaluation:
    """Several models on the same rows.

    Attributes
    ----------
    models : dict of str to dict of str to MetricValue
        By model and metric.
    comparisons : dict of str to dict of str to MetricDifference
        By ``FIRST-SECOND`` and metric.
    slices : dict of str to dict of str to SliceMetrics
        By part of the rows and model.
    slice_comparisons : dict of str to dict of str to dict of str to MetricDifference
        By part of the rows, ``FIRST-SECOND`` and metric; metrics.json is without them.
    """

    models: dict[str, ModelMetrics]
    comparisons: dict[str, dict[str, MetricDifference]]
    slices: dict[str, dict[str, SliceMetrics]]
    slice_comparisons: dict[str, dict[str, dict[str, MetricDifference]]]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """The blocks of metrics.json with these names."""
        return {
            "models": {model: metrics_json(found) for model, found in self.models.items()},
            "comparisons": {
                pair: {metric: difference.to_json() for metric, difference in found.items()} for pair, found in self.comparisons.items()
            },
            "slices": {name: {model: found.to_json() for model, found in part.items()} for name, part in self.slices.items()},
        }


@dataclass(frozen=True)
class ReliabilityPoint:
    """A bin of click probabilities.

    Attributes
    ----------
    predicted, observed : float
        Mean probability, and share of clicks.
    low, high : float
        Ends of the 95 % Wilson interval of that share.
    rows : int
    """

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class ClickCurves:
    """What the report draws of click models; one without a curve is in neither.

    Attributes
    ----------
    roc : dict of str to list of (float, float)
        By model: false positive rate and true positive rate, both rising.
    reliability : dict of str to list of ReliabilityPoint
        By model, by rising probability.
    """

    roc: dict[str, list[tuple[float, float]]]
    reliability: dict[str, list[ReliabilityPoint]]

    def to_json(self) -> dict[str, Any]:
        """``roc`` and ``reliability`` of report.json."""
        return {
            "roc": {name: [list(point) for point in points] for name, points in self.roc.items()},
            "reliability": {name: [asdict(point) for point in points] for name, points in self.reliability.items()},
        }


@dataclass(frozen=True)
class Confusions:
    """Which class each classifier takes for which.

    Attributes
    ----------
    classes : list of str
    confusion : dict of str to list of list of int
        By model: rows of the test, lines by label, columns by prediction.
    """

    classes: list[str]
    confusion: dict[str, list[list[int]]]

    def to_json(self) -> dict[str, Any]:
        """``classes`` and ``confusion`` of report.json."""
        return asdict(self)
