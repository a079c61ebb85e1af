"""The page of features: what each statistic tells by itself, on the rows of training and of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctr_kd.report import findings, rendering
from ctr_kd.report.charts import scale, spread, strip
from ctr_kd.report.findings import Figure
from ctr_kd.report.parts import Cell, Column, Header, Headline, Row, Swatch, Table, numbers

TRAIN, VALIDATION = "popularity", "student"  # their colours
CHANCE = 0.5  # the AUC of a column that tells nothing
FIGURES = ("AUC on validation", "on training", "clicks at", "null", "PSI")
QUANTILES = {"min": "min", "p5": "5 %", "p25": "25 %", "p50": "median", "p75": "75 %", "p95": "95 %", "max": "max"}
SHIFTED = 0.25  # a stability index above it asks for attention, by the habit of credit scoring
TURNED = 0.02  # from chance, in training and to the other side on validation: less than that is no direction


def render_features(features: Mapping[str, Any]) -> str:
    """The HTML page of features, in the style of the report.

    Parameters
    ----------
    features : mapping
        All of features.json.

    Examples
    --------
    >>> window = {"rows": 9, "nulls": 0, "null_share": 0.0, "quantiles": None, "auc": 0.71, "null_auc": None}
    >>> one = {"name": "item_ctr", "meaning": "a rate", "clicks_at": "higher", "leak": None, "psi": 0.02, "psi_by_chance": 0.01}
    >>> page = render_features({"features": [one | {"train": window, "validation": window}]})
    >>> "Of 1 column item_ctr tells most by itself: AUC 0.7100 on validation." in page
    True
    """
    title = headline(features)
    about = [part for part in ("Statistics by themselves", features.get("name")) if part]
    shown = features["features"]
    leaking = any(one["leak"] for one in shown)
    return rendering.page(
        "features.html",
        title=title,
        header=Header(about, "loss" if leaking else "even", Headline(title), remarks(features)),
        legend=[Swatch("training", TRAIN), Swatch("validation", VALIDATION)],
        figures=_figures(shown),
        values=_values(shown),
    )


def headline(features: Mapping[str, Any]) -> str:
    """Which column tells most.

    Examples
    --------
    >>> headline({"features": []})
    'The rows have no statistic and no dense context column.'
    """
    shown = features["features"]
    if not shown:
        return "The rows have no statistic and no dense context column."
    best = shown[0]
    figure = reading(best, "validation")
    of = f"Of {findings.several(len(shown), 'column')}"
    if figure.value is None:
        return f"{of} none has an AUC on validation: {figure.reason}."
    turned = ", the other way round than in training" if figure.value < CHANCE else ""
    return f"{of} {best['name']} tells most by itself: AUC {figure.text()} on validation{turned}."


def remarks(features: Mapping[str, Any]) -> list[str]:
    """What a reader should look at: columns that have seen the click, turned around, have other values by now, or tell nothing."""
    shown = features["features"]
    said = [
        f"LEAK? {one['name']}: {one['leak']}. Nothing known before a click does that: look at where it comes from."
        for one in shown
        if one["leak"]
    ]
    turned = [one["name"] for one in shown if _has_turned(one)]
    shifted = [one["name"] for one in shown if _has_shifted(one)]
    flat = [one["name"] for one in shown if _is_flat(one)]
    said += [f"On validation the other way round than in training: {', '.join(turned)}."] if turned else []
    said += [f"Other values on validation than in training (PSI above {SHIFTED}): {', '.join(shifted)}."] if shifted else []
    if flat:
        said.append(
            f"AUC .5 in both: {', '.join(flat)}. What all candidates of a request share ranks none of them; with others it may tell."
        )
    return said


def reading(feature: Mapping[str, Any], window: str) -> Figure:
    """AUC of ranking by a column the way round that training says."""
    figure = Figure.of(feature[window]["auc"])
    if figure.value is None or feature["clicks_at"] != "lower":
        return figure
    return Figure(1 - figure.value)


def figure_texts(feature: Mapping[str, Any]) -> list[str]:
    """What a terminal shows of a column, in the order of ``FIGURES``."""
    auc = [reading(feature, window).text() for window in ("validation", "train")]
    return [*auc, feature["clicks_at"] or "–", _percent(feature["train"]["null_share"]), Figure.of(feature["psi"]).text(3)]


def quantile_texts(feature: Mapping[str, Any], window: str) -> list[str]:
    """Values of a column, in the order of ``QUANTILES``."""
    values = feature[window]["quantiles"] or {}
    return [findings.count(values.get(name)) for name in QUANTILES]


def _has_turned(feature: Mapping[str, Any]) -> bool:
    train, validation = reading(feature, "train").value, reading(feature, "validation").value
    return train is not None and validation is not None and train > CHANCE + TURNED and validation < CHANCE - TURNED


def _is_flat(feature: Mapping[str, Any]) -> bool:
    """Whether values differ and yet tell nothing."""
    aucs, values = [reading(feature, window).text() for window in ("train", "validation")], feature["train"]["quantiles"] or {}
    return aucs == [Figure(CHANCE).text()] * 2 and values.get("min") != values.get("max")


def _has_shifted(feature: Mapping[str, Any]) -> bool:
    psi = Figure.of(feature["psi"]).value
    return psi is not None and psi > max(SHIFTED, feature["psi_by_chance"] or 0.0)


def _figures(features: Sequence[Mapping[str, Any]]) -> Table:
    domain = spread([Figure(CHANCE), *(reading(one, window) for one in features for window in ("train", "validation"))])
    columns = [Column("Column"), Column(scale=scale(domain, reference=CHANCE)), *numbers(FIGURES[:2]), Column("Clicks at")]
    columns += numbers(["Null", "PSI"])
    body = []
    for one in features:
        figures = {window: reading(one, window) for window in ("train", "validation")}
        dots = [("training", TRAIN, figures["train"]), ("validation", VALIDATION, figures["validation"])]
        nulls, psi = Figure.of(one["train"]["null_auc"]), Figure.of(one["psi"])
        cells = [
            Cell(one["name"], one["meaning"]),
            Cell(chart=strip(dots, domain, label=f"AUC of {one['name']}", reference=CHANCE)),
            *(_number(figures[window], kind="failed" if one["leak"] else None) for window in ("validation", "train")),
            Cell(f"{one['clicks_at']} values" if one["clicks_at"] else "–"),
            Cell(_percent(one["train"]["null_share"]), f"AUC {nulls.text()}" if nulls.value is not None else None, number=True),
            Cell(psi.text(3), reason=psi.reason, number=True),
        ]
        body.append(Row(cells))
    return Table(columns, body)


def _number(figure: Figure, kind: Any) -> Cell:
    return Cell(figure.text(), reason=figure.reason, number=True, kind=kind)


def _values(features: Sequence[Mapping[str, Any]]) -> Table:
    """Quantiles of the values in training, over those on validation."""
    body = []
    for one in features:
        pairs = zip(quantile_texts(one, "train"), quantile_texts(one, "validation"), strict=True)
        body.append(Row([Cell(one["name"]), *(Cell(train, validation, number=True) for train, validation in pairs)]))
    return Table([Column("Column"), *numbers(title.capitalize() for title in QUANTILES.values())], body)


def _percent(share: float | None) -> str:
    """``12.3 %``; nothing rounds to none or to all.

    >>> _percent(0.0), _percent(0.1234), _percent(0.00001), _percent(None)
    ('0', '12.3 %', '< 0.1 %', '–')
    """
    if share is None:
        return "–"
    if share == 0:
        return "0"
    if share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.9995 or share == 1 else "> 99.9 %"
