"""The finals: the best trials and the configuration as it is, trained again with seeds that no trial of the search had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctr_kd.evaluation.several_seeds import measure_seeds, seed_differences, seed_means
from ctr_kd.metrics.bootstrap import Bootstrap
from pipelines.config.run import RunConfig
from pipelines.experiments.tuning.study import Tried, best_first, shortfall
from pipelines.experiments.tuning.trials import VALIDATION, Order, Trained, student_artifact
from pipelines.tasks import task_of
from pipelines.tasks.logits import stored_probabilities
from pipelines.workspace.context import RunContext


@dataclass
class Finalist:
    """A trial of the finals, and what it gave by seed.

    Attributes
    ----------
    tried : Tried
    by_seed : dict of int to Trained
    failed : str
        Why one of its trainings gave nothing; it is out then.
    """

    tried: Tried
    by_seed: dict[int, Trained] = field(default_factory=dict)
    failed: str = ""

    def order(self, seed: int) -> Order:
        """Its training with a seed."""
        title = "as configured" if not self.tried.changes else f"trial {self.tried.number}"
        return Order(title=f"{title}, seed {seed}", changes=self.tried.changes, seed=seed)


@dataclass(frozen=True)
class Judged:
    """What the finals say of one finalist.

    Attributes
    ----------
    finalist : Finalist
    mean : dict
        Value, low and high over seeds and users (of texts: rows), and ``seeds``.
    difference : dict or None
        Minus the configuration as it is; None of that itself, or where it has no students.
    within_bounds : bool
    """

    finalist: Finalist
    mean: dict[str, Any]
    difference: dict[str, Any] | None
    within_bounds: bool

    @property
    def gain(self) -> float | None:
        return None if self.difference is None else float(self.difference["difference"])


def finalists_of(tried: Sequence[Tried], count: int) -> list[Finalist]:
    """The configuration as it is, where it could be trained, and the best trials after it."""
    ranked = best_first(tried)
    configured = [one for one in ranked if not one.changes][:1]
    return [Finalist(one) for one in (*configured, *[one for one in ranked if one.changes][:count])]


def fresh_seeds(config: RunConfig) -> list[int]:
    """Seeds that no trial of the search had."""
    return [config.seed + 1 + number for number in range(config.tune.seeds)]


def judge(run: RunContext, finalists: Sequence[Finalist]) -> list[Judged]:
    """Means of the finalists on the validation rows over the seeds that all of them have, and differences from the configuration as it is.

    Intervals resample users (of texts: rows) and, as blocks, seeds. Empty where no seed was trained.
    """
    there = [one for one in finalists if one.by_seed and not one.failed]
    seeds = sorted(set.intersection(*(set(one.by_seed) for one in there))) if there else []
    if not seeds:
        return []
    rows = task_of(run.config).rows(run.artifacts["ingest"].path).evaluation_rows("validation")
    settings = run.config.evaluate
    metric = rows.metric
    bootstrap = Bootstrap(rows.user, len(rows.label), replicates=settings.bootstrap, seed=settings.seed)
    obstacle = bootstrap.obstacle()
    measured = {}
    for one in there:
        files = [_student(run, one.by_seed[seed]) / VALIDATION for seed in seeds]
        scores = [[stored_probabilities(file) for file in files]]
        measured[one.tried.number] = measure_seeds(rows.label, scores, bootstrap, rows.row_weight, rows.row_weight)
    configured = next((one for one in there if not one.tried.changes), None)
    judged = []
    for one in there:
        own = measured[one.tried.number]
        mean = {"seeds": own[metric].value[0].tolist()} | _interval(seed_means(own, settings.seed)[metric].to_json(), "value", obstacle)
        difference = None
        if configured is not None and one is not configured:
            found = seed_differences(own, measured[configured.tried.number], settings.seed)[metric].to_json()
            difference = {"seeds": found["seeds"]} | _interval(found, "difference", obstacle)
        within = all(shortfall(trained, run.config.tune) == 0 for trained in one.by_seed.values())
        judged.append(Judged(one, mean, difference, within))
    return judged


def winner_of(judged: Sequence[Judged]) -> Judged | None:
    """The finalist that replaces the configuration; None where that is the best itself, or nothing keeps the bounds.

    It is the one with the best mean over the seeds, if that is above the mean of the configuration as it is. Where this breaks the bounds,
    or could not be trained, any finalist that keeps them is better.
    """
    configured = next((one for one in judged if not one.finalist.tried.changes), None)
    others = [one for one in judged if one.finalist.tried.changes and one.within_bounds]
    if not others:
        return None
    best = max(others, key=lambda one: float(one.mean["value"]))
    if configured is None or not configured.within_bounds:
        return best
    return best if best.gain is not None and best.gain > 0 else None


def _student(run: RunContext, trained: Trained) -> Path:
    found = student_artifact(run.workspace, trained)
    if found is None:
        raise FileNotFoundError(trained.artifact)
    return found


def _interval(figure: Mapping[str, Any], name: str, obstacle: str | None) -> dict[str, Any]:
    """A figure with its interval; without it, and with the reason, where resamples say nothing."""
    if obstacle:
        return {name: figure[name], "reason": obstacle}
    return {name: figure[name], "low": _finite(figure["low"]), "high": _finite(figure["high"])}


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
