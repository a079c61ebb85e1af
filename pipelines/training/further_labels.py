"""What models are worth by labels beside the click, such as a purchase, each on the test rows that say it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows
from feature_store.tables.contracts import label_column
from pipelines.metrics import mark_privileged
from pipelines.tasks import Rows, task_of
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.fitting import MOST_FITTED, fit_boosted_trees
from pipelines.tasks.logits import stored_probabilities
from pipelines.workspace.context import StageContext

TREES = "boosted_trees"


def further_label_figures(context: StageContext, test: Rows, models: Iterable[str]) -> dict[str, Any]:
    """Figures of each further label, as ``labels`` of metrics.json has them; empty where there is one label.

    Parameters
    ----------
    context : StageContext
        Of a stage whose input ``distill`` holds what the models said of the test rows.
    test : Rows
    models : iterable of str
        Teachers and students.

    Returns
    -------
    dict
        By label: ``rows`` that say it, ``positives`` among them, and ``models`` and ``comparisons`` as of the click.
    """
    if not isinstance(test, ClickRows) or not test.summary.labels:
        return {}
    settings, distill, found = context.config.evaluate, context.inputs["distill"], {}
    rows, hidden = test.read("test"), task_of(context.config).privileged(context.inputs["ingest"])
    for label in test.summary.labels:
        said = rows[label_column(label)]
        known = pc.is_valid(said).to_numpy()
        value, weight = said.drop_null().to_numpy(), test.weight(rows)
        files = {name: distill / f"predictions_{name.replace('/', '_')}_test.parquet" for name in models}
        taught = TREES in context.config.distill.teacher_weights and not hidden
        if settings.boosted_trees and taught:
            files[TREES] = distill / f"predictions_teacher_{TREES}_test.parquet"
        scores = {name: stored_probabilities(file, label=label)[known] for name, file in files.items()}
        if settings.boosted_trees and not taught:
            train = test.read("train", newest=MOST_FITTED)
            trees = fit_boosted_trees(test, train, test.read("validation"), context.config.seed, context.report, label)
            scores[TREES] = np.asarray(trees.predict(test.described(rows)))[known]
        user, request = (rows[name].to_numpy()[known] for name in ("user", "request"))
        measured_on = EvaluationRows(value, user, request, row_weight=None if weight is None else weight[known])
        measured = evaluate_models(measured_on, scores, replicates=settings.bootstrap, seed=settings.seed).to_json()
        counts = {"rows": len(value), "positives": int(value.sum())}
        mark_privileged(measured["models"], hidden)
        found[label] = counts | {name: measured[name] for name in ("models", "comparisons")}
    return found
