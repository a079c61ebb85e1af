"""Assembled texts as a caller of the registered student would send them, and the rows of an ingestion whatever their kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.data.texts import TEXTS
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json
from feature_store.text.summary import TextSummary
from pipelines.tasks.clicks import RawRows

if TYPE_CHECKING:
    import pandas as pd

    from ctr_kd.evaluation.evaluate import EvaluationRows


class TextRows:
    """Rows of texts; it answers the same questions as :class:`pipelines.tasks.clicks.RawRows`.

    Parameters
    ----------
    assembly : Path
        Artifact of ``feature_store.text.dataset``.
    """

    baselines = ("linear", "text_gcn")

    def __init__(self, assembly: Path) -> None:
        self._assembly = assembly
        self.summary = TextSummary.read(assembly)
        self.classes: list[str] = load_json(assembly / "classes.json")
        self.is_pair = self.summary.pair

    def read(self, split: str) -> pa.Table:
        """Rows of a split: ``row_id``, ``text``, ``text_b``, ``label`` (class index) and ``leaked``."""
        return pq.read_table(self._assembly / TEXTS, filters=[("split", "=", split)])

    def raw(self, rows: pa.Table) -> pa.Table:
        """Column ``text``, and ``text_b`` where rows are pairs."""
        return rows.select(["text", "text_b"] if self.is_pair else ["text"])

    def batches(self, rows: pa.Table, size: int = 100_000) -> Iterator[pa.Table]:
        """:meth:`raw`, piece by piece."""
        for begin in range(0, rows.num_rows, size):
            yield self.raw(rows.slice(begin, size))

    def poorest(self, example: pd.DataFrame) -> pd.DataFrame:
        """The least that rows may hold: empty texts, and no second ones."""
        return example[["text"]].assign(text="")

    def request(self, rows: pa.Table, candidates: int) -> pa.Table:
        """One request as production sends it: a single text, the last one; there are no candidates."""
        return self.raw(rows.slice(rows.num_rows - 1))

    def newest(self, rows: pa.Table, most: int) -> int:
        """First of the last rows that are at most so many: texts have no time."""
        return max(0, rows.num_rows - most)

    def text_lists(self, rows: pa.Table) -> tuple[list[str], list[str] | None]:
        """First and, of pairs, second texts (rows,)."""
        return rows["text"].to_pylist(), rows["text_b"].to_pylist() if self.is_pair else None

    def evaluation_rows(self) -> EvaluationRows:
        """Labels of the test rows, in the order of their ids, and which of them are in the training rows too.

        Raises
        ------
        DataError
            When there are none.
        """
        from ctr_kd.evaluation.evaluate import EvaluationRows

        rows = self.read("test")
        if not rows.num_rows:
            raise DataError("the test file holds no rows; check `source.test`")
        leaked = rows["leaked"].to_numpy(zero_copy_only=False)
        slices = {"leak/not in training": ~leaked, "leak/also in training": leaked} if leaked.any() else {}
        slices = {name: mask for name, mask in slices.items() if mask.any()}
        return EvaluationRows(rows["label"].to_numpy().astype(np.int64), slices=slices, classes=self.classes)


Rows = RawRows | TextRows


def open_rows(assembly: Path) -> Rows:
    """The rows of an artifact of stage ``ingest``, whichever they are."""
    return TextRows(assembly) if (assembly / TEXTS).exists() else RawRows(assembly)
