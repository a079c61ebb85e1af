"""Curves: ROC, reliability, and the learning curves of every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctr_kd.report.charts import Axis, Series, line_chart, padded
from ctr_kd.report.findings import METRIC_TITLES, Figure, count, model_title, reading_order
from ctr_kd.report.markup import Markup, element
from ctr_kd.report.parts import color, legend, section

HIDDEN = frozenset({"step", "score"})  # score repeats the figure that chooses the checkpoint
DEFAULT_COLOR = "teacher"


def curves_of_scores(curves: Mapping[str, Any]) -> Markup | None:
    """ROC and reliability, side by side."""
    roc, reliability = curves.get("roc") or {}, curves.get("reliability") or {}
    charts = []
    if roc:
        lines = [Series(model_title(name), color(name), [(p[0], p[1]) for p in points]) for name, points in _drawn_last(roc)]
        unit = (0.0, 1.0)
        chart = line_chart(lines, Axis("false positive rate", unit), Axis("true positive rate", unit), label="ROC curves", diagonal=True)
        charts.append(element("figure", element("figcaption", "ROC ", element("span", "– dashed: chance", class_="note")), chart))
    if reliability:
        lines = [_reliability(name, bins) for name, bins in _drawn_last(reliability)]
        charts.append(_calibration("Calibration ", "– dashed: perfect; bins of equal size", lines))
    if not charts:
        return None
    names = reading_order(roc or reliability)
    return section("Ranking and calibration", None, legend(names), element("div", charts, class_="charts"))


def calibration(curves: Mapping[str, Any], metrics: Mapping[str, Any]) -> Markup | None:
    """The students' reliability before and after calibration, each pair on one scale, with the figures that it moved."""
    before, after = curves.get("uncalibrated") or {}, curves.get("reliability") or {}
    models = metrics.get("models") or {}
    blocks: list[object] = []
    for name in reading_order(before):
        pair = [_reliability(name, bins.get(name) or []) for bins in (before, after)]
        domain = _rates(pair)
        entries = ((models.get(name) or {}).get("uncalibrated") or {}, models.get(name) or {})
        charts = [
            _calibration(f"{model_title(name)}, {when} ", _moved(figures), [line], domain)
            for when, line, figures in zip(("before", "after"), pair, entries, strict=True)
        ]
        blocks.append(element("div", charts, class_="charts"))
    if not blocks:
        return None
    note = (
        "Test rows, before and after the calibration that was fitted on the validation rows and that the exported student holds. It is a "
        "rising function of the logit, so it changes no ranking. The student alone is calibrated in the same way."
    )
    return section("Before and after calibration", note, *blocks)


def _reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> Series:
    points = [(b["predicted"], b["observed"]) for b in bins]
    bounds = [(b["low"], b["high"]) for b in bins] if all("low" in b and "high" in b for b in bins) else None
    return Series(model_title(name), color(name), points, marks=True, bounds=bounds)


def _rates(lines: Sequence[Series]) -> tuple[float, float]:
    return 0.0, min(1.0, padded([v for line in lines for point in line.points for v in point])[1])


def _calibration(title: str, note: str, lines: Sequence[Series], domain: tuple[float, float] | None = None) -> Markup:
    domain = domain or _rates(lines)
    axes = Axis("predicted click rate", domain), Axis("observed click rate", domain)
    chart = line_chart(lines, *axes, label=f"Reliability, {title.strip()}", diagonal=True)
    return element("figure", element("figcaption", title, element("span", note, class_="note")), chart)


def _moved(figures: Mapping[str, Any]) -> str:
    """``– log loss 0.4248, calib. error 0.0121``"""
    shown = [(METRIC_TITLES[name].lower(), Figure.of(figures.get(name))) for name in ("log_loss", "calibration_error")]
    return "– " + ", ".join(f"{title} {figure.text()}" for title, figure in shown)


def _drawn_last(models: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The student on top of the others."""
    return [(name, models[name]) for name in sorted(reading_order(models), key=lambda name: name == "student")]


def learning_curves(curves: Mapping[str, Any]) -> Markup | None:
    """Draw ``curves["learning"]``: ``{STAGE or STAGE/MODEL: points}``.

    Points are a list of ``{"step": int, "train_loss": float, any validation figure: float}``, or an object with such a list in
    ``points`` and the step whose weights were kept in ``kept_step``. Models of one stage share its panels.
    """
    stages: dict[str, dict[str, tuple[list[Mapping[str, Any]], Any]]] = {}
    for name, given in (curves.get("learning") or {}).items():
        points, best = (given.get("points") or [], given.get("kept_step")) if isinstance(given, Mapping) else (given, None)
        stage, _, model = name.partition("/")
        if points:
            stages.setdefault(stage, {})[model] = (points, best)
    if not stages:
        return None
    blocks: list[object] = []
    for stage, models in stages.items():
        named = [model for model in models if model]
        figures = list(dict.fromkeys(key for points, _ in models.values() for point in points for key in point if key not in HIDDEN))
        panels = [_panel(figure, models) for figure in figures]
        blocks += [
            element("h3", stage.capitalize()),
            legend(reading_order(named)) if named else None,
            element("div", panels, class_="charts"),
        ]
    return section(
        "Learning curves",
        "The ring marks the weights that were kept: those that validation preferred, or the last where so configured.",
        *blocks,
    )


def _panel(figure: str, models: Mapping[str, tuple[Sequence[Mapping[str, Any]], Any]]) -> Markup | None:
    lines = []
    for model, (points, best) in models.items():
        drawn = [(Figure.of(point.get("step")).value, Figure.of(point.get(figure)).value) for point in points]
        known = [(x, y) for x, y in drawn if x is not None and y is not None]
        if known:
            ring = Figure.of(best).value
            lines.append(Series(model_title(model) or figure, color(model) if model else DEFAULT_COLOR, known, marks=True, ring=ring))
    if not lines:
        return None
    steps = [x for line in lines for x, _ in line.points]
    values = [y for line in lines for _, y in line.points]
    title = METRIC_TITLES.get(figure, figure.replace("_", " ").capitalize())
    x_axis = Axis("step", (min(0.0, *steps), max(steps) or 1.0), _thousands)
    chart = line_chart(lines, x_axis, Axis("", padded(values, 0.1)), label=f"{title} by step", width=300, height=200)
    return element("figure", element("figcaption", title), chart, class_="small")


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else count(value)
