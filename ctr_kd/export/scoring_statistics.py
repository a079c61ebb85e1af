"""What a scoring saw: rows, ids that the model does not know, missing values, and the distribution of the scores.

Everything is a count, so that parts which were scored elsewhere, or earlier, add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.export.signature import ClickSignature
from ctr_kd.metrics.drift import ScoreDistribution, count_by_bin, population_stability_index
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.json_models import JsonModel

EVEN_EDGES = np.arange(1, 20) / 20  # where no distribution of reference says better


@dataclass
class ScoringCounts:
    """Counts of some scored rows.

    Attributes
    ----------
    rows : int
    ids, unseen : dict of str to int
        By feature: ids that were given, and those of them that the model does not know.
    missing : dict of str to int
        By column that the model reads: rows without a value; of ``history`` those with an empty one too.
    bins : list of int
        Rows by score.
    total, low, high : float
        Sum of the scores, and their smallest and largest; these are null without rows.
    """

    rows: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    bins: list[int] = field(default_factory=list)
    total: float = 0.0
    low: float | None = None
    high: float | None = None

    def __add__(self, other: ScoringCounts) -> ScoringCounts:
        """Counts of the rows of both.

        Examples
        --------
        >>> both = ScoringCounts(2, missing={"hour": 1}, bins=[2, 0], low=0.1) + ScoringCounts(1, missing={"hour": 1}, bins=[0, 1], low=0.7)
        >>> both.rows, both.missing, both.bins, both.low
        (3, {'hour': 2}, [2, 1], 0.1)
        """
        return ScoringCounts(
            self.rows + other.rows,
            _sums(self.ids, other.ids),
            _sums(self.unseen, other.unseen),
            _sums(self.missing, other.missing),
            [a + b for a, b in zip(self.bins, other.bins, strict=True)] if self.bins and other.bins else self.bins or other.bins,
            self.total + other.total,
            min((value for value in (self.low, other.low) if value is not None), default=None),
            max((value for value in (self.high, other.high) if value is not None), default=None),
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as the parts of a scoring have them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave."""
        return cls(**values)


def count_rows(
    table: pa.Table, score: np.ndarray, edges: np.ndarray, *, signature: ClickSignature, seen: Mapping[str, tuple[int, int]]
) -> ScoringCounts:
    """Count rows as the model read them.

    Parameters
    ----------
    table : pa.Table, shape (rows, columns)
        What it scored.
    score : float array (rows,)
    edges : float array
        Of the bins of the scores.
    signature : ClickSignature
        Which columns the model reads.
    seen : mapping of str to (int, int)
        By feature: ids that were given, and those of them that the model does not know.
    """
    read = ("item_id", "timestamp", "history", "history_timestamps", *signature.categorical, *signature.dense)
    return ScoringCounts(
        table.num_rows,
        {name: given for name, (given, _) in seen.items()},
        {name: unseen for name, (_, unseen) in seen.items()},
        {name: _missing(table, name) for name in read},
        **_distribution(score, edges),
    )


def looked_up(
    table: pa.Table, signature: ClickSignature, lookups: Mapping[str, Callable[[pa.ChunkedArray], np.ndarray]]
) -> dict[str, tuple[int, int]]:
    """Ids that were given and those of them that a model does not know, by feature, for one whose scorer does not say.

    Parameters
    ----------
    table : pa.Table, shape (rows, columns)
    signature : ClickSignature
    lookups : mapping of str to callable
        Index of every id of a feature, by the feature's name.
    """
    item = next(iter(signature.tokens))
    ids = {item: table["item_id"], "history": _flat(table, "history")}
    ids |= {name: table[name] for name in signature.categorical if name in table.column_names and name not in signature.vectors}
    unseen = {name: _unseen(lookups[item if name == "history" else name], values) for name, values in ids.items()}
    return {name: (len(values) - values.null_count, unseen[name]) for name, values in ids.items()}


