"""Metrics of predicted click probabilities: log loss, normalised entropy, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ctr_kd.metrics.checks import Floats, Integers, UndefinedMetric, check_rows, check_weight, require_both_labels


def row_log_losses(label: ArrayLike, score: ArrayLike) -> Floats:
    """Negative log likelihood of each row, shape (rows,), in nats; see `log_loss`.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Click probabilities.
    """
    clicked, values = check_rows(label, score, probability=True)
    margin = np.finfo(values.dtype).eps  # a certain but wrong prediction costs a lot, not infinity
    likelihood = np.where(clicked, values, 1 - values).astype(np.float64)
    return -np.log(np.clip(likelihood, margin, 1 - margin))


def log_loss(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean negative log likelihood (binary cross entropy) in nats.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Click probabilities; they are clipped by the machine epsilon of their own type, as in scikit-learn.
    weight : array, shape (rows,), optional

    Raises
    ------
    UndefinedMetric
        When there are no rows (with a weight above zero).

    Examples
    --------
    >>> round(log_loss([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.65]), 6)
    0.216162
    """
    losses = row_log_losses(label, score)
    if not len(losses):
        raise UndefinedMetric("there are no rows")
    return float(losses.mean()) if weight is None else float(np.average(losses, weights=check_weight(weight, len(losses), positive=True)))


