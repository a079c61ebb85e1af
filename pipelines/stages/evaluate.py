"""Stage ``evaluate``: every model on the same test rows, as metrics.json and as a report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.metrics import DataFacts, Metrics, RunFacts, write_report
from pipelines.tasks import Rows, task_of
from pipelines.tasks.baselines import BASELINES
from pipelines.tasks.logits import stored_probabilities
from pipelines.training import fine_tunings
from pipelines.training.costs import student_rows_per_second, teacher_costs
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctr_kd.evaluation.tables import ModelMetrics


def measure_models(context: StageContext) -> None:
    """Score the test rows with every model; writes ``metrics.json``, ``report.json`` (what the plots show) and ``report.html``."""
    from ctr_kd.evaluation.evaluate import click_curves, confusions, evaluate_models
    from ctr_kd.evaluation.tables import metrics_json

    settings = context.config.evaluate
    test = task_of(context.config).rows(context.inputs["ingest"])
    rows = test.evaluation_rows()
    scores, costs = stored_scores(context)
    baselines, baseline_costs = baseline_scores(context, test)
    scores |= baselines
    costs |= baseline_costs
    costs["student"]["rows_per_second"] = student_rows_per_second(context.inputs["distill"] / "export", test)
    costs["student_alone"]["rows_per_second"] = costs["student"]["rows_per_second"]  # the same graph with other numbers in it
    context.report(f"{len(rows.label):,} test rows, {', '.join(scores)}")
    evaluation = evaluate_models(rows, scores, replicates=settings.bootstrap, seed=settings.seed)
    measured = evaluation.to_json()
    for name, entries in measured["models"].items():
        entries |= {"rows_per_second": None, "parameters": None, "bytes": None} | costs.get(name, {})
    uncalibrated = uncalibrated_scores(context)
    for name, score in uncalibrated.items():
        measured["models"][name]["uncalibrated"] = metrics_json(calibration_figures(rows.label, score))
    metrics = Metrics(run=RunFacts.of(context), data=DataFacts.of(context, test), **measured, gate=None)
    plots = click_curves(rows.label, scores).to_json()
    confused = confusions(rows, scores)
    plots |= confused.to_json() if confused else {}
    plots |= {"uncalibrated": click_curves(rows.label, uncalibrated).to_json()["reliability"], "learning": learning_curves(context)}
    write_report(context.output, metrics, plots)
    student = evaluation.models["student"]
    context.record({"student": {name: student[name].value for name in ("auc", "gauc", "log_loss", "calibration_error") if name in student}})


def stored_scores(context: StageContext) -> tuple[dict[str, NDArray], dict[str, dict[str, Any]]]:
    """Test probabilities of teacher and students from the logits that their stages stored, and what each model costs."""
    distill = context.inputs["distill"]
    bert = read_json(context.inputs["finetune"] / "training.json") or {}
    students = read_json(distill / "training.json") or {}
    members = list(context.config.distill.teachers)
    names = ["teacher", "student", "student_alone", *([f"teacher/{name}" for name in members] if len(members) > 1 else [])]
    scores = {name: stored_probabilities(distill / f"predictions_{name.replace('/', '_')}_test.parquet") for name in names}
    shown = ("rows_per_second", "rows_per_second_alone", "parameters", "bytes", "masked_item_accuracy")
    facts = {**students, "teacher/bert": bert}
    facts["teacher"] = teacher_costs(members, facts) | {key: bert[key] for key in shown[2:] if "bert" in members and key in bert}
    costs = {name: {key: facts[name][key] for key in shown if key in facts[name]} for name in names}
    costs["teacher"] |= {"fine_tunings": fine_tunings.compared(context.run)} if "bert" in members else {}
    costs["teacher"] |= {"weighting": students["weighting"]} if "weighting" in students else {}
    costs["teacher"] |= {"hard_negatives": bert["hard_negatives"]} if "hard_negatives" in bert and "bert" in members else {}
    costs["student"] |= {"transfer": students["transfer"]} if "transfer" in students else {}
    return scores, costs


def uncalibrated_scores(context: StageContext) -> dict[str, NDArray]:
    """Test probabilities of the students before calibration; none where nothing was calibrated."""
    files = {name: context.inputs["distill"] / f"predictions_{name}_uncalibrated_test.parquet" for name in ("student", "student_alone")}
    return {name: stored_probabilities(file) for name, file in files.items() if file.exists()}


def calibration_figures(label: NDArray, score: NDArray) -> ModelMetrics:
    """What calibration moves: log loss, and how far predicted rates are from observed ones.

    Of classes the rate is that at which the likeliest class is right.
    """
    from ctr_kd.evaluation.tables import MetricValue
    from ctr_kd.metrics import UndefinedMetric, classification, probability

    measures: dict[str, Callable[[], float]]
    if score.ndim == 1:
        measures = {
            name: partial(getattr(probability, name), label, score) for name in ("log_loss", "calibration_error", "calibration_ratio")
        }
    else:
        right, sure = score.argmax(axis=1) == label, score.max(axis=1).clip(0, 1)
        measures = {
            "log_loss": lambda: float(classification.class_log_losses(label, score).mean()),
            "calibration_error": partial(probability.calibration_error, right, sure),
        }
    figures: ModelMetrics = {}
    for name, measure in measures.items():
        try:
            figures[name] = MetricValue(measure(), has_interval=False)
        except UndefinedMetric as undefined:
            figures[name] = MetricValue(reason=undefined.reason)
    return figures


def baseline_scores(context: StageContext, test: Rows) -> tuple[dict[str, NDArray], dict[str, dict[str, Any]]]:
    """Test probabilities of the baselines that such rows have, and what each costs."""
    found = {name: BASELINES[name](context, test) for name in test.baselines}
    measured = {name: one for name, one in found.items() if one is not None}
    return {name: score for name, (score, _) in measured.items()}, {name: cost for name, (_, cost) in measured.items()}


def learning_curves(context: StageContext) -> dict[str, Any]:
    """Points of every training, by stage and model."""
    students = read_json(context.inputs["distill"] / "training.json") or {}
    trained = {name: read_json(context.inputs[name] / "training.json") or {} for name in ("pretrain", "finetune")}
    trained |= {f"distill/{name}": facts for name, facts in students.items()}
    return {name: facts["curve"] for name, facts in trained.items() if "curve" in facts}


def other_fine_tunings(run: RunContext) -> dict[str, str]:
    """Digests of what the report compares this run's fine-tuning with: where another one has come, there is another report."""
    return {f"finetune/{other.path.name}": (other.manifest or {})["digest"] for other in fine_tunings.others(run)}


STAGE = Stage(
    "evaluate",
    measure_models,
    upstream=("ingest", "pretrain", "finetune", "distill"),
    keys=("name", "seed", "evaluate"),
    outside=other_fine_tunings,
    conclude=publish_report,
)
