"""Stage distill: the frozen teacher teaches the student, mostly by stored logits; the same student is trained alone beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts import write_json
from pipelines.runner import Stage, StageContext
from pipelines.stages.training import (
    SPLITS,
    fit_boosted_trees,
    kept_point,
    load_teacher,
    read_predictions,
    record_curve,
    write_predictions,
)
from pipelines.stages.transfer import bert_logits, write_transfer_set
from pipelines.stages.weighting import learn_weights, weights_of

if TYPE_CHECKING:
    from torch import nn

    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.samples import Assembly, Samples
    from pipelines.config import RunConfig

TRANSFER_FILE = "transfer.parquet"  # rows without labels, in the artifact beside what the teachers say of them


def run(context: StageContext) -> None:
    """Train both students; writes their weights, logits, ``training.json`` and the exported student under ``export/``.

    With a transfer set it writes ``transfer.parquet`` and each teacher's logits of its rows too.
    """
    from ctr_kd.checkpoint import load_checkpoint, save_checkpoint
    from ctr_kd.distilling import train_student
    from ctr_kd.models import STUDENTS
    from ctr_kd.samples import Assembly

    config = context.config
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    signature = assembly.signature()
    samples = {split: assembly.samples(split) for split in SPLITS}
    training: dict[str, Any] = {}
    if config.distill.transfers:
        samples["transfer"], training["transfer"] = transfer_rows(context, assembly)
    combined, facts = teacher_logits(context, assembly, samples)
    training |= facts
    taught, target = taught_rows(samples, combined)
    encoder = teacher_encoder(context.inputs["finetune"], assembly, config) if config.distill.needs_encoder else None
    write_predictions(context.output / "predictions_teacher_test.parquet", samples["test"].row_id, combined["test"], context.fingerprint)
    for name, rows, logits in (("student", taught, target), ("student_alone", samples["train"], None)):
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
                rows,
                samples["validation"],
                logits,
                config.distill,
                config.seed,
                context.fingerprint,
                file,
                context.report,
                encoder,
            )
            curve = fitted.to_dict()
            save_checkpoint(finished, {"model": model.state_dict(), "curve": curve}, context.fingerprint)
        training[name] = keep_student(context, name, model, curve, assembly, samples)
    training["student_alone"]["bytes"] = training["student"]["bytes"]  # the same architecture
    write_json(context.output / "training.json", training)
    context.record({f"{name}_auc": kept_point(training[name]["curve"]).get("auc") for name in ("student", "student_alone")})


def keep_student(
    context: StageContext, name: str, model: nn.Module, curve: Mapping[str, Any], assembly: Assembly, samples: Mapping[str, Samples]
) -> dict[str, Any]:
    """Calibrate a trained student; write its weights, logits and, for ``student``, its export; return what the report says of it.

    ``NAME.pt`` holds the calibration with the student, as ``predictions_NAME_*.parquet`` do; ``predictions_NAME_uncalibrated_test.parquet``
    is there where something was calibrated.
    """
    from ctr_kd.calibration import calibrate
    from ctr_kd.checkpoint import save_checkpoint
    from ctr_kd.export import export_student
    from ctr_kd.throughput import parameter_count
    from ctr_kd.training import predict

    settings = context.config.distill
    calibrated = calibrate(model, samples["validation"], settings.calibration, lambda text: context.report(f"{name}: {text}"))
    save_checkpoint(context.output / f"{name}.pt", {"model": calibrated.state_dict()}, context.fingerprint)
    scored = {split: (calibrated, split) for split in SPLITS[1:]}
    if calibrated is not model:
        scored["uncalibrated_test"] = (model, "test")
    for ending, (scorer, split) in scored.items():
        file = context.output / f"predictions_{name}_{ending}.parquet"
        write_predictions(file, samples[split].row_id, predict(scorer, samples[split]), context.fingerprint)
    facts = {"curve": curve, "parameters": parameter_count(model), "kind": settings.student.kind, "calibration": settings.calibration}
    if name == "student":
        export_student(calibrated, assembly.signature(), assembly, context.output / "export")
        facts["bytes"] = (context.output / "export" / "student.onnx").stat().st_size
    record_curve(context, name, curve)
    return facts


def transfer_rows(context: StageContext, assembly: Assembly) -> tuple[Samples, dict[str, Any]]:
    """The configured transfer set, written beside what is made of it, and what the report says of it."""
    file = context.output / TRANSFER_FILE
    facts = write_transfer_set(file, assembly, context.inputs["finetune"], context.run, context.report)
    return assembly.samples_of(pq.read_table(file)), facts


def taught_rows(samples: Mapping[str, Samples], combined: Mapping[str, np.ndarray]) -> tuple[Samples, np.ndarray]:
    """Rows that the student learns from, those of a transfer set among them, and what the teachers say of each."""
    from ctr_kd.distilling import align_logits
    from ctr_kd.transfer import join_rows

    if "transfer" not in samples:
        return samples["train"], combined["train"]
    rows = join_rows(samples["train"], samples["transfer"])
    row_id = np.concatenate([samples["train"].row_id, samples["transfer"].row_id])
    return rows, align_logits(row_id, np.concatenate([combined["train"], combined["transfer"]]), rows)


def teacher_logits(
    context: StageContext, assembly: Assembly, samples: Mapping[str, Samples]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Combined logits (rows, 1) of the configured teachers by split, in the order of the samples, and what the report says of each.

    Writes each teacher's logits of the test rows and of a transfer set. Weights per row are learned where the validation rows are
    among the samples.
    """
    from ctr_kd.distilling import align_logits, combine_logits

    settings = context.config.distill
    teachers: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, Any] = {}
    for name in settings.teachers:
        if name == "bert":
            finetune = context.inputs["finetune"]
            stored = {
                split: read_predictions(finetune / f"predictions_{split}.parquet", finetune.name) for split in samples if split in SPLITS
            }
            if "transfer" in samples:
                rows = samples["transfer"]
                stored["transfer"] = rows.row_id, bert_logits(finetune, assembly, context.config, rows)
        else:
            tables = {"transfer": pq.read_table(context.output / TRANSFER_FILE)} if "transfer" in samples else {}
            stored, facts[f"teacher/{name}"] = boosted_trees(assembly, context.config.seed, context.report, tables)
        teachers[name] = {split: align_logits(*stored[split], samples[split]) for split in samples}
        for split in (name for name in ("test", "transfer") if name in samples):
            row_id, logits = samples[split].row_id, teachers[name][split]
            write_predictions(context.output / f"predictions_teacher_{name}_{split}.parquet", row_id, logits, context.fingerprint)
    if settings.weighting == "learned" and "validation" in samples:
        facts["weighting"] = learn_weights(context, assembly, samples, teachers)
    combined = {
        split: combine_logits({name: logits[split] for name, logits in teachers.items()}, weights_of(context, samples[split], assembly))
        for split in samples
    }
    return combined, facts


def teacher_encoder(finetune: Path, assembly: Assembly, config: RunConfig) -> MaskedItemModel:
    """The fine-tuned BERT without its click head: what hints, embeddings and nearest items are taken from."""
    return load_teacher(finetune, assembly, config).pretrained


def boosted_trees(
    assembly: Assembly, seed: int, report: Callable[[str], None], more: Mapping[str, pa.Table] = MappingProxyType({})
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, Any]]:
    """Row ids and logits by split of trees on the as-of statistics and the context; of ``more`` rows too, under their names."""
    from pipelines.raw_rows import RawRows

    rows = {split: RawRows(assembly.directory).read(split) for split in SPLITS}
    trees = fit_boosted_trees(rows, assembly.summary, seed, report)
    rows |= more
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
    upstream=("ingest", "pretrain", "finetune"),
    keys=("seed", "history.max_length", "vocabulary.min_count", "pretrain", "finetune", "distill"),
)
