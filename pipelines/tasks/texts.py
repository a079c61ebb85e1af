"""Texts with classes: splits that are files, and their rows as a caller of the registered student sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ctr_kd.data.row_pieces import RowPieces
from ctr_kd.data.texts import TEXTS, TextAssembly
from ctr_kd.evaluation.rows import EvaluationRows
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json, write_json
from feature_store.tables.parquet_files import read_parquet
from feature_store.text.dataset import VIEWS, assemble_texts
from feature_store.text.ingest import ingest_texts
from feature_store.text.summary import TextSummary
from pipelines.errors import ConfigError
from pipelines.tasks.log_size import LogSize

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.config.run import RunConfig
    from pipelines.workspace.context import RunContext, StageContext

ENCODER = "encoder.json"
"""Shape of the BERT that ``pretrain.checkpoint`` names, by the keys of ``pretrain.encoder``."""


class TextRows:
    """Rows of texts; their answers to what :class:`pipelines.tasks.Rows` asks.

    Parameters
    ----------
    assembly : Path
        Artifact of ``feature_store.text.dataset``.
    """

    baselines = ("linear", "text_gcn")
    negative_sampling_rate = None

    def __init__(self, assembly: Path) -> None:
        self._assembly = assembly
        self.summary = TextSummary.read(assembly)
        self.classes: list[str] = load_json(assembly / "classes.json")
        self.is_pair = self.summary.pair

    def read(self, split: str, columns: Sequence[str] | None = None, newest: int | None = None) -> pa.Table:
        """Rows of a split: ``row_id``, ``text``, ``text_b``, ``label`` (class index) and ``leaked``.

        Or some columns of them, or that many of the last rows where there are more.
        """
        rows = read_parquet(self._assembly / TEXTS, columns, [("split", "=", split)])
        return rows if newest is None else rows.slice(max(0, rows.num_rows - newest))

    def pieces(self, split: str, columns: Sequence[str] | None = None) -> RowPieces:
        """:meth:`read`, in one piece: the texts of an assembly are held."""
        return RowPieces(self._assembly / TEXTS, split, None if columns is None else tuple(columns))

    def identities(self, split: str) -> pa.Table:
        """Columns ``row_id``, ``text``, ``label``, and ``text_b`` of pairs, of the rows of a split."""
        return self.read(split).select(["row_id", "text", *(["text_b"] if self.is_pair else []), "label"])

    def weight(self, rows: pa.Table) -> None:
        """Texts count all alike."""

    def raw(self, rows: pa.Table) -> pa.Table:
        """Column ``text``, and ``text_b`` where rows are pairs."""
        return rows.select(["text", "text_b"] if self.is_pair else ["text"])

    def asked(self, rows: pa.Table) -> pa.Table:
        """:meth:`raw`: there is no more to be known of a text."""
        return self.raw(rows)

    def batches(self, rows: pa.Table, size: int = 100_000) -> Iterator[pa.Table]:
        """:meth:`raw`, piece by piece."""
        for begin in range(0, rows.num_rows, size):
            yield self.raw(rows.slice(begin, size))

    def described_items(self) -> None:
        return

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

    def evaluation_rows(self, split: str = "test", newest: int | None = None) -> EvaluationRows:
        """Labels of the rows of a split, or of that many of the last of them, in the order of their ids; and which are in training too.

        Raises
        ------
        DataError
            When there are none.
        """

        rows = self.read(split, newest=newest)
        if not rows.num_rows:
            raise DataError(f"the {split} file holds no rows; check `source.{split}`")
        leaked = rows["leaked"].to_numpy(zero_copy_only=False)
        slices = {"leak/not in training": ~leaked, "leak/also in training": leaked} if leaked.any() else {}
        slices = {name: mask for name, mask in slices.items() if mask.any()}
        return EvaluationRows(rows["label"].to_numpy().astype(np.int64), slices=slices, classes=self.classes)

    def parts(self, rows: pa.Table, column: str) -> dict[str, np.ndarray]:
        """Which rows are of each class.

        Raises
        ------
        ConfigError
            When the column is another one than ``label``.
        """
        if column != "label":
            raise ConfigError(f"register.slices: texts have no column {column!r} with few values; there is label")
        label = rows["label"].to_numpy()
        return {name: label == code for code, name in enumerate(self.classes)}

    def window_end(self) -> str | None:
        """Texts have no times."""
        return None

    def facts(self) -> dict[str, Any]:
        """The summary of the assembly, and how many of the student's tokens have a word vector, where it has any."""
        vectors = self.summary.views["student"].vectors
        own = {} if vectors is None else {"word_vectors": vectors.to_json(), "missing_vectors": vectors.missing}
        return own | self.summary.to_json()


class Texts:
    """Texts, or pairs of texts, that each belong to one of some classes.

    Parameters
    ----------
    config : RunConfig
        Of a run whose ``task`` is ``texts``.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def ingest(self, run: RunContext, resources: Set[str], failed: Path, report: Callable[[str], None]) -> None:
        """New rows and resources of the raw files into the store; see :func:`feature_store.text.ingest.ingest_texts`."""

        ingest_texts(self._config.source, run.data, run.store, failed, report, resources=resources)

    def assemble(self, context: StageContext) -> dict[str, Any]:
        """Rows as both tokenizers read them, and the shape of a released BERT; see :func:`feature_store.text.dataset.assemble_texts`."""

        summary = assemble_texts(context.store, self._config.tokens, context.output, context.report)
        checkpoint = self._config.pretrain.checkpoint
        if checkpoint is not None:
            from ctr_kd.huggingface.folder import read_config  # late: it loads torch

            shape = read_config(context.store.resource(f"{checkpoint}/config.json")).encoder().model_dump(exclude_unset=True)
            write_json(context.output / ENCODER, shape)
        return {"rows": summary.rows, "leaked": summary.leaked}

    def size(self, artifact: Path) -> LogSize:
        """Training rows, and their texts; and the shape of a released BERT, where there is one."""
        summary, shape = TextSummary.read(artifact), artifact / ENCODER
        texts = summary.rows["train"] * (2 if summary.pair else 1)
        words = round(texts * summary.views["teacher"].mean_length)
        return LogSize(summary.rows["train"], texts, words, encoder=load_json(shape) if shape.exists() else None)

    def assembly(self, artifact: Path, view: str) -> TextAssembly:
        """Texts as the tokenizer of ``view`` reads them."""

        return TextAssembly(artifact, view)

    def rows(self, artifact: Path, view: str = "student") -> TextRows:
        """The texts themselves, the same for teacher and student."""
        return TextRows(artifact)

    def privileged(self, artifact: Path) -> list[str]:
        """Texts have no columns."""
        return []


def with_tokenizers(config: RunConfig, artifact: Path) -> RunConfig:
    """The configuration with the kinds and lengths that its tokenizers came to, to be shown: no stage reads them from it."""
    found = {view: load_json(artifact / view / "tokenizer.json") for view in VIEWS}
    decided = {view: {key: said[key] for key in ("kind", "max_length")} for view, said in found.items()}
    views = {view: getattr(config.tokens, view).model_copy(update=values) for view, values in decided.items()}
    return config.model_copy(update={"tokens": config.tokens.model_copy(update=views)})
