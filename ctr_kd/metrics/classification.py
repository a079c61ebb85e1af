"""Metrics of several classes: accuracy, macro F1, the report by class, and AUC over one class against the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_kd.metrics.checks import Floats, Integers, UndefinedMetric
from ctr_kd.metrics.ranking import auc_score


def accuracy_score(label: ArrayLike, predicted: ArrayLike) -> float:
    """Share of rows whose predicted class is the label.

    Parameters
    ----------
    label, predicted : arrays of integers or strings, shape (rows,)

    Raises
    ------
    UndefinedMetric
        When there are no rows.

    Examples
    --------
    >>> accuracy_score([0, 1, 2, 1], [0, 2, 2, 1])
    0.75
    """
    labels, predictions = check_classes(label, predicted)
    return float(np.mean(labels == predictions))


def macro_f1_score(label: ArrayLike, predicted: ArrayLike) -> float:
    """F1 averaged over the classes that occur among the labels or the predictions.

    A class that is never hit has F1 = 0 (twice its hits over the sum of its labels and predictions), as in scikit-learn.

    Parameters
    ----------
    label, predicted : arrays of integers or strings, shape (rows,)

    Raises
    ------
    UndefinedMetric
        When there are no rows.

    Examples
    --------
    >>> round(macro_f1_score([0, 1, 2, 1], [0, 2, 2, 1]), 6)
    0.777778
    """
    hits, supports, predictions, _ = class_counts(label, predicted)
    return float(np.mean(f1_of(hits, supports, predictions)))


def classification_report(label: ArrayLike, predicted: ArrayLike, names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and support of each class.

    Parameters
    ----------
    label, predicted : arrays, shape (rows,)
        Classes; integers that index `names` where names are given.
    names : list of str, optional
        Names of all classes, in the order of their codes.

    Returns
    -------
    dict
        ``{class: {"precision", "recall", "f1", "support"}}``. A value that is undefined (the precision of a class
        that was never predicted, the recall of one that never occurs) is ``{"value": None, "reason": ...}``.

    Examples
    --------
    >>> report = classification_report([0, 1, 1], [0, 0, 0], names=["sport", "finance"])
    >>> report["sport"]["recall"], report["sport"]["f1"], report["finance"]["precision"]
    (1.0, 0.5, {'value': None, 'reason': 'never predicted'})
    """
    hits, supports, predictions, classes = class_counts(label, predicted)
    f1 = f1_of(hits, supports, predictions)
    report = {}
    for position, name in enumerate(classes):
        tp, support, count = int(hits[position]), int(supports[position]), int(predictions[position])
        report[str(name) if names is None else names[int(name)]] = {
            "precision": tp / count if count else {"value": None, "reason": "never predicted"},
            "recall": tp / support if support else {"value": None, "reason": "no such label"},
            "f1": float(f1[position]),
            "support": support,
        }
    return report


def report_averages(label: ArrayLike, predicted: ArrayLike) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 over the classes that occur: ``macro`` all alike, ``weighted`` by their labels.

    What is undefined for a class (:func:`classification_report`) counts as 0, as in scikit-learn.

    Parameters
    ----------
    label, predicted : arrays of integers or strings, shape (rows,)

    Returns
    -------
    dict
        ``{"macro" or "weighted": {"precision", "recall", "f1", "support"}}``; the support is that of all rows.

    Examples
    --------
    >>> averages = report_averages([0, 1, 1, 1], [0, 1, 1, 0])
    >>> averages["macro"]["precision"], round(averages["weighted"]["recall"], 4)
    (0.75, 0.75)
    """
    hits, supports, predictions, _ = class_counts(label, predicted)
    figures = {
        "precision": hits / np.maximum(predictions, 1),
        "recall": hits / np.maximum(supports, 1),
        "f1": f1_of(hits, supports, predictions),
    }
    weights = {"macro": np.ones(len(hits)), "weighted": supports}
    rows = int(supports.sum())
    return {
        kind: {name: float(np.average(values, weights=weight)) for name, values in figures.items()} | {"support": rows}
        for kind, weight in weights.items()
    }


def confusion_matrix(label: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Rows by label and predicted class, shape (classes, classes).

    Parameters
    ----------
    label, predicted : arrays of integers, shape (rows,)
        Class codes.
    classes : int
        How many there are.

    Examples
    --------
    >>> confusion_matrix([0, 1, 1], [0, 0, 1], 2).tolist()
    [[1, 0], [1, 1]]
    """
    labels, predictions = check_classes(label, predicted)
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def one_vs_rest_auc_score(label: ArrayLike, score: ArrayLike) -> float:
    """AUC of each class against all others, averaged over the classes that occur; with two classes the AUC of the second.

    Parameters
    ----------
    label : array of integers, shape (rows,)
    score : array, shape (rows, classes)

    Raises
    ------
    UndefinedMetric
        When only one class occurs.

    Examples
    --------
    >>> one_vs_rest_auc_score([0, 1, 2], [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    0.75
    """
    labels, scores = check_class_scores(label, score)
    present = np.unique(labels)
    if len(present) < 2:
        raise UndefinedMetric(f"all {len(labels)} labels are class {present[0]}" if len(present) else "there are no rows")
    columns = [1] if scores.shape[1] == 2 else present
    return float(np.mean([auc_score(labels == column, scores[:, column]) for column in columns]))


