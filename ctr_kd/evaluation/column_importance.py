"""Permutation importance of the columns of a table, for models that read one: how much AUC is lost when some tell of other rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ctr_kd.metrics import auc_score
from ctr_kd.metrics.bootstrap import AucStatistic, Bootstrap, Difference, paired_difference
from ctr_kd.metrics.checks import Floats, UndefinedMetric

_WHOLE = ""


def column_importance(
    score: Callable[[pa.Table], Floats],
    rows: pa.Table,
    label: ArrayLike,
    user: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    *,
    scores: Floats | None = None,
    weight: ArrayLike | None = None,
    replicates: int = 300,
    seed: int = 0,
) -> dict[str, Difference]:
    """Drop in AUC when the columns of a group are permuted over the rows, all by one permutation.

    Parameters
    ----------
    score : callable
        Scores (rows,) of a table, each by its own row alone: rows that a permutation leaves as they are keep theirs.
    rows : pyarrow Table
    label : array of 0 and 1, shape (rows,)
    user : array of integers, shape (rows,)
    groups : mapping of str to sequence of str
        Columns of numbers by the name of the group.
    scores : float array (rows,), optional
        Of the rows as they are, where they are known already.
    weight : array, shape (rows,), optional
        Of each row in the AUC.
    replicates : int
        Resamples of users behind each interval.
    seed : int
        Of the permutation, which is the same for every group, and of the resamples.

    Returns
    -------
    dict of str to Difference
        By group: the AUC of the rows as they are less that of the permuted ones.

    Raises
    ------
    UndefinedMetric
        When only one label occurs, or the rows are of too few users for an interval.

    See Also
    --------
    ctr_kd.evaluation.importance.permutation_importance : the same for the inputs of a student, with the references.

    Examples
    --------
    >>> rows = pa.table({"tells": [0.1, 0.9] * 20, "noise": [0.5] * 40})
    >>> drops = column_importance(
    ...     lambda table: table["tells"].to_numpy(), rows, [0, 1] * 20, np.arange(40) // 2, {"a": ["tells"], "b": ["noise"]}
    ... )
    >>> drops["a"].low > 0.2, drops["b"].difference
    (True, 0.0)
    """
    order = np.random.default_rng(seed).permutation(rows.num_rows)
    bootstrap = Bootstrap(user, rows.num_rows, replicates=replicates, seed=seed)
    if obstacle := bootstrap.obstacle():
        raise UndefinedMetric(obstacle)
    known = score(rows) if scores is None else scores
    found = {_WHOLE: known} | {name: _permuted_scores(score, rows, known, columns, order) for name, columns in groups.items()}
    values = {name: auc_score(label, one, weight) for name, one in found.items()}
    statistics = {name: AucStatistic(label, one, bootstrap.unit, weight) for name, one in found.items()}
    resampled = bootstrap.values_of(statistics)
    return {name: paired_difference(values[_WHOLE], values[name], resampled[_WHOLE], resampled[name]) for name in groups}


def _permuted_scores(
    score: Callable[[pa.Table], Floats], rows: pa.Table, known: Floats, columns: Sequence[str], order: NDArray[np.int64]
) -> Floats:
    """Scores (rows,) with columns permuted. Most counts in a short window are 0 before and after: such rows need not be scored again."""
    changed = np.zeros(rows.num_rows, np.bool_)
    permuted = rows
    for column in columns:
        values = rows[column].to_numpy()
        changed |= (values != values[order]) & ~(np.isnan(values) & np.isnan(values[order]))
        permuted = permuted.set_column(permuted.column_names.index(column), column, rows[column].take(pa.array(order)))
    scores = known.copy()
    if changed.any():
        scores[changed] = score(permuted.filter(pa.array(changed)))
    return scores
