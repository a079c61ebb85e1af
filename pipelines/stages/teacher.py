"""Stage teacher: what the configured teachers say together, stored for any number of students.

It is no part of the pipeline, whose ``distill`` trains a single pair: experiments train many students under the same teacher.
"""

from __future__ import annotations

from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, write_predictions
from pipelines.training.teacher_logits import teacher_logits
from pipelines.training.teachers.choice import outside_of_teachers
from pipelines.workspace.context import Stage, StageContext


def combine_teachers(context: StageContext) -> None:
    """Write the weighted logits of the configured teachers by split, and what those that are no network cost."""
    assembly = task_of(context.config).assembly(context.inputs["ingest"], "student")
    samples = {split: assembly.samples(split) for split in SPLITS}
    combined, facts = teacher_logits(context, samples)
    for split in SPLITS:
        file = context.output / f"predictions_{split}.parquet"
        write_predictions(file, samples[split].row_id, combined[split], context.fingerprint, assembly.labels)
    facts.write(context.output)


STAGE = Stage(
    "teacher",
    combine_teachers,
    upstream=("ingest", "pretrain", "finetune"),
    keys=(
        *("seed", "history.max_length", "vocabulary.min_count", "labels", "pretrain", "finetune", "teacher_only"),
        *("distill.teachers", "distill.weighting", "distill.held_out"),
    ),
    outside=outside_of_teachers,
)
