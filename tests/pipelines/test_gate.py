"""The gate: pure decisions."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import RegisterConfig
from pipelines.gate import Check, GateRefused, absolute_checks, at_least, champion_check, decide, gate_table

GOOD: dict[str, Any] = {
    "auc": {"value": 0.72, "low": 0.70, "high": 0.74},
    "log_loss": {"value": 0.45, "low": 0.4, "high": 0.5},
    "calibration_error": 0.01,
}
BOUNDS = RegisterConfig(auc_min=0.7, calibration_error_max=0.05, parity_max=1e-4)


def names_of_failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_a_good_student_passes() -> None:
    assert names_of_failed(absolute_checks(GOOD, 1e-7, None, [], BOUNDS)) == []


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"auc": {"value": 0.69, "low": 0.6, "high": 0.75}}, "auc"),
        ({"auc": {"value": None, "reason": "all 9 labels are 1"}}, "auc"),
        ({"calibration_error": 0.06}, "calibration_error"),
        ({"calibration_error": {"value": None, "reason": "no rows"}}, "calibration_error"),
        ({"log_loss": {"value": float("inf")}}, "log_loss"),
    ],
)
def test_each_metric_can_refuse(change: dict[str, Any], failed: str) -> None:
    assert names_of_failed(absolute_checks(GOOD | change, 1e-7, None, [], BOUNDS)) == [failed]


def test_the_export_can_refuse() -> None:
    assert names_of_failed(absolute_checks(GOOD, 1e-3, None, [], BOUNDS)) == ["parity"]
    assert names_of_failed(absolute_checks(GOOD, float("nan"), None, [], BOUNDS)) == ["parity"]
    assert names_of_failed(absolute_checks(GOOD, 0.0, "it broke", [], BOUNDS)) == ["smoke_prediction"]
    assert names_of_failed(absolute_checks(GOOD, 0.0, None, ["teacher.weight"], BOUNDS)) == ["student_alone"]


@pytest.mark.parametrize(
    ("low", "passed"),
    [(-0.004, True), (-0.005, True), (-0.006, False), (0.01, True), (None, False)],
)
def test_the_champion_is_beaten_or_nearly_so_with_confidence(low: float | None, passed: bool) -> None:
    assert champion_check({"low": low}, margin=0.005).passed is passed


def test_a_decision_names_the_champion_after_it() -> None:
    good, bad = at_least("auc", 0.8, 0.7), at_least("auc", 0.6, 0.7)
    assert decide([good], "2", "1")["champion_after"] == "2"
    assert decide([good, bad], "2", "1")["champion_after"] == "1"
    assert decide([bad], "1", None)["champion_after"] is None


def test_a_refusal_is_one_line_and_a_table() -> None:
    checks = [at_least("auc", 0.6, 0.7), at_least("gauc", None, 0.5, "all labels are 1"), at_least("x", 1.0, 0.5)]
    refused = GateRefused(decide(checks, "2", "1"))
    assert str(refused) == "the gate refused version 2: auc (0.6, must be >= 0.7); gauc (all labels are 1); version 1 stays champion"
    assert gate_table(refused.gate).splitlines()[1:] == [
        "auc    0.6        >= 0.7  NO",
        "gauc   undefined  >= 0.5  NO",
        "x      1          >= 0.5  yes",
    ]
