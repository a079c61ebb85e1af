"""The whole report as one self-contained HTML file: no script, no request to anywhere, readable on screen, phone and paper."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ctr_kd.report import classes, findings, forgetting, results, run
from ctr_kd.report import curves as drawn
from ctr_kd.report.markup import Markup, element, join


def render(metrics: Mapping[str, Any], curves: Mapping[str, Any] | None = None, output: Path | None = None) -> str:
    """Write the report of a run.

    Parameters
    ----------
    metrics : mapping
        All of metrics.json. Parts that are missing leave their section out.
    curves : mapping, optional
        ``{"learning": {STAGE or STAGE/MODEL: points}, "roc": {NAME: [[x, y], ...]}, "reliability": {NAME: [bins]}}``, and
        of classifiers ``{"confusion": {NAME: [[rows, ...], ...]}, "classes": [name, ...]}``; see
        `learning_curves` and `ctr_kd.evaluation.evaluate.curves`.
    output : Path, optional
        File to write, in UTF-8.

    Returns
    -------
    str
        The HTML. Every text that comes from data is escaped.

    Examples
    --------
    >>> page = render({"models": {"student": {"auc": {"value": 0.7412, "low": 0.7398, "high": 0.7427}}}})
    >>> "0.7412" in page and "<script" not in page
    True
    """
    curves = curves or {}
    said = findings.verdict(metrics)
    rows = findings.result_rows(metrics)
    teacher = [text for text in (forgetting.sentence(metrics), findings.weighting(metrics)) if text]
    body = [
        run.header(metrics, said),
        results.results(rows, " ".join(teacher) or None),
        results.differences(metrics),
        drawn.curves_of_scores(curves),
        drawn.calibration(curves, metrics),
        results.slices(metrics),
        classes.classes(metrics),
        classes.confusion(metrics, curves),
        forgetting.forgetting(metrics),
        drawn.learning_curves(curves),
        run.road(metrics),
        run.gate(metrics),
        run.data_facts(metrics),
        run.configuration(metrics),
        element("footer", "Written by ctr-kd. The same numbers stand in metrics.json beside this file."),
    ]
    page = document(said.headline, body)
    if output is not None:
        output.write_text(page, "utf-8")
    return page


def document(title: str, body: list[Markup | None]) -> str:
    """A page of sections with the style sheet inside; None is left out."""
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        element("title", title),
        element("style", Markup(resources.files("ctr_kd.report").joinpath("style.css").read_text("utf-8"))),
    ]
    return str(
        join(Markup("<!DOCTYPE html>\n"), element("html", element("head", head), "\n", element("body", *_lines(body)), lang="en"), "\n")
    )


def _lines(parts: list[Markup | None]) -> list[Markup]:
    return [join(Markup("\n"), part) for part in parts if part is not None]
