"""Boosted trees on all that is known of a row but its ids: what somebody would use instead of a network, and a teacher.

They see what was known at the time of the row: numbers (statistics, dense context, the length of the history), categories (context,
attributes of the item and of the user), and ratios of counts in windows. What a model knows about ids is stale within hours on a news
log; statistics hardly age, so the trees are hard to beat. LightGBM grows them where it is installed, scikit-learn elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from ctr_kd.baselines.columns import Columns, categories, numbers
from ctr_kd.baselines.tree_libraries import FITS, Inputs, LabelledRows, Library, Trees, TreeSettings, installed_library
from ctr_kd.data.samples import of_mean_one
from ctr_kd.metrics.checks import Floats, UndefinedMetric, check_rows, require_both_labels
from feature_store.config_types import parse_duration

_CERTAIN = 1e-6  # from 0 and from 1: no row is more certain than that


@dataclass(frozen=True)
class TreeColumns:
    """What trees read, and how it becomes a matrix.

    Attributes
    ----------
    numeric : tuple of str
        Columns of numbers; null is a value of its own.
    ratios : tuple of (str, str)
        Pairs of them, see :func:`window_ratios`: the first over the second + 1.
    categories : dict of str to pyarrow.Array
        Known values of each categorical column as texts, most frequent first; any other value is treated as null.
    """

    numeric: tuple[str, ...]
    ratios: tuple[tuple[str, str], ...]
    categories: dict[str, pa.Array]

    MOST_CATEGORIES = 250  # a library puts a value of a column into one of 255 bins

    @classmethod
    def of(cls, columns: Columns, numeric: Sequence[str], categorical: Sequence[str]) -> TreeColumns:
        """Those of training rows."""
        if not numeric and not categorical:
            raise ValueError("boosted trees need at least one column")
        known = {name: most_frequent(categories(columns, name), cls.MOST_CATEGORIES) for name in categorical}
        return cls(tuple(numeric), tuple(window_ratios(numeric)), known)

    def __len__(self) -> int:
        return len(self.numeric) + len(self.ratios) + len(self.categories)

    def is_categorical(self) -> list[bool]:
        """Of each column of the matrix."""
        return [False] * (len(self.numeric) + len(self.ratios)) + [True] * len(self.categories)

    def matrix(self, columns: Columns) -> Inputs:
        """Inputs of the trees: numbers, ratios, then positions among the known categories; nan is null.

        It is filled column by column: of the largest tables nothing else is ever there twice.
        """
        place = {name: number for number, name in enumerate(self.numeric)}
        first = numbers(columns, self.numeric[0]) if self.numeric else categories(columns, next(iter(self.categories)))
        inputs = np.empty((len(first), len(self)), np.float32, order="F")
        for name, number in place.items():
            inputs[:, number] = numbers(columns, name)
        for number, (shorter, longer) in enumerate(self.ratios, len(place)):
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = inputs[:, place[shorter]] / (inputs[:, place[longer]] + 1)
            inputs[:, number] = np.where(np.isfinite(ratio), ratio, np.nan)
        for number, (name, known) in enumerate(self.categories.items(), len(place) + len(self.ratios)):
            coded = categories(columns, name)
            position = pc.index_in(coded.dictionary, known).take(coded.indices)
            inputs[:, number] = pc.cast(position, pa.float32()).to_numpy(zero_copy_only=False)
        return inputs


@dataclass(frozen=True)
class BoostedTrees:
    """Gradient-boosted trees, no ids.

    The number of trees is the one with the least log loss on the validation rows, which come after the training rows in time; a random
    part of the training rows would say how well the trees know yesterday.

    Attributes
    ----------
    columns : TreeColumns
    library : str
        What grew them: ``lightgbm`` or ``scikit-learn``.
    trees : Trees
    """

    columns: TreeColumns
    library: Library
    trees: Trees

    @classmethod
    def fit(
        cls,
        columns: Columns,
        label: ArrayLike,
        validation: Columns,
        validation_label: ArrayLike,
        *,
        numeric: Sequence[str],
        categorical: Sequence[str] = (),
        weight: NDArray | None = None,
        validation_weight: NDArray | None = None,
        library: Library | None = None,
        settings: TreeSettings | None = None,
        seed: int = 0,
        report: Callable[[str], None] | None = None,
    ) -> BoostedTrees:
        """Fit on training rows, choose the number of trees on validation rows.

        Parameters
        ----------
        columns, validation : mappings of name to array, shape (rows,)
        label, validation_label : arrays of 0 and 1, shape (rows,)
        numeric, categorical : sequences of str
            Names of the columns to use.
        weight, validation_weight : float arrays (rows,), optional
            How much each row counts; the number of rows in a leaf is one of rows all the same.
        library : str, optional
            ``lightgbm`` or ``scikit-learn``; by default the first where it is installed.
        settings : TreeSettings, optional
            By default those for so many rows.
        seed : int
        report : callable, optional
            Takes one line of progress.

        Raises
        ------
        UndefinedMetric
            When either set of rows has no rows or only one label.
        """
        clicked, validation_clicked = _labels(label, "training"), _labels(validation_label, "validation")
        installed = installed_library()
        if report and library is None and installed.trouble:
            report(installed.trouble)
        library = library or installed.name
        read = TreeColumns.of(columns, numeric, categorical)
        # Nothing else holds the training rows, so that a library may let them go once it has put them into bins.
        trees = FITS[library](
            LabelledRows(read.matrix(columns), clicked, None if weight is None else of_mean_one(weight)),
            LabelledRows(
                read.matrix(validation), validation_clicked, None if validation_weight is None else of_mean_one(validation_weight)
            ),
            read.is_categorical(),
            settings or TreeSettings.for_rows(len(clicked)),
            seed,
        )
        if report:
            report(
                f"boosted trees ({library}): {trees.count} trees on {len(clicked):,} rows and {len(read)} columns, "
                f"validation log loss {trees.validation_losses[trees.count - 1]:.5f}"
            )
        return cls(read, library, trees)

    def predict(self, columns: Columns) -> Floats:
        """Click probability of each row, shape (rows,)."""
        return 1 / (1 + np.exp(-self._log_odds(columns)))

    def logits(self, columns: Columns) -> Floats:
        """What they say as a teacher: logits (rows, 1) of probabilities kept 1e-6 away from 0 and 1, since no row is that certain."""
        most = np.log((1 - _CERTAIN) / _CERTAIN)
        return self._log_odds(columns).clip(-most, most)[:, None]

    def _log_odds(self, columns: Columns) -> Floats:
        inputs = self.columns.matrix(columns)
        return self.trees.log_odds(inputs) if len(inputs) else np.zeros(0)


def window_ratios(names: Sequence[str]) -> list[tuple[str, str]]:
    """Columns called ``PREFIX_WINDOW``, each with that of the next longer window of the same prefix: whether something rises or fades.

    One ratio less than there are windows: what a tree would need of two more distant ones, it has as two splits.

    Examples
    --------
    >>> window_ratios(["item_clicks_10m", "item_clicks_1h", "item_clicks_1d", "item_ctr", "item_referrer_clicks_1h", "hour"])
    [('item_clicks_10m', 'item_clicks_1h'), ('item_clicks_1h', 'item_clicks_1d')]
    """
    windows: dict[str, list[tuple[timedelta, str]]] = defaultdict(list)
    for name in names:
        prefix, _, end = name.rpartition("_")
        try:
            windows[prefix].append((parse_duration(end), name))
        except ValueError:
            continue
    return [(shorter, longer) for found in windows.values() for (_, shorter), (_, longer) in pairwise(sorted(found))]


def most_frequent(coded: pa.DictionaryArray, most: int) -> pa.Array:
    """The most frequent values as texts; ties in the order of the text.

    Examples
    --------
    >>> most_frequent(pa.array(["tv", "pc", None, "pc", "app"]).dictionary_encode(), 2).to_pylist()
    ['pc', 'app']
    """
    counts = pc.value_counts(coded.indices.drop_null())
    table = pa.table({"value": coded.dictionary.take(counts.field("values")), "count": counts.field("counts")})
    table = table.group_by("value").aggregate([("count", "sum")])
    return table.sort_by([("count_sum", "descending"), ("value", "ascending")])["value"].combine_chunks()[:most]


def _labels(label: ArrayLike, kind: str) -> NDArray[np.bool_]:
    clicked, _ = check_rows(label, np.zeros(np.shape(label)))
    try:
        require_both_labels(clicked)
    except UndefinedMetric as undefined:
        raise UndefinedMetric(f"{kind} rows: {undefined.reason}") from None
    return clicked
