"""Models of several seeds on the same rows: their mean metrics and paired differences, users and seeds resampled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_kd.comparison import AucStatistic, Bootstrap, RatioStatistic, Statistic, over_seeds, paired_difference, percentile_interval
from ctr_kd.metrics import auc_score
from ctr_kd.metrics.checks import Floats
from ctr_kd.metrics.probability import row_log_losses

METRICS = ("auc", "log_loss")


@dataclass(frozen=True)
class Seeded:
    """A metric of one model: `value` (seeds,), and `replicates` (seeds, replicates) on the same resamples of users for all models."""

    value: Floats
    replicates: Floats


def measure_seeds(label: NDArray, scores: Sequence[NDArray], bootstrap: Bootstrap) -> dict[str, Seeded]:
    """AUC and log loss of a model that was trained with several seeds.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    scores : sequence of float arrays (rows,)
        Click probabilities, one array per seed; a model without seeds, as the teacher is, has one.
    bootstrap : Bootstrap
        Over the same rows.

    Raises
    ------
    UndefinedMetric
        When only one label occurs.
    """
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    replicates: dict[str, list[Floats]] = {name: [] for name in METRICS}
    for score in scores:  # one at a time: a prepared statistic takes some fifty bytes per row
        losses = row_log_losses(label, score)
        rows = bootstrap.sums(np.ones(len(losses)), bootstrap.unit)
        statistics: dict[str, Statistic] = {
            "auc": AucStatistic(label, score, bootstrap.unit),
            "log_loss": RatioStatistic(bootstrap.sums(losses, bootstrap.unit), rows),
        }
        found = bootstrap.run(statistics)
        for name, value in (("auc", float(auc_score(label, score))), ("log_loss", float(losses.mean()))):
            values[name].append(value)
            replicates[name].append(found[name])
    return {name: Seeded(np.array(values[name]), np.array(replicates[name])) for name in METRICS}


def summarise(measured: Mapping[str, Seeded], seed: int) -> dict[str, Any]:
    """Mean over the seeds with its interval, and the value of each seed, by metric; as in metrics.json."""
    entries = {}
    for name, one in measured.items():
        interval = percentile_interval(float(one.value.mean()), over_seeds(one.replicates, seed))
        entries[name] = {**asdict(interval), "seeds": one.value.tolist()}
    return entries


def difference(first: Mapping[str, Seeded], second: Mapping[str, Seeded], seed: int) -> dict[str, Any]:
    """First minus second, paired by seed and by resample, by metric; a model of one seed is compared with every seed of the other.

    Parameters
    ----------
    first, second : mapping of str to Seeded
        Of one bootstrap.
    seed : int
        Of the resampling of seeds.

    Returns
    -------
    dict
        ``{metric: {"difference", "low", "high", "p_value", "seeds"}}``; ``seeds`` holds the difference of each seed.
    """
    entries = {}
    for name in METRICS:
        values = first[name].value - second[name].value
        replicates = over_seeds(first[name].replicates - second[name].replicates, seed)
        found = paired_difference(float(values.mean()), 0.0, replicates, np.zeros_like(replicates))
        entries[name] = {**asdict(found), "seeds": values.tolist()}
    return entries
