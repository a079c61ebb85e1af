"""What the configured teachers say together: each one's logits of the same rows, weighted."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctr_kd.data.disk_arrays import joined, let_go
from ctr_kd.data.row_pieces import RowPieces
from ctr_kd.data.samples import Samples
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, TAUGHT, in_precision, write_predictions
from pipelines.training.facts import TeacherFacts, TeachersFacts
from pipelines.training.teachers.choice import columns_of
from pipelines.training.teachers.judgement import judge
from pipelines.training.transfer_set import TRANSFER_FILE
from pipelines.training.weighting import choose_weights, combined_logits, learn_weights, weights_of, without_gaps
from pipelines.workspace.context import StageContext


def teacher_logits(context: StageContext, samples: Mapping[str, Samples]) -> tuple[dict[str, np.ndarray], TeachersFacts]:
    """Combined logits (rows, outputs) of the configured teachers by split, in the order of the samples, and what the report says of each.

    They have the precision in which logits are stored, so that a student learns the same from these and from what ``prove`` reads back.
    A training row of which no teacher says anything has NaN.

    Writes each teacher's logits of the test rows and of a transfer set. Weights per row are learned where the validation rows are
    among the samples.
    """
    settings, task = context.config.distill, task_of(context.config)
    labels = task.assembly(context.inputs["ingest"], "student").labels
    rows = task.rows(context.inputs["ingest"])
    teachers: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, TeacherFacts] = {}

    @functools.cache
    def rows_of(columns: tuple[str, ...] | None) -> dict[str, RowPieces]:
        made = context.output / TRANSFER_FILE
        return {
            split: rows.pieces(split, columns) if split in SPLITS else RowPieces(made, in_pieces=own.on_disk)
            for split, own in samples.items()
        }

    for teacher in settings.teachers:
        asked = rows_of(columns_of(teacher))
        said = judge(context, teacher, asked)
        facts[teacher.name] = said.facts
        own = teachers[teacher.name] = {
            split: _aligned(asked[split], said.logits[split], samples[split], context.output, partial=teacher.partial) for split in samples
        }
        for split in (name for name in ("test", "transfer") if name in samples):
            logits = own[split] if split in TAUGHT else without_gaps(own[split], own.get("train"))
            file = context.output / f"predictions_teacher_{teacher.name}_{split}.parquet"
            write_predictions(file, samples[split].row_id, in_precision(logits, split, context.output), context.fingerprint, labels)
    weighting = None
    if "validation" in samples and settings.weighting != "fixed":
        find_weights = learn_weights if settings.weighting == "learned" else choose_weights
        weighting = find_weights(context, samples, teachers)
    weights = weights_of(context, samples)
    combined = {
        split: combined_logits({name: logits[split] for name, logits in teachers.items()}, weights[split], context.output)
        for split in samples
    }
    combined = {split: logits if split in TAUGHT else without_gaps(logits, combined.get("train")) for split, logits in combined.items()}
    return {split: in_precision(logits, split, context.output) for split, logits in combined.items()}, TeachersFacts(facts, weighting)


def _aligned(asked: RowPieces, logits: np.ndarray, samples: Samples, folder: Path, *, partial: bool) -> np.ndarray:
    """Logits (rows, outputs) of the rows that were asked about, in the order of the samples, by row id a piece at a time."""
    from ctr_kd.training.distill import align_pieces

    ids = replace(asked, columns=("row_id",)) if asked.in_pieces else asked  # one table is read already

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray, Samples]]:
        done = 0
        for table in ids:
            here = slice(done, done + table.num_rows)
            yield table["row_id"].to_numpy(), logits[here], samples.take(here)
            done = here.stop
            let_go([logits, samples.row_id])

    return joined(align_pieces(pieces(), partial=partial), len(samples), folder)
