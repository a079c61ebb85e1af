"""Permutation importance: how much worse a model becomes when a group of its inputs tells of other rows than those that it scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_kd.data.input_groups import InputGroup
from ctr_kd.data.samples import Samples
from ctr_kd.evaluation.evaluate import Replicated, differences_of
from ctr_kd.evaluation.model_metrics import Measured, measure_model
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.evaluation.tables import MetricDifference, ModelMetrics, metrics_json
from ctr_kd.metrics.bootstrap import Bootstrap
from ctr_kd.metrics.checks import Floats

METRICS = ("auc", "log_loss")
MOST_PREPARED = 1 << 24  # rows of all groups whose statistics are held at once, some fifty bytes each
_WHOLE = ""  # the model with all its inputs, among those of which a group is permuted


@dataclass(frozen=True)
class GroupImportance:
    """What a group of inputs is worth.

    Attributes
    ----------
    inputs : tuple of str
    differences : dict of str to MetricDifference
        By metric: the model less the model with the group permuted. A metric that is undefined on the rows has none.
    """

    inputs: tuple[str, ...]
    differences: dict[str, MetricDifference]

    @property
    def drop(self) -> float:
        """In AUC; 0 where that is undefined."""
        return self.differences["auc"].difference if "auc" in self.differences else 0.0


@dataclass(frozen=True)
class Importance:
    """What the inputs of a model are worth.

    Attributes
    ----------
    rows : int
        On which it was measured.
    model : dict of str to MetricValue
        The model's own figures on them, by metric.
    groups : dict of str to GroupImportance
        The largest drop in AUC first.
    """

    rows: int
    model: ModelMetrics
    groups: dict[str, GroupImportance]

    def to_json(self) -> dict[str, Any]:
        """``rows``, the model's own figures, and ``groups``; what is undefined is null, with the reason why the model's own figure is."""
        undefined = {name: {"difference": None, "reason": value.reason} for name, value in self.model.items()}
        groups = {
            name: {"inputs": list(one.inputs)} | undefined | {metric: found.to_json() for metric, found in one.differences.items()}
            for name, one in self.groups.items()
        }
        return {"rows": self.rows, **metrics_json(self.model), "groups": groups}


def permutation_importance(
    score: Callable[[Samples], NDArray[np.float64]],
    samples: Samples,
    groups: Mapping[str, InputGroup],
    *,
    replicates: int = 300,
    seed: int = 0,
    negative_sampling_rate: float | None = None,
    threads: int = 2,
) -> Importance:
    """Drop in AUC and log loss when a group of inputs is permuted over the rows, all its inputs by one permutation.

    Parameters
    ----------
    score : callable
        Click probabilities (rows,) of samples; several threads call it at once.
    samples : Samples
        Labelled rows with one candidate token each.
    groups : mapping of str to InputGroup
    replicates : int
        Resamples of users behind each interval. A resampled user takes along the other rows' inputs that its rows were given, so the
        interval covers the draw of the permutation too.
    seed : int
        Of the permutation, which is the same for every group, and of the resamples.
    negative_sampling_rate : float, optional
        Of the rows, as :class:`ctr_kd.evaluation.rows.EvaluationRows` has it.
    threads : int
        Groups that are scored at once, and those of the bootstrap. The figures do not depend on it.

    Returns
    -------
    Importance

    References
    ----------
    Breiman (2001), Random Forests, section 10. Fisher, Rudin and Dominici (2019), All Models are Wrong, but Many are Useful,
    arXiv:1801.01489, section 3: here as the difference of the two losses, not their ratio.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    with ThreadPoolExecutor(threads) as pool:
        whole = pool.submit(score, samples)
        scored = pool.map(lambda group: score(permuted(samples, group, order)), groups.values())
        scores = {_WHOLE: whole.result(), **dict(zip(groups, scored, strict=True))}
    rows = EvaluationRows(
        samples.label.astype(np.int8), samples.user, negative_sampling_rate=negative_sampling_rate, row_weight=samples.weight
    )
    bootstrap = Bootstrap(rows.user, len(rows.label), replicates=replicates, seed=seed, threads=threads)
    every = np.ones(len(rows.label), bool)  # of a part of the rows no more than METRICS are measured
    measure = partial(measure_model, rows.label, bootstrap=bootstrap, rows=every, weight=rows.weight, row_weight=rows.row_weight)
    obstacle = bootstrap.obstacle()
    measured: dict[tuple[str, str], Measured] = {}  # by scores and metric, without its statistic, which takes the memory
    resampled: dict[tuple[str, str], Floats] = {}
    names, at_once = list(scores), max(1, MOST_PREPARED // max(len(samples), 1))
    for begin in range(0, len(names), at_once):
        prepared = {(name, key): one for name in names[begin : begin + at_once] for key, one in measure(scores[name]).items()}
        measured |= {which: replace(one, statistic=None) for which, one in prepared.items()}
        # Each resample is drawn once for all groups that are at hand.
        resampled |= bootstrap.values_of({which: one.statistic for which, one in prepared.items() if one.statistic})
        del prepared  # before the next are

    def replicated(name: str) -> Replicated:
        return {key: (measured[name, key].value, resampled[name, key]) for key in METRICS if (name, key) in resampled}

    model = {key: measured[_WHOLE, key].with_interval(resampled.get((_WHOLE, key)), obstacle) for key in METRICS}
    found = {
        name: GroupImportance(group.inputs, differences_of(replicated(_WHOLE), replicated(name), obstacle))
        for name, group in groups.items()
    }
    return Importance(len(samples), model, dict(sorted(found.items(), key=lambda item: -item[1].drop)))


def permuted(samples: Samples, group: InputGroup, order: NDArray[np.int64]) -> Samples:
    """Samples in which every row has a group of its inputs from another row.

    Parameters
    ----------
    samples : Samples
        With one candidate token each.
    group : InputGroup
    order : int64 array (rows,)
        Row from which each takes them; each row gives once, so that no input has another distribution than before.
    """
    own = np.arange(len(samples))
    candidate = samples.b.pool[samples.b.start]

    def moved(values: NDArray[Any], columns: tuple[int, ...]) -> NDArray[Any]:
        changed = values.copy()
        changed[:, list(columns)] = values[order][:, list(columns)]
        return changed

    changed = replace(
        samples,
        b=replace(samples.b, pool=moved(candidate, group.candidate), start=own, end=own + 1),
        categorical=moved(samples.categorical, group.categorical),
        dense=moved(samples.dense, group.dense),
    )
    if not group.history:
        return changed
    history = replace(samples.a, start=samples.a.start[order], end=samples.a.end[order])
    return replace(changed, a=history, group=own)  # the candidates of a request share no history any more
