"""Stage backtest: the nights that a team would have run, one after the other, each measured on what came after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ctr_kd.metrics.bootstrap import over_seeds, paired_difference, percentile_interval
from feature_store.config_types import duration_text
from feature_store.tables.json_files import write_json, write_text
from pipelines.experiments.night_gate import Night, answers, run_gate
from pipelines.experiments.nights import at_night, nights_between
from pipelines.metrics import ALONE, STUDENT, Metrics, metric_value
from pipelines.training.parents import night_before
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import FindParent, RunContext, Stage, StageContext, StageTracker
from pipelines.workspace.parent import Parent
from pipelines.workspace.reports import publish_apart
from pipelines.workspace.runner import Runner
from pipelines.workspace.tables import text_table

FILE, PAGE = "backtest.json", "backtest.html"
READ = ("evaluate", "gate")  # stages of a night
METRICS = ("auc", "gauc", "log_loss", "calibration_error", "calibration_ratio")
PAIRS = ((STUDENT, ALONE), (STUDENT, "boosted_trees"), (STUDENT, "teacher"), (STUDENT, "popularity"))
REPLICATES = 2000  # over a handful of nights each costs next to nothing


Tracking = Callable[[], StageTracker | None]


def backtest(runner: Runner, start: datetime, end: datetime, step: timedelta, *, tracker: Tracking = lambda: None) -> str:
    """Bring every night and the comparison of all up to date; returns the table.

    With ``training.start: warm`` each night continues from the champion of then. Where the same night stands in the workspace as one that
    begins cold, both are compared.

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
    warm = own.config.training.start == "warm"
    configs = [at_night(own.config, moment, step) for moment in moments]
    nights: list[Night] = []
    cold: list[Night | None] = []
    champion: Night | None = None
    for number, (moment, config) in enumerate(zip(moments, configs, strict=True), start=1):
        own.report(f"night {number} of {len(moments)}: {moment:%Y-%m-%d %H:%M}", "backtest")
        run = replace(own, config=config, as_of=moment + step, artifacts={}, find_parent=_begins_with(champion) if warm else _nothing)
        night = _run_night(runner, moment, run, champion, tracker())
        nights.append(night)
        cold.append(_standing_cold(runner, night) if warm else None)
        champion = night if answers(night)["passed"] else champion
    known = [*nights, *(night for night in cold if night is not None)]
    digests = {
        f"{stage}/{one.path.name}": one.finished.digest for night in known for stage, one in night.run.artifacts.items() if stage in READ
    }
    stage = Stage(
        "backtest",
        lambda context: compare_nights(context, nights, cold, step),
        source=compare_nights.__module__,
        keys=("name", "training", "evaluate.bootstrap", "evaluate.seed"),
        outside=lambda _: digests,
        conclude=lambda context: publish_apart(context, "backtest", (FILE, PAGE)),
    )
    Runner(own, [stage]).run()
    return backtest_table(own)


def _nothing(run: RunContext) -> Parent | None:
    return None


def _begins_with(champion: Night | None) -> FindParent:
    """What a warm night begins with: the champion of then."""
    return _nothing if champion is None else lambda run: night_before(run, champion.run.artifacts, champion.name)


def _run_night(runner: Runner, moment: datetime, run: RunContext, champion: Night | None, tracker: Any) -> Night:
    run.tracker = tracker
    try:
        Runner(run, list(runner.stages.values())).run()
        night = Night(moment, run, Metrics.read(run.artifacts["evaluate"].path))
        run_gate(night, champion)
    except BaseException as error:
        if tracker is not None:
            tracker.finish(error)
        raise
    if tracker is not None:
        tracker.finish()
    runner.context.data, runner.context.url = run.data, run.url
    return night


def _standing_cold(runner: Runner, night: Night) -> Night | None:
    """The same night as one that begins cold, where the workspace has it; None too where it did begin cold."""
    if night.metrics.run.parent is None:
        return None
    run = replace(night.run, config=night.run.as_given, artifacts={}, find_parent=_nothing, read_only=True, tracker=None)
    Runner(run, list(runner.stages.values())).states()
    evaluated = run.artifacts.get("evaluate")
    return None if evaluated is None else Night(night.moment, run, Metrics.read(evaluated.path))


