"""What the configured teachers say together: each one's logits of the same rows, weighted."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ctr_kd.data.samples import Samples
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, TAUGHT, precision_of, write_predictions
from pipelines.training.facts import TeacherFacts, TeachersFacts
from pipelines.training.teachers.choice import columns_of
from pipelines.training.teachers.judgement import judge
from pipelines.training.transfer_set import TRANSFER_FILE
from pipelines.training.weighting import choose_weights, learn_weights, weights_of, without_gaps
from pipelines.workspace.context import StageContext


def teacher_logits(context: StageContext, samples: Mapping[str, Samples]) -> tuple[dict[str, np.ndarray], TeachersFacts]:
    """Combined logits (rows, outputs) of the configured teachers by split, in the order of the samples, and what the report says of each.

    They have the precision in which logits are stored, so that a student learns the same from these and from what ``prove`` reads back.
    A training row of which no teacher says anything has NaN.

    Writes each teacher's logits of the test rows and of a transfer set. Weights per row are learned where the validation rows are
    among the samples.
    """
    from ctr_kd.training.distill import align_logits, combine_logits

    settings, task = context.config.distill, task_of(context.config)
    labels = task.assembly(context.inputs["ingest"], "student").labels
    rows = task.rows(context.inputs["ingest"])
    teachers: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, TeacherFacts] = {}

    @functools.cache
    def rows_of(columns: tuple[str, ...] | None) -> dict[str, pa.Table]:
        return {split: rows.read(split, columns) if split in SPLITS else read_parquet(context.output / TRANSFER_FILE) for split in samples}

    for teacher in settings.teachers:
        tables = rows_of(columns_of(teacher))
        said = judge(context, teacher, tables)
        facts[teacher.name] = said.facts
        own = teachers[teacher.name] = {
            split: align_logits(tables[split]["row_id"].to_numpy(), said.logits[split], samples[split], partial=teacher.partial)
            for split in samples
        }
        for split in (name for name in ("test", "transfer") if name in samples):
            logits = own[split] if split in TAUGHT else without_gaps(own[split], own.get("train"))
            file = context.output / f"predictions_teacher_{teacher.name}_{split}.parquet"
            write_predictions(file, samples[split].row_id, logits.astype(precision_of(split)), context.fingerprint, labels)
    weighting = None
    if "validation" in samples and settings.weighting != "fixed":
        find_weights = learn_weights if settings.weighting == "learned" else choose_weights
        weighting = find_weights(context, samples, teachers)
    weights = weights_of(context, samples)
    combined = {split: combine_logits({name: logits[split] for name, logits in teachers.items()}, weights[split]) for split in samples}
    combined = {split: logits if split in TAUGHT else without_gaps(logits, combined.get("train")) for split, logits in combined.items()}
    return {split: logits.astype(precision_of(split)) for split, logits in combined.items()}, TeachersFacts(facts, weighting)