def normalized_entropy(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log loss over the entropy of the average click rate: 1 is a model that predicts the average, 0 is perfect.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Click probabilities.
    weight : array, shape (rows,), optional

    Raises
    ------
    UndefinedMetric
        When only one label occurs: the average click rate then has no entropy.

    References
    ----------
    He et al. (2014), Practical Lessons from Predicting Clicks on Ads at Facebook, section 3.

    Examples
    --------
    >>> normalized_entropy([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25])
    1.0
    """
    loss = log_loss(label, score, weight)
    clicked = np.asarray(label, dtype=bool)
    weights = None if weight is None else check_weight(weight, len(clicked))
    require_both_labels(clicked if weights is None else clicked[weights > 0])
    return loss / binary_entropy(float(np.average(clicked, weights=weights)))


def binary_entropy(rate: float) -> float:
    """Entropy in nats of a click rate strictly between 0 and 1.

    Examples
    --------
    >>> round(binary_entropy(0.5), 6)
    0.693147
    """
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def of_full_stream(probability: ArrayLike, negative_sampling_rate: float | None) -> Floats:
    """Click probabilities, or rates, of the full stream from those of a log that kept a share of its rows without a click.

    ``p / (p + (1 - p) / rate)``: the odds are multiplied by the rate.

    Parameters
    ----------
    probability : array
        Among the rows that were kept.
    negative_sampling_rate : float, optional
        Share of the rows without a click that were kept; None where all were.

    References
    ----------
    He et al. (2014), Practical Lessons from Predicting Clicks on Ads at Facebook, section 6.3.

    Examples
    --------
    >>> round(float(of_full_stream(0.5, 0.2)), 6)  # of 1 click and 1 other row there were 1 and 5
    0.166667
    """
    values = np.asarray(probability, np.float64)
    return values if negative_sampling_rate is None else values / (values + (1 - values) / negative_sampling_rate)


@dataclass(frozen=True)
class ReliabilityBins:
    """Average prediction and click rate of the rows of each bin, and their weight; arrays of shape (bins,), by rising prediction."""

    predicted: Floats
    observed: Floats
    rows: Integers
    weight: Floats | Integers


def reliability_bins(
    label: ArrayLike, score: ArrayLike, bins: int = 20, weight: ArrayLike | None = None, size: ArrayLike | None = None
) -> ReliabilityBins:
    """Cut the rows, sorted by prediction, into bins of equal size.

    Equal predictions always share a bin (the first that any of them falls into), so there may be fewer bins than asked for.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Click probabilities.
    bins : int
    weight : array, shape (rows,), optional
        Of each row in the averages; the cuts do not depend on it.
    size : array, shape (rows,), optional
        For how many rows each counts in the cuts, by default for one. A row of size 0 is left out.

    Raises
    ------
    UndefinedMetric
        When there are no rows (of a size above zero).

    Examples
    --------
    >>> result = reliability_bins([0, 1, 1, 1], [0.2, 0.2, 0.6, 1.0], bins=2)
    >>> result.predicted.tolist(), result.observed.tolist(), result.rows.tolist()
    ([0.2, 0.8], [0.5, 1.0], [2, 2])
    """
    clicked, values = check_rows(label, score, probability=True)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    weights = None if weight is None else check_weight(weight, len(values))
    sizes = None if size is None else check_weight(size, len(values), positive=len(values) > 0)
    if sizes is not None:
        kept = sizes > 0
        clicked, values, sizes, weights = clicked[kept], values[kept], sizes[kept], None if weights is None else weights[kept]
    if not len(values):
        raise UndefinedMetric("there are no rows")
    order = np.argsort(values)
    values = values[order].astype(np.float64)
    starts = _starts_of_bins(values, bins) if sizes is None else _starts_by_size(values, bins, sizes[order])
    rows = np.diff(np.append(starts, len(values)))
    if weights is None:
        return ReliabilityBins(
            np.add.reduceat(values, starts) / rows, np.add.reduceat(clicked[order], starts, dtype=np.int64) / rows, rows, rows
        )
    weights = weights[order]
    sums = np.add.reduceat(weights, starts)
    return ReliabilityBins(
        np.add.reduceat(values * weights, starts) / sums, np.add.reduceat(clicked[order] * weights, starts) / sums, rows, sums
    )


def _starts_of_bins(values: Floats, bins: int) -> Integers:
    """First row of each bin of as equal numbers of rows as ties allow, of rising predictions."""
    even = np.arange(bins) * len(values) // bins
    # A cut inside a run of equal predictions moves to the end of the run.
    inside = np.r_[False, values[even[1:]] == values[np.maximum(even[1:] - 1, 0)]]
    starts = np.unique(np.where(inside, np.searchsorted(values, values[even], "right"), even))
    return starts[starts < len(values)]


def _starts_by_size(values: Floats, bins: int, sizes: Floats) -> Integers:
    """The same by the sizes (rows,) of the rows: a run of equal predictions lies in the bin in which it begins."""
    run = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    before = np.cumsum(sizes) - sizes
    bin_of_run = np.floor(before[run] * (bins / sizes.sum()) + 1e-9)  # a run that begins at a cut begins a bin, rounding aside
    return run[np.r_[True, bin_of_run[1:] != bin_of_run[:-1]]]


def calibration_error(
    label: ArrayLike, score: ArrayLike, bins: int = 20, weight: ArrayLike | None = None, size: ArrayLike | None = None
) -> float:
    """Expected calibration error over bins of equal mass: the mean distance of predicted from observed click rate.

    Bins of equal width, the older choice, put nearly all rows of a click log, whose rates are low, into the first one.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Click probabilities.
    bins : int
        Number of bins with as equal numbers of rows as ties allow, 20 by default.
    weight : array, shape (rows,), optional
    size : array, shape (rows,), optional
        See `reliability_bins`.

    References
    ----------
    Naeini et al. (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning;
    Nguyen & O'Connor (2015), Posterior calibration and exploratory analysis for natural language processing models (equal mass).

    Examples
    --------
    >>> round(calibration_error([0, 1, 1, 1], [0.2, 0.2, 0.6, 1.0], bins=2), 3)
    0.25
    """
    result = reliability_bins(label, score, bins, weight, size)
    return float(np.average(np.abs(result.predicted - result.observed), weights=result.weight))


def calibration_ratio(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Predicted clicks over observed clicks, 1 when the overall rate is right (He et al. 2014).

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Click probabilities.
    weight : array, shape (rows,), optional

    Raises
    ------
    UndefinedMetric
        When there is no click.

    Examples
    --------
    >>> calibration_ratio([0, 1], [0.25, 0.5])
    0.75
    """
    clicked, values = check_rows(label, score, probability=True)
    if not clicked.any():
        raise UndefinedMetric(f"all {len(clicked)} labels are 0" if len(clicked) else "there are no rows")
    if weight is not None:
        weights = check_weight(weight, len(values))
        if not weights[clicked].any():
            raise UndefinedMetric("all clicks weigh 0")
        return float((values * weights).sum(dtype=np.float64) / weights[clicked].sum())
    return float(values.sum(dtype=np.float64) / clicked.sum())
