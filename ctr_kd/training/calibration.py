"""Calibration of a student's logits, fitted on validation rows and exported inside the student.

Each way is a monotone function of the logit, so calibration changes no ranking: AUC stays, log loss and calibration error move. Of
several classes all logits are scaled alike, so the likeliest class stays as well. Of several labels each has a calibration of its own.
A calibrated probability is that of a click among rows like the validation rows. Where negatives were down-sampled, those rows
are too, so the correction for the sampling rate (:class:`ctr_kd.export.click_scorer.ClickScorer`) comes after it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression
from torch import nn

from ctr_kd.config import Calibration
from ctr_kd.data.samples import Samples, of_mean_one
from ctr_kd.models.calibrated import Calibrated, EachLabel, MonotoneLines, Temperature
from ctr_kd.training.loop import predict

FEWEST_CLICKS = 20  # of each label; fewer say too little of a rate, and the logits stay as they are
MOST_BINS, FEWEST_ROWS = 50, 100  # of the isotonic fit: bins, and rows in each
NEWTON_STEPS = 50


def calibrate(model: nn.Module, validation: Samples, how: Calibration, report: Callable[[str], None] = lambda text: None) -> nn.Module:
    """The model with calibrated logits; the model itself where there is nothing to calibrate by, which is said.

    Parameters
    ----------
    model : Module
        A trained student; it does not change.
    validation : Samples
        All that the fit reads.
    how : {"none", "temperature", "isotonic"}
    report : callable

    Raises
    ------
    ValueError
        When the model has several outputs and the way is isotonic.
    """
    if how == "none":
        return model
    logit = predict(model, validation)
    if validation.further is not None:

        def of_label(place: int) -> nn.Module | None:
            label = validation.labels[:, place]
            known = label >= 0
            weight = None if validation.weight is None else validation.weight[known]
            which = f"(label {place + 1} of {logit.shape[1]})"
            return _fit_label(logit[known, place], label[known], weight, how, lambda text: report(f"{text} {which}"))

        fitted = [of_label(place) for place in range(logit.shape[1])]
        return Calibrated(model, EachLabel(fitted)) if any(one is not None for one in fitted) else model
    if logit.shape[1] > 1:
        if how != "temperature":
            raise ValueError(f"isotonic calibration is of click logits, and the model has {logit.shape[1]} outputs; use temperature")
        if len(logit) < FEWEST_ROWS:
            report(f"warning: not calibrated: {len(logit):,} validation rows, {FEWEST_ROWS} are needed")
            return model
        return Calibrated(model, Temperature(fit_class_scale(logit, validation.label.astype(np.int64)), 0.0))
    calibration = _fit_label(logit[:, 0], validation.label, validation.weight, how, report)
    return model if calibration is None else Calibrated(model, calibration)


def _fit_label(
    scores: np.ndarray, label: np.ndarray, weight: np.ndarray | None, how: Calibration, report: Callable[[str], None]
) -> Temperature | MonotoneLines | None:
    """The calibration of the logits (rows,) of one label; None where there is nothing to calibrate by, which is said."""
    if weight is not None:
        counted = weight > 0  # the others are no evidence of anything
        scores, label, weight = scores[counted], label[counted], of_mean_one(weight[counted])
    clicks = int((label == 1).sum())
    if min(clicks, len(label) - clicks) < FEWEST_CLICKS:
        report(
            f"warning: not calibrated: {clicks:,} of {len(label):,} validation rows are clicks, {FEWEST_CLICKS} of each label are needed"
        )
        return None
    calibration = (fit_temperature if how == "temperature" else fit_isotonic)(scores, label, weight)
    if calibration is None:
        report("warning: not calibrated: on the validation rows a higher logit is not clicked more")
    return calibration


def fit_temperature(logit: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> Temperature | None:
    """Scale and bias of the least log loss, by Newton's method: the loss is convex in both.

    Platt 1999 (Probabilistic outputs for support vector machines, section 2); with the bias at 0 it is the temperature scaling of
    Guo et al. 2017 (arXiv:1706.04599, section 4.2). His smoothed labels keep separable rows from an infinite scale.

    Parameters
    ----------
    logit : float array (rows,)
    label : array of 0 and 1, shape (rows,)
    weight : float array (rows,), optional
        How much each row counts, of mean 1: weights add no evidence, so labels are smoothed as of so many rows.

    Returns
    -------
    Temperature or None
        None where the scale would not be above zero, which would turn the ranking round.

    Examples
    --------
    >>> fitted = fit_temperature(np.repeat([-2.0, 2.0], 1000), np.repeat([0, 1, 0, 1], [750, 250, 250, 750]))
    >>> round(float(fitted.scale), 3), abs(round(float(fitted.bias), 3))  # log(3) / 2, nearly
    (0.548, 0.0)
    """
    count = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    clicks = label.sum() if weight is None else float(count @ label)
    target = np.where(label == 1, (clicks + 1) / (clicks + 2), 1 / (len(label) - clicks + 2))
    inputs = np.stack([logit.astype(np.float64), np.ones(len(logit))], axis=1)  # (rows, 2)
    parameters = np.array([1.0, 0.0])

    def loss(of: np.ndarray) -> float:
        z = inputs @ of
        return float(((np.logaddexp(0, z) - target * z) * count).mean())

    for _ in range(NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-(inputs @ parameters)))
        gradient = inputs.T @ ((probability - target) * count) / len(target)
        if np.abs(gradient).max() < 1e-9:
            break
        steepness = (probability * (1 - probability) * count)[:, None]
        curvature = inputs.T @ (inputs * steepness) / len(target) + 1e-9 * np.eye(2)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while loss(parameters - size * step) > loss(parameters) and size > 1e-6:
            size /= 2
        parameters = parameters - size * step
    return Temperature(float(parameters[0]), float(parameters[1])) if parameters[0] > 1e-3 else None


def fit_class_scale(logit: np.ndarray, label: np.ndarray) -> float:
    """Scale of the least log loss of the classes, which is convex in it: temperature scaling (Guo et al. 2017, arXiv:1706.04599).

    Parameters
    ----------
    logit : float array (rows, classes)
    label : int array (rows,)

    Returns
    -------
    float
        1 / temperature, between e**-3 and e**5: rows that the logits separate ask for an infinite one.

    Examples
    --------
    >>> logit = np.array([[2.0, 0.0]] * 1000)
    >>> round(fit_class_scale(logit, np.repeat([0, 1], [750, 250])), 3)  # log(3) / 2
    0.549
    """
    rows, logit = np.arange(len(label)), logit.astype(np.float64)

    def loss(logarithm: float) -> float:
        return float(-log_softmax(np.exp(logarithm) * logit, axis=1)[rows, label].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 5.0), method="bounded").x))


def fit_isotonic(logit: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> MonotoneLines | None:
    """An isotonic fit of the click rate, without its steps: lines between the centres of its blocks, in logits.

    A step function would tie all rows of a block and cost AUC (Zadrozny and Elkan 2002, doi:10.1145/775047.775151, have it so); lines
    between the blocks' centres rise strictly. Rows are first cut into bins of equal size, whose rates take one more row at the
    average rate, so that no bin is certain.

    Parameters
    ----------
    logit : float array (rows,)
    label : array of 0 and 1, shape (rows,)
    weight : float array (rows,), optional
        How much each row counts, above 0 and of mean 1.

    Returns
    -------
    MonotoneLines or None
        None where the fit has but one block, in which a higher logit is not clicked more.
    """
    order = np.argsort(logit, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // FEWEST_ROWS, 2, MOST_BINS)))
    centre = np.array([logit[rows].mean(dtype=np.float64) for rows in bins])
    size = np.array([len(rows) for rows in bins], np.float64)
    rate = np.array([(label[rows].sum() + label.mean()) / (len(rows) + 1) for rows in bins])
    if weight is not None:
        centre = np.array([np.average(logit[rows], weights=weight[rows]) for rows in bins])
        size = np.array([weight[rows].sum(dtype=np.float64) for rows in bins])
        clicks = np.array([weight[rows] @ label[rows] for rows in bins], np.float64)
        rate = (clicks + np.average(label, weights=weight)) / (size + 1)
    fitted = IsotonicRegression().fit(np.arange(len(bins)), rate, sample_weight=size).predict(np.arange(len(bins)))
    block = np.unique(fitted, return_inverse=True)[1]
    of_block = np.bincount(block, size)
    x, p = np.bincount(block, centre * size) / of_block, np.bincount(block, fitted * size) / of_block
    apart = np.concatenate([[True], np.diff(x.astype(np.float32)) > 0])  # bins of one and the same logit
    x, y = x[apart], np.log(p / (1 - p))[apart]
    return MonotoneLines(x, y) if len(x) > 1 else None
