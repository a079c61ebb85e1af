"""Stage distill: the frozen teacher teaches the student, mostly by stored logits; the same student is trained alone beside it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctr_kd.data.disk_arrays import npy_array
from ctr_kd.data.samples import Samples
from ctr_kd.data.texts import AnyAssembly
from ctr_kd.training.job import TrainingRows
from pipelines.config.run import STUDENT_KEYS
from pipelines.metrics import ALONE, STUDENT
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, write_predictions
from pipelines.training.bert import teacher_encoder
from pipelines.training.continued import config_of, earlier_model, from_parent
from pipelines.training.facts import DistillationFacts, TeachersFacts, TransferFacts
from pipelines.training.side_by_side import train_side_by_side
from pipelines.training.student_plugin import check_plugin, student_source
from pipelines.training.students import TrainedStudent, fill_taught_logits, keep_student, taught_rows, train_once
from pipelines.training.teacher_logits import teacher_logits
from pipelines.training.teachers.choice import outside_of_teachers
from pipelines.training.transfer_set import TRANSFER_FILE, transfer_rows
from pipelines.workspace.context import Stage, StageContext

TARGET = "teachers.npy"  # while the students train: what the teachers say of the rows that one of them learns from


def distill_student(context: StageContext) -> None:
    """Train both students; writes their weights, logits, exports (:data:`pipelines.training.students.EXPORTS`) and ``training.json``.

    With a transfer set it writes ``transfer.parquet`` and each teacher's logits of its rows too. The first of several processes asks the
    teachers and writes; all train.
    """
    config, leads = config_of(context), context.processes.leads
    assembly = task_of(config).assembly(context.inputs["ingest"], "student")
    samples = {split: assembly.samples(split) for split in SPLITS}
    if leads:
        check_plugin(context, assembly, samples["validation"])
        transfer, teachers, taught = _ask_teachers(context, assembly, samples)
        context.processes.tell()
    else:
        context.processes.tell()  # once that is written
        more = {"transfer": assembly.samples_of_file(context.output / TRANSFER_FILE)} if config.distill.transfers else {}
        taught = taught_rows(samples | more, context.output)
    target = np.load(context.output / TARGET, mmap_mode="c")  # of a large log as much as memory need not hold
    encoder = teacher_encoder(context, assembly) if config.distill.needs_encoder else None

    def train(name: str) -> TrainedStudent:
        if name == ALONE:
            return _train_alone(context, assembly, samples)
        rows = TrainingRows(signature=assembly.signature(), train=taught, validation=samples["validation"])
        earlier = earlier_model(context, "distill", f"{name}.pt")
        return train_once(context, name, assembly, rows, teacher=target, encoder=encoder, settings=config.distill, earlier=earlier)

    settings, rows = config.distill.training, len(samples["train"])
    trained = train_side_by_side(context, (STUDENT, ALONE), train, train_alone, settings=settings, rows=rows)
    if not leads:
        return
    (context.output / TARGET).unlink()
    kept = {name: keep_student(context, one, assembly, samples) for name, one in trained.items()}
    DistillationFacts(transfer, teachers, kept[STUDENT], kept[ALONE]).write(context.output)
    figures = {name: one.curve.kept_figure for name, one in trained.items()}
    context.record({f"{name}_{figure}": value for name, (figure, value) in figures.items()})


def train_alone(context: StageContext, name: str = ALONE) -> None:
    """Train the student alone in a process of its own; it is left in the checkpoint folder."""
    assembly = task_of(context.config).assembly(context.inputs["ingest"], "student")
    _train_alone(context, assembly, {split: assembly.samples(split) for split in ("train", "validation")})


def _train_alone(context: StageContext, assembly: AnyAssembly, samples: Mapping[str, Samples]) -> TrainedStudent:
    rows = TrainingRows(signature=assembly.signature(), train=samples["train"], validation=samples["validation"])
    earlier, settings = earlier_model(context, "distill", f"{ALONE}.pt"), config_of(context).distill
    return train_once(context, ALONE, assembly, rows, teacher=None, encoder=None, settings=settings, earlier=earlier)


def _ask_teachers(
    context: StageContext, assembly: AnyAssembly, samples: Mapping[str, Samples]
) -> tuple[TransferFacts | None, TeachersFacts, Samples]:
    """Write the transfer set, where there is one, what the teachers say of the test rows, and for the training what of its rows.

    Returns what the report says of both, and the rows of the training.
    """
    asked, transfer = dict(samples), None
    if context.config.distill.transfers:
        asked["transfer"], transfer = transfer_rows(context, assembly)
    combined, teachers = teacher_logits(context, asked)
    together = context.output / "predictions_teacher_test.parquet"
    write_predictions(together, samples["test"].row_id, combined["test"], context.fingerprint, assembly.labels)
    taught = taught_rows(asked, context.output)
    target = npy_array(context.output / TARGET, (len(taught), combined["train"].shape[1]), np.float32)
    fill_taught_logits(target, asked, combined, taught)
    return transfer, teachers, taught


STAGE = Stage(
    "distill",
    distill_student,
    upstream=("ingest", "pretrain", "finetune"),
    keys=("seed", "history.max_length", "vocabulary.min_count", "labels", "pretrain", "finetune", "teacher_only", *STUDENT_KEYS),
    outside=lambda run: outside_of_teachers(run) | from_parent("distill")(run) | student_source(run),
    shared=True,
)
