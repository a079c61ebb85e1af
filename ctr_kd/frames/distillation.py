"""Distil on arrays: rows in frames and a teacher's logits beside them become a student that is calibrated, measured and exported."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ctr_kd.config import DistillConfig
from ctr_kd.config_students import STUDENT_KINDS
from ctr_kd.export.onnx_export import export_student
from ctr_kd.frames.assembly import FrameColumns, assemble_frames
from ctr_kd.frames.figures import compare, evaluate
from ctr_kd.frames.student import Student, load_student
from ctr_kd.models.students import student_class
from ctr_kd.training.calibration import calibrate
from ctr_kd.training.distill import train_student
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.student_checks import check_student
from feature_store.config import HistoryConfig, VocabularyConfig
from feature_store.config_types import settings_of
from feature_store.tables.contracts import DataError

if TYPE_CHECKING:
    from torch import nn

_LOG = logging.getLogger(__name__)
_NEAREST_TO_CERTAIN = 1e-6  # a probability of 0 or 1 has no finite logit
Scale = Literal["logit", "probability"]
STUDENT, ALONE, TEACHER = "student", "student_alone", "teacher"


@dataclass(frozen=True)
class DistilledStudent:
    """What :func:`distill` made.

    Attributes
    ----------
    model : Module
        The calibrated student, in eval mode.
    curve : LearningCurve
        How it learned.
    student : Student
        Its export, which scores.
    alone : Student or None
        The same student trained on the labels alone, with the same seed and budget; None where none was asked for.
    """

    model: nn.Module = field(repr=False)
    curve: LearningCurve = field(repr=False)
    student: Student
    alone: Student | None
    _columns: FrameColumns = field(repr=False)
    _scale: Scale = field(repr=False)
    _folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Click probabilities of rows; see :meth:`ctr_kd.Student.predict`."""
        return self.student.predict(frame)

    def evaluate(
        self, frame: pd.DataFrame, teacher: str | ArrayLike | None = None, *, replicates: int = 300, seed: int = 0
    ) -> pd.DataFrame:
        """Figures of the student, of the student alone and of the teacher on labelled rows, with intervals.

        Parameters
        ----------
        frame : DataFrame
            Rows as in training, later than all that was learned from.
        teacher : array or name of a column, optional
            What the teacher says of these rows, on the scale of training; nothing may be missing.
        replicates, seed : int
            Of the bootstrap, over users where the frame names them.

        Returns
        -------
        DataFrame, shape (models, figures)
            As :func:`ctr_kd.evaluate` gives it.
        """
        scores = self._scores(frame)
        if teacher is not None:
            logits = _teacher_logits(teacher, frame, self._scale)[:, 0].astype(np.float64)
            if np.isnan(logits).any():
                raise DataError(f"the teacher says nothing of {np.isnan(logits).sum():,} rows: measure on those that it knows")
            scores[TEACHER] = 1 / (1 + np.exp(-logits))
        return evaluate(self._label(frame), scores, user=self._of(frame, self._columns.user), replicates=replicates, seed=seed)

    def gain(self, frame: pd.DataFrame, *, replicates: int = 300, seed: int = 0) -> pd.DataFrame:
        """Student minus student alone on labelled rows: what the teacher gave, as :func:`ctr_kd.compare` gives it.

        Raises
        ------
        ValueError
            When no student alone was trained.
        """
        if self.alone is None:
            raise ValueError("no student alone was trained, so nobody knows what the teacher gave; leave alone=False out")
        scores, user = self._scores(frame), self._of(frame, self._columns.user)
        return compare(self._label(frame), scores[STUDENT], scores[ALONE], user=user, replicates=replicates, seed=seed)

    def export(self, folder: str | Path) -> Path:
        """Write the student into a folder, complete or not at all; :func:`ctr_kd.load_student` reads it.

        Raises
        ------
        DataError
            When the folder holds something.
        """
        target = Path(folder)
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise DataError(f"{target} exists and is not an empty folder: remove it, or export to another one")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.student.place, partial)
        partial.replace(target)
        return target

    def _scores(self, frame: pd.DataFrame) -> dict[str, ArrayLike]:
        models = {STUDENT: self.student} | ({} if self.alone is None else {ALONE: self.alone})
        return {name: model.predict(frame)["score"].to_numpy() for name, model in models.items()}

    def _label(self, frame: pd.DataFrame) -> np.ndarray:
        if self._columns.label not in frame:
            raise DataError(f"column {self._columns.label} is missing; figures need labels")
        return frame[self._columns.label].to_numpy()

    @staticmethod
    def _of(frame: pd.DataFrame, column: str) -> np.ndarray | None:
        return frame[column].to_numpy() if column in frame else None


