"""The page of monitoring: what the scores of each date were worth once its clicks had arrived, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ctr_kd.report import findings, fresh, rendering
from ctr_kd.report.charts import Axis, Series, line_chart, padded
from ctr_kd.report.findings import METRIC_TITLES, Figure
from ctr_kd.report.parts import Cell, Column, Header, Headline, Panel, Row, Table, figure_cell, numbers

TITLES = {name: METRIC_TITLES[name] for name in ("auc", "log_loss", "calibration_ratio", "calibration_error")} | {
    "psi": "PSI of the scores"
}
COLOR, APART, BOUND = "student", "teacher", "oracle"
SEEN = "seen_in_training"  # of a date: the model learned from its clicks


def render_monitoring(monitor: Mapping[str, Any]) -> str:
    """The HTML page of monitoring, in the style of the report.

    Parameters
    ----------
    monitor : mapping
        All of monitor.json.

    Examples
    --------
    >>> day = {"date": "2024-01-03", "state": "measured", "rows": 900, "auc": {"value": 0.71}, "checks": []}
    >>> "No bound is broken on the newest of 1 measured date" in render_monitoring({"dates": [day], "bounds": {}})
    True
    """
    measured = [one for one in monitor["dates"] if one["state"] == "measured"]
    title = headline(monitor)
    broken = bool(monitor.get("stale_since")) or any(not check["passed"] for one in measured for check in one["checks"])
    about = [part for part in ("Monitoring of scores", monitor.get("name")) if part]
    return rendering.page(
        "monitor.html",
        title=title,
        header=Header(about, "loss" if broken else "even", Headline(title)),
        panels=_panels(measured, monitor.get("bounds") or {}),
        fresh=fresh.fresh(monitor),
        dates=_table(monitor["dates"]),
    )


def headline(monitor: Mapping[str, Any]) -> str:
    """What a reader, or who is woken by the alarm, wants to know first.

    Examples
    --------
    >>> headline({"dates": []})
    'No scored date has labels yet.'
    """
    stale = f"No new event has come since {monitor['stale_since']}. " if monitor.get("stale_since") else ""
    return stale + _headline_of_dates([one for one in monitor["dates"] if one["state"] == "measured" and not one.get(SEEN)])


def _headline_of_dates(measured: Sequence[Mapping[str, Any]]) -> str:
    if not measured:
        return "No scored date has labels yet."
    broken = [
        f"{one['date']}: {check['name']} {Figure.of(check['value']).text()}, must be {check['bound']}"
        + (f" ({check['reason']})" if check.get("reason") else "")
        for one in measured
        for check in one["checks"]
        if not check["passed"]
    ]
    if broken:
        return f"{findings.several(len(broken), 'bound')} {'is' if len(broken) == 1 else 'are'} broken. {'; '.join(broken)}."
    return f"No bound is broken on the newest of {findings.several(len(measured), 'measured date')}, {measured[-1]['date']}."


def _panels(measured: Sequence[Mapping[str, Any]], bounds: Mapping[str, Any]) -> list[Panel]:
    return [panel for name in TITLES if (panel := _panel(name, measured, bounds)) is not None]


def _panel(name: str, measured: Sequence[Mapping[str, Any]], bounds: Mapping[str, Any]) -> Panel | None:
    known = [(one, figure) for one in measured if (figure := Figure.of(one.get(name))).value is not None]
    if not known:
        return None
    days = [_ordinal(one) for one, _ in known]
    span = (min(days) - 0.5, max(days) + 0.5)
    watched = [(one, figure) for one, figure in known if not one.get(SEEN)]
    seen = [(one, figure) for one, figure in known if one.get(SEEN)]
    lines = [_line(TITLES[name], COLOR, watched)] if watched else []
    lines += [_line(f"{TITLES[name]}, on what was learned", APART, seen)] if seen else []
    limits = [value for end in ("min", "max") if (value := bounds.get(f"{name}_{end}")) is not None]
    heights = [y for line in lines for y in line.heights] + limits
    lines += [Series(f"bound {value:g}", BOUND, [(span[0], value), (span[1], value)]) for value in limits]
    axes = Axis("date", span, _day), Axis("", padded(heights, 0.1))
    return Panel(TITLES[name], line_chart(lines, *axes, label=f"{TITLES[name]} by date", width=340, height=220))


def _line(title: str, color: str, known: Sequence[tuple[Mapping[str, Any], Figure]]) -> Series:
    """A figure by date, with its intervals, and the version beside the first date of each model."""
    points = [(_ordinal(one), figure.value or 0.0) for one, figure in known]
    intervals = [
        (figure.low, figure.high) if figure.low is not None and figure.high is not None else (y, y)
        for (_, figure), (_, y) in zip(known, points, strict=True)
    ]
    versions = [str(one.get("model_version")) for one, _ in known]
    labels = [f"v{now}" if before != now else "" for before, now in zip(["", *versions], versions, strict=False)]
    return Series(title, color, points, marks=True, bounds=intervals, labels=labels)


def _ordinal(one: Mapping[str, Any]) -> float:
    return float(date.fromisoformat(one["date"]).toordinal())


def _day(ordinal: float) -> str:
    """``10-11``; nothing between two days."""
    return date.fromordinal(round(ordinal)).isoformat()[5:] if abs(ordinal - round(ordinal)) < 1e-9 else ""


def _table(dates: Sequence[Mapping[str, Any]]) -> Table | None:
    if not dates:
        return None
    columns = [Column("Date"), Column("Version"), *numbers(["Rows", "Clicks", *TITLES.values()]), Column("Remark")]
    body = []
    for one in reversed(dates):
        failed = ", ".join(check["name"] for check in one["checks"] if not check["passed"])
        said = f"broken: {failed}" if failed else one.get("reason") or ("" if one["checks"] else "not judged")
        cells = [Cell(one["date"]), Cell(str(one.get("model_version") or "–"))]
        cells += [Cell(findings.count(one.get(name)), number=True) for name in ("rows", "clicks")]
        cells += [figure_cell(Figure.of(one[name]) if name in one else None) for name in TITLES]
        body.append(Row([*cells, Cell(said, words=True, kind="failed" if failed else None)]))
    return Table(columns, body)
