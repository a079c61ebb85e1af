"""The page of a backtest: what each night's models were worth afterwards, over time and on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ctr_kd.report import findings, rendering
from ctr_kd.report.charts import Axis, Series, line_chart, padded
from ctr_kd.report.findings import METRIC_TITLES, Figure, model_title
from ctr_kd.report.parts import Cell, Column, Header, Headline, Panel, Row, Table, color, difference_cell, figure_cell, legend, numbers

DRAWN = ("auc", "log_loss", "calibration_ratio")
INSTEAD = "student-boosted_trees"  # what decides whether a student is worth its trouble


def render_backtest(backtest: Mapping[str, Any]) -> str:
    """The HTML page of a backtest, in the style of the report.

    Parameters
    ----------
    backtest : mapping
        All of backtest.json.
    """
    title = headline(backtest)
    pair = backtest["comparisons"].get(INSTEAD, {}).get("auc")
    effect = {1: "gain", -1: "loss"}.get(Figure.of(pair, "difference").sign if pair else 0, "even")
    about = [part for part in ("Backtest", backtest.get("name")) if part]
    return rendering.page(
        "backtest.html",
        title=title,
        header=Header(about, effect, Headline.of(title)),  # type: ignore[arg-type]
        legend=legend(backtest["mean"]),
        panels=[panel for name in DRAWN if (panel := _panel(name, backtest)) is not None],
        means=_means(backtest),
        differences=_differences(backtest),
        warm=warm_nights(backtest),
        nights=_nights(backtest),
    )


def headline(backtest: Mapping[str, Any]) -> str:
    """Whether the student beats what somebody would use instead, over all nights.

    Examples
    --------
    >>> auc = {"difference": 0.02, "low": 0.015, "high": 0.024, "nights": [0.02, 0.018, -0.001]}
    >>> headline({"nights": [{}] * 3, "step": "4h", "comparisons": {"student-boosted_trees": {"auc": auc}}})
    'Over 3 nights, every 4h, the student beats boosted trees by +0.0200 AUC [+0.0150, +0.0240], in 2 of them.'
    """
    nights = backtest["nights"]
    over = f"Over {findings.several(len(nights), 'night')}, every {backtest['step']},"
    for pair, other in ((INSTEAD, "boosted trees"), ("student-student_alone", "the student alone")):
        found = backtest["comparisons"].get(pair, {}).get("auc")
        if not found or found.get("difference") is None:
            continue
        figure = Figure.of(found, "difference")
        wins = sum(gap > 0 for gap in found["nights"])
        what = {1: f"beats {other} by", -1: f"is beaten by {other}:"}.get(figure.sign, f"cannot be told from {other}:")
        head, _, interval = figure.signed().partition(" ")
        return f"{over} the student {what} {head} AUC {interval}".rstrip() + f", in {wins} of them."
    return f"{over} nothing was measured beside the student."


def warm_nights(backtest: Mapping[str, Any]) -> str | None:
    """What warm nights are worth less than cold ones, and cost; None where none was begun cold too.

    Examples
    --------
    >>> auc = {"difference": -0.0004, "low": -0.0008, "high": 0.0001, "nights": [-0.0004]}
    >>> cost = {"nights": 9, "seconds": {"warm": 900.0, "cold": 6000.0}, "share": 0.15}
    >>> print(warm_nights({"warm-cold": {"auc": auc}, "warm_cost": cost}))
    Warm less cold over 9 nights: −0.0004 AUC [−0.0008, +0.0001]; a warm night takes 100 s and a cold one 667 s, a share of 0.15.
    >>> trees = {"warm-cold_boosted_trees": {"auc": {"difference": -0.0038}}}
    >>> print(warm_nights({"warm-cold": {"auc": auc}, "warm_cost": cost, **trees}).partition("0.15. ")[2])
    Against boosted trees on all rows of a cold night, the warm student has −0.0038 AUC.
    """
    found, cost = backtest.get("warm-cold"), backtest.get("warm_cost")
    if not found or not cost:
        return None
    head, _, interval = Figure.of(found["auc"], "difference").signed().partition(" ")
    warm, cold = (f"{cost['seconds'][name] / cost['nights']:.0f} s" for name in ("warm", "cold"))
    over = f"Warm less cold over {findings.several(cost['nights'], 'night')}: {head} AUC {interval}".rstrip()
    said = f"{over}; a warm night takes {warm} and a cold one {cold}, a share of {cost['share']:.2f}."
    trees = Figure.of(backtest.get("warm-cold_boosted_trees", {}).get("auc"), "difference")
    if trees.value is None:
        return said
    head, _, interval = trees.signed().partition(" ")
    return f"{said} Against boosted trees on all rows of a cold night, the warm student has {head} AUC {interval}".rstrip() + "."


def _panel(name: str, backtest: Mapping[str, Any]) -> Panel | None:
    lines = [line for model in backtest["mean"] if (line := _line(model, name, backtest["nights"])) is not None]
    if not lines:
        return None
    moments = [x for line in lines for x, _ in line.points]
    room = max((max(moments) - min(moments)) * 0.03, 600.0)
    axes = (
        Axis("night", (min(moments) - room, max(moments) + room), _time),
        Axis("", padded([y for line in lines for y in line.heights], 0.1)),
    )
    return Panel(METRIC_TITLES[name], line_chart(lines, *axes, label=f"{METRIC_TITLES[name]} by night", width=520, height=240))


def _line(model: str, name: str, nights: Sequence[Mapping[str, Any]]) -> Series | None:
    known = [(night, figure) for night in nights if (figure := Figure.of(night["models"].get(model, {}).get(name))).value is not None]
    if not known:
        return None
    points = [(datetime.fromisoformat(night["validate_until"]).timestamp(), figure.value or 0.0) for night, figure in known]
    bounds = [(figure.low or y, figure.high or y) for (_, figure), (_, y) in zip(known, points, strict=True)]
    return Series(model_title(model), color(model), points, marks=True, bounds=bounds)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M")


def _means(backtest: Mapping[str, Any]) -> Table:
    names = [name for name in METRIC_TITLES if any(name in one for one in backtest["mean"].values())]
    body = [
        Row([Cell(model_title(model), swatch=color(model)), *(figure_cell(Figure.of(figures.get(name))) for name in names)])
        for model, figures in backtest["mean"].items()
    ]
    return Table([Column("Mean over nights"), *numbers([METRIC_TITLES[name] for name in names])], body)


def _differences(backtest: Mapping[str, Any]) -> Table:
    body = []
    for pair, found in backtest["comparisons"].items():
        one, other = pair.split("-")
        gaps = found["auc"].get("nights") or []
        wins = f"{sum(gap > 0 for gap in gaps)} of {len(gaps)}" if gaps else "–"
        figures = [difference_cell(Figure.of(found[name], "difference")) for name in ("auc", "log_loss")]
        body.append(Row([Cell(f"{model_title(one)} less {model_title(other).lower()}"), *figures, Cell(wins, number=True)]))
    return Table([Column("Difference"), *numbers(["AUC", "Log loss", "Nights above in AUC"])], body)


def _nights(backtest: Mapping[str, Any]) -> Table:
    models = list(backtest["mean"])
    warm = any("warm" in night for night in backtest["nights"])
    body = []
    for night in backtest["nights"]:
        figures = [figure_cell(Figure.of(night["models"][name].get("auc"))) for name in models]
        failed = ", ".join(check["name"] for check in night["gate"]["checks"] if not check["passed"])
        said = f"refused: {failed}" if failed else "promoted"
        cells = [Cell(night["validate_until"][:16].replace("T", " ")), Cell(findings.count(night["rows"]), number=True), *figures]
        if warm:
            begun = night.get("cold", {}).get("models", {}).get("student", {})
            cells += [Cell(f"warm, {night['warm']['nights']}" if "warm" in night else "cold"), figure_cell(Figure.of(begun.get("auc")))]
        cells += [Cell(said, words=True, kind="failed" if failed else None), Cell(f"{night['seconds']:.0f}", number=True)]
        body.append(Row(cells))
    titles = [f"{model_title(name)} AUC" for name in models]
    more = [Column("Begins"), *numbers(["Begun cold, student AUC"])] if warm else []
    return Table([Column("Night"), *numbers(["Rows", *titles]), *more, Column("Gate"), *numbers(["Seconds"])], body)
