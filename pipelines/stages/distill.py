"""Stage distill: the frozen teacher teaches the student, mostly by stored logits; the same student is trained alone beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from feature_store.tables.json_files import write_json
from pipelines.stages.baselines import TEACHERS
from pipelines.stages.training import (
    SPLITS,
    TAUGHT,
    load_teacher,
    precision_of,
    read_predictions,
    record_curve,
    train_once,
    write_predictions,
)
from pipelines.stages.transfer import bert_logits, write_transfer_set
from pipelines.stages.weighting import learn_weights, weights_of
from pipelines.tasks.texts import open_rows
from pipelines.workspace.context import Stage, StageContext

if TYPE_CHECKING:
    from torch import nn

    from ctr_kd.data.samples import Samples
    from ctr_kd.data.texts import AnyAssembly
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.training.learning_curve import LearningCurve

TRANSFER_FILE = "transfer.parquet"  # rows without labels, in the artifact beside what the teachers say of them


def run(context: StageContext) -> None:
    """Train both students; writes their weights, logits, ``training.json`` and the exported student under ``export/``.

    With a transfer set it writes ``transfer.parquet`` and each teacher's logits of its rows too.
    """
    from ctr_kd.data.texts import open_assembly
    from ctr_kd.training.job import TrainingRows

    config = context.config
    assembly = open_assembly(context.inputs["ingest"], "student", config.history.max_length)
    samples = {split: assembly.samples(split) for split in SPLITS}
    training: dict[str, Any] = {}
    if config.distill.transfers:
        samples["transfer"], training["transfer"] = transfer_rows(context, assembly)
    combined, facts = teacher_logits(context, samples)
    training |= facts
    taught, target = taught_rows(samples, combined)
    encoder = teacher_encoder(context, assembly) if config.distill.needs_encoder else None
    write_predictions(context.output / "predictions_teacher_test.parquet", samples["test"].row_id, combined["test"], context.fingerprint)
    recorded: dict[str, float | None] = {}
    for name, rows, logits in (("student", taught, target), ("student_alone", samples["train"], None)):
        learned = TrainingRows(signature=assembly.signature(), train=rows, validation=samples["validation"])
        model, curve = train_once(context, name, assembly, learned, teacher=logits, encoder=encoder)
        training[name] = keep_student(context, name, model, curve, assembly, samples)
        figure, value = curve.kept_figure
        recorded[f"{name}_{figure}"] = value
    training["student_alone"]["bytes"] = training["student"]["bytes"]  # the same architecture
    write_json(context.output / "training.json", training)
    context.record(recorded)


def keep_student(
    context: StageContext, name: str, model: nn.Module, curve: LearningCurve, assembly: AnyAssembly, samples: Mapping[str, Samples]
) -> dict[str, Any]:
    """Calibrate a trained student; write its weights, logits and, for ``student``, its export; return what the report says of it.

    ``NAME.pt`` holds the calibration with the student, as ``predictions_NAME_*.parquet`` do; ``predictions_NAME_uncalibrated_test.parquet``
    is there where something was calibrated.
    """
    from ctr_kd.evaluation.throughput import parameter_count
    from ctr_kd.export.onnx_export import export_student
    from ctr_kd.training.calibration import calibrate
    from ctr_kd.training.checkpoint import save_checkpoint
    from ctr_kd.training.loop import predict

    settings = context.config.distill
    calibrated = calibrate(model, samples["validation"], settings.calibration, lambda text: context.report(f"{name}: {text}"))
    save_checkpoint(context.output / f"{name}.pt", {"model": calibrated.state_dict()}, context.fingerprint)
    scored = {split: (calibrated, split) for split in SPLITS[1:]}
    if calibrated is not model:
        scored["uncalibrated_test"] = (model, "test")
    for ending, (scorer, split) in scored.items():
        file = context.output / f"predictions_{name}_{ending}.parquet"
        write_predictions(file, samples[split].row_id, predict(scorer, samples[split]), context.fingerprint)
    facts = {
        "curve": curve.to_dict(),
        "parameters": parameter_count(model),
        "kind": settings.student.kind,
        "calibration": settings.calibration,
    }
    if name == "student":
        export_student(calibrated, assembly.signature(), assembly, context.output / "export")
        facts["bytes"] = (context.output / "export" / "student.onnx").stat().st_size
    record_curve(context, name, curve)
    return facts


def transfer_rows(context: StageContext, assembly: AnyAssembly) -> tuple[Samples, dict[str, Any]]:
    """The configured transfer set, written beside what is made of it, and what the report says of it."""
    file = context.output / TRANSFER_FILE
    facts = write_transfer_set(file, assembly, context.inputs["finetune"], context.run, context.report)
    return assembly.samples_of(pq.read_table(file)), facts


def taught_rows(samples: Mapping[str, Samples], combined: Mapping[str, np.ndarray]) -> tuple[Samples, np.ndarray]:
    """Rows that the student learns from, those of a transfer set among them, and what the teachers say of each."""
    from ctr_kd.retrieval.unlabelled_pairs import join_rows
    from ctr_kd.training.distill import align_logits

    parts = [split for split in TAUGHT if split in samples]
    rows = join_rows(*(samples[split] for split in parts)) if len(parts) > 1 else samples["train"]
    row_id = np.concatenate([samples[split].row_id for split in parts])
    return rows, align_logits(row_id, np.concatenate([combined[split] for split in parts]), rows)


def teacher_logits(context: StageContext, samples: Mapping[str, Samples]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Combined logits (rows, outputs) of the configured teachers by split, in the order of the samples, and what the report says of each.

    They have the precision in which logits are stored, so that a student learns the same from these and from what ``prove`` reads back.

    Writes each teacher's logits of the test rows and of a transfer set. Weights per row are learned where the validation rows are
    among the samples.
    """
    from ctr_kd.data.texts import open_assembly
    from ctr_kd.training.distill import align_logits, combine_logits

    settings = context.config.distill
    teachers: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, Any] = {}
    transfer = {"transfer": pq.read_table(context.output / TRANSFER_FILE)} if "transfer" in samples else {}
    for name in settings.teachers:
        if name == "bert":
            finetune = context.inputs["finetune"]
            stored = {
                split: read_predictions(finetune / f"predictions_{split}.parquet", finetune.name) for split in samples if split in SPLITS
            }
            for split, table in transfer.items():
                own = open_assembly(context.inputs["ingest"], "teacher", context.config.history.max_length)
                stored[split] = table["row_id"].to_numpy(), bert_logits(finetune, own, context.config, own.samples_of(table))
        else:
            rows = open_rows(context.inputs["ingest"])
            stored, facts[f"teacher/{name}"] = TEACHERS[name](rows, context.config.seed, context.report, transfer)
        teachers[name] = {split: align_logits(*stored[split], samples[split]) for split in samples}
        for split in (name for name in ("test", "transfer") if name in samples):
            row_id, logits = samples[split].row_id, teachers[name][split].astype(precision_of(split))
            write_predictions(context.output / f"predictions_teacher_{name}_{split}.parquet", row_id, logits, context.fingerprint)
    if settings.weighting == "learned" and "validation" in samples:
        facts["weighting"] = learn_weights(context, samples, teachers)
    weights = weights_of(context, samples)
    combined = {split: combine_logits({name: logits[split] for name, logits in teachers.items()}, weights[split]) for split in samples}
    return {split: logits.astype(precision_of(split)) for split, logits in combined.items()}, facts


def teacher_encoder(context: StageContext, student: AnyAssembly) -> MaskedItemModel:
    """The fine-tuned BERT without its head, from which hints and embeddings are taken.

    Raises
    ------
    TrainingError
        When teacher and student have tokens of their own, so that neither can read what the other reads.
    """
    from ctr_kd.data.texts import open_assembly
    from ctr_kd.training.loop import TrainingError

    own = open_assembly(context.inputs["ingest"], "teacher", context.config.history.max_length)
    if own.vocabulary != student.vocabulary:
        raise TrainingError("hints and embeddings: teacher need one tokenizer for both: let tokens.student be as tokens.teacher")
    return load_teacher(context.inputs["finetune"], own, context.config).pretrained


STAGE = Stage(
    "distill",
    run,
    upstream=("ingest", "pretrain", "finetune"),
    keys=("seed", "history.max_length", "vocabulary.min_count", "pretrain", "finetune", "distill"),
)
