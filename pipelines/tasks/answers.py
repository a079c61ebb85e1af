"""What a registered student answers and what rows it needs for that: clicks, or texts with classes, as its signature says.

A model may be of another task than the configuration beside it, so the model itself is asked. Every scoring process imports this file,
hence it needs little besides Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.export.scoring_statistics import ScoringCounts, count_rows, count_texts, looked_up
from ctr_kd.export.signature import ClickSignature, score_column
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.casting import as_array, to_categories, to_clicked
from feature_store.tables.column_names import HISTORY_TYPES
from feature_store.tables.contracts import DataError
from pipelines.config.run import TaskName


class Answers(Protocol):
    """The answers of one student.

    Attributes
    ----------
    task : str
    says : str
        In a few words, for messages.
    groups : tuple of str
        Columns of labelled rows by which metrics group them, where they are there.
    classes : list of str or None
    """

    task: ClassVar[TaskName]
    says: ClassVar[str]
    groups: ClassVar[tuple[str, ...]]
    classes: list[str] | None

    def joined(self) -> list[str]:
        """Columns that the student reads and that the store knows where rows lack them."""

    def of_history(self) -> list[str]:
        """Columns that say more of the events of ``history``: rows that bring it bring these too, or nothing says it."""

    def check_columns(self, names: Sequence[str], file: Path) -> None:
        """Raise DataError unless a file has the columns that a row needs."""

    def scored(self, rows: pa.Table, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], ScoringCounts]:
        """Probabilities of complete rows, and what a scoring report counts of them.

        Parameters
        ----------
        rows : pa.Table (rows, columns)
        edges : float array
            Of the bins of the scores.

        Returns
        -------
        float array, ScoringCounts
            Probabilities (rows,) of clicks, with further labels (rows, labels), of texts (rows, classes).
        """

    def columns(self, scores: NDArray[np.float64]) -> dict[str, pa.Array]:
        """Probabilities as the columns of an answer."""

    def looked_up(self) -> list[str]:
        """Columns of ids, or of lists of them, of which a few distinct ones are looked up for many rows."""

    def unseen(self, rows: pa.Table) -> NDArray[np.int64]:
        """How many candidate items (of texts: tokens) the student does not know, and how many there are."""

    def labels(self, column: pa.ChunkedArray) -> NDArray[Any]:
        """Labels (rows,) as metrics read them.

        Raises
        ------
        ValueError
            When a label is none; the message goes on after the column's name.
        """


class ClickAnswers:
    """The probability that a candidate item is clicked.

    Parameters
    ----------
    scorer : ClickScorer
        Of :mod:`ctr_kd.export.click_scorer`, out of the model.
    """

    task: ClassVar[TaskName] = "clicks"
    says: ClassVar[str] = "says whether items are clicked"
    groups: ClassVar[tuple[str, ...]] = ("user_id", "request_id", "timestamp")
    classes: list[str] | None = None

    def __init__(self, scorer: Any) -> None:
        self._scorer, self._signature = scorer, ClickSignature.from_json(scorer.signature)

    def joined(self) -> list[str]:
        return ["history", *self._signature.dense, *self._signature.user_attributes, *self._signature.looked_up]

    def of_history(self) -> list[str]:
        return ["history_timestamps", *([HISTORY_TYPES] if self._signature.has_types else [])]

    def check_columns(self, names: Sequence[str], file: Path) -> None:
        for column in ("item_id", "timestamp"):
            if column not in names:
                raise DataError(f"{file}: column {column} is missing; a row needs item_id, timestamp, and history or user_id")
        if "history" not in names and "user_id" not in names:
            raise DataError(f"{file}: column history is missing, and so is user_id by which it could be joined; a row needs one of them")

    def scored(self, rows: pa.Table, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], ScoringCounts]:
        scores, seen = self._scores_and_ids(rows)
        counts = count_rows(rows, scores[:, 0], edges, signature=self._signature, seen=seen)
        return (scores if self._signature.labels else scores[:, 0]), counts

    def _scores_and_ids(self, rows: pa.Table) -> tuple[NDArray[np.float64], dict[str, tuple[int, int]]]:
        """Probabilities (rows, labels), and by feature how many ids were given and how many of them the student does not know."""
        score = self._scorer.score_labels if self._signature.labels else getattr(self._scorer, "score_labels", self._scorer.score)
        if "seen" in signature(score).parameters:
            seen: dict[str, tuple[int, int]] = {}
            return score(rows, seen), seen
        scores: NDArray[np.float64] = score(rows)  # of an earlier release
        return scores.reshape(len(scores), -1), looked_up(rows, self._signature, self._scorer.lookups)

    def columns(self, scores: NDArray[np.float64]) -> dict[str, pa.Array]:
        names = ["score", *map(score_column, self._signature.labels)]
        return {name: pa.array(column, pa.float64()) for name, column in zip(names, scores.reshape(len(scores), len(names)).T, strict=True)}

    def looked_up(self) -> list[str]:
        types = [HISTORY_TYPES] if self._signature.has_types else []
        return ["item_id", "history", *types, *(name for name in self._signature.categorical if name not in self._signature.vectors)]

    def unseen(self, rows: pa.Table) -> NDArray[np.int64]:
        item = next(iter(self._signature.tokens))
        return _unknown(self._scorer.lookups[item](rows["item_id"]))

    def labels(self, column: pa.ChunkedArray) -> NDArray[np.int8]:
        try:
            labels, bad = to_clicked(as_array(column))
        except TypeError as error:
            raise ValueError(str(error)) from None
        if bad.any():
            raise ValueError("must hold 0 and 1 and nothing else")
        return labels


class TextAnswers:
    """The class of a text, or of a pair of texts, with the probability of each.

    Parameters
    ----------
    scorer : TextScorer
        Of :mod:`ctr_kd.export.text_scorer`, out of the model.
    """

    task: ClassVar[TaskName] = "texts"
    says: ClassVar[str] = "says classes of texts"
    groups: ClassVar[tuple[str, ...]] = ("user_id",)

    def __init__(self, scorer: Any) -> None:
        self._scorer = scorer
        self.classes: list[str] | None = scorer.classes

    def joined(self) -> list[str]:
        return []  # a text carries all that a model reads of it

    def of_history(self) -> list[str]:
        return []

    def check_columns(self, names: Sequence[str], file: Path) -> None:
        return  # the scorer names the one column that it needs

    def scored(self, rows: pa.Table, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], ScoringCounts]:
        scores: NDArray[np.float64] = self._scorer.score(rows)
        return scores, count_texts(rows, scores.max(axis=1, initial=0.0), edges)

    def columns(self, scores: NDArray[np.float64]) -> dict[str, pa.Array]:
        best = scores.argmax(axis=1)
        columns = {"label": pa.array(self._scorer.classes, pa.string()).take(pa.array(best))}
        columns["score"] = pa.array(scores[np.arange(len(best)), best], pa.float64())
        return columns | {name: pa.array(scores[:, i], pa.float64()) for i, name in enumerate(self._scorer.columns)}

    def looked_up(self) -> list[str]:
        return []

    def unseen(self, rows: pa.Table) -> NDArray[np.int64]:
        texts = [text or "" for name in ("text", "text_b") if name in rows.column_names for text in rows[name].to_pylist()]
        return _unknown(self._scorer.tokenizer.encode(texts)[0])

    def labels(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        try:
            classes, labels = (to_categories(as_array(values))[0].to_pylist() for values in (pa.array(self._scorer.classes), column))
        except TypeError as error:
            raise ValueError(str(error)) from None
        strange = next((label for label in labels if label not in classes), classes[0])
        if strange not in classes:
            raise ValueError(f"holds {strange!r}, which is none of the model's classes: {', '.join(classes)}")
        return np.array([classes.index(label) for label in labels], np.int64)


def answers_of(scorer: Any) -> Answers:
    """What a student answers, by its own scorer."""
    return TextAnswers(scorer) if "classes" in scorer.signature else ClickAnswers(scorer)


def _unknown(codes: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([(np.asarray(codes) == UNKNOWN).sum(), len(codes)], np.int64)
