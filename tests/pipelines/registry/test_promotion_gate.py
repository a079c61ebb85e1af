"""The gate: pure decisions."""

from __future__ import annotations

from typing import Any

import pytest

from ctr_kd.evaluation.tables import MetricDifference, MetricValue
from pipelines.config.register import RegisterConfig
from pipelines.registry.latency import Latency
from pipelines.registry.promotion_gate import (
    Check,
    ModelFigures,
    at_least,
    champion_checks,
    decide,
    export_checks,
    gate_table,
    model_checks,
    refusal,
)

GOOD: dict[str, Any] = {
    "auc": {"value": 0.72, "low": 0.70, "high": 0.74},
    "log_loss": {"value": 0.45, "low": 0.4, "high": 0.5},
    "calibration_error": 0.01,
    "calibration_ratio": 1.1,
}
BOUNDS = RegisterConfig(auc_min=0.7, calibration_error_max=0.05, parity_max=1e-4, log_loss_max=0.5, accuracy_min=0.6)


def names_of_failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def figures(unseen_share: float | None = 0.1, size: int = 1000, latency: float = 2.0, **metrics: Any) -> ModelFigures:
    typed = {name: MetricValue(**entry) if isinstance(entry, dict) else MetricValue(entry) for name, entry in (GOOD | metrics).items()}
    return ModelFigures(typed, unseen_share, size, Latency(latency, 2 * latency, 5, 40))


def test_a_good_student_passes() -> None:
    assert names_of_failed(model_checks(figures(accuracy={"value": 0.6}), BOUNDS)) == []
    assert names_of_failed(export_checks(1e-7, None, [], BOUNDS)) == []


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"auc": {"value": 0.69, "low": 0.6, "high": 0.75}}, "auc"),
        ({"auc": {"value": None, "reason": "all 9 labels are 1"}}, "auc"),
        ({"accuracy": {"value": 0.59}}, "accuracy"),
        ({"calibration_error": 0.06}, "calibration_error"),
        ({"calibration_error": {"value": None, "reason": "no rows"}}, "calibration_error"),
        ({"calibration_ratio": 0.4}, "calibration_ratio"),
        ({"calibration_ratio": 2.1}, "calibration_ratio"),
        ({"log_loss": {"value": 0.51}}, "log_loss"),
        ({"log_loss": {"value": float("inf")}}, "log_loss"),
        ({"unseen_share": 0.96}, "unseen_share"),
        ({"unseen_share": None}, "unseen_share"),
        ({"size": 2_000_000_001}, "bytes"),
        ({"latency": 100.1}, "latency_p99_ms"),
        ({"latency": float("nan")}, "latency_p99_ms"),
    ],
)
def test_each_bound_can_refuse(change: dict[str, Any], failed: str) -> None:
    assert set(names_of_failed(model_checks(figures(**change), BOUNDS))) == {failed}


def test_bounds_that_are_null_ask_for_nothing_more() -> None:
    bounds = RegisterConfig(calibration_ratio_min=None, calibration_ratio_max=None)
    found = model_checks(figures(calibration_ratio=9.0, log_loss=7.0), bounds)
    assert names_of_failed(found) == []
    assert "calibration_ratio" not in {check.name for check in found}
    assert names_of_failed(model_checks(figures(log_loss=float("inf")), bounds)) == ["log_loss"]


def test_the_export_can_refuse() -> None:
    assert names_of_failed(export_checks(1e-3, None, [], BOUNDS)) == ["parity"]
    assert names_of_failed(export_checks(float("nan"), None, [], BOUNDS)) == ["parity"]
    assert names_of_failed(export_checks(0.0, "it broke", [], BOUNDS)) == ["smoke_prediction"]
    assert names_of_failed(export_checks(0.0, None, ["teacher.weight"], BOUNDS)) == ["foreign_parameters"]


@pytest.mark.parametrize(
    ("low", "passed"),
    [(-0.004, True), (-0.005, True), (-0.006, False), (0.01, True), (None, False)],
)
@pytest.mark.parametrize("rank", ["auc", "accuracy"])
def test_the_champion_is_beaten_or_nearly_so_with_confidence(low: float | None, passed: bool, rank: str) -> None:
    champion = figures(**{rank: {"value": 0.7}})
    found = champion_checks({rank: MetricDifference(0.0, low=low), "log_loss": MetricDifference(0.0, high=0.0)}, champion.metrics, BOUNDS)
    assert names_of_failed(found) == ([] if passed else [f"{rank}_against_champion_low"])


@pytest.mark.parametrize(("high", "passed"), [(0.045, True), (0.046, False), (-1.0, True), (None, False)])
def test_the_log_loss_may_not_grow_by_more_than_a_share(high: float | None, passed: bool) -> None:
    found = champion_checks(
        {"auc": MetricDifference(0.0, low=0.0), "log_loss": MetricDifference(0.0, high=high, reason="one user")}, figures().metrics, BOUNDS
    )
    assert names_of_failed(found) == ([] if passed else ["log_loss_against_champion_high"])


def test_the_champion_stands_beside_the_challenger() -> None:
    found = model_checks(figures(), BOUNDS, figures(0.2, 2000, 3.0, auc={"value": 0.71}))
    beside = {check.name: check.champion for check in found}
    assert (beside["auc"], beside["unseen_share"], beside["bytes"], beside["latency_p99_ms"]) == (0.71, 0.2, 2000, 3.0)
    shown = gate_table(decide([*found, *export_checks(0.0, None, [], BOUNDS)], "2", "1"))
    assert shown.splitlines()[1].split() == ["auc", "0.72", "0.71", ">=", "0.7", "yes"]
    assert shown.splitlines()[-1].split() == ["foreign_parameters", "0", "-", "<=", "0", "yes"]


def test_a_range_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"calibration_ratio_min \(3\) must be below calibration_ratio_max \(2\)"):
        RegisterConfig(calibration_ratio_min=3)


def test_a_decision_names_the_champion_after_it() -> None:
    good, bad = at_least("auc", 0.8, 0.7), at_least("auc", 0.6, 0.7)
    assert decide([good], "2", "1").champion_after == "2"
    assert decide([good, bad], "2", "1").champion_after == "1"
    assert decide([bad], "1", None).champion_after is None


def test_a_refusal_is_one_line_and_a_table() -> None:
    checks = [at_least("auc", 0.6, 0.7), at_least("gauc", None, 0.5, "all labels are 1"), at_least("x", 1.0, 0.5)]
    refused = refusal(decide(checks, "2", "1"))
    assert str(refused) == "the gate refused version 2: auc (0.6, must be >= 0.7); gauc (all labels are 1); version 1 stays champion"
    assert refused.table.splitlines()[1:] == [
        "auc    0.6        >= 0.7  NO",
        "gauc   undefined  >= 0.5  NO",
        "x      1          >= 0.5  yes",
    ]
