"""The arms of a proof: what other settings make of teacher and student, beside the configured ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.charts import scale, spread, strip
from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.parts import Cell, Column, Row, Swatch, Table, difference_cell, figure_cell, legend, numbers

WIDTH = 260  # of the chart in pixels
CONFIGURED = "as configured"
PRIVILEGED = "its teacher cannot be served"
_MODELS = ("teacher", "student", "student_alone")


@dataclass(frozen=True)
class Arms:
    """Every arm on one scale, with what it gave; `privileged` where a teacher reads what cannot be served."""

    legend: Sequence[Swatch]
    table: Table
    privileged: bool


def arms(proof: Mapping[str, Any]) -> Arms | None:
    """One line per arm, after that of the configured run; None where there are no arms."""
    if not proof.get("arms"):
        return None
    quality = findings.quality(proof)
    lines = lines_of(proof)
    figures = [{name: Figure.of(one["models"][name][quality]) for name in _MODELS} for one in lines]
    domain = spread([figure for one in figures for figure in one.values()])
    word = METRIC_TITLES[quality]
    columns = [Column("Arm"), Column(scale=scale(domain, width=WIDTH))]
    columns += numbers([f"Teacher {word}", f"Student {word}", f"Student alone {word}", "Over student alone", "Over the configured student"])
    columns += numbers(["Of the teacher's lead", "Rows/s"])
    body = []
    for one, by_model in zip(lines, figures, strict=True):
        dots = [(findings.model_title(name), name, figure) for name, figure in by_model.items()]
        chart = strip(dots, domain, label=f"{word} of arm {one['name']}", width=WIDTH)
        pairs = one["comparisons"]
        ahead = pairs.get("student-configured")
        reached, student = Figure.of(one["transfer_ratio_interval"]), one["models"]["student"]
        share, _, interval = reached.percent().partition(" [")
        teacher = figure_cell(by_model["teacher"])
        if one["privileged"]:
            teacher = Cell(teacher.text, PRIVILEGED, teacher.reason, number=True)
        cells = [
            Cell(one["name"], changes(one.get("set") or {}) or None, words=True),
            Cell(chart=chart),
            teacher,
            figure_cell(by_model["student"]),
            figure_cell(by_model["student_alone"]),
            difference_cell(Figure.of(pairs["student-student_alone"][quality], "difference")),
            difference_cell(None if ahead is None else Figure.of(ahead[quality], "difference")),
            Cell(share, f"[{interval}" if interval else None, reached.reason, number=True),
            Cell(findings.count(student.get("rows_per_second")), findings.size(student.get("bytes")), number=True),
        ]
        body.append(Row(cells, "student" if ahead is None else None))
    return Arms(legend(_MODELS), Table(columns, body), any(one["privileged"] for one in lines))


def lines_of(proof: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configured run as an arm that changes nothing, and the arms."""
    configured = {"name": CONFIGURED, "privileged": proof.get("privileged", False)}
    own = ("models", "comparisons", "transfer_ratio", "transfer_ratio_interval")
    return [configured | {key: proof[key] for key in own}, *proof["arms"]]


def changes(values: Mapping[str, Any]) -> str:
    """What an arm changes, on one line.

    >>> changes({"distill.alpha": 0.3, "statistics.of": []})
    'distill.alpha: 0.3, statistics.of: []'
    """
    return ", ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )
