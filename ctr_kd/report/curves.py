"""Curves: ROC, reliability, and the learning curves of every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report.charts import Axis, Domain, Series, line_chart, padded
from ctr_kd.report.findings import METRIC_TITLES, Figure, count, model_title, reading_order
from ctr_kd.report.parts import Panel, Swatch, color, legend

HIDDEN = frozenset({"step", "score"})  # score repeats the figure that chooses the checkpoint
DEFAULT_COLOR = "teacher"


@dataclass(frozen=True)
class Panels:
    """Charts side by side under one legend."""

    legend: Sequence[Swatch]
    panels: Sequence[Panel]
    title: str = ""


def curves_of_scores(curves: Mapping[str, Any]) -> Panels | None:
    """ROC and reliability, side by side."""
    roc, reliability = curves.get("roc") or {}, curves.get("reliability") or {}
    panels = []
    if roc:
        lines = [Series(model_title(name), color(name), [(p[0], p[1]) for p in points]) for name, points in _drawn_last(roc)]
        unit = (0.0, 1.0)
        chart = line_chart(lines, Axis("false positive rate", unit), Axis("true positive rate", unit), label="ROC curves", diagonal=True)
        panels.append(Panel("ROC", chart, "dashed: chance"))
    if reliability:
        lines = [_reliability(name, bins) for name, bins in _drawn_last(reliability)]
        panels.append(_calibration("Calibration", "dashed: perfect; bins of equal size", lines))
    return Panels(legend(reading_order(roc or reliability)), panels) if panels else None


def calibration(curves: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[Panel]:
    """The students' reliability before and after calibration, each pair on one scale, with the figures that it moved."""
    before, after = curves.get("uncalibrated") or {}, curves.get("reliability") or {}
    models = metrics.get("models") or {}
    panels = []
    for name in reading_order(before):
        pair = [_reliability(name, bins.get(name) or []) for bins in (before, after)]
        entries = ((models.get(name) or {}).get("uncalibrated") or {}, models.get(name) or {})
        panels += [
            _calibration(f"{model_title(name)}, {when}", _moved(figures), [line], _rates(pair))
            for when, line, figures in zip(("before", "after"), pair, entries, strict=True)
        ]
    return panels


def _reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> Series:
    points = [(b["predicted"], b["observed"]) for b in bins]
    bounds = [(b["low"], b["high"]) for b in bins] if all("low" in b and "high" in b for b in bins) else None
    return Series(model_title(name), color(name), points, marks=True, bounds=bounds)


def _rates(lines: Sequence[Series]) -> Domain:
    return 0.0, min(1.0, padded([v for line in lines for point in line.points for v in point])[1])


def _calibration(title: str, note: str, lines: Sequence[Series], domain: Domain | None = None) -> Panel:
    domain = domain or _rates(lines)
    axes = Axis("predicted click rate", domain), Axis("observed click rate", domain)
    return Panel(title, line_chart(lines, *axes, label=f"Reliability, {title}", diagonal=True), note)


def _moved(figures: Mapping[str, Any]) -> str:
    """``log loss 0.4248, calib. error 0.0121``"""
    shown = [(METRIC_TITLES[name].lower(), Figure.of(figures.get(name))) for name in ("log_loss", "calibration_error")]
    return ", ".join(f"{title} {figure.text()}" for title, figure in shown)


def _drawn_last(models: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The student on top of the others."""
    return [(name, models[name]) for name in sorted(reading_order(models), key=lambda name: name == "student")]


def learning_curves(curves: Mapping[str, Any]) -> list[Panels]:
    """The panels of each stage in ``curves["learning"]``: ``{STAGE or STAGE/MODEL: points}``.

    Points are a list of ``{"step": int, "train_loss": float, any validation figure: float}``, or an object with such a list in
    ``points`` and the step whose weights were kept in ``kept_step``. Models of one stage share its panels.
    """
    stages: dict[str, dict[str, tuple[list[Mapping[str, Any]], Any]]] = {}
    for name, given in (curves.get("learning") or {}).items():
        points, best = (given.get("points") or [], given.get("kept_step")) if isinstance(given, Mapping) else (given, None)
        stage, _, model = name.partition("/")
        if points:
            stages.setdefault(stage, {})[model] = (points, best)
    found = []
    for stage, models in stages.items():
        figures = dict.fromkeys(key for points, _ in models.values() for point in points for key in point if key not in HIDDEN)
        panels = [panel for figure in figures if (panel := _panel(figure, models)) is not None]
        found.append(Panels(legend(reading_order(model for model in models if model)), panels, stage.capitalize()))
    return found


def _panel(figure: str, models: Mapping[str, tuple[Sequence[Mapping[str, Any]], Any]]) -> Panel | None:
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
    return Panel(title, line_chart(lines, x_axis, Axis("", padded(values, 0.1)), label=f"{title} by step", width=340, height=220))


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else count(value)
