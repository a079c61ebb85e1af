"""Stage backtest: the nights that a team would have run, one after the other, each measured on what came after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.metrics.bootstrap import over_seeds, paired_difference, percentile_interval
from feature_store.config_types import duration_text
from feature_store.tables.json_files import write_json, write_text
from pipelines.config.register import RegisterConfig
from pipelines.config.run import RunConfig
from pipelines.experiments.nights import at_night, nights_between
from pipelines.metrics import ALONE, STUDENT, Metrics, metric_value
from pipelines.registry.promotion_gate import Check, Difference, at_least, at_most, champion_checks
from pipelines.tasks import task_of
from pipelines.training.students import EXPORTS
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext, StageTracker
from pipelines.workspace.reports import publish_apart
from pipelines.workspace.runner import Runner
from pipelines.workspace.tables import text_table

FILE, PAGE = "backtest.json", "backtest.html"
METRICS = ("auc", "gauc", "log_loss", "calibration_error", "calibration_ratio")
PAIRS = ((STUDENT, ALONE), (STUDENT, "boosted_trees"), (STUDENT, "teacher"), (STUDENT, "popularity"))
REPLICATES = 2000  # over a handful of nights each costs next to nothing


@dataclass(frozen=True)
class Night:
    """A night that was run.

    Attributes
    ----------
    moment : datetime
        When it trained.
    run : RunContext
        With its artifacts.
    metrics : Metrics
        Of the window after it.
    """

    moment: datetime
    run: RunContext
    metrics: Metrics

    @property
    def name(self) -> str:
        return self.moment.strftime("%Y-%m-%dT%H:%M")


def backtest(
    runner: Runner, start: datetime, end: datetime, step: timedelta, tracker: Callable[[], StageTracker | None] = lambda: None
) -> str:
    """Bring every night and the comparison of all up to date; returns the table.

    Parameters
    ----------
    runner : Runner
        Of the pipeline up to ``evaluate``.
    start, end : datetime
        The first night, and the end of the window after the last.
    step : timedelta
        From one night to the next.
    tracker : callable
        Opens a run of MLflow for a night; it is closed when the night is done.
    """
    moments, own = nights_between(start, end, step), runner.context
    configs = [at_night(own.config, moment, step) for moment in moments]
    nights = []
    for number, (moment, config) in enumerate(zip(moments, configs, strict=True), start=1):
        own.report(f"night {number} of {len(moments)}: {moment:%Y-%m-%d %H:%M}", "backtest")
        nights.append(_run_night(runner, moment, config, moment + step, tracker()))
    digests = {f"evaluate/{night.run.artifacts['evaluate'].path.name}": night.run.artifacts["evaluate"].finished.digest for night in nights}
    stage = Stage(
        "backtest",
        lambda context: compare_nights(context, nights, step),
        source=compare_nights.__module__,
        keys=("name", "evaluate.bootstrap", "evaluate.seed", "register"),
        outside=lambda _: digests,
        conclude=lambda context: publish_apart(context, "backtest", (FILE, PAGE)),
    )
    Runner(own, [stage]).run()
    return backtest_table(own)


def _run_night(runner: Runner, moment: datetime, config: RunConfig, until: datetime, tracker: Any) -> Night:
    run = replace(runner.context, config=config, as_of=until, artifacts={}, tracker=tracker)
    try:
        Runner(run, list(runner.stages.values())).run()
    except BaseException as error:
        if tracker is not None:
            tracker.finish(error)
        raise
    if tracker is not None:
        tracker.finish()
    runner.context.data = run.data
    return Night(moment, run, Metrics.read(run.artifacts["evaluate"].path))


def compare_nights(context: StageContext, nights: Sequence[Night], step: timedelta) -> None:
    """Put the nights side by side; writes ``backtest.json`` and ``backtest.html``."""
    from ctr_kd.report import render_backtest

    champion: Night | None = None
    shown: list[dict[str, Any]] = []
    for night in nights:
        checks = _checks(context, night, champion)
        passed = all(check.passed for check in checks)
        before, champion = champion, night if passed else champion
        shown.append(
            {
                "moment": night.moment.isoformat(),
                "test_until": (night.moment + step).isoformat(),
                "rows": night.metrics.data.test_rows,
                "models": {name: _figures(night.metrics, name) for name in night.metrics.models},
                "shipped": night.metrics.shipped,
                "gate": {
                    "passed": passed,
                    "checks": [check.to_json() for check in checks],
                    "champion_before": None if before is None else before.moment.isoformat(),
                    "champion_after": None if champion is None else champion.moment.isoformat(),
                },
                "seconds": round(sum(night.metrics.run.seconds.values()), 1),
                "report": night.run.artifacts["evaluate"].path.name,
            }
        )
    models = list(shown[0]["models"])
    seed = context.config.evaluate.seed
    result: dict[str, Any] = {
        "name": context.config.name,
        "step": duration_text(step),
        "nights": shown,
        "means": {name: {metric: _mean(shown, name, metric, seed) for metric in METRICS} for name in models},
        "comparisons": {
            f"{one}-{other}": {metric: _mean_difference(shown, one, other, metric, seed) for metric in ("auc", "log_loss")}
            for one, other in PAIRS
            if one in models and other in models
        },
        "interval_covers": ["nights"],
    }
    write_json(context.output / FILE, result)
    write_text(context.output / PAGE, render_backtest(result))
    gains = {pair: found["auc"]["difference"] for pair, found in result["comparisons"].items() if found["auc"]["difference"] is not None}
    context.record({"nights": len(nights), "gain": gains})


def _figures(metrics: Metrics, model: str) -> dict[str, Any]:
    return {name: metrics.models[model][name] for name in METRICS if name in metrics.models[model]}


def _values(nights: Sequence[Mapping[str, Any]], model: str, metric: str) -> np.ndarray:
    """Of a model by night; NaN where it is undefined."""
    found = [metric_value(night["models"].get(model, {}), metric)[0] for night in nights]
    return np.array([np.nan if value is None else value for value in found], np.float64)


def _resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """Means over nights that are drawn as blocks, (replicates,)."""
    return over_seeds(np.repeat(values[None, :, None], REPLICATES, axis=2), seed)


def _mean(nights: Sequence[Mapping[str, Any]], model: str, metric: str, seed: int) -> dict[str, Any]:
    values = _values(nights, model, metric)
    if np.isnan(values).any():
        return {"value": None, "reason": f"undefined in {int(np.isnan(values).sum())} nights"}
    if len(values) == 1:
        return {"value": float(values[0])}
    found = percentile_interval(float(values.mean()), _resampled(values, seed))
    return {"value": found.value, "low": found.low, "high": found.high}


def _mean_difference(nights: Sequence[Mapping[str, Any]], one: str, other: str, metric: str, seed: int) -> dict[str, Any]:
    first, second = (_values(nights, model, metric) for model in (one, other))
    gaps = first - second
    if np.isnan(gaps).any():
        return {"difference": None, "reason": f"undefined in {int(np.isnan(gaps).sum())} nights"}
    if len(gaps) == 1:
        return {"difference": float(gaps[0]), "nights": gaps.tolist(), "reason": "one night has no interval"}
    zero = np.zeros(REPLICATES)
    found = paired_difference(float(gaps.mean()), 0.0, _resampled(gaps, seed), zero)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "nights": gaps.tolist(),
    }


def _checks(context: StageContext, night: Night, champion: Night | None) -> list[Check]:
    """What the gate would have asked of a night's student: the bounds on itself, and the champion of then on the same rows."""
    bounds: RegisterConfig = context.config.register_
    shipped = night.metrics.shipped_model
    auc, error = (metric_value(shipped, name) for name in ("auc", "calibration_error"))
    checks = [
        at_least("auc", auc[0], bounds.auc_min, auc[1]),
        at_most("calibration_error", error[0], bounds.calibration_error_max, error[1]),
    ]
    if champion is None:
        return checks
    differences, figures = _against(context, night, champion)
    return checks + champion_checks(differences, figures, bounds)


