"""How good the models are: the result table, paired differences, and slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.charts import scale, spread, strip
from ctr_kd.report.findings import METRIC_TITLES, Figure, ResultRow, model_title, title_in
from ctr_kd.report.parts import Cell, Column, Row, Swatch, Table, color, difference_cell, figure_cell, legend, model_cell, numbers

MAIN_METRICS = frozenset({"auc_unweighted", "gauc", "accuracy", "macro_f1", "log_loss", "normalized_entropy", "calibration_error"})
SLICE_TITLES = {
    "history_length": ("Clicks in the history", "0 are cold users"),
    "item": ("Candidate item", "unseen items are missing from the vocabulary of the training window"),
    "hours_after_cutoff": ("Hours after the end of training", "how fast the models age"),
    "leak": ("Leaked rows", "test texts that are in training too, after normalisation"),
    "days_after_cutoff": ("Days after the end of training", "how fast the models age"),
}
EFFECTS = {1: "gain", -1: "loss", 0: "even"}  # by the sign of a difference


@dataclass(frozen=True)
class Results:
    """The result table, a sentence on the teacher, the rarer metrics, and why figures are undefined, under its title."""

    table: Table
    teacher: str | None
    more: Table | None
    reasons: Sequence[str]
    undefined: str


@dataclass(frozen=True)
class SliceGroup:
    """The parts of one way to divide the rows."""

    title: str
    note: str
    table: Table


@dataclass(frozen=True)
class Slices:
    """All ways to divide the rows, and the metric that is shown."""

    metric: str
    legend: Sequence[Swatch]
    groups: Sequence[SliceGroup]


def results(rows: Sequence[ResultRow], teacher: str | None = None, shipped: str = "student") -> Results | None:
    """One line per model: AUC (of classes: accuracy) drawn and written, then every other metric, speed and size."""
    if not rows:
        return None
    present = [name for name in METRIC_TITLES if any(name in row.figures for row in rows)]
    quality = "accuracy" if "accuracy" in present else "auc"
    main = [name for name in present if name in MAIN_METRICS | {"auc"} and name != quality]
    near = focal([row.name for row in rows])
    domain = spread([row.figures[quality] for row in rows if quality in row.figures and row.name in near])
    columns = [Column("Model"), Column(scale=scale(domain)), *numbers(METRIC_TITLES[name] for name in (quality, *main))]
    costs = any(row.rows_per_second or row.parameters or row.bytes for row in rows)
    columns += numbers(["Rows/s", "Parameters"] if costs else [])
    body = []
    for row in rows:
        figure = row.figures.get(quality, Figure(None, reason="not measured"))
        drawn = strip([(row.title, color(row.name), figure)], domain, label=f"{METRIC_TITLES[quality]} of {row.title}")
        cells = [model_cell(row), Cell(chart=drawn), figure_cell(figure), *(figure_cell(row.figures.get(name)) for name in main)]
        if costs:
            alone = f"{findings.count(row.rows_per_second_alone)} row by row" if row.rows_per_second_alone else None
            cells.append(Cell(findings.count(row.rows_per_second), alone, number=True))
            cells.append(Cell(findings.count(row.parameters), findings.size(row.bytes) if row.bytes else None, number=True))
        body.append(Row(cells, "student" if row.name == shipped else None))
    more = [name for name in present if name not in MAIN_METRICS | {"auc"}]
    reasons = _reasons(rows)
    verb = "is undefined, or has" if len(reasons) == 1 else "are undefined, or have"
    undefined = f"{findings.several(len(reasons), 'figure')} {verb} no interval"
    return Results(Table(columns, body), teacher, _more_metrics(rows, more), reasons, undefined)


def _more_metrics(rows: Sequence[ResultRow], names: Sequence[str]) -> Table | None:
    if not names:
        return None
    body = [Row([model_cell(row), *(figure_cell(row.figures.get(name)) for name in names)]) for row in rows]
    return Table([Column("Model"), *numbers(METRIC_TITLES[name] for name in names)], body)


def _reasons(rows: Iterable[ResultRow]) -> list[str]:
    return [f"{row.title}, {METRIC_TITLES[name]}: {figure.reason}" for row in rows for name, figure in row.figures.items() if figure.reason]


def focal(names: Sequence[str]) -> list[str]:
    """The models that the question is about; popularity and oracle lie too far off to set the scale of a chart."""
    return [name for name in names if name not in ("popularity", "oracle")] or list(names)


def differences(metrics: Mapping[str, Any]) -> Table | None:
    """Paired differences in AUC, or accuracy of classes, drawn about zero, with those of the other main metrics."""
    pairs = metrics.get("comparisons") or {}
    if not pairs:
        return None
    quality = findings.quality(metrics)
    main = {pair: findings.difference(metrics, pair) or Figure(None, reason="not measured") for pair in pairs}
    others = [
        name
        for name in ("auc", "gauc", "request_auc", "accuracy", "macro_f1", "log_loss")
        if name != quality and any(name in (table or {}) for table in pairs.values())
    ]
    near = [figure for pair, figure in main.items() if not pair.endswith(("-popularity", "-oracle"))]
    domain = spread(near or list(main.values()), zero=True)
    columns = [Column("Difference"), Column(scale=scale(domain, sign=True))]
    columns += numbers([METRIC_TITLES[quality], "p", *(METRIC_TITLES[name] for name in others)])
    body = []
    for pair, figure in main.items():
        first, _, second = pair.partition("-")
        one, other = (title_in(metrics, name) if name.startswith("teacher") else model_title(name) for name in (first, second))
        title = f"{one} {findings.MINUS} {other.lower()}"
        drawn = strip([(title, EFFECTS[figure.sign], figure)], domain, label=f"{title}, {METRIC_TITLES[quality]}", reference=0.0)
        p_value = Figure.of((pairs[pair].get(quality) or {}).get("p_value")).text(3)
        cells = [Cell(title), Cell(chart=drawn), difference_cell(figure), Cell(p_value, number=True)]
        body.append(Row([*cells, *(difference_cell(findings.difference(metrics, pair, name)) for name in others)]))
    return Table(columns, body)


def slices(metrics: Mapping[str, Any]) -> Slices | None:
    """AUC, or accuracy of classes, of every model by part of the rows, one table per group of parts."""
    quality = findings.quality(metrics)
    groups: dict[str, dict[str, Any]] = {}
    for name, models in (metrics.get("slices") or {}).items():
        group, _, part = name.partition("/")
        groups.setdefault(group if part else "other", {})[part or name] = models
    if not groups:
        return None
    shown = findings.reading_order(name for parts in groups.values() for models in parts.values() for name in models if "/" not in name)
    near = focal(shown)
    found = []
    for group, parts in groups.items():
        figures = {part: {name: Figure.of((models.get(name) or {}).get(quality)) for name in shown} for part, models in parts.items()}
        domain = spread([figure for models in figures.values() for name, figure in models.items() if name in near])
        columns = [Column("Part"), *numbers(["Rows"]), Column(scale=scale(domain)), *numbers(title_in(metrics, name) for name in shown)]
        body = []
        for part, by_model in figures.items():
            size = next((models.get("rows") for models in parts[part].values() if isinstance(models, Mapping)), None)
            dots = [(title_in(metrics, name), color(name), figure) for name, figure in by_model.items()]
            drawn = strip(dots, domain, label=f"{METRIC_TITLES[quality]} in {part}")
            cells = [Cell(part), Cell(findings.count(Figure.of(size).value), number=True), Cell(chart=drawn)]
            body.append(Row([*cells, *(figure_cell(figure) for figure in by_model.values())]))
        title, note = SLICE_TITLES.get(group, (group.replace("_", " ").capitalize(), ""))
        found.append(SliceGroup(title, note, Table(columns, body, "parts")))
    return Slices(METRIC_TITLES[quality], legend(shown), found)
