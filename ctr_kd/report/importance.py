"""What the inputs of the shipped student are worth: drops of AUC by permuted group, drawn and read aloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.charts import Domain, scale, spread, strip
from ctr_kd.report.findings import Figure
from ctr_kd.report.parts import Cell, Column, Row, Table, color, difference_cell, numbers
from ctr_kd.report.results import EFFECTS

WIDTH = 300  # of the chart in pixels: it is what the table is about
SHOWN = 20  # groups that are not folded away
NAMED = 5  # groups that the sentence names


@dataclass(frozen=True)
class Importance:
    """The figures in a sentence, the groups that are worth most, and the others under their title."""

    sentence: str
    table: Table
    rest: Table | None
    rest_title: str


def importance(metrics: Mapping[str, Any]) -> Importance | None:
    """One line per group of inputs, the largest drop of AUC first; None where nothing was permuted."""
    found = metrics.get("importance")
    said = sentence(metrics)
    if not found or said is None:
        return None
    names = list(found["groups"])
    domain = spread([_drop(found, name) for name in names], zero=True)
    rest = names[SHOWN:]
    return Importance(
        said,
        _table(found, names[:SHOWN], domain),
        _table(found, rest, domain) if rest else None,
        f"{findings.several(len(rest), 'group')} of inputs more",
    )


def sentence(metrics: Mapping[str, Any]) -> str | None:
    """Which inputs are worth most, and how many nothing by themselves; None where nothing was permuted.

    Of groups that lie in one another the widest is named.

    Examples
    --------
    >>> drops = {"all statistics": 0.05, "item_age": 0.02, "history": 0.01, "hour": 0.0}
    >>> groups = {name: {"inputs": [name], "auc": {"difference": drop, "low": drop - 0.001, "high": 0.06}} for name, drop in drops.items()}
    >>> groups["all statistics"]["inputs"] = ["item_age", "hour"]
    >>> found = {"model": "student", "split": "validation", "rows": 900, "auc": {"value": 0.7}, "groups": groups}
    >>> sentence({"importance": found}).partition("; ")[0]
    'Permuting all statistics costs the student most, 0.0500 AUC [0.0490, 0.0600] of 0.7000 on 900 validation rows'
    >>> sentence({"importance": found}).partition("; ")[2]
    'then comes history (0.0100). Of the 3 inputs 1 costs nothing beyond chance when it alone is permuted.'
    """
    found = metrics.get("importance")
    if not found:
        return None
    groups = found["groups"]
    auc = Figure.of(found.get("auc"))
    if auc.value is None:
        return f"What the inputs are worth in AUC is not known: {auc.reason}."
    inputs = {name: set(group["inputs"]) for name, group in groups.items()}
    widest = [name for name, own in inputs.items() if not any(own < other for other in inputs.values())]
    first, *others = [name for name in widest if _drop(found, name).sign > 0][:NAMED] or [None]
    single = [name for name, own in inputs.items() if len(own) == 1]
    without = sum(_drop(found, name).sign <= 0 for name in single)
    where = f"on {findings.count(found['rows'])} {found['split']} rows"
    if first is None:
        return f"No group of inputs costs AUC beyond chance when it is permuted, {where}."
    drop, model = _drop(found, first), findings.model_title(found["model"]).lower()
    said = f"Permuting {first} costs the {model} most, {drop.text()} AUC {drop.interval()} of {auc.text()} {where}"
    if others:
        said += f"; then {'comes' if len(others) == 1 else 'come'} {', '.join(f'{name} ({_drop(found, name).text()})' for name in others)}"
    costs = "costs nothing beyond chance when it alone is" if without == 1 else "cost nothing beyond chance when each alone is"
    return f"{said}. Of the {len(single)} inputs {without or 'none'} {costs} permuted."


def _table(found: Mapping[str, Any], names: list[str], domain: Domain) -> Table:
    columns = [Column("Inputs"), Column(scale=scale(domain, sign=True, width=WIDTH)), *numbers(["AUC", "Log loss"])]
    body = []
    for name in names:
        group, drop = found["groups"][name], _drop(found, name)
        shade = color(found["model"]) if drop.sign > 0 else EFFECTS[drop.sign]
        drawn = strip([(name, shade, drop)], domain, label=f"Drop of AUC, {name}", reference=0, bars=True, width=WIDTH)
        several = findings.several(len(group["inputs"]), "input") if len(group["inputs"]) > 1 else None
        loss = Figure.of(group.get("log_loss"), "difference")
        body.append(Row([Cell(name, several), Cell(chart=drawn), difference_cell(drop), difference_cell(loss)]))
    return Table(columns, body)


def _drop(found: Mapping[str, Any], name: str) -> Figure:
    return Figure.of(found["groups"][name].get("auc"), "difference")
