"""The gate on parts of the rows."""

from __future__ import annotations

import pytest

from ctr_kd.evaluation.tables import MetricDifference
from pipelines.config.register import RegisterConfig
from pipelines.registry.slices import PartDifference, slice_checks


def part(value: str, high: float, rows: int = 2000) -> PartDifference:
    return PartDifference(value, rows, MetricDifference(high - 0.01, high - 0.02, high))


@pytest.mark.parametrize(("high", "passed"), [(0.01, True), (-0.019, True), (-0.021, False)])
def test_a_column_passes_as_its_worst_part_does(high: float, passed: bool) -> None:
    (check,) = slice_checks({"device": [part("phone", 0.02), part("tv", high)]}, RegisterConfig())
    assert (check.name, check.value, check.bound, check.passed) == ("slice_device", high, ">= -0.02", passed)
    assert check.measured is not None and check.measured.startswith("worst of 2 parts: tv ")


def test_all_that_are_behind_are_named_up_to_a_few() -> None:
    parts = [part(f"c{n}", -0.1 - n / 100) for n in range(5)]
    (check,) = slice_checks({"category": parts}, RegisterConfig())
    assert check.measured is not None and check.measured.count(" on 2,000 rows") == 3 and check.measured.endswith(" and 2 more")
    assert "c4 -0.1500" in check.measured and "c0" not in check.measured


def test_a_column_without_large_parts_refuses_nothing_and_says_so() -> None:
    (check,) = slice_checks({"category": []}, RegisterConfig())
    assert check.passed and check.value is None
    assert check.reason == "no part has 1,000 rows and clicks that tell two models apart"
