"""The page of a sweep: every student of a grid and its teacher, AUC (of classes: accuracy) against rows per second and against bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings, rendering, run
from ctr_kd.report.charts import Axis, Series, line_chart, padded, scale, spread, strip
from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.parts import Cell, Column, Header, Headline, Panel, Row, Swatch, Table, figure_cell, numbers

COLORS = {"pooled": "student", "dcn": "student_alone", "din": "boosted_trees", "bilstm": "other", "bilstm_pair": "other"}
FRONTIER, TEACHER, OTHERS = "oracle", "teacher", "popularity"
COSTS: Mapping[str, tuple[str, Callable[[float | None], str]]] = {
    "rows_per_second": ("rows per second on one thread", findings.count),
    "bytes": ("bytes of the exported student", findings.size),
}
COST_WORDS = {"rows_per_second": "speed", "bytes": "size"}  # what a student on the frontier is worth having for


@dataclass(frozen=True)
class Frontier:
    """The charts of the frontier; `metric` is their quality inside a sentence."""

    metric: str
    legend: Sequence[Swatch]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Students:
    """Every model of the sweep, and why other students cannot be trained."""

    table: Table
    impossible: Sequence[str]
    title: str


def render_sweep(sweep: Mapping[str, Any]) -> str:
    """The HTML page of a sweep, in the style of the report.

    Parameters
    ----------
    sweep : mapping
        All of sweep.json.

    Examples
    --------
    >>> student = {"name": "pooled 8", "kind": "pooled", "width": 8, "auc": {"value": 0.74}, "validation_auc": 0.75, "bytes": 1000}
    >>> page = render_sweep({"students": [student | {"rows_per_second": 9e5, "on_frontier": {"bytes": True}}]})
    >>> "The best of 1 student on validation is pooled 8" in page
    True
    """
    title, remarks = _headline(sweep)
    return rendering.page(
        "sweep.html",
        title=title,
        header=Header(["Sweep of students", *_about(sweep)], "even", Headline(title), remarks),
        frontier=_frontier(sweep),
        students=_students(sweep),
        configuration=run.configuration(sweep),
    )


def _about(sweep: Mapping[str, Any]) -> list[str]:
    facts = sweep.get("run") or {}
    name = (facts.get("configuration") or {}).get("name")
    return [*([str(name)] if name else []), *([f"run {facts['fingerprint']}"] if facts.get("fingerprint") else [])]


def _quality(sweep: Mapping[str, Any]) -> str:
    """The metric of the frontier: accuracy of classes, AUC of clicks."""
    return findings.quality({"models": {one["name"]: one for one in sweep["students"]}})


def _headline(sweep: Mapping[str, Any]) -> tuple[str, list[str]]:
    students, quality = sweep["students"], _quality(sweep)
    word, validation = findings.WORDS[quality], f"validation_{quality}"
    known = [one for one in students if one.get(validation) is not None]
    if not known:
        return f"No student has an {word} on validation to be chosen by.", []
    best = max(known, key=lambda one: one[validation])
    many = findings.several(len(students), "student")
    title = f"The best of {many} on validation is {best['name']}: {word} {Figure.of(best[quality]).text()} on test, {_cost(best)}."
    remarks = []
    for cost, worth in COST_WORDS.items():
        chosen = sorted((one for one in known if (one.get("on_frontier") or {}).get(cost)), key=lambda one: -one[validation])
        names = ", ".join(f"{one['name']} ({Figure.of(one[quality]).text()})" for one in chosen)
        if chosen:
            remarks.append(f"Worth having for their {worth}, best first: {names}.")
    teacher = sweep.get("teacher")
    if teacher:
        remarks.append(f"The teacher has {word} {Figure.of(teacher[quality]).text()}, {_cost(teacher)}, sharing histories.")
    return title, remarks


def _cost(model: Mapping[str, Any]) -> str:
    weighs = f", {findings.size(model['bytes'])}" if model.get("bytes") else ""
    return f"{findings.count(model.get('rows_per_second'))} rows/s{weighs}"


def _frontier(sweep: Mapping[str, Any]) -> Frontier:
    kinds = dict.fromkeys(one["kind"] for one in sweep["students"])
    legend = [Swatch(kind, COLORS.get(kind, "other")) for kind in kinds]
    legend += [Swatch("teacher", TEACHER)] if sweep.get("teacher") else []
    legend += [Swatch("models of others", OTHERS)] if sweep.get("others") else []
    panels = [panel for cost in COSTS if (panel := _panel(sweep, cost)) is not None]
    return Frontier(findings.WORDS[_quality(sweep)], [*legend, Swatch("frontier", FRONTIER, dotted=True)], panels)


def _panel(sweep: Mapping[str, Any], cost: str) -> Panel | None:
    title, text = COSTS[cost]
    quality = _quality(sweep)
    word = METRIC_TITLES[quality]
    students = [one for one in sweep["students"] if one.get(cost)]
    if not students:
        return None
    series = []
    for kind in dict.fromkeys(one["kind"] for one in students):
        models = [one for one in students if one["kind"] == kind]
        series.append(_series(kind, COLORS.get(kind, "other"), models, cost, quality, [str(one["width"]) for one in models]))
    on = [one for one in students if (one.get("on_frontier") or {}).get(cost)]
    series.append(_series("frontier", FRONTIER, on, cost, quality, marks=False))
    teacher = sweep.get("teacher")
    if teacher and teacher.get(cost):
        series.append(_series("teacher", TEACHER, [teacher], cost, quality, ["teacher"]))
    others = [one for one in sweep.get("others") or [] if one.get(cost)]
    if others:
        series.append(_series("models of others", OTHERS, others, cost, quality, [one["name"] for one in others]))
    points = [point for one in series for point in one.points]
    values = [y for one in series for y in one.heights]
    x = Axis(title, padded([x for x, _ in points], 0.1), lambda power: text(float(f"{10**power:.2g}")))
    chart = line_chart(series, x, Axis(f"{word} on test", padded(values)), label=f"{word} against {title}", height=360)
    return Panel(f"{word} against {title}", chart)


def _series(
    title: str,
    color: str,
    models: Sequence[Mapping[str, Any]],
    cost: str,
    quality: str,
    labels: Sequence[str] | None = None,
    marks: bool = True,
) -> Series:
    order = sorted(range(len(models)), key=lambda i: models[i][cost])
    figures = [Figure.of(models[i][quality]) for i in order]
    points = [(math.log10(models[i][cost]), figure.value or 0.0) for i, figure in zip(order, figures, strict=True)]
    bounds = [(figure.low, figure.high) for figure in figures if figure.low is not None and figure.high is not None]
    complete = bounds if marks and len(bounds) == len(points) else None
    return Series(title, color, points, marks=marks, bounds=complete, labels=labels and [labels[i] for i in order])


def _students(sweep: Mapping[str, Any]) -> Students:
    teacher, quality = sweep.get("teacher"), _quality(sweep)
    word = METRIC_TITLES[quality]
    others = [{**one, "kind": OTHERS} for one in sweep.get("others") or []]
    models = sorted([*sweep["students"], *others], key=lambda one: -(Figure.of(one[quality]).value or 0.0))
    models = [*([{"name": "teacher", "kind": TEACHER, **teacher}] if teacher else []), *models]
    figures = [Figure.of(one[quality]) for one in models]
    domain = spread(figures)
    columns = [Column("Model"), Column(scale=scale(domain))]
    columns += [*numbers([f"{word} on test", f"{word} on validation", "Rows/s", "Parameters"]), Column("On the frontier of")]
    body = []
    for one, figure in zip(models, figures, strict=True):
        color = one["kind"] if one["kind"] in (TEACHER, OTHERS) else COLORS.get(one["kind"], "other")
        on = [worth for cost, worth in COST_WORDS.items() if (one.get("on_frontier") or {}).get(cost)]
        faster = None
        if teacher and one["kind"] != TEACHER and teacher.get("rows_per_second") and one.get("rows_per_second"):
            faster = f"{findings.count(one['rows_per_second'] / teacher['rows_per_second'])} {findings.TIMES} the teacher"
        cells = [
            Cell(one["name"], swatch=color),
            Cell(chart=strip([(one["name"], color, figure)], domain, label=f"{word} of {one['name']}")),
            figure_cell(figure),
            figure_cell(Figure.of(one.get(f"validation_{quality}"))),
            Cell(findings.count(one.get("rows_per_second")), faster, number=True),
            Cell(findings.count(one.get("parameters")), findings.size(one["bytes"]) if one.get("bytes") else None, number=True),
            Cell(", ".join(on)),
        ]
        body.append(Row(cells))
    left_out = [f"{name}: {reason}" for name, reason in (sweep.get("not_possible") or {}).items()]
    return Students(Table(columns, body), left_out, f"{findings.several(len(left_out), 'student')} cannot be trained here")
