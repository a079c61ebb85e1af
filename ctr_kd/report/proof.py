"""The page of a proof: what distillation gave over several seeds, seed by seed, and what each of its parts gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctr_kd.report import findings, results, run
from ctr_kd.report.charts import Axis, Series, line_chart, padded, spread, whisker_axis, whiskers
from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.markup import Markup, element
from ctr_kd.report.page import document
from ctr_kd.report.parts import cell, difference_cell, figure_cell, head, legend, section, table, written_cell

EFFECTS = {1: "gain", -1: "loss", 0: "even"}


def render_proof(proof: Mapping[str, Any]) -> str:
    """The HTML page of a proof, in the style of the report.

    Parameters
    ----------
    proof : mapping
        All of prove.json. Parts that are missing leave their section out.

    Examples
    --------
    >>> auc = {"difference": 0.0061, "low": 0.0048, "high": 0.0075, "seeds": [0.005, 0.0072]}
    >>> "better in 2 of 2 seeds" in render_proof({"comparisons": {"student-student_alone": {"auc": auc}}})
    True
    """
    said = findings.verdict(proof)
    body = [
        run.header(proof, said, "Proof of distillation"),
        seeds(proof),
        results.results(findings.result_rows(proof)),
        results.differences(proof),
        ablation(proof),
        amounts(proof),
        run.configuration(proof),
        element("footer", "Written by ctr-kd prove. The same numbers stand in prove.json beside this file."),
    ]
    return document(said.headline, body)


def seeds(proof: Mapping[str, Any]) -> Markup | None:
    """Student and student alone of each seed on one scale, with their difference."""
    models, names = proof.get("models") or {}, ("student", "student_alone")
    if not all(name in models for name in names):
        return None
    quality = findings.quality(proof)
    by_name = {name: models[name][quality]["seeds"] for name in names}
    gains = [Figure(gain) for gain in proof["comparisons"]["student-student_alone"][quality]["seeds"]]
    teacher = Figure.of((models.get("teacher") or {}).get(quality))
    drawn = {**by_name, "teacher": [teacher.value]} if teacher.value is not None else by_name
    domain = spread([Figure(value) for values in drawn.values() for value in values])
    columns = [head("Seed"), head("Student", number=True), head("Student alone", number=True), head(whisker_axis(domain, width=360))]
    columns += [head("Difference", number=True)]
    body = []
    for position, seed in enumerate(proof["seeds"]):
        figures = {name: Figure(values[position]) for name, values in by_name.items()} | {"teacher": Figure(teacher.value)}
        dots = [(findings.model_title(name), name, figure) for name, figure in figures.items()]
        cells = [cell(seed), figure_cell(figures["student"]), figure_cell(figures["student_alone"])]
        cells += [
            cell(whiskers(dots, domain, label=f"{METRIC_TITLES[quality]} with seed {seed}", width=360)),
            difference_cell(gains[position]),
        ]
        body.append(element("tr", cells))
    return section(
        "Seed by seed",
        "Both students of a seed have the same initial weights, batches and budget, and both keep the checkpoint that validation "
        "preferred; one has the teacher beside the labels. The teacher is the same for all seeds.",
        legend(drawn),
        table(columns, body),
    )


def ablation(proof: Mapping[str, Any]) -> Markup | None:
    """One line per change of the configured distillation: its AUC or accuracy, what the change gave, and what is left of the gain."""
    quality = findings.quality(proof)
    changes, impossible = proof.get("ablation") or [], proof.get("not_possible") or {}
    if not changes and not impossible:
        return None
    against = {key: [Figure.of(one[key], "difference") for one in changes] for key in ("against_student", "against_student_alone")}
    domains = {key: spread(figures, zero=True) for key, figures in against.items()}
    columns = [head("Changed"), head(METRIC_TITLES[quality], number=True)]
    for key, title in (("against_student", "Against the student"), ("against_student_alone", "Against the student alone")):
        columns += [head(title, number=True), head(whisker_axis(domains[key], sign=True))]
    body = []
    for position, one in enumerate(changes):
        cells = [cell(one["name"]), figure_cell(Figure.of(one[quality]))]
        for key, figures in against.items():
            figure = figures[position]
            drawn = whiskers([(one["name"], EFFECTS[figure.sign], figure)], domains[key], label=f"{one['name']}, {key}", zero=True)
            cells += [difference_cell(figure), cell(drawn)]
        body.append(element("tr", cells))
    left_out = [element("li", f"{name}: {reason}") for name, reason in impossible.items()]
    return section(
        "What each part gives",
        "Each line is the configured distillation with one part switched on, off or exchanged, trained with the same seeds. Right of zero "
        "in the first column the change is worth making; right of zero in the second, the student still gains from its teacher.",
        table(columns, body) if body else None,
        element("details", element("summary", f"{len(left_out)} changes cannot be made here"), element("ul", left_out))
        if left_out
        else None,
    )


def amounts(proof: Mapping[str, Any]) -> Markup | None:
    """The student against the amount of its transfer set, on validation and on test, beside the student alone and the teacher."""
    by_amount = proof.get("amounts") or {}
    points = by_amount.get("points") or []
    if not points:
        return None
    quality = findings.quality(proof)
    word, shown = METRIC_TITLES[quality], f"validation_{quality}"
    columns = [head("Amount"), head("Rows without labels", number=True), head(f"{word} on validation", number=True)]
    columns += [head(f"{word} on test", number=True), head("Against this configuration", number=True)]
    columns += [head("Against the student alone", number=True)]
    body = []
    for one in points:
        cells = [cell(f"{one['amount']:g}", element("div", "this configuration", class_="interval") if one["configured"] else None)]
        cells += [written_cell(findings.count(one["rows"])), figure_cell(Figure.of(one.get(shown))), figure_cell(Figure.of(one[quality]))]
        cells.append(cell("–", number=True) if one["configured"] else difference_cell(Figure.of(one["against_student"], "difference")))
        cells.append(difference_cell(Figure.of(one["against_student_alone"], "difference")))
        body.append(element("tr", cells))
    charts = [_by_amount(points, [Figure.of(one.get(shown)) for one in points], f"{word} on validation", {})]
    models = proof.get("models") or {}
    levels = {name: Figure.of(models[name][quality]).value for name in ("student_alone", "teacher") if name in models}
    charts.append(_by_amount(points, [Figure.of(one[quality]) for one in points], f"{word} on test", levels))
    return section(
        "The transfer set by its amount",
        f"The same student and the same seeds with other values of {by_amount.get('key')}, which counts rows that only the teacher labels "
        "by the training rows; the configured one is circled. Choose by validation: the test rows say what the choice is worth.",
        legend(["student", *levels]),
        element("div", charts, class_="charts"),
        table(columns, body),
    )


def _by_amount(
    points: Sequence[Mapping[str, Any]], figures: Sequence[Figure], title: str, levels: Mapping[str, float | None]
) -> Markup | None:
    """One curve over the amounts, and a level line for each model that has no amount."""
    drawn = [(one, figure.value, figure) for one, figure in zip(points, figures, strict=True) if figure.value is not None]
    if not drawn:
        return None
    whole = [(figure.low, figure.high) for *_, figure in drawn if figure.low is not None and figure.high is not None]
    ring = next((float(one["amount"]) for one, *_ in drawn if one["configured"]), None)
    curve = [(float(one["amount"]), value) for one, value, _ in drawn]
    series = [Series("student", "student", curve, marks=True, bounds=whole if len(whole) == len(drawn) else None, ring=ring)]
    ends = min(x for x, _ in curve), max(x for x, _ in curve)
    series += [Series(findings.model_title(name), name, [(x, value) for x in ends]) for name, value in levels.items() if value is not None]
    values = [y for one in series for y in one.heights]
    chart = line_chart(series, Axis("amount of the transfer set", padded(ends)), Axis("", padded(values)), label=f"{title} by amount")
    return element("figure", element("figcaption", title), chart)
