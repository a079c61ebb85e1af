"""The page of a proof: what distillation gave over several seeds and teachers, one by one, and what each of its parts gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import arms, conclusions, findings, rendering, results, run
from ctr_kd.report.charts import Axis, Series, line_chart, padded, scale, spread, strip
from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.parts import Cell, Column, Panel, Row, Swatch, Table, difference_cell, figure_cell, legend, numbers
from ctr_kd.report.results import EFFECTS

SEED_WIDTH = 360  # of the chart in pixels: it is what the table is about
ABLATION_WIDTH = 150  # of each chart: there are two


@dataclass(frozen=True)
class Seeds:
    """Student and student alone by seed, each the mean over some teachers."""

    legend: Sequence[Swatch]
    table: Table
    teachers: int


@dataclass(frozen=True)
class Teachers:
    """Each of several teachers beside its students."""

    legend: Sequence[Swatch]
    table: Table


@dataclass(frozen=True)
class Ablation:
    """What each change of the configured distillation gives, and why others cannot be made."""

    table: Table | None
    impossible: Sequence[str]
    title: str


@dataclass(frozen=True)
class Amounts:
    """The student against the amount of its transfer set; `key` is the configuration key of the amount."""

    key: str
    legend: Sequence[Swatch]
    panels: Sequence[Panel]
    table: Table


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
    said = conclusions.verdict(proof)
    return rendering.page(
        "proof.html",
        title=said.headline,
        header=run.header(proof, said, "Proof of distillation"),
        arms=arms.arms(proof),
        seeds=seeds(proof),
        teachers=teachers(proof),
        results=results.results(findings.result_rows(proof)),
        differences=results.differences(proof),
        ablation=ablation(proof),
        amounts=amounts(proof),
        configuration=run.configuration(proof),
    )


def seeds(proof: Mapping[str, Any]) -> Seeds | None:
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
    columns = [Column("Seed"), Column(scale=scale(domain, width=SEED_WIDTH)), *numbers(["Student", "Student alone", "Difference"])]
    body = []
    for position, seed in enumerate(proof["seeds"]):
        figures = {name: Figure(values[position]) for name, values in by_name.items()} | {"teacher": Figure(teacher.value)}
        dots = [(findings.title_in(proof, name), name, figure) for name, figure in figures.items()]
        chart = strip(dots, domain, label=f"{METRIC_TITLES[quality]} with seed {seed}", width=SEED_WIDTH)
        cells = [Cell(str(seed)), Cell(chart=chart), *(figure_cell(figures[name]) for name in names), difference_cell(gains[position])]
        body.append(Row(cells))
    return Seeds(legend(drawn), Table(columns, body), len(proof["teacher_seeds"]))


def teachers(proof: Mapping[str, Any]) -> Teachers | None:
    """Each teacher, the mean of its students with their range, and what they gained; how far all of that moves with the teacher's seed."""
    numbered, names = proof.get("teacher_seeds") or [], ("teacher", "student")
    if len(numbered) < 2:
        return None
    quality = findings.quality(proof)
    models = {name: proof["models"][name][quality] for name in names}
    gain = proof["comparisons"]["student-student_alone"][quality]
    domain = spread([Figure(value) for one in models.values() for value in one["teachers"]])
    columns = [Column("Teacher's seed"), Column(scale=scale(domain, width=SEED_WIDTH))]
    of_teacher = f"{METRIC_TITLES[quality]} of the {findings.title_in(proof, 'teacher').lower()}"
    columns += numbers([of_teacher, "Its students", "Less student alone"])
    body = []
    for position, seed in enumerate(numbered):
        figures = {name: Figure(one["teachers"][position]) for name, one in models.items()}
        dots = [(findings.title_in(proof, name), name, figure) for name, figure in figures.items()]
        chart = strip(dots, domain, label=f"{METRIC_TITLES[quality]} with teacher seed {seed}", width=SEED_WIDTH)
        of_students, gains = models["student"]["by_teacher"][position], gain["by_teacher"][position]
        cells = [Cell(str(seed)), Cell(chart=chart), figure_cell(figures["teacher"])]
        ranges = [f"{min(of_students):.4f} to {max(of_students):.4f}", f"{findings.signed(min(gains))} to {findings.signed(max(gains))}"]
        means = [figures["student"].text(), findings.signed(gain["teachers"][position])]
        cells += [Cell(mean, span if len(gains) > 1 else None, number=True) for mean, span in zip(means, ranges, strict=True)]
        body.append(Row(cells))
    deviations = [Figure(one["teachers_std"]) for one in (*models.values(), gain)]
    body.append(Row([Cell("Standard deviation"), Cell(), *(figure_cell(one) for one in deviations)]))
    return Teachers(legend(names), Table(columns, body))


