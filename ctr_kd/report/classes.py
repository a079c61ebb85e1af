"""Classifiers class by class: precision, recall and F1 with their averages, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.findings import Figure, model_title
from ctr_kd.report.markup import Markup, element
from ctr_kd.report.parts import cell, head, section, table


def classes(metrics: Mapping[str, Any]) -> Markup | None:
    """Precision, recall and F1 by class of every model, and their macro and weighted averages."""
    models = metrics.get("models") or {}
    reports = {row.name: models[row.name].get("report") for row in findings.result_rows(metrics)}
    reports = {name: report for name, report in reports.items() if isinstance(report, Mapping) and "value" not in report}
    if not reports:
        return None
    lines = {name: {model: report.get(name) or {} for model, report in reports.items()} for name in _class_names(reports)}
    averages = {model: models[model].get("averages") or {} for model in reports}
    lines |= {f"{kind} average": {model: averages[model].get(kind) or {} for model in reports} for kind in ("macro", "weighted")}
    columns = [head("Class"), head("Rows", number=True)]
    columns += [head(f"{model_title(model)}: precision, recall, F1", number=True) for model in reports]
    body = []
    for name, of in lines.items():
        support = next((entry["support"] for entry in of.values() if "support" in entry), None)
        figures = [", ".join(Figure.of(entry.get(figure)).text(3) for figure in ("precision", "recall", "f1")) for entry in of.values()]
        cells = [cell(name), cell(findings.count(Figure.of(support).value), number=True)]
        body.append(element("tr", cells, [cell(text, number=True) for text in figures]))
    return section("By class", None, table(columns, body))


def confusion(metrics: Mapping[str, Any], curves: Mapping[str, Any]) -> Markup | None:
    """The student's confusion matrix, drawn: rows are the labels, columns what was predicted."""
    counts = (curves.get("confusion") or {}).get("student")
    names = curves.get("classes") or []
    if not counts:
        return None
    body = []
    for i, name in enumerate(names):
        total = max(sum(counts[i]), 1)
        cells = [cell(name), *(_shade(count, count / total, i == j) for j, count in enumerate(counts[i]))]
        body.append(element("tr", cells))
    return section(
        "Confusion matrix",
        "Test rows by their label (lines) and by the class that the student predicts (columns); the shade is the share of the line.",
        table([head("Label"), *(head(name, number=True) for name in names)], body, "confusion"),
    )


def _shade(count: int, share: float, right: bool) -> Markup:
    color = "var(--good)" if right else "var(--bad)"
    return element(
        "td",
        str(count) if count else "",
        class_="number",
        title=f"{100 * share:.1f} % of the line",
        style=f"background: color-mix(in srgb, {color} {100 * min(share, 1.0):.0f}%, transparent)",
    )


def _class_names(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for report in reports.values() for name in report))
