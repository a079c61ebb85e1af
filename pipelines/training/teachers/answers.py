"""What somebody else's model answered, checked before a student learns from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.tables.contracts import DataError

_FEW = 100  # rows of which none can say that there are but two answers


def checked_answer(answer: Any, row_id: NDArray, who: str, outputs: int, *, of_classes: bool = False) -> NDArray[np.float64]:
    """Scores (rows, outputs), float64, of what a model answered of rows, by their ids: an array (rows,) or (rows, outputs).

    With ``of_classes`` the two columns of ``predict_proba`` are probabilities of no click and of a click: the second is kept.

    Raises
    ------
    DataError
        One line that begins with ``who``: for what is no array of numbers, another number of rows or outputs, what is not finite, or
        classes in place of scores.

    Examples
    --------
    >>> checked_answer([0.25, 0.5], np.array([7, 8]), "teacher mine", 1).tolist()
    [[0.25], [0.5]]
    >>> checked_answer([[0.9, 0.1]], np.array([7]), "teacher mine", 1, of_classes=True).tolist()
    [[0.1]]
    """
    rows = len(row_id)
    try:
        score = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{who} answers a {type(answer).__name__} that is no array of numbers") from None
    if score.ndim not in (1, 2) or len(score) != rows:
        raise DataError(f"{who} answers an array of shape {score.shape} for {rows:,} rows: let it say one score, or one a class, for each")
    score = score.reshape(rows, -1)
    broken = ~np.isfinite(score).all(axis=1)
    if broken.any():
        raise DataError(  # at once, and not when all rows of a split are asked about: only these are counted
            f"{who} answers no finite number for {broken.sum():,} of {rows:,} rows that it was asked about at once "
            f"(first: row {row_id[broken][0]})"
        )
    if of_classes and outputs == 1 and score.shape[1] == 2 and np.allclose(score.sum(axis=1), 1) and (score >= 0).all():
        score = score[:, 1:]
    if score.shape[1] != outputs:
        raise DataError(f"{who} answers {score.shape[1]} columns, and there {'is 1 output' if outputs == 1 else f'are {outputs} outputs'}")
    if rows > _FEW and outputs == 1 and set(np.unique(score).tolist()) == {0.0, 1.0}:
        raise DataError(
            f"{who} says classes (0 or 1) and no probabilities: log the Booster of LightGBM or XGBoost, or one with mlflow.sklearn "
            "and pyfunc_predict_fn='predict_proba'"
        )
    return score