def ablation(proof: Mapping[str, Any]) -> Ablation | None:
    """One line per change of the configured distillation: what the change gave, what is left of the gain, and its AUC or accuracy."""
    quality = findings.quality(proof)
    changes, impossible = proof.get("ablation") or [], proof.get("not_possible") or {}
    if not changes and not impossible:
        return None
    against = {key: [Figure.of(one[key], "difference") for one in changes] for key in ("against_student", "against_student_alone")}
    domains = {key: spread(figures, zero=True) for key, figures in against.items()}
    columns = [Column("Changed")]
    for key, title in (("against_student", "Against the student"), ("against_student_alone", "Against the student alone")):
        columns += [Column(scale=scale(domains[key], sign=True, width=ABLATION_WIDTH)), *numbers([title])]
    columns += numbers([METRIC_TITLES[quality]])
    body = []
    for position, one in enumerate(changes):
        cells = [Cell(one["name"])]
        for key, figures in against.items():
            figure = figures[position]
            label = f"{one['name']}, {key.replace('_', ' ')}"
            drawn = strip([(one["name"], EFFECTS[figure.sign], figure)], domains[key], label=label, reference=0.0, width=ABLATION_WIDTH)
            cells += [Cell(chart=drawn), difference_cell(figure)]
        body.append(Row([*cells, figure_cell(Figure.of(one[quality]))]))
    left_out = [f"{name}: {reason}" for name, reason in impossible.items()]
    title = f"{findings.several(len(left_out), 'change')} cannot be made here"
    return Ablation(Table(columns, body) if body else None, left_out, title)


def amounts(proof: Mapping[str, Any]) -> Amounts | None:
    """The student against the amount of its transfer set, on validation and on test, beside the student alone and the teacher."""
    by_amount = proof.get("amounts") or {}
    points = by_amount.get("points") or []
    if not points:
        return None
    quality = findings.quality(proof)
    word, shown = METRIC_TITLES[quality], f"validation_{quality}"
    titles = ["Rows without labels", f"{word} on validation", f"{word} on test", "Against this configuration", "Against the student alone"]
    body = []
    for one in points:
        cells = [Cell(f"{one['amount']:g}", "this configuration" if one["configured"] else None)]
        cells += [
            Cell(findings.count(one["rows"]), number=True),
            figure_cell(Figure.of(one.get(shown))),
            figure_cell(Figure.of(one[quality])),
        ]
        cells.append(difference_cell(None if one["configured"] else Figure.of(one["against_student"], "difference")))
        cells.append(difference_cell(Figure.of(one["against_student_alone"], "difference")))
        body.append(Row(cells))
    models = proof.get("models") or {}
    levels = {name: _under_first_teacher(models[name][quality]) for name in ("student_alone", "teacher") if name in models}
    panels = [
        _by_amount(points, [Figure.of(one.get(shown)) for one in points], f"{word} on validation", {}),
        _by_amount(points, [Figure.of(one[quality]) for one in points], f"{word} on test", levels),
    ]
    drawn = [panel for panel in panels if panel is not None]
    return Amounts(str(by_amount.get("key")), legend(["student", *levels]), drawn, Table([Column("Amount"), *numbers(titles)], body))


def _under_first_teacher(entry: Mapping[str, Any]) -> float | None:
    return Figure.of(entry["teachers"][0] if "teachers" in entry else entry).value


def _by_amount(
    points: Sequence[Mapping[str, Any]], figures: Sequence[Figure], title: str, levels: Mapping[str, float | None]
) -> Panel | None:
    """One curve over the amounts, and a level line for each model that has no amount."""
    drawn = [(one, figure.value, figure) for one, figure in zip(points, figures, strict=True) if figure.value is not None]
    if not drawn:
        return None
    whole = [(figure.low, figure.high) for *_, figure in drawn if figure.low is not None and figure.high is not None]
    ring = next((float(one["amount"]) for one, *_ in drawn if one["configured"]), None)
    curve = [(float(one["amount"]), value) for one, value, _ in drawn]
    series = [Series("Student", "student", curve, marks=True, bounds=whole if len(whole) == len(drawn) else None, ring=ring)]
    ends = min(x for x, _ in curve), max(x for x, _ in curve)
    series += [Series(findings.model_title(name), name, [(x, value) for x in ends]) for name, value in levels.items() if value is not None]
    values = [y for one in series for y in one.heights]
    axes = Axis("amount of the transfer set", padded(ends)), Axis("", padded(values))
    return Panel(title, line_chart(series, *axes, label=f"{title} by amount"))
