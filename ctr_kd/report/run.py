"""What was run, and under which circumstances: the head of the page, the stages, the gate, the data, the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.conclusions import Verdict
from ctr_kd.report.findings import Figure
from ctr_kd.report.parts import Cell, Column, Header, Headline, Row, Table, Tile, numbers

FACT_TITLES = {
    "train_rows": "Training rows",
    "validation_rows": "Validation rows",
    "test_rows": "Test rows",
    "users": "Users",
    "items": "Items",
    "unseen_item_share": "Test rows with an unseen item",
    "quarantined_rows": "Quarantined rows",
}


@dataclass(frozen=True)
class StageBar:
    """How long a stage took; begin and length are percentages of the whole run."""

    name: str
    begin: str
    length: str
    time: str


@dataclass(frozen=True)
class Stages:
    """The stages of the pipeline one after another."""

    total: str
    memory: str | None
    bars: Sequence[StageBar]


@dataclass(frozen=True)
class Gate:
    """What the gate said, and its checks."""

    sentence: str
    table: Table | None


@dataclass(frozen=True)
class Facts:
    """Single facts about the data, and in JSON those of several parts."""

    facts: Mapping[str, str]
    nested: str | None


def header(metrics: Mapping[str, Any], said: Verdict, kind: str = "Distillation report") -> Header:
    """The head of a page whose verdict is about distillation."""
    run = metrics.get("run") or {}
    about = [
        kind,
        _name_of(run.get("configuration")),
        run.get("started") and f"started {run['started']}",
        run.get("fingerprint") and f"run {run['fingerprint']}",
    ]
    return Header([part for part in about if part], said.effect, Headline.of(said.headline), said.remarks, _tiles(metrics, said))


def _tiles(metrics: Mapping[str, Any], said: Verdict) -> list[Tile]:
    rows = {row.name: row for row in findings.result_rows(metrics)}
    tiles = []
    student, teacher = rows.get("student"), rows.get("teacher")
    name = findings.quality(metrics)
    if student and name in student.figures:
        figure = student.figures[name]
        tiles.append(Tile(f"Student {findings.WORDS[name]} on test", figure.text(), figure.interval() or figure.reason or ""))
    gain = findings.difference(metrics, "student-student_alone")
    if gain and gain.value is not None:
        value, _, interval = gain.signed().partition(" ")
        tiles.append(Tile(f"Gain by distillation, {findings.WORDS[name]}", value, interval, said.effect))
    trees = rows.get(findings.INSTEAD)
    lead = findings.difference(metrics, f"{metrics.get('shipped', 'student')}-{findings.INSTEAD}")
    if trees and lead and lead.value is not None:
        value, _, interval = lead.signed().partition(" ")
        effect = {1: "gain", -1: "loss", 0: "even"}[lead.sign]
        tiles.append(Tile(f"Over {trees.title.lower()}, {findings.WORDS[name]}", value, interval, effect))
    if student and student.rows_per_second:
        more = ""
        if teacher and teacher.rows_per_second:
            more = f"{findings.count(student.rows_per_second / teacher.rows_per_second)} {findings.TIMES} the teacher"
        tiles.append(Tile("Student, rows/s on one thread", findings.count(student.rows_per_second), more))
    gate = metrics.get("gate")
    if gate:
        checks = gate.get("checks") or []
        failed = sum(not check.get("passed") for check in checks)
        more = f"all {len(checks)} checks" if not failed else f"{failed} of {len(checks)} checks failed"
        tiles.append(Tile("Promotion gate", "passed" if gate.get("passed") else "refused", more, "gain" if gate.get("passed") else "loss"))
    return tiles


def gate(metrics: Mapping[str, Any]) -> Gate | None:
    """Checks between challenger and champion; None before the stage register."""
    found = metrics.get("gate")
    if not found:
        return None
    checks = found.get("checks") or []
    compared = any("champion" in check for check in checks)
    columns = [Column("Check"), *numbers(["Value", *(["Champion"] if compared else []), "Bound"]), Column("Outcome")]
    body = []
    for check in checks:
        value, rival = Figure.of(check.get("value")).value, Figure.of(check.get("champion")).value
        shown = _measured(value) if value is not None else check.get("reason") or "undefined"
        cells = [Cell(check.get("name", ""), check.get("measured"), words=True), Cell(shown, number=True)]
        cells += [Cell("–" if rival is None else _measured(rival), number=True)] if compared else []
        outcome = Cell("passed", kind="passed") if check.get("passed") else Cell("failed", kind="failed")
        body.append(Row([*cells, Cell(check.get("bound", ""), number=True), outcome]))
    before, after = (found.get(key) for key in ("champion_before", "champion_after"))
    champion = f"The champion is version {after}" if after else "There is no champion"
    champion += ", as before." if before == after and after else f"; before it was {f'version {before}' if before else 'none'}."
    sentence = f"The gate {'passed' if found.get('passed') else 'refused'} the challenger. {champion}"
    return Gate(sentence, Table(columns, body) if body else None)


def _measured(value: float) -> str:
    """Four digits; counts in full."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def stages(metrics: Mapping[str, Any]) -> Stages | None:
    """The stages one after another, as long as they took."""
    spent = {name: Figure.of(value).value or 0.0 for name, value in ((metrics.get("run") or {}).get("seconds") or {}).items()}
    total = sum(spent.values())
    if not total:
        return None
    bars, begun = [], 0.0
    for name, value in spent.items():
        bars.append(StageBar(name, f"{100 * begun / total:.3f}%", f"{100 * value / total:.3f}%", findings.seconds(value)))
        begun += value
    peak = Figure.of((metrics.get("run") or {}).get("peak_memory_bytes")).value
    return Stages(findings.seconds(total), findings.size(peak) if peak else None, bars)


def data_facts(metrics: Mapping[str, Any]) -> Facts | None:
    """Single facts side by side; those of several parts, such as how candidates were drawn, folded away."""
    given = {name: value for name, value in (metrics.get("data") or {}).items() if value is not None}
    if not given:
        return None
    facts, nested = {}, {}
    for name, value in given.items():
        if isinstance(value, Mapping | list):
            nested[name] = value
            continue
        number = Figure.of(value).value
        if number is None:
            shown = _plain(value)
        else:
            shown = f"{100 * number:.2f}\N{NO-BREAK SPACE}%" if name.endswith("share") else findings.count(number)
        facts[FACT_TITLES.get(name, name.replace("_", " ").capitalize())] = shown
    return Facts(facts, _plain(nested) if nested else None)


def configuration(metrics: Mapping[str, Any]) -> str | None:
    """Everything that shaped the run, as JSON."""
    run = metrics.get("run") or {}
    return _plain(run) if run else None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _name_of(given: Any) -> str | None:
    return given if isinstance(given, str) and len(given) < 120 else (given.get("name") if isinstance(given, Mapping) else None)
