"""Two models without a network, below which no teacher and no student should fall: popularity and boosted trees.

Both see what was known at the time of the row and no ids: the as-of statistics, and the trees the context as well. What a
model knows about ids is stale within hours on a news log; statistics hardly age, so the trees are hard to beat.

Columns come as a mapping of name to array (NumPy, pandas or Arrow); a ``pyarrow.Table`` or a data frame is one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression

from ctr_kd.metrics.checks import Floats, UndefinedMetric, check_rows, require_both_labels


class Columns(Protocol):
    """Anything that gives a column by its name: a dict of arrays, a pyarrow.Table, a data frame."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Popularity:
    """Click probability from the clicks of the candidate so far: the recent ones first, the older ones where those tie.

    The probability is an isotonic fit on the training rows with a slight slope (`RAMP` in all) laid over it. So the rows stay in the
    order of their counts also where the fit is flat, and have a log loss all the same. Should popular items be clicked less, which
    happens where candidates are drawn by popularity, the order stays that of popularity (its AUC is then below 0.5) and the
    probability is the average rate.
    """

    counts: tuple[str, str]
    grid: Floats  # (points,), rising
    rate: Floats  # (points,), strictly rising

    RAMP = 1e-4

    @classmethod
    def fit(cls, columns: Columns, label: ArrayLike, counts: tuple[str, str]) -> Popularity:
        """Fit on training rows.

        Parameters
        ----------
        columns : mapping of name to array, shape (rows,)
        label : array of 0 and 1, shape (rows,)
        counts : (str, str)
            Columns with the recent clicks and the clicks of a longer window; null counts as 0.
        """
        order = _popularity(columns, counts)
        clicked, order = check_rows(label, order)
        if not len(order):
            raise UndefinedMetric("popularity cannot be fitted: there are no training rows")
        grid, inverse, rows = np.unique(order, return_inverse=True, return_counts=True)
        rates = np.bincount(inverse, weights=clicked) / rows
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(grid, rates, sample_weight=rows).predict(grid)
        if len(grid) > 10_000:
            kept = np.unique(np.linspace(0, len(grid) - 1, 10_000).astype(np.int64))
            grid, fitted = grid[kept], fitted[kept]
        # Points below and far above the training counts, so that any item is still in its place among them.
        beyond = grid[-1] + 10.0 ** np.arange(13)
        ramp = np.concatenate([np.linspace(0, 0.5, len(grid) + 2)[1:], np.linspace(0.5, 1, len(beyond) + 2)[1:-1]])
        grid = np.concatenate([[-1.0], grid, beyond])
        fitted = np.concatenate([fitted[:1], fitted, np.full(len(beyond), fitted[-1])])
        return cls(counts, grid, (1 - cls.RAMP) * fitted + cls.RAMP * ramp)

    def predict(self, columns: Columns) -> Floats:
        """Click probability of each row, shape (rows,).

        Examples
        --------
        >>> train = {"recent": [0, 0, 3, 3], "older": [0, 0, 5, 5]}
        >>> model = Popularity.fit(train, label=[0, 0, 0, 1], counts=("recent", "older"))
        >>> probability = model.predict({"recent": [0, 3, 3], "older": [0, 5, 6]})
        >>> probability.round(2).tolist(), bool(probability[1] < probability[2])
        ([0.0, 0.5, 0.5], True)
        """
        return np.interp(_popularity(columns, self.counts), self.grid, self.rate)


def _popularity(columns: Columns, counts: tuple[str, str]) -> Floats:
    """Recent clicks plus a fraction that grows with the older ones: one number in the lexicographic order of both counts."""
    recent, older = (np.nan_to_num(_numbers(_column(columns, name)), nan=0.0) for name in counts)
    return recent + older / (1 + older)


