"""From labels and the models' probabilities to the tables of metrics.json: models, comparisons and slices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_kd.evaluation.model_metrics import Measured, measure_model
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.evaluation.tables import (
    ClickCurves,
    Confusions,
    Evaluation,
    MetricDifference,
    ModelMetrics,
    ReliabilityPoint,
    SliceMetrics,
)
from ctr_kd.metrics import UndefinedMetric, confusion_matrix, of_full_stream, reliability_bins, roc_points
from ctr_kd.metrics.bootstrap import Bootstrap, paired_difference
from ctr_kd.metrics.checks import Floats, group_codes

Replicated = Mapping[str, tuple[Any, Floats]]  # by metric: its value, and that of every resample

PAIRS = (
    ("student", "student_alone"),
    ("student", "teacher"),
    ("teacher", "student_alone"),
    ("student", "boosted_trees"),
    ("student_alone", "boosted_trees"),
    ("student", "popularity"),
    ("student", "linear"),
    ("student_alone", "linear"),
    ("student", "text_gcn"),
    ("student", "oracle"),
)
"""Models whose difference is reported, first minus second, where both are there."""


def evaluate_models(
    rows: EvaluationRows,
    scores: Mapping[str, ArrayLike],
    *,
    replicates: int = 300,
    seed: int = 0,
    threads: int = 2,
    pairs: tuple[tuple[str, str], ...] = PAIRS,
) -> Evaluation:
    """Metrics of every model with 95 % bootstrap intervals, paired differences, and metrics by slice.

    Parameters
    ----------
    rows : EvaluationRows
    scores : mapping of model name to array
        Click probabilities of shape (rows,), or class probabilities of shape (rows, classes).
    replicates, seed, threads
        Of the bootstrap, see `Bootstrap`.
    pairs : tuple of (first, second)
        Differences to report; a pair of which a model is missing is passed over.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        When an array has the wrong length, a label is invalid, or a score is no probability; the message names the model.

    Examples
    --------
    >>> rows = EvaluationRows(label=np.array([0, 1, 0, 1]), user=np.array([1, 1, 2, 2]))
    >>> result = evaluate_models(rows, {"student": [0.1, 0.8, 0.3, 0.6]}, replicates=20)
    >>> result.models["student"]["auc"].to_json()
    {'value': 1.0, 'low': 1.0, 'high': 1.0}
    """
    label = np.asarray(rows.label)
    masks = {name: np.asarray(mask) for name, mask in rows.slices.items()}
    for name, mask in masks.items():
        if mask.shape != (len(label),) or mask.dtype != bool:
            raise ValueError(f"slice {name} must be a bool array of shape ({len(label)},)")
    request = None if rows.request is None else group_codes(rows.request)[1]
    if request is not None and len(request) != len(label):
        raise ValueError(f"request has {len(request)} rows, label has {len(label)}")
    bootstrap = Bootstrap(rows.user, len(label), replicates=replicates, seed=seed, threads=threads)
    measure = partial(measure_model, label, bootstrap=bootstrap, weight=rows.weight, row_weight=rows.row_weight)

    obstacles = {None: bootstrap.obstacle()} | {name: bootstrap.obstacle(mask) for name, mask in masks.items()}
    models: dict[str, ModelMetrics] = {}
    slices: dict[str, dict[str, SliceMetrics]] = {name: {} for name in masks}
    measured: dict[str, dict[str | None, Replicated]] = {}
    for model, given in scores.items():
        score = np.asarray(given)
        try:
            whole = measure(score, request=request, classes=rows.classes)
            tables: dict[str | None, dict[str, Measured]] = {None: whole}
            tables |= {name: measure(score, rows=mask) for name, mask in masks.items()}
        except ValueError as error:
            raise ValueError(f"scores of {model}: {error}") from error
        # One model at a time, since prepared statistics take some fifty bytes per row; the resamples are the same each time.
        statistics = {(part, metric): m.statistic for part, table in tables.items() for metric, m in table.items() if m.statistic}
        replicated = bootstrap.values_of(statistics)
        measured[model] = {
            part: {metric: (m.value, replicated[part, metric]) for metric, m in table.items() if m.statistic}
            for part, table in tables.items()
        }
        for part, table in tables.items():
            found = {metric: m.with_interval(replicated.get((part, metric)), obstacles[part]) for metric, m in table.items()}
            if part is None:
                models[model] = found
            else:
                slices[part][model] = SliceMetrics(int(masks[part].sum()), found)
    there = [(first, second) for first, second in pairs if {first, second} <= set(measured)]

    def compared(part: str | None) -> dict[str, dict[str, MetricDifference]]:
        return {f"{one}-{two}": differences_of(measured[one][part], measured[two][part], obstacles[part]) for one, two in there}

    return Evaluation(models, compared(None), slices, {name: compared(name) for name in masks})


def differences_of(first: Replicated, second: Replicated, obstacle: str | None) -> dict[str, MetricDifference]:
    """First model minus second by metric, of those that both have, each with its interval, or with the reason why there is none."""
    result: dict[str, MetricDifference] = {}
    for metric in first.keys() & second.keys():
        (one, one_replicates), (two, two_replicates) = first[metric], second[metric]
        try:
            if obstacle:
                raise UndefinedMetric(obstacle)
            found = paired_difference(one, two, one_replicates, two_replicates)
            result[metric] = MetricDifference(found.difference, found.low, found.high, found.p_value)
        except UndefinedMetric as undefined:
            result[metric] = MetricDifference(one - two, reason=undefined.reason)
    return {metric: result[metric] for metric in first if metric in result}


def click_curves(
    label: ArrayLike,
    scores: Mapping[str, ArrayLike],
    *,
    points: int = 200,
    bins: int = 20,
    negative_sampling_rate: float | None = None,
    row_weight: NDArray | None = None,
) -> ClickCurves:
    """What the report draws of each click model: its ROC curve and its reliability.

    A model without a curve (one label, or several classes) is left out.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    scores : mapping of model name to array
        Click probabilities of shape (rows,); those of classes are passed over.
    points, bins : int
        Most points of a ROC curve, and bins of the reliability.
    negative_sampling_rate, row_weight : optional
        Of the rows, as :class:`ctr_kd.evaluation.rows.EvaluationRows` has them. An interval is that of as many rows of equal weight as tell
        as much: the square of the sum of the weights over the sum of their squares (Kish 1965, Survey Sampling, section 11.7).

    Examples
    --------
    >>> click_curves([0, 1], {"student": [0.2, 0.8]}).roc
    {'student': [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]}
    """
    curves = ClickCurves({}, {})
    rate = negative_sampling_rate
    weight = EvaluationRows(np.asarray(label), negative_sampling_rate=rate, row_weight=row_weight).weight
    for name, score in scores.items():
        if np.ndim(score) != 1:
            continue
        try:
            curves.roc[name] = roc_points(label, score, points, row_weight)
        except UndefinedMetric:
            continue  # metrics.json already says why for each metric
        kept, found = (reliability_bins(label, score, bins, one, row_weight) for one in (row_weight, weight))
        rows: Floats | NDArray[np.int64] = kept.rows
        if row_weight is not None:
            rows = kept.weight**2 / reliability_bins(label, score, bins, row_weight**2, row_weight).weight
        low, high = (of_full_stream(end, rate) for end in wilson_interval(kept.observed, rows))
        columns = zip(found.predicted, found.observed, low, high, found.rows, strict=True)
        curves.reliability[name] = [ReliabilityPoint(float(p), float(o), float(a), float(b), int(n)) for p, o, a, b, n in columns]
    return curves


def confusions(rows: EvaluationRows, scores: Mapping[str, ArrayLike]) -> Confusions | None:
    """What the report draws of classifiers: which class each takes for which; None for click models.

    Parameters
    ----------
    rows : EvaluationRows
    scores : mapping of model name to array (rows, classes)
    """
    if rows.classes is None:
        return None
    predicted = {name: np.asarray(score).argmax(axis=1) for name, score in scores.items()}
    matrices = {name: confusion_matrix(rows.label, found, len(rows.classes)).tolist() for name, found in predicted.items()}
    return Confusions(rows.classes, matrices)


def wilson_interval(rate: Floats, rows: NDArray[np.int64] | Floats, z: float = 1.959964) -> tuple[Floats, Floats]:
    """Wilson score interval of a rate observed on independent rows (Wilson 1927): its ends, in the shape of the rates.

    Parameters
    ----------
    rate : float array
    rows : array
        On how many rows each was observed.
    z : float
        Quantile of the normal distribution; 95 % by default.

    Examples
    --------
    >>> low, high = wilson_interval(np.array([0.5]), np.array([100]))
    >>> round(float(low[0]), 4), round(float(high[0]), 4)
    (0.4038, 0.5962)
    """
    centre = (rate + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(rate * (1 - rate) / rows + z**2 / (4 * rows**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
