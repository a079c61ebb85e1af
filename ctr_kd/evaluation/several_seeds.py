"""Models of several seeds on the same rows: their mean metrics and paired differences, users and seeds resampled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_kd.evaluation.model_metrics import measure_model
from ctr_kd.metrics.bootstrap import Bootstrap, Difference, Interval, over_seeds, paired_difference, percentile_interval
from ctr_kd.metrics.checks import Floats, UndefinedMetric


@dataclass(frozen=True)
class Seeded:
    """A metric of one model: `value` (seeds,), and `replicates` (seeds, replicates) on the same resamples of users for all models."""

    value: Floats
    replicates: Floats


def measure_seeds(label: NDArray, scores: Sequence[NDArray], bootstrap: Bootstrap, weight: Floats | None = None) -> dict[str, Seeded]:
    """AUC and log loss, and of classes accuracy, of a model that was trained with several seeds.

    Parameters
    ----------
    label : array, shape (rows,)
        0 or 1 for clicks, class codes for classes.
    scores : sequence of float arrays (rows,) or (rows, classes)
        Probabilities, one array per seed; a model without seeds, as the teacher is, has one.
    bootstrap : Bootstrap
        Over the same rows.
    weight : float array (rows,), optional
        Of clicks, see :func:`ctr_kd.evaluation.model_metrics.measure_model`.

    Raises
    ------
    UndefinedMetric
        When only one label occurs.
    """
    values: dict[str, list[float]] = {}
    replicates: dict[str, list[Floats]] = {}
    everything = np.ones(len(label), bool)
    for score in scores:  # one at a time: a prepared statistic takes some fifty bytes per row
        measured = measure_model(label, score, bootstrap, rows=everything, weight=weight)
        undefined = [one.reason for one in measured.values() if one.reason]
        if undefined:
            raise UndefinedMetric(undefined[0])
        found = bootstrap.values_of({name: one.statistic for name, one in measured.items() if one.statistic})
        for name in found:
            values.setdefault(name, []).append(measured[name].value)
            replicates.setdefault(name, []).append(found[name])
    return {name: Seeded(np.array(values[name]), np.array(replicates[name])) for name in values}


@dataclass(frozen=True)
class SeedMean(Interval):
    """Mean of a metric over the seeds, with the value of each."""

    seeds: list[float]

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class SeedDifference(Difference):
    """Mean over the seeds of the difference of two models, with the difference of each."""

    seeds: list[float]

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


def seed_means(measured: Mapping[str, Seeded], seed: int) -> dict[str, SeedMean]:
    """Mean over the seeds with its interval, by metric.

    Parameters
    ----------
    measured : mapping of str to Seeded
    seed : int
        Of the resampling of seeds.
    """
    means = {}
    for name, one in measured.items():
        interval = percentile_interval(float(one.value.mean()), over_seeds(one.replicates, seed))
        means[name] = SeedMean(interval.value, interval.low, interval.high, one.value.tolist())
    return means


def seed_differences(first: Mapping[str, Seeded], second: Mapping[str, Seeded], seed: int) -> dict[str, SeedDifference]:
    """First minus second, paired by seed and by resample, by metric; a model of one seed is compared with every seed of the other.

    Parameters
    ----------
    first, second : mapping of str to Seeded
        Of one bootstrap.
    seed : int
        Of the resampling of seeds.
    """
    differences = {}
    for name in first:
        values = first[name].value - second[name].value
        replicates = over_seeds(first[name].replicates - second[name].replicates, seed)
        found = paired_difference(float(values.mean()), 0.0, replicates, np.zeros_like(replicates))
        differences[name] = SeedDifference(found.difference, found.low, found.high, found.p_value, values.tolist())
    return differences
