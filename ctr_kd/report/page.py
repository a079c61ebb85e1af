"""The report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctr_kd.report import classes, conclusions, findings, forgetting, freshness, importance, labels, rendering, results, run
from ctr_kd.report import curves as drawn


def render(metrics: Mapping[str, Any], curves: Mapping[str, Any] | None = None, output: Path | None = None) -> str:
    """Write the report of a run.

    Parameters
    ----------
    metrics : mapping
        All of metrics.json. Parts that are missing leave their section out.
    curves : mapping, optional
        ``{"learning": {STAGE or STAGE/MODEL: points}, "roc": {NAME: [[x, y], ...]}, "reliability": {NAME: [bins]}}``, and
        of classifiers ``{"confusion": {NAME: [[rows, ...], ...]}, "classes": [name, ...]}``; see
        `learning_curves` and `ctr_kd.evaluation.evaluate.click_curves`.
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
    said = conclusions.verdict(metrics)
    teacher = [text for text in (forgetting.sentence(metrics), conclusions.weighting(metrics)) if text]
    page = rendering.page(
        "report.html",
        title=said.headline,
        header=run.header(metrics, said),
        results=results.results(findings.result_rows(metrics), " ".join(teacher) or None, metrics.get("shipped", "student")),
        differences=results.differences(metrics),
        labels=labels.labels(metrics),
        slices=results.slices(metrics),
        importance=importance.importance(metrics),
        freshness=freshness.freshness(metrics),
        scores=drawn.curves_of_scores(curves),
        calibration=drawn.calibration(curves, metrics),
        classes=classes.classes(metrics),
        confusion=classes.confusion(metrics, curves),
        forgetting=forgetting.forgetting(metrics),
        learning=drawn.learning_curves(curves),
        stages=run.stages(metrics),
        gate=run.gate(metrics),
        data=run.data_facts(metrics),
        configuration=run.configuration(metrics),
    )
    if output is not None:
        output.write_text(page, "utf-8")
    return page


def render_charts(curves: Mapping[str, Any]) -> str:
    """A page with nothing but the charts of a run: ROC, calibration and learning curves, as :func:`render` takes them.

    Examples
    --------
    >>> "<svg" in render_charts({"roc": {"student": [[0.0, 0.0], [0.2, 0.8], [1.0, 1.0]]}})
    True
    """
    return rendering.page("charts.html", title="Charts", scores=drawn.curves_of_scores(curves), learning=drawn.learning_curves(curves))
