"""The gate on boosted trees: a figure that is always there, and a bound that can refuse."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config.register import RegisterConfig
from pipelines.metrics import Metrics
from pipelines.registry.boosted_trees import boosted_trees_checks
from tests.pipelines.measured import metrics_of

MODELS: dict[str, Any] = {"student": {}, "student_alone": {}, "boosted_trees": {"library": "lightgbm"}}


def measured(low: float | None, shipped: str = "student", **more: Any) -> Metrics:
    """What ships is .002 better than the trees, from `low` to .004."""
    difference = {"difference": 0.002, "low": low, "high": None if low is None else 0.004, **more}
    return metrics_of(MODELS, comparisons={f"{shipped}-boosted_trees": {"auc": difference}}, shipped=shipped)


def test_without_a_bound_it_is_a_line_that_refuses_nothing() -> None:
    (check,) = boosted_trees_checks(measured(-0.5), RegisterConfig())
    assert (check.name, check.value, check.bound, check.passed) == ("boosted_trees_gain", -0.5, "any", True)
    assert check.measured == "lower end of what ships minus boosted trees (lightgbm) on the test rows, +0.0020 [-0.5000, +0.0040]"


@pytest.mark.parametrize(("low", "passed"), [(0.001, True), (0.0, True), (-0.001, False)])
@pytest.mark.parametrize("shipped", ["student", "student_alone"])
def test_a_bound_asks_it_of_what_ships_by_an_interval(low: float, passed: bool, shipped: str) -> None:
    (check,) = boosted_trees_checks(measured(low, shipped), RegisterConfig(boosted_trees_gain_min=0.0))
    assert (check.value, check.bound, check.passed) == (low, ">= 0", passed)


def test_an_undefined_interval_reaches_no_bound() -> None:
    unknown = measured(None, reason="one user")
    (open_,) = boosted_trees_checks(unknown, RegisterConfig())
    (asked,) = boosted_trees_checks(unknown, RegisterConfig(boosted_trees_gain_min=0.0))
    assert (open_.value, open_.passed, open_.reason) == (None, True, "one user")
    assert (asked.value, asked.passed, asked.reason) == (None, False, "one user")


def test_what_was_not_measured_is_not_asked_for() -> None:
    assert boosted_trees_checks(metrics_of({"student": {}}), RegisterConfig()) == []
