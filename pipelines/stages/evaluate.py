"""Stage ``evaluate``: every model on the same test rows, as metrics.json and as a report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.features.summary import ClickSummary
from feature_store.tables.json_files import write_json, write_text
from feature_store.text.summary import TextSummary
from pipelines.registry.model_package import scorer_in
from pipelines.stages import finetune
from pipelines.stages.baselines import BASELINES
from pipelines.stages.training import TIMED_ROWS, rate_of, stored_probabilities
from pipelines.tasks.texts import Rows, open_rows
from pipelines.workspace.artifacts import MANIFEST, Artifact, point, publish_directory, read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.resources import peak_memory_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run(context: StageContext) -> None:
    """Score the test rows with every model; writes ``metrics.json``, ``report.json`` (what the plots show) and ``report.html``."""
    from ctr_kd.evaluation.evaluate import click_curves, confusions, evaluate_models

    settings = context.config.evaluate
    test = open_rows(context.inputs["ingest"])
    rows = test.evaluation_rows()
    scores, costs = stored_scores(context)
    baselines, baseline_costs = baseline_scores(context, test)
    scores |= baselines
    costs |= baseline_costs
    costs["student"]["rows_per_second"] = student_rows_per_second(context.inputs["distill"] / "export", test)
    costs["student_alone"]["rows_per_second"] = costs["student"]["rows_per_second"]  # the same graph with other numbers in it
    context.report(f"{len(rows.label):,} test rows, {', '.join(scores)}")
    measured = evaluate_models(rows, scores, replicates=settings.bootstrap, seed=settings.seed)
    for name, entries in measured["models"].items():
        entries |= {"rows_per_second": None, "parameters": None, "bytes": None} | costs.get(name, {})
    uncalibrated = uncalibrated_scores(context)
    for name, score in uncalibrated.items():
        measured["models"][name]["uncalibrated"] = calibration_figures(rows.label, score)
    metrics = {"run": run_facts(context), "data": data_facts(context, test.summary), **measured, "gate": None}
    before = {"uncalibrated": click_curves(rows.label, uncalibrated)["reliability"]}
    write_report(
        context, metrics, click_curves(rows.label, scores) | confusions(rows, scores) | before | {"learning": learning_curves(context)}
    )
    student = measured["models"]["student"]
    context.record(
        {"student": {name: _value(student[name]) for name in ("auc", "gauc", "log_loss", "calibration_error") if name in student}}
    )


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
    costs["teacher"] |= {"fine_tunings": finetune.compared(context.run)} if "bert" in members else {}
    costs["teacher"] |= {"weighting": students["weighting"]} if "weighting" in students else {}
    costs["teacher"] |= {"hard_negatives": bert["hard_negatives"]} if "hard_negatives" in bert and "bert" in members else {}
    costs["student"] |= {"transfer": students["transfer"]} if "transfer" in students else {}
    return scores, costs


def teacher_costs(members: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Rows per second of several teachers together, which cost what each of them costs; ``facts`` of each as ``teacher/NAME``.

    Examples
    --------
    >>> facts = {"teacher/a": {"rows_per_second": 20.0, "rows_per_second_alone": 5.0}, "teacher/b": {"rows_per_second": 20.0}}
    >>> teacher_costs(["a", "b"], facts)
    {'rows_per_second': 10.0, 'rows_per_second_alone': 4.0}
    """
    together = [facts[f"teacher/{name}"] for name in members]
    keys = ("rows_per_second", "rows_per_second_alone")
    return {key: 1 / sum(1 / fact.get(key, fact["rows_per_second"]) for fact in together) for key in keys}


def uncalibrated_scores(context: StageContext) -> dict[str, NDArray]:
    """Test probabilities of the students before calibration; none where nothing was calibrated."""
    files = {name: context.inputs["distill"] / f"predictions_{name}_uncalibrated_test.parquet" for name in ("student", "student_alone")}
    return {name: stored_probabilities(file) for name, file in files.items() if file.exists()}


def calibration_figures(label: NDArray, score: NDArray) -> dict[str, Any]:
    """What calibration moves: log loss, and how far predicted rates are from observed ones; null where it is undefined.

    Of classes the rate is that at which the likeliest class is right.
    """
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
    figures: dict[str, Any] = {}
    for name, measure in measures.items():
        try:
            figures[name] = measure()
        except UndefinedMetric as undefined:
            figures[name] = {"value": None, "reason": undefined.reason}
    return figures


def baseline_scores(context: StageContext, test: Rows) -> tuple[dict[str, NDArray], dict[str, dict[str, Any]]]:
    """Test probabilities of the baselines that such rows have, and what each costs."""
    found = {name: BASELINES[name](context, test) for name in test.baselines}
    measured = {name: one for name, one in found.items() if one is not None}
    return {name: score for name, (score, _) in measured.items()}, {name: cost for name, (_, cost) in measured.items()}


