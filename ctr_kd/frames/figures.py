"""Figures of models with their intervals, and paired differences, on plain arrays and as frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows


def evaluate(
    label: ArrayLike,
    scores: Mapping[str, ArrayLike] | ArrayLike,
    *,
    user: ArrayLike | None = None,
    request: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    replicates: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """Figures of one or several models on the same rows, with 95 % intervals of a bootstrap over users.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
        Of classes their codes.
    scores : array, shape (rows,), or mapping of model name to such arrays
        Click probabilities; of classes probabilities, shape (rows, classes).
    user : array, shape (rows,), optional
        Unit of resampling and of GAUC; without it rows are resampled and there is no GAUC.
    request : array, shape (rows,), optional
        Candidates that were shown together, for the AUC inside a request.
    weight : array, shape (rows,), optional
        How much each row counts.
    replicates, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame, shape (models, figures)
        ``auc``, ``auc_low``, ``auc_high``, ``log_loss``, ...; NaN where a figure has no value on these rows.

    Raises
    ------
    ValueError
        When an array has the wrong length, a label is invalid, or a score is no probability.

    Examples
    --------
    >>> table = evaluate([0, 1, 0, 1], {"a": [0.1, 0.8, 0.3, 0.6], "b": [0.5, 0.4, 0.3, 0.6]}, user=[1, 1, 2, 2], replicates=50)
    >>> table[["auc", "gauc"]].to_dict("index")
    {'a': {'auc': 1.0, 'gauc': 1.0}, 'b': {'auc': 0.75, 'gauc': 0.5}}
    """
    models = scores if isinstance(scores, Mapping) else {"score": scores}
    found = evaluate_models(_rows(label, user, request, weight), _arrays(models), replicates=replicates, seed=seed, pairs=())
    return models_frame(found.to_json()["models"])


def compare(
    label: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    user: ArrayLike | None = None,
    request: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    replicates: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """First model minus second, on the same resamples of users.

    Parameters
    ----------
    label, user, request, weight, replicates, seed
        As in :func:`evaluate`.
    first, second : array, shape (rows,)
        Click probabilities of the two models.

    Returns
    -------
    DataFrame, shape (figures, 4)
        ``difference``, the ends ``low`` and ``high`` of its 95 % interval, and ``p_value`` of no difference.

    Examples
    --------
    >>> found = compare([0, 1, 0, 1], [0.1, 0.8, 0.3, 0.6], [0.5, 0.4, 0.3, 0.6], user=[1, 1, 2, 2], replicates=50)
    >>> float(found.loc["auc", "difference"])
    0.25
    """
    scores = _arrays({"first": first, "second": second})
    rows = _rows(label, user, request, weight)
    found = evaluate_models(rows, scores, replicates=replicates, seed=seed, pairs=(("first", "second"),))
    return differences_frame(found.to_json()["comparisons"]).droplevel("pair")


def _rows(label: ArrayLike, user: ArrayLike | None, request: ArrayLike | None, weight: ArrayLike | None) -> EvaluationRows:
    user, request, weight = (None if one is None else np.asarray(one) for one in (user, request, weight))
    return EvaluationRows(np.asarray(label), user=user, request=request, row_weight=weight)


def _arrays(scores: Mapping[str, ArrayLike]) -> dict[str, Any]:
    return {name: np.asarray(score, np.float64) for name, score in scores.items()}


def models_frame(models: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Block ``models`` of metrics.json as a frame: a line each, a column for each figure and each end of its interval.

    Examples
    --------
    >>> models_frame({"student": {"auc": {"value": 0.7, "low": 0.6, "high": 0.8}, "bytes": 9}}).loc["student"].to_dict()
    {'auc': 0.7, 'auc_low': 0.6, 'auc_high': 0.8, 'bytes': 9.0}
    """
    return pd.DataFrame.from_dict({name: dict(_flat(figures)) for name, figures in models.items()}, orient="index", dtype=float)


def _flat(figures: Mapping[str, Any]) -> Any:
    for name, entry in figures.items():
        value = entry.get("value") if isinstance(entry, Mapping) and "value" in entry else entry
        if value is not None and not isinstance(value, (int, float)):
            continue  # a table of its own, such as the figures before calibration
        yield name, value
        if isinstance(entry, Mapping):
            yield from ((f"{name}_{end}", entry[end]) for end in ("low", "high") if end in entry)


def differences_frame(comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Block ``comparisons`` of metrics.json as a frame, a line for each pair and figure."""
    lines = {(pair, name): dict(entry) for pair, figures in comparisons.items() for name, entry in figures.items()}
    index = pd.MultiIndex.from_tuples(list(lines), names=["pair", "figure"]) if lines else pd.MultiIndex([[], []], [[], []])
    return pd.DataFrame(list(lines.values()), index=index, columns=["difference", "low", "high", "p_value"], dtype=float)
