"""Permutation importance of columns: groups together, each by itself, and intervals that cover the permutation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ctr_kd.evaluation.column_importance import column_importance
from ctr_kd.metrics import auc_score
from ctr_kd.metrics.checks import UndefinedMetric


def test_what_is_read_is_worth_something_and_the_rest_exactly_nothing() -> None:
    rng, rows = np.random.default_rng(0), 2000
    one, two, noise = rng.normal(size=(3, rows))
    label = (one + two + rng.normal(size=rows) > 0).astype(int)
    table, user = pa.table({"one": one, "two": two, "noise": noise}), np.arange(rows) // 4

    def score(rows: pa.Table) -> np.ndarray:
        return rows["one"].to_numpy() + rows["two"].to_numpy()

    groups = {"both": ["one", "two"], "one": ["one"], "noise": ["noise"]}
    found = column_importance(score, table, label, user, groups, replicates=50, seed=3)
    assert list(found) == list(groups)
    assert (found["noise"].difference, found["noise"].low, found["noise"].high) == (0, 0, 0)
    assert found["both"].low > found["one"].high > found["one"].low > 0
    order = np.random.default_rng(3).permutation(rows)
    assert found["one"].difference == pytest.approx(auc_score(label, one + two) - auc_score(label, one[order] + two))
    # the columns of a group keep what they say of each other
    assert found["both"].difference == pytest.approx(auc_score(label, one + two) - auc_score(label, (one + two)[order]))


def test_rows_that_a_permutation_leaves_as_they_are_are_not_scored_again() -> None:
    rng, rows = np.random.default_rng(0), 2000
    often_zero = np.where(rng.random(rows) < 0.9, 0.0, rng.normal(size=rows))
    often_zero[rng.random(rows) < 0.2] = np.nan
    other = rng.normal(size=rows)
    label = (np.nan_to_num(often_zero) + other + rng.normal(size=rows) > 0).astype(int)
    table, user, asked = pa.table({"often_zero": often_zero, "other": other}), np.arange(rows) // 4, []

    def score(rows: pa.Table) -> np.ndarray:
        asked.append(rows.num_rows)
        return np.nan_to_num(rows["often_zero"].to_numpy()) + rows["other"].to_numpy()

    order = np.random.default_rng(3).permutation(rows)
    whole = score(table)
    expected = auc_score(label, whole) - auc_score(label, np.nan_to_num(often_zero)[order] + other)
    found = column_importance(score, table, label, user, {"a": ["often_zero"]}, scores=whole, replicates=20, seed=3)
    both = np.stack([often_zero, often_zero[order]])
    moved = int((~((both[0] == both[1]) | np.isnan(both).all(axis=0))).sum())
    assert asked == [rows, moved] and moved < 0.6 * rows
    assert found["a"].difference == expected
    assert found == column_importance(score, table, label, user, {"a": ["often_zero"]}, replicates=20, seed=3)


def test_one_label_or_one_user_tell_nothing() -> None:
    table = pa.table({"a": [0.1, 0.2]})
    for label, user in (([1, 1], [0, 1]), ([0, 1], [0, 0])):
        with pytest.raises(UndefinedMetric):
            column_importance(lambda rows: rows["a"].to_numpy(), table, label, user, {"a": ["a"]})


def test_weighted_rows_count_as_repeated_ones() -> None:
    rng, rows = np.random.default_rng(0), 200
    value, times = rng.normal(size=rows), rng.integers(0, 3, rows)
    label, again, order = (value + rng.normal(size=rows) > 0).astype(int), np.repeat(np.arange(rows), times), np.random.default_rng(3)
    table, permuted = pa.table({"a": value}), value[order.permutation(rows)]
    found = column_importance(
        lambda rows: rows["a"].to_numpy(), table, label, np.arange(rows) // 4, {"a": ["a"]}, weight=times, replicates=20, seed=3
    )
    expected = auc_score(label[again], value[again]) - auc_score(label[again], permuted[again])
    assert found["a"].difference == pytest.approx(expected) and found["a"].low > 0
