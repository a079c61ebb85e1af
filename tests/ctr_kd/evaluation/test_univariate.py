"""What a column tells by itself, on columns that are written out, and against a plain loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_kd.evaluation.univariate import Column, FeatureFigures, WindowFigures, measure_feature

NAN = math.nan


def column(value: list[float], clicked: list[int]) -> Column:
    return Column(np.array(value, np.float32), np.array(clicked, bool))


def window(value: list[float], clicked: list[int]) -> WindowFigures:
    """The figures of a column in one window; the other holds the same."""
    return measure_feature(column(value, clicked), column(value, clicked)).train


@pytest.mark.parametrize(
    ("value", "clicked", "auc"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 2, 2, 1], [0, 0, 1, 1], 0.5),
        ([7, 7, 7, 7], [0, 0, 1, 1], 0.5),  # the same everywhere: it tells nothing, and that is known
        ([1, 2, 3, NAN], [0, 1, 1, 0], 1.0),  # the row without a value is in no pair
        ([1, 2, 3, math.inf], [0, 1, 1, 0], 1.0),
    ],
)
def test_the_auc_is_of_the_rows_that_have_a_value(value: list[float], clicked: list[int], auc: float) -> None:
    assert window(value, clicked).auc.to_json() == auc


@pytest.mark.parametrize(
    ("value", "clicked", "reason"),
    [
        ([1, 2], [1, 1], "all 2 labels are 1"),
        ([1, NAN, 3], [0, 1, 0], "all 2 labels are 0 where there is a value"),
        ([NAN, NAN], [0, 1], "none of the 2 rows has a value"),
        ([], [], "there are no rows"),
    ],
)
def test_what_is_undefined_is_null_with_its_reason(value: list[float], clicked: list[int], reason: str) -> None:
    assert window(value, clicked).auc.to_json() == {"value": None, "reason": reason}


def test_nulls_are_counted_and_have_an_auc_of_their_own() -> None:
    found = window([NAN, NAN, NAN, 5], [1, 1, 0, 0])
    assert (found.rows, found.nulls, found.null_clicks) == (4, 3, 2)
    assert found.null_auc.value == 0.75  # both clicks are null, and one of two others
    assert found.to_json()["null_share"] == 0.75
    assert window([1, 2], [0, 1]).null_auc.reason == "every row has a value"
    assert window([NAN, 2], [1, 1]).null_auc.reason == "all 2 labels are 1"


def test_quantiles_have_the_digits_of_the_column() -> None:
    found = window([0.1, 0.2, 0.3, 0.4, 0.5, NAN], [0, 1, 0, 1, 0, 1]).quantiles
    assert found is not None and found == pytest.approx(
        {"min": 0.1, "p5": 0.12, "p25": 0.2, "p50": 0.3, "p75": 0.4, "p95": 0.48, "max": 0.5}
    )
    assert (found["min"], found["p50"], found["max"]) == (0.1, 0.3, 0.5)
    assert window([NAN], [0]).quantiles is None


def test_one_label_on_validation_and_no_value_in_training() -> None:
    found = measure_feature(column([NAN] * 3, [0, 1, 1]), column([1, 2, 3], [1, 1, 1]))
    assert found.clicks_at is None and found.strength == -1 and found.leak is None
    assert found.psi.reason == "no row of training has a value" and found.psi_by_chance is None
    assert "NaN" not in json.dumps(found.to_json())


def test_the_direction_is_that_of_training() -> None:
    falling, rising = column([4, 3, 2, 1], [0, 0, 1, 1]), column([1, 2, 3, 4], [0, 0, 1, 1])
    assert measure_feature(falling, rising).clicks_at == "lower"
    assert measure_feature(falling, rising).strength == 0.5
    assert measure_feature(column([7, 7], [0, 1]), rising).clicks_at == "higher"


ENOUGH = [0] * 10 + [1] * 10


def leak(value: list[float], clicked: list[int]) -> str | None:
    same = column([3.0] * 20, ENOUGH)
    return measure_feature(same, column(value, clicked)).leak


def test_a_column_that_knows_the_click_is_said() -> None:
    assert leak([float(label) for label in ENOUGH], ENOUGH) == "its values alone tell clicks from the rest, AUC 1.0000 on validation"
    assert leak([-float(label) for label in ENOUGH], ENOUGH) == "its values alone tell clicks from the rest, AUC 1.0000 on validation"
    assert leak([NAN if label else 1.0 for label in ENOUGH], ENOUGH) == (
        "where it is null alone tells clicks from the rest, AUC 1.0000 on validation"
    )
    swapped = [1.0, *[0.0] * 9, 0.0, *[1.0] * 9]  # one of ten on either side is wrong
    assert leak(swapped, ENOUGH) is None
    assert leak([0.0, 1.0], [0, 1]) is None  # two rows say nothing
    known = column([float(label) for label in ENOUGH], ENOUGH)
    assert "on training" in str(measure_feature(known, column([3.0] * 20, ENOUGH)).leak)


def test_drift_counts_nulls_as_a_value_of_their_own() -> None:
    clicked = [0, 1] * 50
    value = [float(row) for row in range(100)]
    same = measure_feature(column(value, clicked), column(value, clicked))
    assert same.psi.value == 0.0
    gone = measure_feature(column(value, clicked), column([NAN] * 50 + value[50:], clicked))
    assert gone.psi.value is not None and gone.psi_by_chance is not None and gone.psi.value > 1 > gone.psi_by_chance
    assert measure_feature(column(value, clicked), column([], [])).psi.reason == "validation has no rows"


@given(st.lists(st.tuples(st.sampled_from([None, 0.0, 1.0, 2.5]), st.booleans()), max_size=12))
def test_the_aucs_are_those_of_a_plain_loop(rows: list[tuple[float | None, bool]]) -> None:
    def auc(scored: list[tuple[float, bool]]) -> float | None:
        pairs = [(one > other) + (one == other) / 2 for one, label in scored if label for other, no in scored if not no]
        return sum(pairs) / len(pairs) if pairs else None

    found = window([NAN if value is None else value for value, _ in rows], [int(label) for _, label in rows])
    expected = auc([(value, label) for value, label in rows if value is not None])
    assert (found.auc.value is None) == (expected is None)
    assert found.auc.value == pytest.approx(expected)
    by_null = auc([(float(value is None), label) for value, label in rows]) if any(value is None for value, _ in rows) else None
    assert (found.null_auc.value is None) == (by_null is None)
    assert found.null_auc.value == pytest.approx(by_null)


def test_a_file_of_it_has_every_key() -> None:
    found = measure_feature(column([1, 2], [0, 1]), column([1, 2], [0, 1]))
    assert isinstance(found, FeatureFigures)
    assert list(found.to_json()) == ["clicks_at", "leak", "psi", "psi_by_chance", "train", "validation"]
    assert list(found.to_json()["train"]) == ["rows", "clicks", "nulls", "null_clicks", "null_share", "quantiles", "auc", "null_auc"]


def test_weighted_rows_count_as_repeated_ones_in_the_auc():
    value, clicked, times = [1.0, 2.0, 3.0, math.nan, 0.0], [False, True, False, True, True], [3, 1, 2, 5, 0]
    weighted = measure_feature(*[Column(*column(value, clicked)[:2], np.array(times, float))] * 2).train
    repeated = measure_feature(*[column(np.repeat(value, times), np.repeat(clicked, times))] * 2).train
    assert weighted.auc.value == pytest.approx(repeated.auc.value) == pytest.approx(3 / 5)
    assert (weighted.rows, weighted.clicks, weighted.nulls) == (5, 3, 1)
    nothing = measure_feature(*[Column(*column(value, clicked)[:2], np.zeros(5))] * 2).train
    assert nothing.auc.value is None and nothing.auc.reason == "there are no rows where there is a value"
