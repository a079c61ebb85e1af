"""How good the models are: the result table, paired differences, slices, and classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.charts import spread, whisker_axis, whiskers
from ctr_kd.report.findings import METRIC_TITLES, Figure, ResultRow, model_title
from ctr_kd.report.markup import Markup, element
from ctr_kd.report.parts import cell, color, difference_cell, figure_cell, head, legend, section, swatch, table, written_cell

MAIN_METRICS = frozenset({"gauc", "accuracy", "macro_f1", "log_loss", "normalized_entropy", "calibration_error"})
SLICE_TITLES = {
    "history_length": ("Clicks in the history", "0 are cold users"),
    "item": ("Candidate item", "unseen items are missing from the vocabulary of the training window"),
    "hours_after_cutoff": ("Hours after the end of training", "how fast the models age"),
    "leak": ("Leaked rows", "test texts that stand in training too, after normalisation"),
    "days_after_cutoff": ("Days after the end of training", "how fast the models age"),
}


def results(rows: Sequence[ResultRow], teacher: str | None = None) -> Markup | None:
    """One line per model: AUC (of classes: accuracy) drawn and written, then every other metric, speed and size."""
    if not rows:
        return None
    present = [name for name in METRIC_TITLES if any(name in row.figures for row in rows)]
    quality = "accuracy" if "accuracy" in present else "auc"
    main = [name for name in present if name in MAIN_METRICS | {"auc"} and name != quality]
    near = focal([row.name for row in rows])
    domain = spread([row.figures[quality] for row in rows if quality in row.figures and row.name in near])
    columns = [head("Model"), head(METRIC_TITLES[quality], number=True), head(whisker_axis(domain))]
    columns += [head(METRIC_TITLES[name], number=True) for name in main]
    costs = any(row.rows_per_second or row.parameters or row.bytes for row in rows)
    columns += [head(title, number=True) for title in ("Rows/s", "Parameters") if costs]
    body = []
    for row in rows:
        figure = row.figures.get(quality, Figure(None, reason="not measured"))
        drawn = whiskers([(row.title, color(row.name), figure)], domain, label=f"{METRIC_TITLES[quality]} of {row.title}")
        alone = f"{findings.count(row.rows_per_second_alone)} row by row" if row.rows_per_second_alone else None
        weighs = findings.size(row.bytes) if row.bytes else None
        cells = [cell(swatch(row.name), row.title), figure_cell(figure), cell(drawn)]
        cells += [figure_cell(row.figures.get(name)) for name in main]
        if costs:
            cells += [written_cell(findings.count(row.rows_per_second), alone), written_cell(findings.count(row.parameters), weighs)]
        body.append(element("tr", cells, class_="student" if row.name == "student" else None))
    return section(
        "Result on the test rows",
        "Brackets are 95 % bootstrap intervals; an arrow is a value beyond the scale. AUC, GAUC, accuracy and F1 are better when higher; "
        "log loss, normalised entropy (1 is a model that predicts the average) and calibration error when lower; the calibration ratio is "
        "best at 1. GAUC is the AUC inside a user, weighted by its rows.",
        table(columns, body),
        element("p", element("b", "Teacher: "), teacher) if teacher else None,
        _more_metrics(rows, [name for name in present if name not in MAIN_METRICS | {"auc"}]),
        _reasons(rows),
    )


def _more_metrics(rows: Sequence[ResultRow], names: Sequence[str]) -> Markup | None:
    if not names:
        return None
    columns = [head("Model"), *(head(METRIC_TITLES[name], number=True) for name in names)]
    body = [element("tr", cell(swatch(row.name), row.title), [figure_cell(row.figures.get(name)) for name in names]) for row in rows]
    return element("details", element("summary", "More metrics"), table(columns, body))


def _reasons(rows: Iterable[ResultRow]) -> Markup | None:
    found = [
        f"{row.title}, {METRIC_TITLES[name]}: {figure.reason}" for row in rows for name, figure in row.figures.items() if figure.reason
    ]
    if not found:
        return None
    return element(
        "details",
        element("summary", f"{len(found)} figures are undefined, or have no interval"),
        element("ul", [element("li", f) for f in found]),
    )


def focal(names: Sequence[str]) -> list[str]:
    """The models that the question is about; popularity and oracle lie too far off to set the scale of a chart."""
    return [name for name in names if name not in ("popularity", "oracle")] or list(names)


def differences(metrics: Mapping[str, Any]) -> Markup | None:
    """Paired differences in AUC, or accuracy of classes, drawn about zero, with those of the other main metrics."""
    pairs = metrics.get("comparisons") or {}
    if not pairs:
        return None
    quality = findings.quality(metrics)
    main = {pair: findings.difference(metrics, pair) or Figure(None, reason="not measured") for pair in pairs}
    others = [
        name
        for name in ("auc", "gauc", "request_auc", "accuracy", "macro_f1", "log_loss")
        if name != quality and any(name in (table or {}) for table in pairs.values())
    ]
    near = [figure for pair, figure in main.items() if not pair.endswith(("-popularity", "-oracle"))]
    domain = spread(near or list(main.values()), zero=True)
    columns = [head("Difference"), head(METRIC_TITLES[quality], number=True), head(whisker_axis(domain, sign=True)), head("p", number=True)]
    columns += [head(METRIC_TITLES[name], number=True) for name in others]
    body = []
    for pair, figure in main.items():
        effect = {1: "gain", -1: "loss", 0: "even"}[figure.sign]
        first, _, second = pair.partition("-")
        title = f"{model_title(first)} {findings.MINUS} {model_title(second).lower()}"
        p_value = Figure.of((pairs[pair].get(quality) or {}).get("p_value"))
        cells = [
            cell(title),
            difference_cell(figure),
            cell(whiskers([(title, effect, figure)], domain, label=f"{title}, {METRIC_TITLES[quality]}", zero=True)),
        ]
        cells += [cell("–" if p_value.value is None else f"{p_value.value:.3f}", number=True)]
        cells += [difference_cell(findings.difference(metrics, pair, name)) for name in others]
        body.append(element("tr", cells))
    return section(
        "Paired differences",
        "Both models of a pair see the same resamples, so a difference can be certain although the intervals of the two "
        "overlap. A positive difference favours the first model, except in log loss. p is the two-sided bootstrap probability of no "
        "difference.",
        table(columns, body),
    )


def slices(metrics: Mapping[str, Any]) -> Markup | None:
    """AUC, or accuracy of classes, of every model by part of the rows, one table per group of parts."""
    quality = findings.quality(metrics)
    groups: dict[str, dict[str, Any]] = {}
    for name, models in (metrics.get("slices") or {}).items():
        group, _, part = name.partition("/")
        groups.setdefault(group if part else "other", {})[part or name] = models
    if not groups:
        return None
    shown = findings.reading_order(name for parts in groups.values() for models in parts.values() for name in models if "/" not in name)
    near = focal(shown)
    blocks = []
    for group, parts in groups.items():
        figures = {part: {name: Figure.of((models.get(name) or {}).get(quality)) for name in shown} for part, models in parts.items()}
        domain = spread([figure for models in figures.values() for name, figure in models.items() if name in near])
        columns = [head("Part"), head("Rows", number=True), head(whisker_axis(domain))]
        columns += [head(model_title(name), number=True) for name in shown]
        body = []
        for part, by_model in figures.items():
            size = next((models.get("rows") for models in parts[part].values() if isinstance(models, Mapping)), None)
            drawn = [(model_title(name), color(name), figure) for name, figure in by_model.items()]
            cells = [
                cell(part),
                cell(findings.count(Figure.of(size).value), number=True),
                cell(whiskers(drawn, domain, label=f"{METRIC_TITLES[quality]} in {part}")),
            ]
            body.append(element("tr", cells, [figure_cell(figure) for figure in by_model.values()]))
        title, note = SLICE_TITLES.get(group, (group.replace("_", " ").capitalize(), ""))
        blocks += [element("h3", title, element("span", f" – {note}", class_="note") if note else None), table(columns, body, "parts")]
    return section(
        "Where it works", f"{METRIC_TITLES[quality]} inside a part of the test rows, with 95 % intervals.", legend(shown), *blocks
    )