def _against(context: StageContext, night: Night, champion: Night) -> tuple[Mapping[str, Difference], Mapping[str, Any]]:
    """A night's student minus the champion of then on the rows after the night, and the champion's figures there."""
    from ctr_kd.export.click_scorer import ClickScorer

    bounds = context.config.register_
    test = task_of(night.run.config).rows(night.run.artifacts["ingest"].path)
    rows = test.read("test")
    scores = {
        name: np.concatenate([scorer.score(table) for table in test.batches(rows)])
        for name, scorer in (
            (title, ClickScorer(one.run.artifacts["distill"].path / EXPORTS[one.metrics.shipped]))
            for title, one in (("challenger", night), ("champion", champion))
        )
    }
    found = evaluate_models(
        test.evaluation_rows(), scores, replicates=bounds.bootstrap, seed=bounds.seed, pairs=(("challenger", "champion"),)
    )
    return found.comparisons["challenger-champion"], found.models["champion"]


def backtest_table(run: RunContext) -> str:
    """A line per night, the means, and where the page is."""
    from ctr_kd.report.backtest import headline
    from ctr_kd.report.findings import Figure, model_title

    result: Mapping[str, Any] = read_json(run.artifacts["backtest"].path / FILE) or {}
    models = list(result["means"])
    rows = [("night", "rows", *(model_title(name) for name in models), "gate", "seconds")]
    for night in result["nights"]:
        figures = [Figure.of(night["models"][name].get("auc")).text() for name in models]
        gate = "promotes" if night["gate"]["passed"] else "refuses"
        rows.append((night["moment"][:16], f"{night['rows']:,}", *figures, gate, f"{night['seconds']:.0f}"))
    rows.append(("mean", "", *(Figure.of(result["means"][name]["auc"]).text() for name in models), "", ""))
    place = run.workspace / "reports" / "backtest" / PAGE
    return "\n".join([headline(result), "", text_table(rows, right=range(1, len(rows[0]))), f"report: {place}"])
