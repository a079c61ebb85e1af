"""The page of a search: whatever trials became, whichever keys were tried, and what is said first."""

from __future__ import annotations

from typing import Any

import pytest

from ctr_kd.report import render_tune
from ctr_kd.report.tuning import verdict

SPACE: dict[str, Any] = {
    "distill.alpha": {"low": 0.1, "high": 0.9, "log": False, "configured": 0.5},
    "distill.training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True, "configured": 2e-3},
    "distill.student": {"choices": [{"kind": "din"}, {"kind": "<b>pooled</b>"}], "log": False, "configured": {"kind": "din"}},
}


def trial(number: int, value: float | None, state: str = "trained", reason: str = "") -> dict[str, Any]:
    values = {"distill.alpha": 0.1 * number, "distill.training.learning_rate": 10.0 ** -(number + 1), "distill.student": {"kind": "din"}}
    return {
        "number": number,
        "configured": number == 0,
        "state": state,
        "value": value,
        "objective": value,
        "seconds": 12.0,
        "changes": {} if number == 0 else values,
        "reason": reason,
        "made": ["student"] if value else [],
        "bytes": 1000 if value else None,
        "parameters": 10 if value else None,
        "rows_per_second": None,
        "points": [[125, 0.6]],
    }


def finalist(number: int, value: float, difference: dict[str, float] | None, within: bool = True, seeds: int = 2) -> dict[str, Any]:
    mean = {"value": value, "low": value - 0.01, "high": value + 0.01, "seeds": [value] * seeds}
    shared = {"number": number, "configured": number == 0, "searched": value, "bytes": 1000, "changes": {}}
    return {**shared, "mean": mean, "difference": difference, "within_bounds": within}


def result(**changes: Any) -> dict[str, Any]:
    trials = [
        trial(0, 0.7),
        trial(1, 0.72),
        trial(2, None, "failed", "its process was <killed>"),
        trial(3, None, "stopped"),
        trial(4, 0.69),
    ]
    found = {
        "study": "demo-1",
        "seconds": 100.0,
        "metric": "auc",
        "space": SPACE,
        "trials": trials,
        "importance": {"distill.alpha": 0.8, "distill.training.learning_rate": 0.2},
        "finalists": [finalist(0, 0.7, None), finalist(1, 0.72, {"difference": 0.02, "low": 0.01, "high": 0.03})],
        "out": {"trial 4": "seed 1: it diverged"},
        "winner": 1,
        "changed": {"distill.alpha": {"from": 0.5, "to": 0.1}},
        "file": "mine.tuned.yaml",
        **changes,
    }
    return {**found, "verdict": verdict(found)}


def test_everything_is_on_the_page() -> None:
    page = render_tune(result())
    for text in ("Trial 1 replaces the configuration", "stopped early", "seed 1: it diverged", "mine.tuned.yaml", "+0.0200"):
        assert text in page
    assert "&lt;killed&gt;" in page and "<killed>" not in page and "<b>pooled</b>" not in page
    assert page.index(">distill.alpha<") < page.index(">distill.training.learning_rate<")
    assert "AUC on validation by trial" in page and page.count("<figure>") == 1 + len(SPACE)


def test_a_search_of_which_little_is_known_has_a_page() -> None:
    page = render_tune(result(finalists=[], winner=None, changed={}, out={}, importance={}, trials=[trial(0, 0.7)]))
    assert "No trial was trained with another seed, so nothing is changed" in page
    assert "Too few trials gave a student to tell" in page and "Key by key" not in page
    assert "accuracy" in render_tune(result(metric="accuracy")).lower()


@pytest.mark.parametrize(
    ("finalists", "winner", "expected"),
    [
        (
            [finalist(0, 0.7, None), finalist(1, 0.69, {"difference": -0.01})],
            None,
            "Nothing better was found than the configuration as it is",
        ),
        ([finalist(0, 0.7, None), finalist(1, 0.72, {"difference": 0.02}, within=False)], None, "breaks the bounds of cost (+0.0200 AUC)"),
        ([finalist(1, 0.72, None)], 1, "which gave no student: its own has AUC 0.7200 on validation over 2 other seeds"),
        ([finalist(1, 0.72, None, within=False)], None, "No finalist keeps the bounds of cost"),
        (
            [finalist(0, 0.7, None, within=False), finalist(1, 0.69, {"difference": -0.01})],
            1,
            "keeps the bounds of cost, which that breaks",
        ),
        ([finalist(0, 0.7, None), finalist(1, 0.7, {"difference": 0.001, "low": -0.1, "high": 0.1})], 1, "no more than chance makes"),
        (
            [finalist(0, 0.7, None), finalist(1, 0.7, {"difference": 0.02, "low": 0.01, "high": 0.03}, seeds=1)],
            1,
            "over 1 other seed, beyond what other users would change; what other seeds would, a single one cannot say.",
        ),
    ],
)
def test_what_is_said_first(finalists: list[dict[str, Any]], winner: int | None, expected: str) -> None:
    assert expected in verdict({"metric": "auc", "winner": winner, "finalists": finalists})