def count_texts(table: pa.Table, score: np.ndarray, edges: np.ndarray) -> ScoringCounts:
    """Count texts: rows without one, and the scores of the likeliest classes.

    Parameters
    ----------
    table : pa.Table, shape (rows, columns)
        What was scored.
    score : float array (rows,)
        Probability of each row's likeliest class.
    edges : float array
        Of the bins of the scores.
    """
    texts = {name: table[name] for name in ("text", "text_b") if name in table.column_names}
    empty = {name: pc.sum(pc.equal(pc.utf8_trim_whitespace(text.cast(pa.string())), "")).as_py() or 0 for name, text in texts.items()}
    missing = {name: text.null_count + empty[name] for name, text in texts.items()}
    return ScoringCounts(table.num_rows, missing=missing, **_distribution(score, edges))


class ScoreSummary(JsonModel):
    """Scores of some rows, and their drift from those of the validation rows.

    Attributes
    ----------
    mean, low, high : float, optional
        None without rows.
    edges : list of float
        Of the bins.
    rows : list of int
        By bin.
    psi : float, optional
        Population stability index; None where there is nothing to compare with.
    reason : str, optional
        Why there is nothing; absent where there is.
    validation_rows : list of int, optional
        By bin; absent where there is nothing to compare with.
    """

    mean: float | None
    low: float | None
    high: float | None
    edges: list[float]
    rows: list[int]
    psi: float | None
    reason: str | None = None
    validation_rows: list[int] | None = None


class ScoringSummary(JsonModel):
    """What a scoring saw, as its report has it.

    Attributes
    ----------
    rows : int
    unseen : dict of str to float, optional
        By feature: share of the given ids that the model does not know; None where none was given.
    missing : dict of str to int
        By column: rows without a value.
    scores : ScoreSummary
    """

    rows: int
    unseen: dict[str, float | None]
    missing: dict[str, int]
    scores: ScoreSummary

    @classmethod
    def of(cls, counts: ScoringCounts, edges: np.ndarray, reference: ScoreDistribution | None) -> Self:
        """The summary of some counts.

        Parameters
        ----------
        counts : ScoringCounts
        edges : float array
            Of the bins of the scores.
        reference : ScoreDistribution or None
            Over the same bins; None where the model was registered without.
        """
        drift: dict[str, Any] = {"psi": None}
        if reference is None:
            drift["reason"] = "the model was registered without the distribution of its validation scores; register it again"
        elif not counts.rows:
            drift["reason"] = "there are no rows"
        else:
            drift = {"psi": population_stability_index(reference.rows, counts.bins), "validation_rows": reference.rows.tolist()}
        mean = counts.total / counts.rows if counts.rows else None
        scores = ScoreSummary(mean=mean, low=counts.low, high=counts.high, edges=edges.tolist(), rows=counts.bins, **drift)
        unseen = {name: counts.unseen[name] / given if given else None for name, given in counts.ids.items()}
        return cls(rows=counts.rows, unseen=unseen, missing=counts.missing, scores=scores)


def _distribution(score: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """What :class:`ScoringCounts` says of scores (rows,)."""
    counted: dict[str, Any] = {"bins": count_by_bin(score, edges).tolist(), "total": float(score.sum())}
    return counted | ({"low": float(score.min()), "high": float(score.max())} if len(score) else {})


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _flat(table: pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    column = table[name]
    return pa.array([], pa.null()) if pa.types.is_null(column.type) else pc.list_flatten(column)


def _unseen(lookup: Callable[[pa.ChunkedArray], np.ndarray], values: pa.Array | pa.ChunkedArray) -> int:
    return int((lookup(values) == UNKNOWN).sum()) if len(values) else 0


def _missing(table: pa.Table, name: str) -> int:
    if name not in table.column_names:
        return table.num_rows
    column = table[name]
    missing = column.null_count
    if pa.types.is_floating(column.type):  # what pandas writes for null
        missing += pc.sum(pc.is_nan(column)).as_py() or 0
    if name == "history" and not pa.types.is_null(column.type):
        missing += pc.sum(pc.equal(pc.list_value_length(column), 0)).as_py() or 0
    return int(missing)