@dataclass(frozen=True)
class BoostedTrees:
    """Gradient-boosted trees on the as-of statistics and the categorical context, no ids.

    The number of trees is the one with the least log loss on the validation rows, which come after the training rows in time; a random
    part of the training rows would say how well the trees know yesterday.

    Attributes
    ----------
    statistics : tuple of str
        Numeric columns; null is a value of its own.
    categories : dict of str to pyarrow.Array
        Known values of each categorical column, most frequent first; any other value is treated as null.
    model : HistGradientBoostingClassifier
    trees : int
        Trees used: those with the least validation loss.
    validation_losses : tuple of float
        Log loss on validation after each tree.
    """

    statistics: tuple[str, ...]
    categories: dict[str, pa.Array]
    model: HistGradientBoostingClassifier
    trees: int
    validation_losses: tuple[float, ...]

    MAX_CATEGORIES = 250

    @classmethod
    def fit(
        cls,
        columns: Columns,
        label: ArrayLike,
        validation: Columns,
        validation_label: ArrayLike,
        *,
        statistics: Sequence[str],
        categorical: Sequence[str] = (),
        max_rows: int = 1_000_000,
        max_validation_rows: int = 250_000,
        max_trees: int = 300,
        patience: int = 15,
        learning_rate: float = 0.1,
        max_leaves: int = 127,
        seed: int = 0,
        report: Callable[[str], None] | None = None,
    ) -> BoostedTrees:
        """Fit on training rows, choose the number of trees on validation rows.

        Parameters
        ----------
        columns, validation : mappings of name to array, shape (rows,)
        label, validation_label : arrays of 0 and 1, shape (rows,)
        statistics, categorical : sequences of str
            Names of the columns to use.
        max_rows, max_validation_rows : int
            More rows than these are cut to a seeded random sample: beyond a million rows a dozen statistics have no more to tell.
        max_trees, patience, learning_rate, max_leaves
            Of the boosting; it stops when validation has not improved for `patience` trees. A million rows and sixteen columns take
            some ten seconds on two idle cores; where the cores are shared, ``OMP_WAIT_POLICY=PASSIVE`` in the environment
            keeps the threads from spinning for each other, which multiplies that time.
        seed : int
        report : callable, optional
            Takes one line of progress.

        Raises
        ------
        UndefinedMetric
            When either set of rows has no rows or only one label.
        """
        statistics, categorical = tuple(statistics), tuple(categorical)
        if not statistics and not categorical:
            raise ValueError("boosted trees need at least one column")
        generator = np.random.default_rng(seed)
        rows, clicked = _sample(label, max_rows, generator, "training")
        validation_rows, validation_clicked = _sample(validation_label, max_validation_rows, generator, "validation")
        categories = {name: _frequent(_column(columns, name, rows), cls.MAX_CATEGORIES) for name in categorical}
        model = HistGradientBoostingClassifier(
            learning_rate=learning_rate,
            max_iter=max_trees,
            max_leaf_nodes=max_leaves,
            min_samples_leaf=max(1, min(200, len(clicked) // 100)),
            l2_regularization=1.0,
            categorical_features=[False] * len(statistics) + [True] * len(categorical),
            early_stopping=True,
            n_iter_no_change=patience,
            random_state=seed,
        )
        model.fit(
            _matrix(columns, statistics, categories, rows),
            clicked,
            X_val=_matrix(validation, statistics, categories, validation_rows),
            y_val=validation_clicked,
        )
        losses = [-float(score) for score in model.validation_score_[1:]]  # the first is the average rate, before any tree
        trees = 1 + int(np.argmin(losses))
        if report:
            report(f"boosted trees: {trees} trees on {len(clicked):,} rows, validation log loss {losses[trees - 1]:.5f}")
        return cls(statistics, categories, model, trees, tuple(losses))

    def predict(self, columns: Columns) -> Floats:
        """Click probability of each row, shape (rows,)."""
        inputs = _matrix(columns, self.statistics, self.categories, None)
        if not len(inputs):
            return np.zeros(0)
        # The classifier keeps the trees grown while it waited for an improvement; its staged output stops before them.
        logit = next(islice(self.model.staged_decision_function(inputs), self.trees - 1, None))
        return 1 / (1 + np.exp(-logit))

    def logits(self, columns: Columns) -> Floats:
        """What they say as a teacher: logits (rows, 1) of probabilities kept 1e-6 away from 0 and 1, since no row is that certain."""
        probability = self.predict(columns).clip(1e-6, 1 - 1e-6)
        return np.log(probability / (1 - probability))[:, None]


def _sample(label: ArrayLike, most: int, generator: np.random.Generator, kind: str) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_]]:
    """Rows to use (None for all) and their labels."""
    clicked, _ = check_rows(label, np.zeros(np.shape(label)))
    rows = np.sort(generator.choice(len(clicked), most, replace=False)) if len(clicked) > most else None
    clicked = clicked if rows is None else clicked[rows]
    try:
        require_both_labels(clicked)
    except UndefinedMetric as undefined:
        raise UndefinedMetric(f"{kind} rows: {undefined.reason}") from None
    return rows, clicked


def _column(columns: Columns, name: str, rows: NDArray[np.int64] | None = None) -> pa.Array:
    try:
        column = columns[name]
    except KeyError:
        raise ValueError(f"column {name} is missing") from None
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        column = pa.array(column, from_pandas=True)
    if rows is not None:
        column = column.take(pa.array(rows))
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(column: pa.Array) -> Floats:
    """Numbers as float64, null as nan."""
    return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)


def _texts(column: pa.Array) -> pa.Array:
    return pc.cast(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column, pa.string())


def _frequent(column: pa.Array, most: int) -> pa.Array:
    """The most frequent values as texts; ties in the order of the text."""
    counts = pc.value_counts(_texts(column).drop_null())
    table = pa.table({"value": counts.field("values"), "count": counts.field("counts")})
    return table.sort_by([("count", "descending"), ("value", "ascending")])["value"].combine_chunks()[:most]


def _matrix(columns: Columns, statistics: Sequence[str], categories: dict[str, pa.Array], rows: NDArray[np.int64] | None) -> Floats:
    """Inputs of the trees, shape (rows, statistics + categorical): numbers, then positions among the known categories; nan is null."""
    inputs = [_numbers(_column(columns, name, rows)) for name in statistics]
    inputs += [_numbers(pc.index_in(_texts(_column(columns, name, rows)), known)) for name, known in categories.items()]
    return np.column_stack(inputs)
