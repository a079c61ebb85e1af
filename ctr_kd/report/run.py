"""What was run, and under which circumstances: the head of the page, the road, the gate, the data, the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.findings import Figure, Verdict
from ctr_kd.report.markup import Markup, element, join
from ctr_kd.report.parts import cell, head, section, table

FACT_TITLES = {
    "train_rows": "Training rows",
    "validation_rows": "Validation rows",
    "test_rows": "Test rows",
    "users": "Users",
    "items": "Items",
    "unseen_item_share": "Test rows with an unseen item",
    "quarantined_rows": "Quarantined rows",
}


def header(metrics: Mapping[str, Any], said: Verdict, kicker: str = "Distillation report") -> Markup:
    run = metrics.get("run") or {}
    about = [
        _name_of(run.get("configuration")),
        run.get("started") and f"started {run['started']}",
        run.get("fingerprint") and f"run {run['fingerprint']}",
    ]
    return element(
        "header",
        element("p", kicker, *(f" · {part}" for part in about if part), class_="kicker"),
        element(
            "div",
            element("h1", _unbroken(said.headline)),
            element("ul", [element("li", remark) for remark in said.remarks]) if said.remarks else None,
            class_=f"verdict {said.effect}",
        ),
        _tiles(metrics, said),
    )


def _tiles(metrics: Mapping[str, Any], said: Verdict) -> Markup | None:
    rows = {row.name: row for row in findings.result_rows(metrics)}
    tiles = []
    student, teacher = rows.get("student"), rows.get("teacher")
    name = findings.quality(metrics)
    if student and name in student.figures:
        figure = student.figures[name]
        tiles.append(_tile(f"Student {findings.WORDS[name]} on test", figure.text(), figure.interval() or figure.reason))
    gain = findings.difference(metrics, "student-student_alone")
    if gain and gain.value is not None:
        tiles.append(
            _tile(
                f"Gain by distillation, {findings.WORDS[name]}",
                findings.signed(gain.value),
                gain.interval() and gain.signed().split(" ", 1)[1],
                said.effect,
            )
        )
    if student and student.rows_per_second:
        more = None
        if teacher and teacher.rows_per_second:
            more = f"{findings.count(student.rows_per_second / teacher.rows_per_second)} {findings.TIMES} the teacher"
        tiles.append(_tile("Student, rows/s on one thread", findings.count(student.rows_per_second), more))
    gate = metrics.get("gate")
    if gate:
        checks = gate.get("checks") or []
        failed = sum(not check.get("passed") for check in checks)
        more = f"all {len(checks)} checks" if not failed else f"{failed} of {len(checks)} checks failed"
        tiles.append(_tile("Gate", "passed" if gate.get("passed") else "refused", more, "gain" if gate.get("passed") else "loss"))
    return element("div", tiles, class_="tiles") if tiles else None


def _tile(name: str, value: str, more: str | None, kind: str = "") -> Markup:
    return element(
        "div",
        element("div", name, class_="name"),
        element("div", value, class_=f"value {kind}"),
        element("div", more or "", class_="more"),
        class_="tile",
    )


def gate(metrics: Mapping[str, Any]) -> Markup | None:
    """Checks between challenger and champion."""
    found = metrics.get("gate")
    if not found:
        return section("Gate", "The student has not been put before the gate yet: that is what the stage register does.")
    compared = any("champion" in check for check in found.get("checks") or [])
    beside = [head("Champion", number=True)] if compared else []
    columns = [head("Check"), head("Value", number=True), *beside, head("Bound", number=True), head("")]
    body = []
    for check in found.get("checks") or []:
        passed = bool(check.get("passed"))
        mark = element("span", "passed" if passed else "failed", class_=f"mark {'passed' if passed else 'failed'}")
        value = Figure.of(check.get("value"))
        shown = f"{value.value:.4g}" if value.value is not None else check.get("reason") or "undefined"
        rival = Figure.of(check.get("champion")).value
        other = [cell("-" if rival is None else f"{rival:.4g}", number=True)] if compared else []
        body.append(
            element(
                "tr",
                cell(check.get("name", ""), words=True),
                cell(shown, number=True),
                *other,
                cell(check.get("bound", ""), number=True),
                cell(mark),
            )
        )
    before, after = (found.get(key) for key in ("champion_before", "champion_after"))
    champion = f"The champion is version {after}" if after else "There is no champion"
    champion += ", as before." if before == after and after else f"; before it was {f'version {before}' if before else 'none'}."
    return section(
        "Gate",
        f"The gate {'passed' if found.get('passed') else 'refused'} the challenger. {champion}",
        table(columns, body) if body else None,
    )


def road(metrics: Mapping[str, Any]) -> Markup | None:
    """The stages one after another, as long as they took."""
    spent = {name: Figure.of(value).value or 0.0 for name, value in ((metrics.get("run") or {}).get("seconds") or {}).items()}
    total = sum(spent.values())
    if not total:
        return None
    rows, begun = [], 0.0
    for name, value in spent.items():
        bar = element("div", class_="bar", style=f"margin-left:{100 * begun / total:.3f}%;width:{100 * value / total:.3f}%")
        rows += [element("div", name), element("div", bar, class_="track"), element("div", findings.seconds(value), class_="time")]
        begun += value
    peak = Figure.of((metrics.get("run") or {}).get("peak_memory_bytes")).value
    memory = f", {findings.size(peak)} of memory at the peak" if peak else ""
    return section("The road", f"{findings.seconds(total)} in all{memory}.", element("div", rows, class_="road"))


def data_facts(metrics: Mapping[str, Any]) -> Markup | None:
    """Single facts side by side; those of several parts, such as how candidates were drawn, folded away."""
    facts = {name: value for name, value in (metrics.get("data") or {}).items() if value is not None}
    if not facts:
        return None
    cells, nested = [], {}
    for name, value in facts.items():
        if isinstance(value, Mapping | list):
            nested[name] = value
            continue
        number = Figure.of(value).value
        if number is None:
            shown = _plain(value)
        else:
            shown = f"{100 * number:.2f}\N{NO-BREAK SPACE}%" if name.endswith("share") else findings.count(number)
        title = FACT_TITLES.get(name, name.replace("_", " ").capitalize())
        cells.append(element("div", element("dt", title), element("dd", shown)))
    folded = element("details", element("summary", "How the rows were made"), element("pre", _plain(nested))) if nested else None
    return section("Data", None, element("dl", cells, class_="facts"), folded)


def configuration(metrics: Mapping[str, Any]) -> Markup | None:
    run = metrics.get("run") or {}
    if not run:
        return None
    folded = element("details", element("summary", "Everything that shaped this run"), element("pre", _plain(run)))
    return section("Configuration", None, folded)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _name_of(given: Any) -> str | None:
    return given if isinstance(given, str) and len(given) < 120 else (given.get("name") if isinstance(given, Mapping) else None)


def _unbroken(text: str) -> Markup:
    """The text with its interval kept on one line."""
    before, _, rest = text.partition(" [")
    inside, closing, after = rest.partition("]")
    return join(before, " ", element("span", f"[{inside}]", class_="whole"), after) if closing else join(text)
