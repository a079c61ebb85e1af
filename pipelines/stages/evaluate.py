"""Stage ``evaluate``: every model on the same test rows, as metrics.json and as a report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ctr_kd.evaluation.evaluate import click_curves, confusions, evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.evaluation.tables import MetricValue, ModelMetrics, metrics_json
from ctr_kd.metrics import UndefinedMetric, classification, of_full_stream, probability
from pipelines.metrics import ALONE, STUDENT, DataFacts, Metrics, RunFacts, mark_privileged, write_report
from pipelines.tasks import Rows, task_of
from pipelines.tasks.baselines import fitted_library
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import probabilities, stored_probabilities
from pipelines.training import fine_tunings
from pipelines.training.baselines import Costs, Scores, baseline_scores
from pipelines.training.costs import costs_of, costs_together, student_rows_per_second, teacher_costs
from pipelines.training.facts import DistillationFacts, FinetuningFacts, PretrainingFacts
from pipelines.training.freshness import figures_by_refresh
from pipelines.training.further_labels import further_label_figures
from pipelines.training.proofs import other_seeds, proof_of, publish_with_proof
from pipelines.training.shipping import advise, choose_student, transfer_interval, transfer_ratio
from pipelines.training.students import EXPORTS
from pipelines.workspace.context import RunContext, Stage, StageContext

if TYPE_CHECKING:
    from numpy.typing import NDArray


# What MLflow is told of each model on the test rows, and as gain of what distillation gave.
_RECORDED = ("auc", "gauc", "accuracy", "macro_f1", "log_loss", "calibration_error")


def measure_models(context: StageContext) -> None:
    """Score the test rows with every model, and choose the student that ships.

    Writes ``metrics.json``, ``report.json`` (what the plots show) and ``report.html``.
    """
    from ctr_kd.report import verdict

    settings = context.config.evaluate
    test = task_of(context.config).rows(context.inputs["ingest"])
    rows = test.evaluation_rows()
    bert, students = FinetuningFacts.read(context.inputs["finetune"]), DistillationFacts.read(context.inputs["distill"])
    rate = test.negative_sampling_rate
    scores, costs = stored_scores(context, bert, students, rate)
    baselines, baseline_costs = baseline_scores(context, test, test.baselines, context.inputs["distill"], students.teachers)
    scores |= baselines
    costs |= baseline_costs
    costs[STUDENT]["rows_per_second"] = student_rows_per_second(context.inputs["distill"] / EXPORTS[STUDENT], test)
    costs[ALONE]["rows_per_second"] = costs[STUDENT]["rows_per_second"]  # the same graph with other numbers in it
    context.report(f"{len(rows.label):,} test rows, {', '.join(scores)}")
    evaluation = evaluate_models(rows, scores, replicates=settings.bootstrap, seed=settings.seed)
    measured = evaluation.to_json()
    for name, entries in measured["models"].items():
        entries |= {"rows_per_second": None, "parameters": None, "bytes": None} | costs.get(name, {})
    mark_privileged(measured["models"], task_of(context.config).privileged(context.inputs["ingest"]))
    uncalibrated = uncalibrated_scores(context, rate)
    for name, score in uncalibrated.items():
        measured["models"][name]["uncalibrated"] = metrics_json(calibration_figures(rows, score))
    validation = test.evaluation_rows("validation")
    shipping = choose_student(context.config, context.inputs["distill"], validation)
    pretrained = PretrainingFacts.read(context.inputs["pretrain"])
    steps = None if pretrained.curve is None else pretrained.curve.steps
    clicks = len(validation.label) if validation.classes else int(validation.label.sum())
    of_labels = further_label_figures(context, test, [name for name in scores if name not in baselines])
    run = RunFacts.of(context)
    metrics = Metrics(
        run=run,
        data=DataFacts.of(context, test),
        **measured,
        gate=None,
        shipped=shipping.shipped,
        shipping=shipping,
        transfer_ratio=transfer_ratio(measured["models"], shipping.metric),
        transfer_ratio_interval=transfer_interval(rows, scores, shipping.metric, settings).to_json(),
        teachers={name: one.on_rows() for name, one in students.teachers.teachers.items()},
        pretraining=None if pretrained.curve is None else pretrained.facts,
        other_seeds=other_seeds(context.run, shipping.metric),
        # A warm night is judged by nights: more of one would not mend it.
        advice=None if run.parent else advise(context.config, shipping, measured, pretraining_steps=steps, validation_clicks=clicks),
        importance=input_importance(context, test, shipping.shipped),
        freshness=figures_by_refresh(context, test, shipping.shipped) if isinstance(test, ClickRows) else None,
        **({"labels": of_labels} if of_labels else {}),
    )
    metrics = metrics.model_copy(update={"verdict": verdict(metrics.to_json()).sentence})
    curves = partial(click_curves, rows.label, negative_sampling_rate=rate, row_weight=rows.row_weight)
    plots = curves(scores).to_json()
    confused = confusions(rows, scores)
    plots |= confused.to_json() if confused else {}
    plots |= {
        "uncalibrated": curves(uncalibrated).to_json()["reliability"],
        "learning": curves_of_trainings(context, bert, students),
    }
    write_report(context.output, metrics, plots)
    context.report(shipping.sentence)
    figures = {name: {key: model[key].value for key in _RECORDED if key in model} for name, model in evaluation.models.items()}
    gain = {key: entry.get("difference") for key, entry in measured["comparisons"][f"{STUDENT}-{ALONE}"].items() if key in _RECORDED}
    context.record(figures | {"gain": gain, "shipped": shipping.shipped, "validation_gain": shipping.validation.get("difference")})


def stored_scores(context: StageContext, bert: FinetuningFacts, students: DistillationFacts, rate: float | None) -> tuple[Scores, Costs]:
    """Test probabilities of teacher and students from the logits that their stages stored, and what each model costs."""
    distill = context.inputs["distill"]
    teachers = teacher_costs(context.config, bert, students.teachers)
    members = {f"teacher/{name}": cost for name, cost in teachers.items()} if len(teachers) > 1 else {}
    names = ("teacher", "student", "student_alone", *members)
    scores = {name: stored_probabilities(distill / f"predictions_{name.replace('/', '_')}_test.parquet", rate) for name in names}
    together: dict[str, Any] = costs_together(list(teachers.values()))
    if "bert" in teachers:
        together |= {name: value for name, value in teachers["bert"].items() if name not in together}
        together["fine_tunings"] = fine_tunings.compared(context.run)
    if students.teachers.weighting is not None:
        together["weighting"] = students.teachers.weighting.to_json()
    if "bert" in teachers and bert.hard_negatives is not None:
        together["hard_negatives"] = bert.hard_negatives.to_json()
    student = costs_of(students.student) | ({} if students.transfer is None else {"transfer": students.transfer.to_json()})
    return scores, {"teacher": together, "student": student, "student_alone": costs_of(students.student_alone), **members}


def uncalibrated_scores(context: StageContext, rate: float | None) -> Scores:
    """Test probabilities of the students before calibration; none where nothing was calibrated."""
    files = {name: context.inputs["distill"] / f"predictions_{name}_uncalibrated_test.parquet" for name in ("student", "student_alone")}
    return {name: stored_probabilities(file, rate) for name, file in files.items() if file.exists()}


def calibration_figures(rows: EvaluationRows, score: NDArray) -> ModelMetrics:
    """What calibration moves: log loss, and how far predicted rates are from observed ones.

    Of classes the rate is that at which the likeliest class is right.
    """

    measures: dict[str, Callable[[], float]]
    label = rows.label
    if score.ndim == 1:
        measures = {
            "log_loss": partial(probability.log_loss, label, score, rows.weight),
            "calibration_error": partial(probability.calibration_error, label, score, weight=rows.weight, size=rows.row_weight),
            "calibration_ratio": partial(probability.calibration_ratio, label, score, rows.weight),
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


def input_importance(context: StageContext, test: Rows, shipped: str) -> dict[str, Any] | None:
    """What each group of inputs is worth to the student that ships; None where there are no groups, or none is asked for.

    On validation rows: inputs are kept and dropped by what this says, and nothing may be chosen on test rows.
    """
    settings = context.config.evaluate
    assembly = task_of(context.config).assembly(context.inputs["ingest"], "student")
    groups = assembly.input_groups()
    if not groups or not settings.importance_rows:
        return None
    from ctr_kd.evaluation.importance import permutation_importance
    from ctr_kd.export.exported_graph import ExportedGraph

    rows = test.read("validation")
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(rows.num_rows)[: settings.importance_rows])
    graph = ExportedGraph(context.inputs["distill"] / EXPORTS[shipped] / "student.onnx", assembly.signature().vectors)
    context.report(f"permuting {len(groups)} groups of inputs over {len(chosen):,} validation rows")
    found = permutation_importance(
        lambda samples: of_full_stream(probabilities(graph.logits(samples)[:, :1]), test.negative_sampling_rate),  # of clicks
        assembly.samples_of(rows.take(pa.array(chosen))),
        groups,
        replicates=settings.bootstrap,
        seed=settings.seed,
        negative_sampling_rate=test.negative_sampling_rate,
    )
    return {"model": shipped, "split": "validation", **found.to_json()}


def curves_of_trainings(context: StageContext, bert: FinetuningFacts, students: DistillationFacts) -> dict[str, Any]:
    """Points of every training, by stage and model."""
    curves = {
        "pretrain": PretrainingFacts.read(context.inputs["pretrain"]).curve,
        "finetune": bert.curve,
        "distill/student": students.student.curve,
        "distill/student_alone": students.student_alone.curve,
    }
    return {name: curve.to_dict() for name, curve in curves.items() if curve is not None}


def compared_with(run: RunContext) -> dict[str, str]:
    """Digests of other fine-tunings and of the proof that the report shows beside this run, and what grows the boosted trees: where another
    comes, it is written anew."""
    proof = proof_of(run)
    others = {f"finetune/{other.path.name}": other.finished.digest for other in fine_tunings.others(run)}
    return others | ({} if proof is None else {f"prove/{proof.path.name}": proof.finished.digest}) | fitted_library(run)


STAGE = Stage(
    "evaluate",
    measure_models,
    upstream=("ingest", "pretrain", "finetune", "distill"),
    keys=("name", "seed", "history.max_length", "embeddings", "evaluate", "distill.ship", "teacher_only"),
    outside=compared_with,
    conclude=publish_with_proof,
)
