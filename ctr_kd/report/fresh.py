"""What the champion's teacher, student and student alone are worth on fresh clicks, beside what they were at registration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.parts import Cell, Column, Row, Table, color, difference_cell, figure_cell, numbers

_METRIC = "auc"
_MODELS = ("teacher", "student", "student_alone")


@dataclass(frozen=True)
class Fresh:
    """Sentences about the teacher on fresh clicks, and the figures; no table where there are none."""

    sentences: list[str]
    table: Table | None


def fresh(monitor: Mapping[str, Any]) -> Fresh | None:
    """The section of the page; None where no teacher was asked."""
    found = monitor.get("fresh")
    if not found:
        return None
    if "models" not in found:
        return Fresh(fresh_sentences(monitor), None)
    then = (found.get("at_registration") or {}).get(_METRIC) or {}
    columns = [
        Column("Model"),
        *numbers([f"{METRIC_TITLES[_METRIC]} on fresh clicks", "At registration", "Change", "Less the student alone"]),
    ]
    body = []
    for name in _MODELS:
        before = Figure.of(then.get(name))
        lead = (found["comparisons"].get(f"{name}-student_alone") or {}).get(_METRIC)
        cells = [Cell(_title(found, name), swatch=color(name)), figure_cell(Figure.of(found["models"][name][_METRIC])), figure_cell(before)]
        cells.append(difference_cell(Figure.of((found.get("at_registration") or {}).get("changed", {}).get(name))))
        cells.append(difference_cell(None if lead is None else Figure.of(lead, "difference")))
        body.append(Row(cells, "student" if name == "student" else None))
    return Fresh(fresh_sentences(monitor), Table(columns, body))


def fresh_sentences(monitor: Mapping[str, Any]) -> list[str]:
    """How the three do on the newest date whose clicks have arrived, and how much of the teacher's lead reaches the student there.

    Examples
    --------
    >>> gone = {"date": "2024-01-03", "model_version": "2", "reason": "the artifact of finetune is not there"}
    >>> fresh_sentences({"fresh": gone})
    ['The teacher of version 2 is not measured on 2024-01-03: the artifact of finetune is not there.']
    """
    found = monitor.get("fresh")
    if not found:
        return []
    if "models" not in found:
        return [f"The teacher of version {found['model_version']} is not measured on {found['date']}: {found['reason']}."]
    figures = ", ".join(f"{_title(found, name).lower()} {_figure(found['models'][name][_METRIC])}" for name in _MODELS)
    changed = (found.get("at_registration") or {}).get("changed", {}).get("teacher")
    aged = "" if changed is None else f" The teacher's AUC has moved by {findings.signed(changed)} since its registration."
    reached, then = Figure.of(found["transfer_ratio_interval"]), (found.get("at_registration") or {}).get("transfer_ratio")
    before = "" if then is None else f" (at registration {Figure(then).percent()})"
    share = (
        f"How much of the teacher's lead reaches the student there is undefined: {reached.reason}."
        if reached.value is None
        else f"{reached.percent()} of the teacher's lead over the student alone reaches the student there{before}."
    )
    rows = f"{found['rows']:,} rows"
    return [f"AUC on {rows} of {found['date']}, version {found['model_version']}: {figures}.{aged}", share]


def _figure(entry: Any) -> str:
    figure = Figure.of(entry)
    return f"{figure.text()} {figure.interval()}".strip()


def _title(found: Mapping[str, Any], name: str) -> str:
    """A model's name; of several teachers that which was asked."""
    asked = f"teacher/{found['teacher']}" if name == "teacher" and found.get("teacher") else name
    return findings.model_title(asked) + (" (privileged)" if name == "teacher" and found.get("privileged") else "")
