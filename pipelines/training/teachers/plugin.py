"""A teacher of somebody's own: a class with ``fit`` and ``logits``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from feature_store.plugins import load_class, plugin_digest
from feature_store.tables.contracts import DataError
from pipelines.tasks import Rows, task_of
from pipelines.training.facts import TeacherFacts
from pipelines.training.teachers.answers import checked_answer
from pipelines.training.teachers.fitted import fitted_digest
from pipelines.training.teachers.teacher import without_places
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

LABEL, WEIGHT = "label", "row_weight"


class TeacherPlugin(Protocol):
    """What a class must have to be a teacher; it is made without arguments.

    Frames have a row for each row to judge, and the columns of a request to the registered student (``history``, ``item_id``,
    ``timestamp``, context, statistics) with the user and the attributes of the item; of texts ``text`` and ``text_b``.
    """

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame) -> None:
        """Learn. Both frames have the column ``label`` too: 0 or 1 for a click, or the number of the class. Where the log weighs its rows
        they have ``row_weight``.
        """

    def logits(self, rows: pd.DataFrame) -> NDArray:
        """Logits (rows,) or (rows, outputs); a click's is log(p / (1 - p))."""


class PluginTeacher:
    """See :class:`pipelines.training.teachers.teacher.Teacher`.

    Raises
    ------
    PluginError
        When there is no such class.
    DataError
        When it raises, or what it says are no logits of the rows.
    """

    trained = False

    def __init__(self, name: str, place: str, context: StageContext, rows: Rows) -> None:
        self.name, self._place, self._context, self._rows = name, place, context, rows
        self.digest = fitted_digest(context, name, place, plugin_digest("ctr_kd.teachers", place))
        self._class = load_class("ctr_kd.teachers", place, ("fit", "logits"))
        self._outputs = task_of(context.config).assembly(context.inputs["ingest"], "teacher").signature().outputs
        self._model: TeacherPlugin | None = None
        self._asked, self._seconds = 0, 0.0

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        self._context.report(f"{self.name}: fitting {self._place} on {train.num_rows:,} rows")
        self._model = self._call("made", self._class)
        self._call("fitted", self._model.fit, self._labelled(train), self._labelled(validation))

    def stored(self, rows: pa.Table) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""

    def reads(self, rows: pa.Table) -> pa.Table:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        return without_places(rows)

    def logits(self, rows: pa.Table) -> NDArray:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        assert self._model is not None, "fit comes first"  # noqa: S101
        frame, began = self._rows.asked(rows).to_pandas(), time.perf_counter()
        answer = self._call("asked", self._model.logits, frame)
        self._asked, self._seconds = self._asked + rows.num_rows, self._seconds + time.perf_counter() - began
        return checked_answer(answer, rows["row_id"].to_numpy(), self._said, self._outputs)

    def facts(self) -> TeacherFacts:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        until = task_of(self._context.config).assembly(self._context.inputs["ingest"], "teacher").training_window()[1]
        speed = self._asked / self._seconds if self._seconds else None
        return TeacherFacts(kind="plugin", digest=self.digest, until=until, rows_per_second=speed)

    @property
    def _said(self) -> str:
        return f"teacher {self.name} ({self._place})"

    def _labelled(self, rows: pa.Table) -> pd.DataFrame:
        frame = self._rows.asked(rows).to_pandas()
        frame[LABEL] = rows["label"].to_numpy()
        weight = self._rows.weight(rows)
        return frame if weight is None else frame.assign(**{WEIGHT: weight})

    def _call(self, what: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # of somebody else's code, which may fail in any way
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(f"{self._said} cannot be {what}: {cause}") from error
