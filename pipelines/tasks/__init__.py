"""What a run is about: clicks on items, or texts with classes. A stage asks the run's :class:`Task`, and never which of them it is.

clicks, texts       the tasks; in click_rows and texts their rows as a caller of the registered student sends them
statistics_trial    which statistics a log of clicks is worth, before its rows are made
baselines, fitting  models that are no network, by name, and how they are fitted
logits              what models say of rows, on disk
answers             what a registered student answers, whatever the run beside it is about

Imports inside functions keep torch and scikit-learn out of a run that has nothing to do, and the tasks themselves out
of processes that score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from ctr_kd.data.row_pieces import RowPieces
    from ctr_kd.data.texts import AnyAssembly
    from ctr_kd.evaluation.rows import EvaluationRows
    from pipelines.config.run import RunConfig
    from pipelines.tasks.log_size import LogSize
    from pipelines.workspace.context import RunContext, StageContext


class Rows(Protocol):
    """Assembled rows as a caller of the registered student sends them."""

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names in :data:`pipelines.tasks.baselines.BASELINES` of what models are compared with on such rows."""

    @property
    def negative_sampling_rate(self) -> float | None:
        """Share of the rows without a click that the log kept; None where it kept all."""

    def read(self, split: str, columns: Sequence[str] | None = None, newest: int | None = None) -> pa.Table:
        """Rows of a split as the assembly has them, or some columns of them, or that many of the newest rows where there are more."""

    def pieces(self, split: str, columns: Sequence[str] | None = None) -> RowPieces:
        """:meth:`read`, of a log of many rows a piece at a time."""

    def weight(self, rows: pa.Table) -> NDArray | None:
        """How much each of some rows of :meth:`read` counts; None where all count alike."""

    def identities(self, split: str) -> pa.Table:
        """What tells the rows of a split apart, by ``row_id``, and their labels: equal tables are of the same rows."""

    def raw(self, rows: pa.Table) -> pa.Table:
        """Rows of :meth:`read`, in their order, as a caller sends them."""

    def asked(self, rows: pa.Table) -> pa.Table:
        """Rows of :meth:`read`, in their order, with all that is known of them by the log's own names, as other models are asked."""

    def batches(self, rows: pa.Table, size: int = 100_000) -> Iterator[pa.Table]:
        """:meth:`raw`, piece by piece."""

    def described_items(self) -> pa.Table | None:
        """``item_id``, attributes and vectors of all items, as a model is told of those that it lacks; None where no item has a vector."""

    def poorest(self, example: pd.DataFrame) -> pd.DataFrame:
        """The least that rows may hold, made of some of :meth:`raw`."""

    def request(self, rows: pa.Table, candidates: int) -> pa.Table:
        """One request as production sends it."""

    def newest(self, rows: pa.Table, most: int) -> int:
        """First of the newest rows that are at most so many and can be measured by themselves."""

    def evaluation_rows(self, split: str = "test", newest: int | None = None) -> EvaluationRows:
        """What the rows of a split are measured with: their labels, users, requests and slices.

        Raises
        ------
        DataError
            When there are none.
        """

    def parts(self, rows: pa.Table, column: str) -> Mapping[str, NDArray[np.bool_]]:
        """Which of some rows of :meth:`read` have each value of a column, by the value's text.

        Raises
        ------
        ConfigError
            When rows have no such column with few values.
        """

    def window_end(self) -> str | None:
        """Where the test window ends, ISO 8601; None for rows without times."""

    def facts(self) -> dict[str, Any]:
        """What a report says of the data: the summary of the assembly, and what it holds by itself alone."""


class Task(Protocol):
    """What a run is about. :func:`task_of` makes it."""

    def ingest(self, run: RunContext, resources: Set[str], failed: Path, report: Callable[[str], None]) -> None:
        """Bring the store up to date with the raw log.

        Parameters
        ----------
        run : RunContext
        resources : set of str
            Files of the raw log beside its rows, such as vocabularies, which the store keeps.
        failed : Path
            Folder for the rejected rows of an ingestion that fails.
        report : callable

        Raises
        ------
        DataError
            When the log broke its contract; the store is as it was.
        """

    def assemble(self, context: StageContext) -> dict[str, Any]:
        """Make the store's events into rows to learn from, in the stage's artifact; returns what its manifest says of them."""

    def size(self, artifact: Path) -> LogSize:
        """How much an artifact of stage ``ingest`` holds to learn from."""

    def assembly(self, artifact: Path, view: str) -> AnyAssembly:
        """Rows of an artifact of stage ``ingest`` as models learn from them.

        Parameters
        ----------
        artifact : Path
        view : str
            ``teacher`` or ``student``: who reads. Of texts they may have tokens of their own; of clicks teachers may read more
            (``teacher_only``).

        Raises
        ------
        ConfigError
            When ``teacher_only`` names a column that the rows have not.
        """

    def rows(self, artifact: Path, view: str = "student") -> Rows:
        """Rows of an artifact of stage ``ingest`` as a caller of the registered student sends them; for a ``teacher`` with all columns."""

    def privileged(self, artifact: Path) -> list[str]:
        """Columns of an artifact of stage ``ingest`` that teachers read and students do not."""


def task_of(config: RunConfig) -> Task:
    """What a run of a configuration is about."""
    from pipelines.tasks.clicks import Clicks
    from pipelines.tasks.texts import Texts

    return Clicks(config) if config.task == "clicks" else Texts(config)
