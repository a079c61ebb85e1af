"""The page of a search for better values: its finals, what mattered, its history, and every key by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ctr_kd.report import findings, rendering, run
from ctr_kd.report.charts import Axis, Series, line_chart, padded, scale, spread, strip
from ctr_kd.report.findings import METRIC_TITLES, WORDS, Figure
from ctr_kd.report.parts import Cell, Column, Header, Headline, Panel, Row, Swatch, Table, difference_cell, figure_cell, numbers

TRIALS, BEST, CONFIGURED = "student", "teacher", "oracle"
WIDTH = 300  # of the bars of importance


def verdict(result: Mapping[str, Any]) -> str:
    """What the finals say, in one sentence.

    Examples
    --------
    >>> mean = {"value": 0.731, "low": 0.72, "high": 0.74, "seeds": [0.73, 0.732]}
    >>> gain = {"difference": 0.0031, "low": 0.001, "high": 0.0052}
    >>> one = {"number": 4, "configured": False, "mean": mean, "difference": gain}
    >>> as_it_is = {"number": 0, "configured": True, "mean": {**mean, "value": 0.7279}, "difference": None, "within_bounds": True}
    >>> verdict({"metric": "auc", "winner": 4, "finalists": [as_it_is, one]}).partition(": ")[2]
    'its student has +0.0031 [+0.0010, +0.0052] AUC on validation over 2 other seeds, a gain beyond chance.'
    >>> print(verdict({"metric": "auc", "winner": None, "finalists": [as_it_is, one | {"difference": {"difference": -0.001}}]}))
    Nothing better was found than the configuration as it is: the best trial is −0.0010 AUC below it on validation over 2 other seeds.
    """
    word = WORDS[result["metric"]]
    finalists = result["finalists"]
    configured = next((one for one in finalists if one["configured"]), None)
    others = [one for one in finalists if not one["configured"]]
    if not others:
        return "No trial was trained with another seed, so nothing is changed: a larger budget goes on from here."
    over = f"on validation over {findings.several(len(others[0]['mean']['seeds']), 'other seed')}"
    if result["winner"] is None:
        compared = [Figure.of(one["difference"], "difference") for one in others if one["difference"] is not None]
        best = max((figure for figure in compared if figure.value is not None), key=lambda figure: figure.value or 0.0, default=None)
        if best is None:
            return "No finalist keeps the bounds of cost, so nothing is changed."
        if (best.value or 0.0) > 0:
            return f"Nothing is changed: what is better than the configuration as it is breaks the bounds of cost ({best.signed()} {word})."
        return f"Nothing better was found than the configuration as it is: the best trial is {best.signed()} {word} below it {over}."
    won = next(one for one in others if one["number"] == result["winner"])
    if won["difference"] is None:
        value = Figure.of(won["mean"]).text()
        return f"Trial {won['number']} replaces the configuration, which gave no student: its own has {word} {value} {over}."
    gain = Figure.of(won["difference"], "difference")
    judged = {1: ", a gain beyond chance", 0: ", no more than chance makes", -1: ", a loss beyond chance"}[gain.sign]
    if gain.has_interval and gain.sign and len(won["mean"]["seeds"]) == 1:
        judged = ", beyond what other users would change; what other seeds would, a single one cannot say"
    judged = "" if not gain.has_interval else judged
    keeps = ", and keeps the bounds of cost, which that breaks" if configured is not None and not configured["within_bounds"] else ""
    return f"Trial {won['number']} replaces the configuration: its student has {gain.signed()} {word} {over}{judged}{keeps}."


def render_tune(result: Mapping[str, Any]) -> str:
    """The HTML page of a search, in the style of the report.

    Parameters
    ----------
    result : mapping
        All of tune.json.
    """
    title = result["verdict"]
    won = next((one for one in result["finalists"] if one["number"] == result["winner"]), None)
    sign = 0 if won is None or won["difference"] is None else Figure.of(won["difference"], "difference").sign
    name = ((result.get("run") or {}).get("configuration") or {}).get("name")
    counts = {state: sum(one["state"] == state for one in result["trials"]) for state in ("trained", "stopped", "failed")}
    about = ["Search", *([str(name)] if name else []), f"study {result['study']}"]
    remarks = [
        f"{findings.several(len(result['trials']), 'trial')} in {findings.count(result['seconds'])} s: {counts['trained']} trained, "
        f"{counts['stopped']} stopped early, {counts['failed']} failed.",
        f"The configuration with what won is {result['file']}.",
    ]
    return rendering.page(
        "tune.html",
        title=title,
        header=Header(about, "gain" if sign > 0 else "even", Headline.of(title), remarks),
        finalists=_finalists(result),
        out=[f"{title}: {reason}" for title, reason in result["out"].items()],
        changed=_changed(result),
        importance=_importance(result),
        legend=[Swatch("trial", TRIALS), Swatch("best so far", BEST), Swatch("as configured", CONFIGURED)],
        history=_history(result),
        slices=_slices(result),
        trials=_trials(result),
        configuration=run.configuration(result),
    )


def _title(one: Mapping[str, Any]) -> str:
    return "as configured" if one["configured"] else f"trial {one['number']}"


def _finalists(result: Mapping[str, Any]) -> Table | None:
    if not result["finalists"]:
        return None
    word = METRIC_TITLES[result["metric"]]
    figures = [Figure.of(one["mean"]) for one in result["finalists"]]
    domain = spread(figures)
    body = []
    for one, figure in zip(result["finalists"], figures, strict=True):
        shade = CONFIGURED if one["configured"] else TRIALS
        size = findings.size(one["bytes"]) if one["bytes"] else "–"
        body.append(
            Row(
                [
                    Cell(_title(one), None if one["within_bounds"] else "breaks the bounds of cost", swatch=shade),
                    Cell(chart=strip([(_title(one), shade, figure)], domain, label=f"{word} of {_title(one)}")),
                    figure_cell(figure),
                    difference_cell(Figure.of(one["difference"], "difference")) if one["difference"] is not None else Cell("", number=True),
                    Cell(", ".join(f"{value:.4f}" for value in one["mean"]["seeds"]), words=True),
                    Cell("–" if one["searched"] is None else f"{one['searched']:.4f}", number=True),
                    Cell(size, number=True),
                ],
                "student" if one["number"] == result["winner"] else None,
            )
        )
    columns = [Column("Finalist"), Column(scale=scale(domain)), *numbers([f"{word} on validation", "Against as configured"])]
    return Table([*columns, Column("By seed"), *numbers(["In the search", "Size"])], body)


def _changed(result: Mapping[str, Any]) -> Table | None:
    body = [Row([Cell(key), Cell(_said(one["from"])), Cell(_said(one["to"]))]) for key, one in result["changed"].items()]
    return Table([Column("Key"), Column("As configured"), Column("Of the winner")], body) if body else None


def _importance(result: Mapping[str, Any]) -> Table | None:
    if not result["importance"]:
        return None
    domain = (0.0, max(result["importance"].values()) * 1.06 or 1.0)
    body = []
    for key, share in result["importance"].items():
        drawn = strip([(key, TRIALS, Figure(share))], domain, label=f"Importance of {key}", reference=0, bars=True, width=WIDTH)
        body.append(Row([Cell(key), Cell(chart=drawn), Cell(f"{share:.2f}", number=True)]))
    return Table([Column("Key"), Column(scale=scale(domain, width=WIDTH)), *numbers(["Share"])], body)


def _history(result: Mapping[str, Any]) -> Panel:
    word = METRIC_TITLES[result["metric"]]
    trained = [one for one in result["trials"] if one["value"] is not None]
    best, so_far = [], -math.inf
    for one in trained:
        so_far = max(so_far, one["objective"])
        best.append((float(one["number"]), so_far))
    series = [
        Series(
            "trials", TRIALS, [(float(one["number"]), one["value"]) for one in trained if not one["configured"]], marks=True, joined=False
        ),
        Series("best so far", BEST, best),
        Series("as configured", CONFIGURED, [(float(one["number"]), one["value"]) for one in trained if one["configured"]], marks=True),
    ]
    heights = [one["value"] for one in trained]
    axes = Axis("trial", padded([x for x, _ in best], 0.04), lambda number: f"{number:.0f}"), Axis(word, padded(heights, 0.1))
    chart = line_chart([one for one in series if one.points], *axes, label=f"{word} on validation by trial", width=720, height=260)
    return Panel(f"{word} on validation by trial", chart)


def _slices(result: Mapping[str, Any]) -> list[Panel]:
    """A chart per key, those first that mattered most."""
    order = [*result["importance"], *(key for key in result["space"] if key not in result["importance"])]
    return [panel for key in order if (panel := _slice(result, key)) is not None]


def _slice(result: Mapping[str, Any], key: str) -> Panel | None:
    dimension = result["space"][key]
    word = METRIC_TITLES[result["metric"]]
    choices = [_said(choice) for choice in dimension.get("choices", [])]
    log = bool(dimension.get("log"))

    def place(value: Any) -> float | None:
        if choices:
            return float(choices.index(_said(value))) if _said(value) in choices else None
        if not isinstance(value, (int, float)) or (log and value <= 0):
            return None
        return math.log10(value) if log else float(value)

    points: list[tuple[float, float]] = []
    ring = None
    for one in result["trials"]:
        x = place(dimension["configured"] if one["configured"] else one["changes"].get(key))
        if x is not None and one["value"] is not None:
            points.append((x, one["value"]))
            ring = x if one["configured"] else ring
    if len(points) < 2:
        return None

    def text(x: float) -> str:
        if choices:
            whole = round(x)
            return choices[whole] if abs(x - whole) < 1e-9 and 0 <= whole < len(choices) else ""
        return f"{10**x:.2g}" if log else f"{x:.3g}"

    own = [point for point in points if point[0] == ring]
    series = [Series("trials", TRIALS, points, marks=True, joined=False)]
    if own:
        series.append(Series("as configured", CONFIGURED, own[:1], marks=True, ring=ring))
    x_domain = (-0.5, len(choices) - 0.5) if choices else padded([x for x, _ in points], 0.06)
    axes = Axis(key, x_domain, text), Axis(word, padded([y for _, y in points], 0.1))
    share = result["importance"].get(key)
    chart = line_chart(series, *axes, label=f"{word} on validation by {key}", width=360, height=220)
    return Panel(key, chart, None if share is None else f"share {share:.2f}")


def _trials(result: Mapping[str, Any]) -> Table:
    word = METRIC_TITLES[result["metric"]]
    timed = any(one["rows_per_second"] for one in result["trials"])
    best = max((one["objective"] for one in result["trials"] if one["objective"] is not None), default=None)
    body = []
    for one in result["trials"]:
        what = ", ".join(f"{key} {_said(value)}" for key, value in one["changes"].items()) or "as configured"
        became = {"trained": f"made {', '.join(one['made'])}" if one["made"] else "all stood", "stopped": "stopped early"}
        cells = [
            Cell(str(one["number"]), swatch=BEST if best is not None and one["objective"] == best else None),
            Cell("–" if one["value"] is None else f"{one['value']:.4f}", number=True),
            Cell(f"{one['seconds']:.0f}", number=True),
            Cell(findings.size(one["bytes"]) if one["bytes"] else "–", number=True),
        ]
        cells += [Cell(findings.count(one["rows_per_second"]), number=True)] if timed else []
        failed = one["state"] == "failed"
        cells += [Cell(became.get(one["state"], one["reason"]), words=True, kind="failed" if failed else None), Cell(what, words=True)]
        body.append(Row(cells))
    heads = [word, "Seconds", "Size", *(["Rows/s"] if timed else [])]
    return Table([Column("Trial"), *numbers(heads), Column("What became of it"), Column("With")], body)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_said, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
