"""What the shipped student is worth with older item vectors, as a table and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.parts import Cell, Column, Row, Table, figure_cell, numbers


@dataclass(frozen=True)
class Freshness:
    """What slower refreshes cost, in a sentence, and the figures."""

    sentence: str
    table: Table


def freshness(metrics: Mapping[str, Any]) -> Freshness | None:
    """A line for each refresh; None where the student reads no item vectors."""
    found = metrics.get("freshness")
    if not found:
        return None
    names = [name for name in METRIC_TITLES if any(name in one for one in found)]
    columns = [Column("Vectors refreshed"), *numbers([METRIC_TITLES[name] for name in names])]
    body = [Row([Cell(_title(one)), *(figure_cell(Figure.of(one.get(name))) for name in names)]) for one in found]
    return Freshness(sentence(found), Table(columns, body))


def sentence(found: list[Mapping[str, Any]]) -> str:
    """What older vectors cost.

    Examples
    --------
    >>> sentence([{"refresh": "10m", "auc": {"value": 0.85}}, {"refresh": None, "auc": {"value": 0.8}}])
    'Every 10m AUC is 0.8500, never since training ended 0.8000.'
    """
    said = [f"{_title(one)} {Figure.of(one.get('auc')).text()}" for one in found]
    first, *others = said
    name, _, figure = first.rpartition(" ")
    return f"{', '.join([f'{name.capitalize()} AUC is {figure}', *others])}."


def _title(one: Mapping[str, Any]) -> str:
    return "never since training ended" if one["refresh"] is None else f"every {one['refresh']}"
