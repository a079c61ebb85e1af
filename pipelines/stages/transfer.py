"""Stage transfer: rows without labels, and what the configured teachers say of them, for any number of students.

It is no part of the pipeline, whose ``distill`` trains a single pair: experiments train many students under the same teacher.
"""

from __future__ import annotations

from pipelines.tasks import task_of
from pipelines.tasks.logits import write_predictions
from pipelines.training.facts import write_transfer_facts
from pipelines.training.teacher_logits import teacher_logits
from pipelines.training.teachers.choice import outside_of_teachers
from pipelines.training.transfer_set import transfer_rows
from pipelines.workspace.context import Stage, StageContext


def label_transfer_set(context: StageContext) -> None:
    """Write the configured transfer set, what is known of it, and the weighted logits of the teachers for it."""
    assembly = task_of(context.config).assembly(context.inputs["ingest"], "student")
    rows, facts = transfer_rows(context, assembly)
    combined, _ = teacher_logits(context, {"transfer": rows})
    file = context.output / "predictions_transfer.parquet"
    write_predictions(file, rows.row_id, combined["transfer"], context.fingerprint, assembly.labels)
    write_transfer_facts(context.output, facts)


STAGE = Stage(
    "transfer",
    label_transfer_set,
    upstream=("ingest", "finetune", "teacher"),
    keys=("seed", "history.max_length", "labels", "distill.teachers", "distill.weighting", "distill.transfer", "teacher_only"),
    outside=outside_of_teachers,
)
