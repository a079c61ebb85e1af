"""What a teacher is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipelines.training.facts import TeacherFacts

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


class Teacher(Protocol):
    """Gives rows logits, from which students learn. Rows are tables in the layout of the assembly (``rows.parquet``, of texts ``texts``).

    Attributes
    ----------
    name : str
        As configured.
    digest : str
        Of all that its logits depend on besides the row: known before it is fitted, so that what it said once need not be asked again.
    trained : bool
        Whether it was trained elsewhere, or by a stage of its own: then :meth:`fit` until the end of the training window is given no rows.
    """

    name: str
    digest: str
    trained: bool

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """Learn from training rows, and stop by validation rows; a teacher that was trained elsewhere does nothing.

        Parameters
        ----------
        train, validation : Table
        until : int, optional
            Microseconds UTC before which all that it may know must have happened; None: the end of the training window.
        """

    def stored(self, rows: pa.Table) -> NDArray | None:
        """Logits (rows, outputs) that an artifact or a log holds already, NaN where it has none; None where it must be asked."""

    def reads(self, rows: pa.Table) -> pa.Table:
        """What of rows its logits depend on: equal ones have equal logits."""

    def logits(self, rows: pa.Table) -> NDArray:
        """Logits (rows, outputs), float32 or float64."""

    def facts(self) -> TeacherFacts:
        """What the report says of it, once it was fitted."""


def without_places(rows: pa.Table) -> pa.Table:
    """Rows without what says only where they stand: their number and their split."""
    return rows.drop_columns([name for name in ("row_id", "split") if name in rows.column_names])
