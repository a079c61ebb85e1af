"""Stage distill: the frozen teacher teaches the student, mostly by stored logits; the same student is trained alone beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts import write_json
from pipelines.runner import Stage, StageContext
from pipelines.stages.training import SPLITS, fit_boosted_trees, kept_point, read_predictions, record_curve, write_predictions

if TYPE_CHECKING:
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.samples import Assembly, Samples
    from pipelines.config import RunConfig


def run(context: StageContext) -> None:
    """Train both students; writes their weights, logits, ``training.json`` and the exported student under ``export/``."""
    from ctr_kd.checkpoint import load_checkpoint, save_checkpoint
    from ctr_kd.distilling import combine_logits, train_student
    from ctr_kd.export import export_student
    from ctr_kd.models import STUDENTS
    from ctr_kd.samples import Assembly
    from ctr_kd.throughput import parameter_count
    from ctr_kd.training import predict

    config = context.config
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    signature = assembly.signature()
    samples = {split: assembly.samples(split) for split in SPLITS}
    teachers, training = _teachers(context, assembly, samples)
    combined = {
        split: combine_logits({name: logits[split] for name, logits in teachers.items()}, config.distill.teachers) for split in SPLITS
    }
    encoder = teacher_encoder(context.inputs["finetune"], assembly, config) if config.distill.needs_encoder else None
    write_predictions(context.output / "predictions_teacher_test.parquet", samples["test"].row_id, combined["test"], context.fingerprint)
    for name, target in (("student", combined["train"]), ("student_alone", None)):
        file = context.checkpoint / f"{name}.pt"
        finished = context.checkpoint / f"{name}.done.pt"
        if finished.exists():  # a run killed between the two students need not repeat the first
            state = load_checkpoint(finished, context.fingerprint)
            model = STUDENTS[config.distill.student.kind](signature, config.distill.student)
            model.load_state_dict(state["model"])
            model.eval()
            curve = state["curve"]
        else:
            context.report(f"{name.replace('_', ' ')} ({config.distill.student.kind})")
            model, fitted = train_student(
                signature,
                samples["train"],
                samples["validation"],
                target,
                config.distill,
                config.seed,
                context.fingerprint,
                file,
                context.report,
                encoder,
            )
            curve = fitted.to_dict()
            save_checkpoint(finished, {"model": model.state_dict(), "curve": curve}, context.fingerprint)
        save_checkpoint(context.output / f"{name}.pt", {"model": model.state_dict()}, context.fingerprint)
        for split in SPLITS[1:]:
            logits = predict(model, samples[split])
            write_predictions(context.output / f"predictions_{name}_{split}.parquet", samples[split].row_id, logits, context.fingerprint)
        training[name] = {"curve": curve, "parameters": parameter_count(model), "kind": config.distill.student.kind}
        if name == "student":
            export_student(model, signature, assembly, context.output / "export")
            training[name]["bytes"] = (context.output / "export" / "student.onnx").stat().st_size
        record_curve(context, name, curve)
    training["student_alone"]["bytes"] = training["student"]["bytes"]  # the same architecture
    write_json(context.output / "training.json", training)
    context.record({f"{name}_auc": kept_point(training[name]["curve"]).get("auc") for name in ("student", "student_alone")})


def _teachers(
    context: StageContext, assembly: Assembly, samples: Mapping[str, Samples]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Each configured teacher's logits (rows, 1) by split, in the order of the samples, and what the report says of them."""
    from ctr_kd.distilling import align_logits

    teachers: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, Any] = {}
    for name in context.config.distill.teachers:
        if name == "bert":
            finetune = context.inputs["finetune"]
            stored = {split: read_predictions(finetune / f"predictions_{split}.parquet", finetune.name) for split in SPLITS}
        else:
            stored, facts[f"teacher/{name}"] = boosted_trees(assembly, context.config.seed, context.report)
        teachers[name] = {split: align_logits(*stored[split], samples[split]) for split in SPLITS}
        row_id = samples["test"].row_id
        write_predictions(context.output / f"predictions_teacher_{name}_test.parquet", row_id, teachers[name]["test"], context.fingerprint)
    return teachers, facts


def teacher_encoder(finetune: Path, assembly: Assembly, config: RunConfig) -> MaskedItemModel:
    """The fine-tuned BERT without its click head, from an artifact of ``finetune``: what hints and embeddings are taken from."""
    from ctr_kd.checkpoint import load_checkpoint
    from ctr_kd.pretraining import build_encoder

    encoder = build_encoder(assembly, assembly.signature(), config.pretrain.encoder)
    state = load_checkpoint(finetune / "teacher.pt", finetune.name)["model"]
    prefix = "pretrained."  # of ClickBert's encoder
    encoder.load_state_dict({name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)})
    return encoder


def boosted_trees(
    assembly: Assembly, seed: int, report: Callable[[str], None]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, Any]]:
    """Row ids and logits by split of trees on the as-of statistics and the context."""
    from pipelines.raw_rows import RawRows

    rows = {split: RawRows(assembly.directory).read(split) for split in SPLITS}
    trees = fit_boosted_trees(rows, assembly.summary, seed, report)
    stored, began = {}, time.perf_counter()
    for split, table in rows.items():
        probability = trees.predict(table).clip(1e-6, 1 - 1e-6)
        stored[split] = table["row_id"].to_numpy(), np.log(probability / (1 - probability))[:, None]
    rate = sum(table.num_rows for table in rows.values()) / (time.perf_counter() - began)
    return stored, {"rows_per_second": rate, "trees": trees.trees}


STAGE = Stage(
    "distill",
    run,
    code_version=4,
    upstream=("ingest", "finetune"),
    keys=("seed", "history.max_length", "pretrain.encoder", "distill"),
)
