"""Stage student: one student by itself under the stored logits of its teachers.

It is no part of the pipeline, whose ``distill`` trains a single pair: experiments train many students under the same teacher.
"""

from __future__ import annotations

import numpy as np

from ctr_kd.data.disk_arrays import rows_array
from ctr_kd.training.job import TrainingRows
from pipelines.config.run import STUDENT_KEYS
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS
from pipelines.training.bert import teacher_encoder
from pipelines.training.facts import read_transfer_facts
from pipelines.training.student_plugin import check_plugin, student_source
from pipelines.training.students import fill_taught_logits, keep_student, stored_logits, taught_rows, train_once
from pipelines.training.transfer_set import TRANSFER_FILE
from pipelines.workspace.context import Stage, StageContext


def make_student(context: StageContext) -> None:
    """Train, calibrate and export the configured student; with ``distill.alpha: 1`` it is one on the labels alone."""
    config, teacher = context.config, context.inputs["teacher"]
    assembly = task_of(config).assembly(context.inputs["ingest"], "student")
    samples = {split: assembly.samples(split) for split in SPLITS}
    if context.processes.leads:
        check_plugin(context, assembly, samples["validation"])
    partial = config.distill.partly_taught
    combined = {
        "train": stored_logits(teacher / "predictions_train.parquet", teacher.name, samples["train"], context.output, partial=partial)
    }
    transfer = {}
    if config.distill.transfers:
        made = context.inputs["transfer"]
        samples["transfer"] = assembly.samples_of_file(made / TRANSFER_FILE)
        combined["transfer"] = stored_logits(
            made / "predictions_transfer.parquet", made.name, samples["transfer"], context.output, partial=partial
        )
        transfer = {"transfer": read_transfer_facts(made)}
    taught = taught_rows(samples, context.output)
    target = rows_array((len(taught), combined["train"].shape[1]), np.float32, context.output)
    fill_taught_logits(target, samples, combined, taught)
    encoder = teacher_encoder(context, assembly) if config.distill.needs_encoder else None
    rows = TrainingRows(signature=assembly.signature(), train=taught, validation=samples["validation"])
    student = train_once(context, "student", assembly, rows, teacher=target, encoder=encoder, settings=config.distill)
    if not context.processes.leads:
        return
    keep_student(context, student, assembly, samples).model_copy(update=transfer).write(context.output)
    context.record(dict([student.curve.kept_figure]))


STAGE = Stage(
    "student",
    make_student,
    upstream=("ingest", "finetune", "teacher"),
    keys=("seed", "history.max_length", "labels", "pretrain", "finetune", "teacher_only", *STUDENT_KEYS),
    outside=student_source,
    shared=True,
)
