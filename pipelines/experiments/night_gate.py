"""Stage gate of a night of a backtest: what the promotion gate would have said of its student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ctr_kd.evaluation.evaluate import evaluate_models
from feature_store.tables.json_files import write_json
from pipelines.metrics import Metrics, metric_value
from pipelines.registry.promotion_gate import Check, Difference, at_least, at_most, champion_checks
from pipelines.tasks import task_of
from pipelines.training.students import EXPORTS
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner

FILE = "gate.json"


@dataclass(frozen=True)
class Night:
    """A night that was run.

    Attributes
    ----------
    moment : datetime
        When it trained.
    run : RunContext
        With its artifacts.
    metrics : Metrics
        Of the window after it.
    """

    moment: datetime
    run: RunContext
    metrics: Metrics

    @property
    def name(self) -> str:
        """What it is called."""
        return f"the night of {self.moment:%Y-%m-%dT%H:%M}"


def run_gate(night: Night, champion: Night | None) -> bool:
    """Whether a night's student would have replaced the champion of then; what the gate asked is an artifact of the night's run."""
    digests = {} if champion is None else {f"distill/{champion.run.artifacts['distill'].path.name}": _digest(champion, "distill")}
    stage = Stage(
        "gate",
        lambda context: judge(context, night, champion),
        source=judge.__module__,
        upstream=("ingest", "distill", "evaluate"),
        keys=("register", "teacher_only"),
        outside=lambda _: digests,
    )
    Runner(night.run, [stage]).run()
    return bool(answers(night)["passed"])


def answers(night: Night) -> dict[str, Any]:
    """What the gate said of a night: ``passed`` and ``checks``."""
    return read_json(night.run.artifacts["gate"].path / FILE) or {}


def _digest(night: Night, stage: str) -> str:
    return night.run.artifacts[stage].finished.digest


def judge(context: StageContext, night: Night, champion: Night | None) -> None:
    """Ask the bounds on the student itself, and those beside the champion of then on the same rows; writes ``gate.json``."""
    bounds = context.config.register_
    shipped = night.metrics.shipped_model
    auc, error = (metric_value(shipped, name) for name in ("auc", "calibration_error"))
    checks: list[Check] = [
        at_least("auc", auc[0], bounds.auc_min, auc[1]),
        at_most("calibration_error", error[0], bounds.calibration_error_max, error[1]),
    ]
    if champion is not None:
        differences, figures = _against(context, night, champion)
        checks += champion_checks(differences, figures, bounds)
    passed = all(check.passed for check in checks)
    write_json(context.output / FILE, {"passed": passed, "checks": [check.to_json() for check in checks]})
    context.record({"passed": passed})


def _against(context: StageContext, night: Night, champion: Night) -> tuple[Mapping[str, Difference], Mapping[str, Any]]:
    """A night's student minus the champion of then on the rows after the night, and the champion's figures there."""
    from ctr_kd.export.click_scorer import ClickScorer

    bounds = context.config.register_
    test = task_of(night.run.config).rows(context.inputs["ingest"])
    rows = test.read("test")
    scores = {
        name: np.concatenate([scorer.score(table) for table in test.batches(rows)])
        for name, scorer in (
            (title, ClickScorer(one.run.artifacts["distill"].path / EXPORTS[one.metrics.shipped]))
            for title, one in (("challenger", night), ("champion", champion))
        )
    }
    found = evaluate_models(
        test.evaluation_rows(), scores, replicates=bounds.bootstrap, seed=bounds.seed, pairs=(("challenger", "champion"),)
    )
    return found.comparisons["challenger-champion"], found.models["champion"]
