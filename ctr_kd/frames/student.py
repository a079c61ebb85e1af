"""A student out of its folder or out of a registry, asked with pandas frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pandas as pd

from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.release_code import foreign_code
from ctr_kd.export.signature import ExportedSignature, TextSignature, read_signature
from ctr_kd.export.text_scorer import TextScorer
from feature_store.tables.contracts import DataError
from feature_store.tables.files import UnsafeFile

LOADERS = "ctr_kd.student_loaders"  # group of entry points: scheme of a place -> function (place, registry) -> Student
MLFLOW_FOLDER = "file"  # the scheme of a folder that MLflow wrote


@dataclass(frozen=True)
class Student:
    """An exported student, ready to score.

    Attributes
    ----------
    scorer : ClickScorer or TextScorer
        The student's own.
    place : str
        Where it came from.
    version : str or None
        Its version in a registry.
    made_with : mapping
        Settings ``history`` and ``statistics`` of the rows that it learned from, for
        ``feature_store.open_store(path, **student.made_with)``; empty where they are not known.
    """

    scorer: Any = field(repr=False)
    place: str
    version: str | None = None
    made_with: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities of rows, bit for bit those that the command line writes for the same columns.

        Parameters
        ----------
        frame : DataFrame, shape (rows, columns)
            Of clicks ``history`` (lists of item ids, oldest first), ``item_id`` and ``timestamp``, and what else the student reads; of
            texts ``text``, and of pairs ``text_b``. An optional column that is absent counts as unknown.

        Returns
        -------
        DataFrame, shape (rows, columns)
            ``score`` (float64) and what else it says, with the frame's index.

        Raises
        ------
        DataError
            When a required column is missing, or holds what has no meaning there.
        """
        try:
            answer: pd.DataFrame = self.scorer.predict(frame)
        except ValueError as error:  # of the student's own scorer, which cannot know our exceptions
            raise DataError(str(error)) from None
        return answer


def load_student(place: str | Path, *, registry: str | Path | None = None) -> Student:
    """Load a student from a folder, a registry or a run, after its digests were checked.

    A registry is reached through the entry point of group ``ctr_kd.student_loaders`` that is named like the scheme of the place, which
    package ``pipelines`` provides for MLflow: this package needs no MLflow, and another registry may be added by any package.

    Parameters
    ----------
    place : str or Path
        A folder that :meth:`ctr_kd.DistilledStudent.export` wrote, or stage distill (``export`` in its artifact), or MLflow (with
        ``MLmodel`` in it); ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``runs:/RUN/PATH``.
    registry : str or Path, optional
        MLflow's URI, or the folder of a workspace. By default what ``mlflow.set_tracking_uri`` or ``MLFLOW_TRACKING_URI`` name, else the
        workspace ``workspace`` below this folder.

    Raises
    ------
    DataError
        When nothing that this package knows lies there, or the code beside it is not of this release and no registry vouches for it.

    Examples
    --------
    >>> load_student("models:/mine@champion").predict(frame)  # doctest: +SKIP
    """
    scheme = re.match(r"([a-z][a-z0-9+.-]*):/", str(place))
    if scheme is not None:
        return _loader(scheme[1], str(place))(str(place), registry)
    folder = Path(place)
    if (folder / ExportedSignature.FILE).is_file():
        return _exported(folder)
    if (folder / "MLmodel").is_file():
        return _loader(MLFLOW_FOLDER, str(place))(str(place), registry)
    what = "holds no exported student" if folder.is_dir() else "is no folder"
    raise DataError(f"{place} {what}; name a folder with {ExportedSignature.FILE} or MLmodel in it, or models:/NAME@ALIAS")


def _loader(scheme: str, place: str) -> Callable[[str, str | Path | None], Student]:
    found = list(entry_points(group=LOADERS, name=scheme))
    if not found:
        known = ", ".join(sorted({one.name for one in entry_points(group=LOADERS)})) or "none"
        raise DataError(
            f"{place}: no installed package loads students from {scheme}: (known: {known}); install this project again, or name a folder"
        )
    load: Callable[[str, str | Path | None], Student] = found[0].load()
    return load


def _exported(folder: Path) -> Student:
    """The student of an export, asked by the scorer of this release; the code beside it must be of this release too."""
    try:
        foreign, signature = foreign_code(folder), read_signature(folder)
    except (UnsafeFile, OSError, ValueError) as error:
        raise DataError(f"{folder} holds no whole student: {error}") from None
    if foreign is not None:
        raise DataError(f"{folder / foreign} is not the code of this release, and no registry vouches for it: it is not run; export again")
    scorer = TextScorer(folder) if isinstance(signature, TextSignature) else ClickScorer(folder)
    return Student(scorer, str(folder))
