"""A student: the rows that it learns from, its training, and what an artifact keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctr_kd.config import DistillConfig
from ctr_kd.data.disk_arrays import joined, let_go, pieces_of
from ctr_kd.data.samples import Samples
from ctr_kd.data.texts import AnyAssembly
from ctr_kd.training.distributed import ALONE
from ctr_kd.training.job import TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from pipelines.tasks.logits import SPLITS, TAUGHT, read_predictions, write_predictions
from pipelines.training.facts import StudentFacts
from pipelines.training.jobs import job_of, record_curve
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from torch import nn

    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.training.warm_start import EarlierModel


EXPORTS = {"student": "export", "student_alone": "export_alone"}
"""Folder of an artifact in which each student is exported: any of them may be the one that ships."""


@dataclass(frozen=True)
class TrainedStudent:
    """A student in eval mode, under the name of its files, and how it learned."""

    name: str
    model: nn.Module
    curve: LearningCurve


def taught_rows(samples: Mapping[str, Samples], folder: Path) -> Samples:
    """Rows that the student learns from, those of a transfer set among them; joined ones that are many lie on the disk of the folder."""
    from ctr_kd.retrieval.unlabelled_pairs import join_rows

    return join_rows(samples["train"], samples["transfer"], folder) if "transfer" in samples else samples["train"]


def fill_taught_logits(target: np.ndarray, samples: Mapping[str, Samples], combined: Mapping[str, np.ndarray], taught: Samples) -> None:
    """Write what the teachers say of each of :func:`taught_rows`, by what they say of each split, a piece at a time.

    Parameters
    ----------
    target : float32 array (rows, outputs)
        Which is filled.
    samples, combined, taught
        By split the rows and what is said of them; and the rows that the student learns from.
    """
    from ctr_kd.retrieval.unlabelled_pairs import joined_pieces
    from ctr_kd.training.distill import align_logits

    parts = [split for split in TAUGHT if split in samples]
    places = joined_pieces(samples["train"], samples["transfer"]) if "transfer" in samples else ((one,) for one in pieces_of(len(taught)))
    done = 0
    for place in places:
        row_id = np.concatenate([samples[split].row_id[some] for split, some in zip(parts, place, strict=True)])
        said = np.concatenate([combined[split][some] for split, some in zip(parts, place, strict=True)])
        here = slice(done, done + len(row_id))
        target[here] = align_logits(row_id, said, taught.take(here), partial=True)
        done = here.stop
        let_go([target, *taught.by_row.values(), *combined.values()])


def train_once(
    context: StageContext,
    name: str,
    assembly: AnyAssembly,
    rows: TrainingRows,
    *,
    teacher: np.ndarray | None,
    encoder: MaskedItemModel | None,
    settings: DistillConfig,
    earlier: EarlierModel | None = None,
) -> TrainedStudent:
    """Train the configured student, or take it as it is where a run of this stage that was killed had finished it.

    The processes of the run share the training, but where a loss compares the rows of a batch: then the first one trains alone, and what
    the others return is not trained.

    Parameters
    ----------
    name : str
        Of its checkpoint.
    assembly : Assembly or TextAssembly
        May hold vectors of the tokens, from which their embeddings begin.
    rows, teacher, encoder, settings, earlier
        See :func:`ctr_kd.training.distill.train_student`.
    """
    from ctr_kd.models.students import student_class
    from ctr_kd.training.checkpoint import load_weights, save_checkpoint
    from ctr_kd.training.distill import train_student

    finished = context.checkpoint / f"{name}.done.pt"
    together = ALONE if settings.compares_rows else context.processes
    if context.processes.tell(finished.exists()):
        model = student_class(settings.student.kind)(rows.signature, settings.student)
        curve = LearningCurve.from_dict(load_weights(model, finished, context.fingerprint)["curve"])
        return TrainedStudent(name, model.eval(), curve)
    if not context.processes.leads and together is ALONE:
        return TrainedStudent(name, student_class(settings.student.kind)(rows.signature, settings.student), LearningCurve())
    title = name.replace("_", " ")
    context.report(f"{title} ({settings.student.kind})")
    job, vectors = job_of(context, name, together, title), assembly.token_vectors()
    model, curve = train_student(rows, settings, job, teacher=teacher, encoder=encoder, vectors=vectors, earlier=earlier)
    if context.processes.leads:
        save_checkpoint(finished, {"model": model.state_dict(), "curve": curve.to_dict()}, context.fingerprint)
    return TrainedStudent(name, model, curve)


def keep_student(context: StageContext, student: TrainedStudent, assembly: AnyAssembly, samples: Mapping[str, Samples]) -> StudentFacts:
    """Calibrate a trained student; write its weights, logits and export; return what the report says of it.

    ``NAME.pt`` holds the calibration with the student, as ``predictions_NAME_*.parquet`` do; ``predictions_NAME_uncalibrated_test.parquet``
    is there where something was calibrated.

    Parameters
    ----------
    assembly : Assembly or TextAssembly
        What the export takes vocabularies from.
    samples : mapping of str to Samples
        ``validation`` and ``test``.
    """
    from ctr_kd.evaluation.throughput import parameter_count
    from ctr_kd.export.onnx_export import export_student
    from ctr_kd.training.calibration import calibrate
    from ctr_kd.training.checkpoint import save_checkpoint
    from ctr_kd.training.loop import predict

    settings, name, model = context.config.distill, student.name, student.model
    calibrated = calibrate(model, samples["validation"], settings.calibration, lambda text: context.report(f"{name}: {text}"))
    save_checkpoint(context.output / f"{name}.pt", {"model": calibrated.state_dict()}, context.fingerprint)
    scored = {split: (calibrated, split) for split in SPLITS[1:]}
    if calibrated is not model:
        scored["uncalibrated_test"] = (model, "test")
    for ending, (scorer, split) in scored.items():
        file = context.output / f"predictions_{name}_{ending}.parquet"
        write_predictions(file, samples[split].row_id, predict(scorer, samples[split]), context.fingerprint, assembly.labels)
    export = context.output / EXPORTS[name]
    export_student(calibrated, assembly.signature(), assembly, export)
    record_curve(context, name, student.curve)
    return StudentFacts(
        curve=student.curve,
        parameters=parameter_count(model),
        kind=settings.student.kind,
        calibration=settings.calibration,
        bytes=(export / "student.onnx").stat().st_size,
    )


def stored_logits(path: Path, model: str, samples: Samples, folder: Path, *, partial: bool = False) -> np.ndarray:
    """Logits (rows, outputs) that :func:`pipelines.tasks.logits.write_predictions` stored, float32, in the order of the samples.

    Parameters
    ----------
    path, model
        See :func:`pipelines.tasks.logits.read_predictions`.
    samples : Samples
    folder : Path
        On its disk many rows lie.
    partial : bool
        NaN is allowed, of a row of which nothing is said.
    """
    from ctr_kd.training.distill import align_pieces

    def piece(here: slice) -> tuple[np.ndarray, np.ndarray, Samples]:
        rows = samples.take(here)
        return *read_predictions(path, model, rows.row_id if len(rows) < len(samples) else None), rows

    return joined(align_pieces(map(piece, pieces_of(len(samples))), partial=partial), len(samples), folder)