def distill(
    train: pd.DataFrame,
    teacher: str | ArrayLike,
    validation: pd.DataFrame,
    *,
    label: str = "label",
    categorical: Sequence[str] = (),
    dense: Sequence[str] = (),
    items: pd.DataFrame | None = None,
    scale: Scale = "logit",
    alone: bool = True,
    settings: DistillConfig | Mapping[str, Any] | None = None,
    history: HistoryConfig | Mapping[str, Any] | None = None,
    vocabulary: VocabularyConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> DistilledStudent:
    """Train a student on rows and what a teacher of any kind says of them; no store, no workspace.

    Vocabularies and bins are fitted on the training rows alone; validation rows choose the checkpoint and the calibration.

    Parameters
    ----------
    train, validation : DataFrame
        Rows with ``history`` (lists of ids of the items that the user clicked strictly before, oldest first), ``item_id``, ``timestamp``
        and the label; optionally ``history_timestamps``, ``user_id``, and ``request_id`` of candidates that were shown together. Rows of
        validation should be later than those of training.
    teacher : array (rows,) or (rows, 1), or name of a column of ``train``
        What the teacher says of the training rows. It should not have learned from their labels. NaN where it says nothing.
    label : str
        Column with 0 or 1; a training row without one learns from the teacher alone.
    categorical, dense : sequence of str
        Columns that the student reads beside history and candidate.
    items : DataFrame, optional
        ``item_id`` and categorical attributes of items.
    scale : "logit" or "probability"
        What the teacher's numbers are.
    alone : bool
        Train the same student without the teacher too: else nobody knows what distillation gave.
    settings : settings, optional
        Block ``distill`` of a configuration, such as ``{"alpha": 0.3, "student": {"kind": "dcn"}}``.
    history : settings, optional
        ``max_length``, the newest clicks of a history that are read.
    vocabulary : settings, optional
        ``min_count`` and ``max_size`` of ids and categories.
    seed : int
        The same seed, rows and settings give the same student on a CPU, bit for bit.

    Raises
    ------
    DataError
        When a column is missing or holds what has no meaning there, or the teacher has another number of rows.
    ValueError
        When a setting is wrong, or needs more of a teacher than logits.
    TrainingError
        When training cannot go on.

    Examples
    --------
    >>> made = distill(train, teacher="logit", validation=validation, dense=["price"])  # doctest: +SKIP
    >>> made.evaluate(test), made.gain(test), made.export("student")  # doctest: +SKIP
    """
    config = settings_of(DistillConfig, settings, "distill")
    if config.needs_encoder or config.transfers:
        raise ValueError("distill: hints, embeddings: teacher and transfer need the BERT of a pipeline; an array has logits alone")
    logits = _teacher_logits(teacher, train, scale)
    said = logits[~np.isnan(logits)]
    if not len(said) or (len(said) > 1 and said.min() == said.max()):
        raise DataError(f"the teacher says {'the same of all rows' if len(said) else 'nothing of any row'}, which teaches nothing")
    columns = FrameColumns(label, tuple(categorical), tuple(dense))
    folder = tempfile.TemporaryDirectory(prefix="ctr_kd_distill_")
    root = Path(folder.name)
    assembly = assemble_frames(
        train,
        validation,
        root / "rows",
        columns=columns,
        items=items,
        history=settings_of(HistoryConfig, history, "history"),
        vocabulary=settings_of(VocabularyConfig, vocabulary, "vocabulary"),
    )
    samples = {split: assembly.samples(split) for split in ("train", "validation")}
    if assembly.summary.split.validate_until <= assembly.summary.split.train_until:
        _LOG.warning("validation ends before training does: its figures are not those of tomorrow")
    rows = TrainingRows(signature=assembly.signature(), train=samples["train"], validation=samples["validation"])
    if config.student.kind not in STUDENT_KINDS:  # a plug-in; ours are tried by the tests
        student = student_class(config.student.kind)(rows.signature, config.student)
        check_student(student, rows.signature, rows.validation)
    model, curve = _trained(STUDENT, rows, config, seed=seed, root=root, teacher=logits)
    export_student(model, rows.signature, assembly, root / STUDENT)
    of_labels = None
    if alone:
        without, _ = _trained(ALONE, rows, config, seed=seed, root=root, teacher=None)
        export_student(without, rows.signature, assembly, root / ALONE)
        of_labels = load_student(root / ALONE)
    return DistilledStudent(model, curve, load_student(root / STUDENT), of_labels, columns, scale, folder)


def _trained(
    name: str, rows: TrainingRows, config: DistillConfig, *, seed: int, root: Path, teacher: np.ndarray | None
) -> tuple[nn.Module, LearningCurve]:
    """A student that is trained and calibrated on the validation rows."""

    def report(line: str) -> None:
        _LOG.log(logging.WARNING if "warning: " in line else logging.INFO, "%s: %s", name, line)

    job = TrainingJob(seed=seed, fingerprint=name, folder=root / "checkpoints", name=name, report=report)
    model, curve = train_student(rows, config, job, teacher=teacher)
    return calibrate(model, rows.validation, config.calibration, report), curve


def _teacher_logits(teacher: str | ArrayLike, frame: pd.DataFrame, scale: Scale) -> np.ndarray:
    """What a teacher says of the rows of a frame, as logits, float32 (rows, 1); NaN where it says nothing."""
    if isinstance(teacher, pd.Series) and not teacher.index.equals(frame.index):
        raise DataError("the teacher is a Series of another index than the rows: give it theirs, or an array in their order")
    if isinstance(teacher, str):
        if teacher not in frame:
            raise DataError(f"column {teacher} of the teacher is missing")
        teacher = frame[teacher].to_numpy(np.float64, na_value=np.nan)
    values = np.asarray(teacher, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.shape != (len(frame), 1):
        raise DataError(f"the teacher must say one number of each of the {len(frame):,} rows; its array has the shape {np.shape(teacher)}")
    if np.isinf(values).any():
        raise DataError(f"the teacher's number of row {int(np.isinf(values).any(axis=1).argmax()) + 1} is not finite")
    if scale == "probability":
        wrong = (values < 0) | (values > 1)
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            raise DataError(f"the teacher's number of row {row + 1} is {values[row, 0]:g}, which is no probability; say scale='logit'")
        likely = values.clip(_NEAREST_TO_CERTAIN, 1 - _NEAREST_TO_CERTAIN)
        values = np.log(likely) - np.log1p(-likely)
    elif scale != "logit":
        raise ValueError(f"scale must be 'logit' or 'probability', not {scale!r}")
    elif ((values >= 0) & (values <= 1)).all():
        _LOG.warning("all of the teacher's logits lie between 0 and 1: if they are probabilities, say scale='probability'")
    return values.astype(np.float32)
