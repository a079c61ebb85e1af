"""What somebody else's model answered, checked before a student learns from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.tables.contracts import DataError

_FEW = 100  # rows of which none can say that there are but two answers


def checked_answer(answer: Any, rows: int, who: str) -> NDArray[np.float64]:
    """Scores (rows, outputs), float64, of what a model answered: an array (rows,), (rows, 1), (rows, classes), or of two classes.

    Raises
    ------
    DataError
        One line that begins with ``who``: for what is no array of numbers, another number of rows, what is not finite, or where all rows
        have one score or classes stand in place of scores.

    Examples
    --------
    >>> checked_answer([0.25, 0.5], 2, "teacher mine").tolist()
    [[0.25], [0.5]]
    >>> checked_answer([[0.9, 0.1]], 1, "teacher mine").tolist()  # probabilities of no click and of a click
    [[0.1]]
    """
    try:
        score = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{who} answers a {type(answer).__name__} that is no array of numbers") from None
    if score.ndim not in (1, 2) or len(score) != rows:
        raise DataError(f"{who} answers an array of shape {score.shape} for {rows:,} rows: let it say one score, or one a class, for each")
    score = score.reshape(rows, -1)
    if score.shape[1] == 2 and rows and np.allclose(score.sum(axis=1), 1) and (score >= 0).all():
        score = score[:, 1:]  # of no click and of a click, as predict_proba has them
    broken = ~np.isfinite(score).all(axis=1)
    if broken.any():
        raise DataError(f"{who} answers no finite number for {broken.sum():,} of {rows:,} rows (first: row {np.flatnonzero(broken)[0]})")
    if rows > _FEW and score.shape[1] == 1:
        found = np.unique(score)
        if len(found) == 1:
            raise DataError(f"{who} says {found[0]:g} of all rows, which teaches nothing")
        if set(found.tolist()) == {0.0, 1.0}:
            raise DataError(
                f"{who} says classes (0 or 1) and no probabilities: log a model of scikit-learn with pyfunc_predict_fn='predict_proba'"
            )
    return score
