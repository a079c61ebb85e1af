"""Whether a teacher looks better on the rows that it teaches than on rows that it cannot have learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.evaluation.several_seeds import Seeded, measure_seeds
from ctr_kd.metrics import UndefinedMetric, calibration_ratio, of_full_stream
from ctr_kd.metrics.bootstrap import Bootstrap, percentile_interval
from pipelines.tasks.logits import probabilities
from pipelines.training.facts import FitOnRows, LeakFacts

_REPLICATES = 200


def check_for_leak(train: EvaluationRows, train_logits: NDArray, validation: EvaluationRows, validation_logits: NDArray) -> LeakFacts:
    """Compare a teacher on the newest training rows with itself on validation rows, which follow them in time.

    A teacher that saw the labels of the rows that it teaches repeats them there, surer than it is of any other row, and a student learns
    what it will not find in production. Of the training rows the newest are compared, so that little else than the training lies between
    the two.

    Parameters
    ----------
    train, validation : EvaluationRows
        As many of both, where training has as many.
    train_logits, validation_logits : float arrays (rows, outputs)
        NaN where it said nothing; such rows are left out.
    """
    on_train, of_train = _measured(train, train_logits, seed=0)
    on_validation, of_validation = _measured(validation, validation_logits, seed=1)
    if of_train is None or of_validation is None:
        return LeakFacts(training=on_train, validation=on_validation)
    difference = percentile_interval(
        float(of_train.value.item() - of_validation.value.item()), of_train.replicates[0, 0] - of_validation.replicates[0, 0]
    )
    return LeakFacts(training=on_train, validation=on_validation, difference=difference.value, low=difference.low, high=difference.high)


def _measured(rows: EvaluationRows, logits: NDArray, seed: int) -> tuple[FitOnRows, Seeded | None]:
    """What the logits are worth on the rows, and by resample; the latter None where that is undefined."""
    logits = logits[:, :1] if rows.classes is None else logits  # of several labels that of the click
    known = np.isfinite(logits).all(axis=1)
    count = int(known.sum())
    label, user = rows.label[known], None if rows.user is None else rows.user[known]
    score = of_full_stream(probabilities(logits[known]), rows.negative_sampling_rate)
    weight = None if rows.weight is None else rows.weight[known]
    metric = rows.metric
    bootstrap = Bootstrap(user, count, replicates=_REPLICATES, seed=seed)
    if bootstrap.obstacle():
        return FitOnRows(rows=count), None
    try:
        found = measure_seeds(label, [[score]], bootstrap, weight, None if rows.row_weight is None else rows.row_weight[known])[metric]
        figures: dict[str, Any] = {metric: float(found.value.item())}
        if rows.classes is None:
            figures["calibration_ratio"] = calibration_ratio(label, score, weight)
    except UndefinedMetric:
        return FitOnRows(rows=count), None
    return FitOnRows(rows=count, **figures), found
