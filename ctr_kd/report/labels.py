"""How good the models are by labels beside the click, a small table for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.findings import METRIC_TITLES
from ctr_kd.report.parts import Column, Row, Table, figure_cell, model_cell, numbers

SHOWN = ("auc", "gauc", "log_loss", "calibration_error", "calibration_ratio")


@dataclass(frozen=True)
class Label:
    """One label: its name, how often it is 1, in a sentence, and the figures of the models."""

    name: str
    sentence: str
    table: Table


def labels(metrics: Mapping[str, Any]) -> list[Label]:
    """A table for each label beside the click; none where the click is the only one."""
    found = []
    for name, of_label in (metrics.get("labels") or {}).items():
        rows = findings.result_rows(of_label)
        names = [metric for metric in SHOWN if any(metric in row.figures for row in rows)]
        body = [Row([model_cell(row), *(figure_cell(row.figures.get(metric)) for metric in names)]) for row in rows]
        table = Table([Column("Model"), *numbers(METRIC_TITLES[metric] for metric in names)], body)
        found.append(Label(name, sentence(name, of_label), table))
    return found


def sentence(name: str, of_label: Mapping[str, Any]) -> str:
    """How often a label is 1.

    Examples
    --------
    >>> sentence("purchased", {"rows": 2000, "positives": 50})
    'purchased is 1 in 50 of the 2,000 test rows that say it.'
    """
    return f"{name} is 1 in {of_label['positives']:,} of the {of_label['rows']:,} test rows that say it."