def compare_nights(context: StageContext, nights: Sequence[Night], cold: Sequence[Night | None], step: timedelta) -> None:
    """Put the nights side by side; writes ``backtest.json`` and ``backtest.html``.

    Parameters
    ----------
    context : StageContext
    nights : sequence of Night
    cold : sequence of (Night or None)
        The same nights begun cold, as far as they are there.
    step : timedelta
    """
    from ctr_kd.report import render_backtest

    champion: Night | None = None
    shown: list[dict[str, Any]] = []
    for night, begun_cold in zip(nights, cold, strict=True):
        gate = answers(night)
        before, champion = champion, night if gate["passed"] else champion
        parent = night.metrics.run.parent
        warm = None if parent is None else {"continues": parent["name"], "nights": parent["nights"]}
        shown.append(
            {
                "train_until": _train_until(night).isoformat(),
                "validate_until": night.moment.isoformat(),
                "test_until": (night.moment + step).isoformat(),
                "rows": night.metrics.data.test_rows,
                "models": {name: _figures(night.metrics, name) for name in night.metrics.models},
                "comparisons": night.metrics.comparisons,
                "shipped": night.metrics.shipped,
                "gate": {
                    **gate,
                    "champion_before": None if before is None else before.moment.isoformat(),
                    "champion_after": None if champion is None else champion.moment.isoformat(),
                },
                "seconds": _seconds(night),
                "report": night.run.artifacts["evaluate"].path.name,
                **({} if warm is None else {"warm": warm}),
                **({} if begun_cold is None else {"cold": _cold(begun_cold)}),
            }
        )
    models = list(shown[0]["models"])
    seed = context.config.evaluate.seed
    result: dict[str, Any] = {
        "name": context.config.name,
        "step": duration_text(step),
        "nights": shown,
        "mean": {name: {metric: _mean(shown, name, metric, seed) for metric in METRICS} for name in models},
        "comparisons": {
            f"{one}-{other}": {metric: _mean_difference(shown, one, other, metric, seed) for metric in ("auc", "log_loss")}
            for one, other in PAIRS
            if one in models and other in models
        },
        "interval_covers": ["nights"],
        **_against_cold(shown, seed),
    }
    write_json(context.output / FILE, result)
    write_text(context.output / PAGE, render_backtest(result))
    gains = {pair: found["auc"]["difference"] for pair, found in result["comparisons"].items() if found["auc"]["difference"] is not None}
    context.record({"nights": len(nights), "gain": gains})


def _train_until(night: Night) -> datetime:
    """Where the labels that a night learned from end."""
    until = night.run.config.need_clicks().train_until
    if until is None:
        raise ValueError("a night names the times of its windows")
    return until


def _seconds(night: Night) -> float:
    return round(sum(night.metrics.run.seconds.values()), 1)


def _cold(night: Night) -> dict[str, Any]:
    """What a night that begins cold is worth, and took."""
    return {"models": {name: _figures(night.metrics, name) for name in night.metrics.models}, "seconds": _seconds(night)}


def _against_cold(nights: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Warm less cold over the nights that stand as both, and what a warm one costs; nothing where there is none."""
    both = [night for night in nights if "cold" in night]
    if not both:
        return {}
    trees = [night["cold"]["models"].get("boosted_trees", {}) for night in both]  # on all rows: those of a warm night see few
    compared = [
        {"models": {"warm": night["models"][STUDENT], "cold": night["cold"]["models"][STUDENT], "trees": of_night}}
        for night, of_night in zip(both, trees, strict=True)
    ]
    seconds = {"warm": sum(night["seconds"] for night in both), "cold": sum(night["cold"]["seconds"] for night in both)}
    return {
        "warm-cold": {metric: _mean_difference(compared, "warm", "cold", metric, seed) for metric in ("auc", "log_loss")},
        "warm-cold_boosted_trees": {"auc": _mean_difference(compared, "warm", "trees", "auc", seed)},
        "warm_cost": {"nights": len(both), "seconds": seconds, "share": seconds["warm"] / seconds["cold"]},
    }


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


def backtest_table(run: RunContext) -> str:
    """A line per night, the means, and where the page is."""
    from ctr_kd.report.backtest import headline, warm_nights
    from ctr_kd.report.findings import Figure, model_title

    result: Mapping[str, Any] = read_json(run.artifacts["backtest"].path / FILE) or {}
    models = list(result["mean"])
    rows = [("night", "rows", *(model_title(name) for name in models), "gate", "seconds")]
    for night in result["nights"]:
        figures = [Figure.of(night["models"][name].get("auc")).text() for name in models]
        gate = "promotes" if night["gate"]["passed"] else "refuses"
        rows.append((night["validate_until"][:16], f"{night['rows']:,}", *figures, gate, f"{night['seconds']:.0f}"))
    rows.append(("mean", "", *(Figure.of(result["mean"][name]["auc"]).text() for name in models), "", ""))
    place = run.workspace / "reports" / "backtest" / PAGE
    said = [line for line in (headline(result), warm_nights(result)) if line is not None]
    return "\n".join([*said, "", text_table(rows, right=range(1, len(rows[0]))), f"report: {place}"])
