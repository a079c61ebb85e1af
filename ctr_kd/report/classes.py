"""Classifiers class by class: precision, recall and F1 with their averages, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.charts import scale, spread, strip
from ctr_kd.report.findings import Figure, model_title
from ctr_kd.report.parts import Cell, Column, Row, Swatch, Table, color, legend, numbers


@dataclass(frozen=True)
class Classes:
    """The models' figures by class."""

    legend: Sequence[Swatch]
    table: Table


def classes(metrics: Mapping[str, Any]) -> Classes | None:
    """Precision, recall and F1 by class of every model, and their macro and weighted averages; F1 is drawn."""
    models = metrics.get("models") or {}
    reports = {row.name: models[row.name].get("report") for row in findings.result_rows(metrics)}
    reports = {name: report for name, report in reports.items() if isinstance(report, Mapping) and "value" not in report}
    if not reports:
        return None
    lines = {name: {model: report.get(name) or {} for model, report in reports.items()} for name in _class_names(reports)}
    averages = {model: models[model].get("averages") or {} for model in reports}
    lines |= {f"{kind} average": {model: averages[model].get(kind) or {} for model in reports} for kind in ("macro", "weighted")}
    scores = {name: {model: Figure.of(entry.get("f1")) for model, entry in of.items()} for name, of in lines.items()}
    domain = spread([figure for of in scores.values() for figure in of.values()])
    columns = [Column("Class"), *numbers(["Rows"]), Column(scale=scale(domain))]
    columns += numbers(f"{model_title(model)}: precision, recall, F1" for model in reports)
    body = []
    for name, of in lines.items():
        support = next((entry["support"] for entry in of.values() if "support" in entry), None)
        figures = [", ".join(Figure.of(entry.get(figure)).text(3) for figure in ("precision", "recall", "f1")) for entry in of.values()]
        drawn = strip([(model_title(model), color(model), figure) for model, figure in scores[name].items()], domain, label=f"F1 of {name}")
        cells = [Cell(name), Cell(findings.count(Figure.of(support).value), number=True), Cell(chart=drawn)]
        body.append(Row([*cells, *(Cell(text, number=True) for text in figures)]))
    return Classes(legend(reports), Table(columns, body))


def confusion(metrics: Mapping[str, Any], curves: Mapping[str, Any]) -> Table | None:
    """The student's confusion matrix: rows are the labels, columns what was predicted; each cell is shaded by its share of the line."""
    counts = (curves.get("confusion") or {}).get("student")
    names = curves.get("classes") or []
    if not counts:
        return None
    body = []
    for i, name in enumerate(names):
        total = max(sum(counts[i]), 1)
        body.append(Row([Cell(name), *(_shaded(count, count / total, i == j) for j, count in enumerate(counts[i]))]))
    return Table([Column("Label"), *numbers(names)], body, "confusion")


def _shaded(count: int, share: float, right: bool) -> Cell:
    reason = f"{100 * share:.1f} % of the line"
    return Cell(str(count) if count else "", reason=reason, number=True, kind="right" if right else "wrong", share=min(share, 1.0))


def _class_names(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for report in reports.values() for name in report))
