"""What every metric asks of its input, and how it says that it has no value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class UndefinedMetric(ValueError):
    """The metric has no value on these rows, for example the AUC where only one label occurs.

    Attributes
    ----------
    reason : str
        Why there is no value, in words fit for a report.

    Examples
    --------
    >>> from ctr_kd.metrics import auc_score
    >>> try:
    ...     auc_score([1, 1], [0.3, 0.6])
    ... except UndefinedMetric as undefined:
    ...     print(undefined.reason)
    all 2 labels are 1
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_rows(label: ArrayLike, score: ArrayLike, *, probability: bool = False) -> tuple[NDArray[np.bool_], NDArray]:
    """Labels as booleans and scores as floats (their own float type), both of shape (rows,).

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
    probability : bool
        Whether scores must lie between 0 and 1.

    Raises
    ------
    ValueError
        When they are anything else; the message names the first such row.
    """
    labels, values = np.asarray(label), np.asarray(score)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    if labels.ndim != 1 or labels.shape != values.shape:
        raise ValueError(f"label and score must have one shape (rows,), not {labels.shape} and {values.shape}")
    clicked = labels.astype(bool)
    if labels.dtype != bool and (wrong := np.flatnonzero(labels != clicked)).size:
        raise ValueError(f"labels must be 0 or 1; row {wrong[0]} has {labels[wrong[0]]}")
    valid = (values >= 0) & (values <= 1) if probability else ~np.isnan(values)
    if not valid.all():
        wrong = np.flatnonzero(~valid)
        wanted = "probabilities between 0 and 1" if probability else "numbers"
        others = f", and {len(wrong) - 1} others are none either" if len(wrong) > 1 else ""
        raise ValueError(f"scores must be {wanted}; row {wrong[0]} has {values[wrong[0]]}{others}")
    return clicked, values


def require_both_labels(clicked: NDArray[np.bool_]) -> None:
    """Raise `UndefinedMetric` unless both labels occur."""
    if not len(clicked):
        raise UndefinedMetric("there are no rows")
    if clicked.all() or not clicked.any():
        raise UndefinedMetric(f"all {len(clicked)} labels are {int(clicked[0])}")


def group_codes(group: ArrayLike) -> tuple[NDArray, Integers]:
    """Distinct identifiers, ascending, and each row's position among them.

    >>> names, code = group_codes(["b", "a", "b"])
    >>> [str(name) for name in names], code.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    names, code = np.unique(np.asarray(group), return_inverse=True)
    return names, code.astype(np.int64, copy=False)


def check_weight(weight: ArrayLike, rows: int, *, positive: bool = False) -> Floats:
    """Weights as float64, shape (rows,).

    Parameters
    ----------
    weight : array, shape (rows,)
    rows : int
    positive : bool
        Whether one of them must be above zero.

    Raises
    ------
    ValueError
        When there are more or fewer, or one is negative or no number.
    UndefinedMetric
        When all are zero and must not be.
    """
    weights = np.asarray(weight, np.float64)
    if weights.shape != (rows,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"weight must hold {rows} finite numbers that are not negative")
    if positive and not weights.any():
        raise UndefinedMetric("all weights are 0")
    return weights