def class_log_losses(label: ArrayLike, score: ArrayLike) -> Floats:
    """Negative log likelihood of each row's class, shape (rows,), in nats; clipped as in `log_loss` of clicks.

    Parameters
    ----------
    label : array of integers, shape (rows,)
        Class codes.
    score : array, shape (rows, classes)
        Class probabilities.
    """
    labels, scores = check_class_probabilities(label, score)
    likelihood = scores[np.arange(len(labels)), labels]
    margin = np.finfo(scores.dtype).eps
    return -np.log(np.clip(likelihood.astype(np.float64), margin, 1 - margin))


def class_normalized_entropy(label: ArrayLike, score: ArrayLike) -> float:
    """Mean log loss over the entropy of the class shares: 1 is a model that predicts the shares, 0 is perfect.

    Parameters
    ----------
    label : array of integers, shape (rows,)
        Class codes.
    score : array, shape (rows, classes)
        Class probabilities.

    Raises
    ------
    UndefinedMetric
        When only one class occurs.

    Examples
    --------
    >>> round(class_normalized_entropy([0, 1, 2], [[1 / 3, 1 / 3, 1 / 3]] * 3), 6)
    1.0
    """
    losses = class_log_losses(label, score)
    shares = np.unique(np.asarray(label), return_counts=True)[1] / max(len(losses), 1)
    if len(shares) < 2:
        raise UndefinedMetric(f"all {len(losses)} labels are one class" if len(losses) else "there are no rows")
    return float(losses.mean() / -(shares @ np.log(shares)))


def class_counts(label: ArrayLike, predicted: ArrayLike) -> tuple[Integers, Integers, Integers, NDArray]:
    """Hits, labels and predictions of each class that occurs in either, and the classes; each of shape (classes,)."""
    labels, predictions = check_classes(label, predicted)
    classes, code = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    true, guess = np.split(code, 2)
    counts = (np.bincount(values, minlength=len(classes)) for values in (true[true == guess], true, guess))
    return *counts, classes  # type: ignore[return-value]


def f1_of(hits: NDArray, supports: NDArray, predictions: NDArray) -> Floats:
    """Harmonic mean of precision and recall, from counts of any one shape; every class needs a label or a prediction."""
    return 2 * hits / (supports + predictions)


def check_classes(label: ArrayLike, predicted: ArrayLike) -> tuple[NDArray, NDArray]:
    """Labels and predictions as arrays of one shape (rows,), at least one row."""
    labels, predictions = np.asarray(label), np.asarray(predicted)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"labels and predictions must have one shape (rows,), not {labels.shape} and {predictions.shape}")
    if not len(labels):
        raise UndefinedMetric("there are no rows")
    return labels, predictions


def check_class_scores(label: ArrayLike, score: ArrayLike) -> tuple[Integers, NDArray]:
    """Class codes of shape (rows,) and finite scores of shape (rows, classes)."""
    labels, scores = np.asarray(label), np.asarray(score)
    if labels.ndim != 1 or scores.ndim != 2 or len(labels) != len(scores) or scores.shape[1] < 2:
        raise ValueError(f"label must have the shape (rows,) and score (rows, classes), not {labels.shape} and {scores.shape}")
    if len(labels) and not (np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0 and labels.max() < scores.shape[1]):
        raise ValueError(f"labels must be class codes from 0 to {scores.shape[1] - 1}")
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers; row {np.flatnonzero(np.isnan(scores).any(axis=1))[0]} is not")
    return labels.astype(np.int64, copy=False), scores


def check_class_probabilities(label: ArrayLike, score: ArrayLike) -> tuple[Integers, NDArray]:
    """As `check_class_scores`, and each row of the scores is a distribution."""
    labels, scores = check_class_scores(label, score)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if len(scores) and (scores.min() < 0 or not np.allclose(scores.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("class probabilities must not be negative and must add up to 1 in each row")
    return labels, scores
