"""Models of several seeds, and of several teachers, on the same rows: mean metrics and paired differences, all resampled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ctr_kd.evaluation.model_metrics import measure_model
from ctr_kd.metrics.bootstrap import Bootstrap, Difference, Interval, over_seeds, paired_difference, percentile_interval
from ctr_kd.metrics.checks import Floats, UndefinedMetric


@dataclass(frozen=True)
class Seeded:
    """A metric of one model by teacher seed and student seed, on the same resamples of users for all models.

    A model that no teacher taught has one teacher here, and one without a student seed, as a teacher is, one student. So any two models
    are compared by broadcasting: each student with its own teacher, and with the student alone of its own seed.

    Attributes
    ----------
    value : float array (teachers, students)
    replicates : float array (teachers, students, replicates)
    """

    value: Floats
    replicates: Floats

    @property
    def under_first(self) -> Seeded:
        """What of it stands under the first teacher."""
        return Seeded(self.value[:1], self.replicates[:1])


def measure_seeds(
    label: NDArray,
    scores: Sequence[Sequence[NDArray]],
    bootstrap: Bootstrap,
    weight: Floats | None = None,
    row_weight: NDArray | None = None,
) -> dict[str, Seeded]:
    """AUC and log loss, and of classes accuracy, of a model that was trained with several seeds.

    Parameters
    ----------
    label : array, shape (rows,)
        0 or 1 for clicks, class codes for classes.
    scores : sequence of sequences of float arrays (rows,) or (rows, classes)
        Probabilities by teacher seed, and within it by student seed; a single model is ``[[score]]``.
    bootstrap : Bootstrap
        Over the same rows.
    weight, row_weight : float arrays (rows,), optional
        Of clicks, see :func:`ctr_kd.evaluation.model_metrics.measure_model`.

    Raises
    ------
    UndefinedMetric
        When only one label occurs.
    """
    values: dict[str, list[float]] = {}
    replicates: dict[str, list[Floats]] = {}
    everything = np.ones(len(label), bool)
    for score in chain.from_iterable(scores):  # one at a time: a prepared statistic takes some fifty bytes per row
        measured = measure_model(label, score, bootstrap, rows=everything, weight=weight, row_weight=row_weight)
        undefined = [one.reason for one in measured.values() if one.reason]
        if undefined:
            raise UndefinedMetric(undefined[0])
        found = bootstrap.values_of({name: one.statistic for name, one in measured.items() if one.statistic})
        for name in found:
            values.setdefault(name, []).append(measured[name].value)
            replicates.setdefault(name, []).append(found[name])
    shape = len(scores), len(scores[0])
    return {name: Seeded(np.reshape(values[name], shape), np.reshape(replicates[name], (*shape, -1))) for name in values}


@dataclass(frozen=True)
class BySeed:
    """Where a mean over seeds comes from.

    Attributes
    ----------
    seeds : list of float
        By student seed, each the mean over the teachers.
    teachers : list of float
        By teacher seed, each the mean over its students.
    teachers_std : float, optional
        Standard deviation of those by teacher seed; None of a single one.
    by_teacher : list of lists of float
        By teacher seed, and within it by student seed.
    """

    seeds: list[float]
    teachers: list[float]
    teachers_std: float | None
    by_teacher: list[list[float]]

    @classmethod
    def of(cls, value: Floats) -> Self:
        """From a metric by teacher seed and student seed, (teachers, students)."""
        teachers = value.mean(axis=1)
        spread = float(teachers.std(ddof=1)) if len(teachers) > 1 else None
        return cls(value.mean(axis=0).tolist(), teachers.tolist(), spread, value.tolist())


@dataclass(frozen=True)
class SeedMean(Interval):
    """Mean of a metric over all seeds, and what it is the mean of."""

    by_seed: BySeed

    def to_json(self) -> dict[str, Any]:
        """All fields by name, in one object."""
        return _flat(self)


@dataclass(frozen=True)
class SeedDifference(Difference):
    """Mean over all seeds of the difference of two models, and what it is the mean of."""

    by_seed: BySeed

    def to_json(self) -> dict[str, Any]:
        """All fields by name, in one object."""
        return _flat(self)


def seed_means(measured: Mapping[str, Seeded], seed: int) -> dict[str, SeedMean]:
    """Mean over all seeds with its interval, by metric.

    Parameters
    ----------
    measured : mapping of str to Seeded
    seed : int
        Of the resampling of seeds.
    """
    means = {}
    for name, one in measured.items():
        interval = percentile_interval(float(one.value.mean()), over_seeds(one.replicates, seed))
        means[name] = SeedMean(interval.value, interval.low, interval.high, BySeed.of(one.value))
    return means


def seed_differences(first: Mapping[str, Seeded], second: Mapping[str, Seeded], seed: int) -> dict[str, SeedDifference]:
    """First minus second, paired by teacher seed, student seed and resample, by metric; see :class:`Seeded` for models without one of them.

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
        differences[name] = SeedDifference(found.difference, found.low, found.high, found.p_value, BySeed.of(values))
    return differences


def _flat(figure: SeedMean | SeedDifference) -> dict[str, Any]:
    fields = asdict(figure)
    by_seed: dict[str, Any] = fields.pop("by_seed")
    return fields | by_seed
