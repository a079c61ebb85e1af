"""Stage distill: the frozen teacher teaches the student, mostly by stored logits; the same student is trained alone beside it."""

from __future__ import annotations

from typing import Any

from ctr_kd.training.job import TrainingRows
from feature_store.tables.json_files import write_json
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, write_predictions
from pipelines.training.bert import teacher_encoder
from pipelines.training.students import keep_student, taught_rows, train_once
from pipelines.training.teacher_logits import teacher_logits
from pipelines.training.transfer_set import transfer_rows
from pipelines.workspace.context import Stage, StageContext


def distill_student(context: StageContext) -> None:
    """Train both students; writes their weights, logits, ``training.json`` and the exported student under ``export/``.

    With a transfer set it writes ``transfer.parquet`` and each teacher's logits of its rows too.
    """
    config = context.config
    assembly = task_of(config).assembly(context.inputs["ingest"], "student")
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


STAGE = Stage(
    "distill",
    distill_student,
    upstream=("ingest", "pretrain", "finetune"),
    keys=("seed", "history.max_length", "vocabulary.min_count", "pretrain", "finetune", "distill"),
)
