"""Stage warm_check: on a night that begins cold in a row of warm ones, what the warm model would have been worth less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ctr_kd.evaluation.evaluate import evaluate_models
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import write_json
from feature_store.tables.parquet_files import read_parquet
from pipelines.errors import BoundBroken
from pipelines.metrics import STUDENT
from pipelines.tasks import task_of
from pipelines.tasks.logits import stored_probabilities
from pipelines.training.parents import NoParent, champion_parent, is_due
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.parent import Parent, parent_of
from pipelines.workspace.reports import publish_in_report
from pipelines.workspace.runner import Runner

FILE = "warm.json"
_SAME = ("timestamp", "user", "item", "label")  # columns by which the test rows of both are the same


def check_warm_nights(runner: Runner) -> str | None:
    """On a night on which a cold start was due, train a warm model beside the cold one and compare them; None on any other night.

    Parameters
    ----------
    runner : Runner
        Of the whole pipeline, which was run.

    Returns
    -------
    str or None
        One line.

    Raises
    ------
    BoundBroken
        When the warm student is worth less than ``warm.difference_min`` beyond chance.
    """
    run = runner.context
    parent = _left_out(run)
    if parent is None:
        return None
    run.report(f"a warm model beside the cold one, from {parent.name}", "warm_check")
    warm = replace(run, config=run.as_given, artifacts={}, find_parent=lambda _: parent)
    Runner(warm, [runner.stages[name] for name in ("ingest", "pretrain", "finetune", "distill")]).run()
    artifact = warm.artifacts["distill"]
    stage = Stage(
        "warm_check",
        lambda context: compare(context, artifact.path, warm.artifacts["ingest"].path, parent),
        source=compare.__module__,
        upstream=("ingest", "distill"),
        keys=("evaluate.bootstrap", "evaluate.seed"),
        outside=lambda _: {f"distill/{artifact.path.name}": artifact.finished.digest},
        conclude=lambda context: publish_in_report(context, (FILE,)),
    )
    Runner(run, [stage]).run()
    return verdict_of(read_json(run.artifacts["warm_check"].path / FILE) or {}, run.config.warm.difference_min)


def _left_out(run: RunContext) -> Parent | None:
    """What a run that began cold would have continued, where only ``warm.restart_every`` kept it from that."""
    if "distill" not in run.artifacts or parent_of(run.artifacts["ingest"].path) is not None:
        return None
    try:
        parent = champion_parent(run)
    except NoParent:
        return None
    late = bool(parent.late) and run.config.warm.late == "restart"  # it would not have been continued
    return parent if is_due(run, parent) and not late else None


def compare(context: StageContext, distill: Path, ingest: Path, parent: Parent) -> None:
    """Compare both students on the test rows; writes ``warm.json``."""
    tables = [read_parquet(folder / "rows.parquet", filters=[("split", "=", "test")]) for folder in (context.inputs["ingest"], ingest)]
    cold_rows, warm_rows = (table.sort_by("row_id").select(_SAME) for table in tables)
    if not cold_rows.equals(warm_rows):
        raise DataError("the test rows of the warm and of the cold night differ: run again with --from ingest --force")
    test = task_of(context.config).rows(context.inputs["ingest"])
    scores = {
        name: np.asarray(stored_probabilities(folder / f"predictions_{STUDENT}_test.parquet", test.negative_sampling_rate))
        for name, folder in (("warm", distill), ("cold", context.inputs["distill"]))
    }
    settings = context.config.evaluate
    found = evaluate_models(
        test.evaluation_rows(), scores, replicates=settings.bootstrap, seed=settings.seed, pairs=(("warm", "cold"),)
    ).to_json()
    figures = {name: {key: found["models"][name][key] for key in ("auc", "log_loss")} for name in scores}
    result = {"continues": parent.name, "nights": parent.nights, "models": figures, "warm-cold": found["comparisons"]["warm-cold"]}
    write_json(context.output / FILE, result)
    context.record({"warm_minus_cold": result["warm-cold"]["auc"].get("difference")})


def verdict_of(result: Mapping[str, Any], bound: float) -> str:
    """What a comparison says, in a line.

    Parameters
    ----------
    result : mapping
        The content of ``warm.json``.
    bound : float
        Lowest difference that is no alarm.

    Raises
    ------
    BoundBroken
        When all of the interval lies below the bound.

    Examples
    --------
    >>> auc = {"difference": -0.0004, "low": -0.0012, "high": 0.0003}
    >>> print(verdict_of({"nights": 7, "warm-cold": {"auc": auc}}, -0.002))
    warm less cold on warm night 7: −0.0004 [−0.0012, +0.0003] AUC; the cold one goes on
    """
    from ctr_kd.report import Figure

    figure = Figure.of(result["warm-cold"]["auc"], "difference")
    line = f"warm less cold on warm night {result['nights']}: {figure.signed()} AUC; the cold one goes on"
    if figure.high is not None and figure.high < bound:
        raise BoundBroken(f"{line}; below warm.difference_min ({bound:g}): set warm.restart_every lower, or warm.learning_rate higher")
    return line
