"""The metrics of one model on some rows, each with the statistic that the bootstrap asks again on every resample.

One column of probabilities per row is a click model, one column per class is a classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_kd.evaluation.tables import MetricValue
from ctr_kd.metrics import classification, probability, ranking
from ctr_kd.metrics.bootstrap import AucStatistic, Bootstrap, RatioStatistic, Resample, Statistic, percentile_interval
from ctr_kd.metrics.checks import Floats, UndefinedMetric


@dataclass(frozen=True)
class Measured:
    """A metric on some rows.

    Attributes
    ----------
    value : float, dict or None
    reason : str or None
        Why there is no value.
    statistic : Statistic or None
        The metric as a function of a resample; None for a metric that is reported without an interval.
    counts : mapping of str to int
        Facts beside the value, such as the number of users left out.
    """

    value: Any = None
    reason: str | None = None
    statistic: Statistic | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def with_interval(self, replicates: Floats | None, obstacle: str | None = None) -> MetricValue:
        """The metric with the interval that its values on the resamples give.

        Parameters
        ----------
        replicates : float array (replicates,) or None
            None for a metric without a statistic.
        obstacle : str, optional
            Why an interval cannot be had from the replicates.
        """
        if self.reason is not None or replicates is None:
            return MetricValue(self.value, reason=self.reason, has_interval=replicates is not None, counts=self.counts)
        try:
            if obstacle:
                raise UndefinedMetric(obstacle)
            interval = percentile_interval(self.value, replicates)
        except UndefinedMetric as undefined:
            return MetricValue(self.value, reason=undefined.reason, counts=self.counts)
        return MetricValue(self.value, interval.low, interval.high, counts=self.counts)


def measure_model(
    label: NDArray,
    score: NDArray,
    bootstrap: Bootstrap,
    *,
    rows: NDArray[np.bool_] | None = None,
    request: NDArray | None = None,
    classes: list[str] | None = None,
    weight: Floats | None = None,
    row_weight: NDArray | None = None,
) -> dict[str, Measured]:
    """Measure one model on all rows, or the metrics that make sense of a part on the rows of a mask.

    Parameters
    ----------
    label : array, shape (rows,)
        0 or 1 for clicks, class codes for classes.
    score : array, shape (rows,) or (rows, classes)
        Click probabilities, or class probabilities.
    bootstrap : Bootstrap
        Over all rows; its units are the users of GAUC.
    rows : bool array, shape (rows,), optional
        A slice: AUC, log loss and accuracy only.
    request : array of integers, shape (rows,), optional
        Request codes, from 0 without gaps.
    classes : list of str, optional
        Names of the classes in the report.
    weight : float array, shape (rows,), optional
        Of click rows in all that is measured of probabilities; rankings are without.
    row_weight : float array, shape (rows,), optional
        Of click rows in rankings, and in the cuts of calibration bins; ``weight`` holds it too. ``auc_unweighted`` is there then.
    """
    if score.ndim not in (1, 2) or len(score) != len(label):
        raise ValueError(f"there are {len(label)} rows, but the scores have the shape {score.shape}")
    unit = bootstrap.unit
    if rows is not None:
        label, score, unit = label[rows], score[rows], unit[rows]
        weight, row_weight = (None if one is None else one[rows] for one in (weight, row_weight))
    if score.ndim == 2:
        return _classes(label, score, unit, bootstrap, classes, part=rows is not None)
    result = _clicks(label, score, unit, bootstrap, weight, row_weight=row_weight)
    if rows is None:
        result |= _probabilities(label, score, weight, row_weight) | _groups(label, score, bootstrap, request, row_weight)
    return result


def _clicks(
    label: NDArray, score: NDArray, unit: NDArray, bootstrap: Bootstrap, weight: Floats | None, *, row_weight: NDArray | None
) -> dict[str, Measured]:
    losses = probability.row_log_losses(label, score)
    plain = {} if row_weight is None else {"auc_unweighted": _attempt(lambda: Measured(ranking.auc_score(label, score)))}
    return {
        "auc": _attempt(
            lambda: Measured(ranking.auc_score(label, score, row_weight), statistic=AucStatistic(label, score, unit, row_weight))
        ),
        **plain,
        "log_loss": _mean(losses, unit, bootstrap, weight),
    }


def _probabilities(label: NDArray, score: NDArray, weight: Floats | None, row_weight: NDArray | None) -> dict[str, Measured]:
    return {
        "normalized_entropy": _attempt(lambda: Measured(probability.normalized_entropy(label, score, weight))),
        "calibration_error": _attempt(lambda: Measured(probability.calibration_error(label, score, weight=weight, size=row_weight))),
        "calibration_ratio": _attempt(lambda: Measured(probability.calibration_ratio(label, score, weight))),
    }


def _groups(
    label: NDArray, score: NDArray, bootstrap: Bootstrap, request: NDArray | None, row_weight: NDArray | None
) -> dict[str, Measured]:
    """GAUC in its three weightings, and the AUC inside a request averaged over requests."""
    result = {}
    if bootstrap.by_user:
        users = ranking.grouped_auc(label, score, bootstrap.unit, row_weight)
        counts = {"users": len(users.auc), "undefined_users": users.undefined}
        result["gauc"] = _average(users, "rows", users.group, bootstrap, counts)
        result["gauc_by_clicks"] = _average(users, "clicks", users.group, bootstrap, counts)
        result["gauc_mean"] = _average(users, "mean", users.group, bootstrap, counts)
    if request is not None:
        requests = ranking.grouped_auc(label, score, request, row_weight)
        unit_of = np.zeros(int(request.max(initial=-1)) + 1, np.int64)
        unit_of[request] = bootstrap.unit  # all rows of a request are of one user
        counts = {"requests": len(requests.auc), "undefined_requests": requests.undefined}
        result["request_auc"] = _average(requests, "mean", unit_of[requests.group], bootstrap, counts)
    return result


def _average(
    groups: ranking.GroupedAuc, weighting: ranking.Weighting, unit: NDArray, bootstrap: Bootstrap, counts: dict[str, int]
) -> Measured:
    weight = groups.weights(weighting)
    statistic = RatioStatistic(bootstrap.sums(groups.auc * weight, unit), bootstrap.sums(weight, unit))
    return _attempt(lambda: Measured(groups.average(weighting), statistic=statistic), counts)


def _classes(
    label: NDArray, score: NDArray, unit: NDArray, bootstrap: Bootstrap, names: list[str] | None, *, part: bool
) -> dict[str, Measured]:
    label, score = classification.check_class_probabilities(label, score)
    predicted = score.argmax(axis=1)
    correct = (predicted == label).astype(np.float64)
    losses = classification.class_log_losses(label, score)
    result = {
        "auc": _attempt(
            lambda: Measured(classification.one_vs_rest_auc_score(label, score), statistic=OneVsRestStatistic(label, score, unit))
        ),
        "log_loss": _mean(losses, unit, bootstrap),
        "accuracy": _mean(correct, unit, bootstrap),
    }
    if part:
        return result
    return result | {
        "macro_f1": _attempt(
            lambda: Measured(classification.macro_f1_score(label, predicted), statistic=MacroF1Statistic(label, predicted, unit))
        ),
        "normalized_entropy": _attempt(lambda: Measured(classification.class_normalized_entropy(label, score))),
        "calibration_error": _attempt(lambda: Measured(probability.calibration_error(correct, np.clip(score.max(axis=1), 0, 1)))),
        "averages": _attempt(lambda: Measured(classification.report_averages(label, predicted))),
        "report": _attempt(lambda: Measured(classification.classification_report(label, predicted, names))),
    }


class OneVsRestStatistic:
    """`one_vs_rest_auc_score` of a resample; a class that the resample lacks is left out, as in the metric."""

    def __init__(self, label: NDArray, score: NDArray, unit: NDArray) -> None:
        columns = [1] if score.shape[1] == 2 else np.unique(label)
        self.parts = [AucStatistic(label == column, score[:, column], unit) for column in columns]

    def __call__(self, resample: Resample) -> float:
        values = np.array([part(resample) for part in self.parts])
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else np.nan


class MacroF1Statistic:
    """`macro_f1_score` of a resample, from weighted counts by class."""

    def __init__(self, label: NDArray, predicted: NDArray, unit: NDArray) -> None:
        self.classes, codes = np.unique(np.concatenate([label, predicted]), return_inverse=True)
        self.label, self.predicted = np.split(codes, 2)
        self.hit = np.flatnonzero(self.label == self.predicted)
        self.unit = unit.astype(np.intp)

    def __call__(self, resample: Resample) -> float:
        weight, size = resample.weights[self.unit], len(self.classes)
        hits = np.bincount(self.label[self.hit], weights=weight[self.hit], minlength=size)
        supports = np.bincount(self.label, weights=weight, minlength=size)
        predictions = np.bincount(self.predicted, weights=weight, minlength=size)
        occurs = supports + predictions > 0
        return float(classification.f1_of(hits[occurs], supports[occurs], predictions[occurs]).mean()) if occurs.any() else np.nan


def _mean(values: Floats, unit: NDArray, bootstrap: Bootstrap, weight: Floats | None = None) -> Measured:
    if not len(values):
        return Measured(reason="there are no rows")
    if weight is not None:
        if not weight.any():
            return Measured(reason="all weights are 0")
        weighted = RatioStatistic(bootstrap.sums(values * weight, unit), bootstrap.sums(weight, unit))
        return Measured(float(np.average(values, weights=weight)), statistic=weighted)
    statistic = RatioStatistic(bootstrap.sums(values, unit), bootstrap.sums(np.ones(len(values)), unit))
    return Measured(float(values.mean()), statistic=statistic)


def _attempt(measurement: Callable[[], Measured], counts: Mapping[str, int] | None = None) -> Measured:
    """The measurement, or the reason why it is undefined."""
    try:
        return replace(measurement(), counts=counts or {})
    except UndefinedMetric as undefined:
        return Measured(reason=undefined.reason, counts=counts or {})
