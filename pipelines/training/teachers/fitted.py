"""Teachers that are fitted here and are no network: boosted trees of clicks, linear models of texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctr_kd.baselines.tree_libraries import installed_library
from feature_store.tables.json_files import digest_of
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.fitting import fit_boosted_trees, fit_linear
from pipelines.tasks.texts import TextRows
from pipelines.tasks.timing import rate_of
from pipelines.training.facts import TeacherFacts
from pipelines.training.teachers.teacher import without_places
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.context import StageContext
from pipelines.workspace.source_digest import source_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ctr_kd.baselines.boosted_trees import BoostedTrees
    from ctr_kd.baselines.texts import LinearModel


class TreesTeacher:
    """Boosted trees on all that is known of a row but its ids; see :class:`pipelines.training.teachers.teacher.Teacher`.

    Each label has trees of its own; those of the click are timed and counted.
    """

    trained = False

    def __init__(self, name: str, context: StageContext, rows: ClickRows) -> None:
        self.name, self._context, self._rows = name, context, rows
        self.digest = fitted_digest(context, name, installed_library().name)
        self._fitted: list[BoostedTrees] = []
        self._speed: float | None = None

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        labels = (None, *self._rows.summary.labels)
        seed, report = self._context.config.seed, self._context.report
        self._fitted = [fit_boosted_trees(self._rows, train, validation, seed, report, label) for label in labels]
        first = self._fitted[0]
        self._speed = rate_of(lambda part: first.predict(self._rows.described(part)), train) if until is None else None

    def stored(self, rows: pa.Table) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""

    def reads(self, rows: pa.Table) -> pa.Table:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        return without_places(rows)

    def logits(self, rows: pa.Table) -> NDArray:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        described = self._rows.described(rows)
        return np.concatenate([one.logits(described) for one in self._fitted], axis=1)

    def facts(self) -> TeacherFacts:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        first, window = self._fitted[0], self._rows.summary.split
        return TeacherFacts(
            digest=self.digest, until=window.train_until, rows_per_second=self._speed, trees=first.trees.count, library=first.library
        )


class LinearTeacher:
    """A linear model of texts; see :class:`pipelines.training.teachers.teacher.Teacher`.

    Training rows are judged by the machine that learned them. Machines that did not (out of fold) are wrong where a label is right, and
    a student believes them: on the five classes it lost two points of accuracy by it.
    """

    trained = False

    def __init__(self, name: str, context: StageContext, rows: TextRows) -> None:
        self.name, self._context, self._rows = name, context, rows
        self.digest = fitted_digest(context, name)
        self._model: LinearModel | None = None
        self._asked, self._seconds = 0, 0.0

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        self._model = fit_linear(self._rows, self._context.config.seed, self._context.report, self.name)

    def stored(self, rows: pa.Table) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""

    def reads(self, rows: pa.Table) -> pa.Table:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        return self._rows.raw(rows)

    def logits(self, rows: pa.Table) -> NDArray:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        assert self._model is not None, "fit comes first"  # noqa: S101
        began = time.perf_counter()
        found = self._model.predict(*self._rows.text_lists(rows))
        self._asked, self._seconds = self._asked + rows.num_rows, self._seconds + time.perf_counter() - began
        return found

    def facts(self) -> TeacherFacts:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        return TeacherFacts(digest=self.digest, rows_per_second=self._asked / self._seconds if self._seconds else None)


def fitted_digest(context: StageContext, name: str, *more: str) -> str:
    """Digest of a teacher that is fitted on the rows of a run: of these rows, the seed, and the code that fits it."""
    rows: Path = context.inputs["ingest"]
    code = digest_of(source_of(__name__))
    return digest_of([name, Artifact(rows).finished.digest, context.config.seed, code, *more])[:32]