def student_rows_per_second(export: Path, test: Rows) -> float | None:
    """Rows that an exported student scores per second on one thread, from raw ids or texts in memory to probabilities."""
    rows = test.read("test")
    table = test.raw(rows.slice(max(0, rows.num_rows - TIMED_ROWS)))
    scorer = scorer_in(export / "scorer.py", export)
    return rate_of(scorer.score, table)


def run_facts(context: StageContext) -> dict[str, Any]:
    """What this run was: the keys that its stages read, their seconds (of this one, so far), and the largest of their memories."""
    manifests = {name: artifact.manifest or {} for name, artifact in context.run.artifacts.items()}
    configuration: dict[str, Any] = {"name": context.config.name}
    for keys in (*(manifest["config"] for manifest in manifests.values()), context.config.section(context.keys)):
        for key, value in keys.items():
            *blocks, last = key.split(".")
            block = configuration
            for name in blocks:
                block = block.setdefault(name, {})
            block[last] = value
    return {
        "configuration": configuration,
        "fingerprint": context.fingerprint,
        "seed": context.config.seed,
        "started": min([manifest["started"] for manifest in manifests.values()], default=None),
        "seconds": {name: manifest["seconds"] for name, manifest in manifests.items()} | {context.stage: round(context.seconds, 3)},
        "peak_memory_bytes": max(peak_memory_bytes(), *(manifest["peak_memory_bytes"] for manifest in manifests.values())),
    }


def data_facts(context: StageContext, summary: ClickSummary | TextSummary) -> dict[str, Any]:
    """Sizes of the data, and how the rows were made."""
    recorded = (context.run.artifacts["ingest"].manifest or {})["facts"]
    counts = {f"{split}_rows": summary.rows[split] for split in ("train", "validation", "test")}
    shown = (
        "users",
        "items",
        "clicks",
        "classes",
        "unseen_item_share",
        "unseen_token_share",
        "audit",
        "split",
        "excluded",
        "candidates",
        "negative_sampling_rate",
    )
    vectors = summary.views["student"].vectors if isinstance(summary, TextSummary) else None
    own = {} if vectors is None else {"word_vectors": vectors.to_json(), "missing_vectors": vectors.missing}
    said = summary.to_json()
    return counts | own | {name: said.get(name) for name in shown} | {"quarantined_rows": recorded["quarantined_rows"]}


def learning_curves(context: StageContext) -> dict[str, Any]:
    """Points of every training, by stage and model."""
    students = read_json(context.inputs["distill"] / "training.json") or {}
    trained = {name: read_json(context.inputs[name] / "training.json") or {} for name in ("pretrain", "finetune")}
    trained |= {f"distill/{name}": facts for name, facts in students.items()}
    return {name: facts["curve"] for name, facts in trained.items() if "curve" in facts}


def write_report(context: StageContext, metrics: Mapping[str, Any], plots: Mapping[str, Any]) -> None:
    """Write the numbers, what the plots show, and the page that shows both."""
    from ctr_kd.report import render

    write_json(context.output / "metrics.json", metrics)
    write_json(context.output / "report.json", plots)
    write_text(context.output / "report.html", render(metrics, plots))


def publish_report(context: StageContext) -> None:
    """Put the report under reports/ and let ``latest`` name it, unless that was done before."""
    reports = context.workspace / "reports"
    digest = (Artifact(context.output).manifest or {})["digest"]
    final = reports / context.fingerprint
    if (read_json(final / MANIFEST) or {}).get("digest") == digest:
        return
    temporary = reports / f".{context.fingerprint}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("report.html", "metrics.json"):
        shutil.copyfile(context.output / name, temporary / name)
    publish_directory(temporary, final)
    point(reports / "latest", context.fingerprint)
    write_json(final / MANIFEST, {"stage": context.stage, "digest": digest})  # last: a kill before it repeats all of this


def report_directory(run: RunContext) -> Path | None:
    """The newest report of this run's stages."""
    for stage in ("register", "evaluate"):
        if stage in run.artifacts:
            return run.workspace / "reports" / run.artifacts[stage].path.name
    return None


def other_fine_tunings(run: RunContext) -> dict[str, str]:
    """Digests of what the report compares this run's fine-tuning with: where another one has come, there is another report."""
    return {f"finetune/{other.path.name}": (other.manifest or {})["digest"] for other in finetune.others(run)}


def _value(entry: Any) -> Any:
    return entry.get("value") if isinstance(entry, Mapping) else entry


STAGE = Stage(
    "evaluate",
    run,
    upstream=("ingest", "pretrain", "finetune", "distill"),
    keys=("name", "seed", "evaluate"),
    outside=other_fine_tunings,
    conclude=publish_report,
)
