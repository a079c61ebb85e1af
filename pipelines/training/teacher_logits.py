"""What the configured teachers say together: each one's logits of the same rows, weighted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctr_kd.data.samples import Samples
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, precision_of, read_predictions, write_predictions
from pipelines.tasks.teachers import TEACHERS
from pipelines.training.bert import bert_logits
from pipelines.training.facts import TeacherFacts, TeachersFacts
from pipelines.training.transfer_set import TRANSFER_FILE
from pipelines.training.weighting import learn_weights, weights_of
from pipelines.workspace.context import StageContext


def teacher_logits(context: StageContext, samples: Mapping[str, Samples]) -> tuple[dict[str, np.ndarray], TeachersFacts]:
    """Combined logits (rows, outputs) of the configured teachers by split, in the order of the samples, and what the report says of each.

    They have the precision in which logits are stored, so that a student learns the same from these and from what ``prove`` reads back.

    Writes each teacher's logits of the test rows and of a transfer set. Weights per row are learned where the validation rows are
    among the samples.
    """
    from ctr_kd.training.distill import align_logits, combine_logits

    settings, task = context.config.distill, task_of(context.config)
    labels = task.assembly(context.inputs["ingest"], "student").labels
    teachers: dict[str, dict[str, np.ndarray]] = {}
    costs: dict[str, TeacherFacts] = {}
    weighting = None
    transfer = {"transfer": read_parquet(context.output / TRANSFER_FILE)} if "transfer" in samples else {}
    for name in settings.teachers:
        if name == "bert":
            finetune = context.inputs["finetune"]
            stored = {
                split: read_predictions(finetune / f"predictions_{split}.parquet", finetune.name) for split in samples if split in SPLITS
            }
            for split, table in transfer.items():
                own = task.assembly(context.inputs["ingest"], "teacher")
                stored[split] = table["row_id"].to_numpy(), bert_logits(finetune, own, context.config, own.samples_of(table))
        else:
            rows = task.rows(context.inputs["ingest"])
            said = TEACHERS[name](rows, context.config.seed, context.report, transfer)
            stored = said.logits
            of_trees = {} if said.trees is None else {"trees": said.trees, "library": said.library}
            costs[name] = TeacherFacts(rows_per_second=said.rows_per_second, **of_trees)
        teachers[name] = {split: align_logits(*stored[split], samples[split]) for split in samples}
        for split in (name for name in ("test", "transfer") if name in samples):
            row_id, logits = samples[split].row_id, teachers[name][split].astype(precision_of(split))
            file = context.output / f"predictions_teacher_{name}_{split}.parquet"
            write_predictions(file, row_id, logits, context.fingerprint, labels)
    if settings.weighting == "learned" and "validation" in samples:
        weighting = learn_weights(context, samples, teachers)
    weights = weights_of(context, samples)
    combined = {split: combine_logits({name: logits[split] for name, logits in teachers.items()}, weights[split]) for split in samples}
    return {split: logits.astype(precision_of(split)) for split, logits in combined.items()}, TeachersFacts(costs, weighting)
