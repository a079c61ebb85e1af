"""What a scoring counts: literal rows, and that parts add up to the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ctr_kd.export.scoring_statistics import EVEN_EDGES, ScoringCounts, ScoringSummary, count_rows, looked_up
from ctr_kd.metrics.drift import ScoreDistribution, population_stability_index
from tests.signatures import click_signature

EDGES = {"item_age": [0.0, 1.0], "hour": [0.0]}


def lookup(known: set[str]) -> Callable[[Any], np.ndarray]:
    return lambda values: np.array([0 if v is None else 5 if str(v) in known else 1 for v in values.to_pylist()], np.int32)


def counted(table: pa.Table, score: np.ndarray, edges: np.ndarray) -> ScoringCounts:
    """By a model that knows the items 10 and 11 and the device phone."""
    known = {"item": lookup({"10", "11"}), "device": lookup({"phone"})}
    signature = click_signature(dense=EDGES)
    return count_rows(table, score, edges, signature=signature, seen=looked_up(table, signature, known))


def rows() -> pa.Table:
    return pa.table(
        {
            "item_id": [10, 12, None, 11],
            "timestamp": [1, 2, 3, 4],
            "history": [[10, 99], [], None, [11]],
            "device": ["phone", "tv", None, "tv"],
            "item_age": pa.array([1.0, float("nan"), None, 2.0]),
        }
    )


def test_literal_rows() -> None:
    score = np.array([0.1, 0.2, 0.3, 0.9])
    counts = counted(rows(), score, np.array([0.25, 0.5]))
    assert (counts.rows, counts.bins) == (4, [2, 1, 1])
    assert counts.ids == {"item": 3, "history": 3, "device": 3}
    assert counts.unseen == {"item": 1, "history": 1, "device": 2}
    assert counts.missing == {"item_id": 1, "timestamp": 0, "history": 2, "history_timestamps": 4, "device": 1, "item_age": 2, "hour": 4}
    assert (counts.total, counts.low, counts.high) == (pytest.approx(1.5), 0.1, 0.9)
    reference = ScoreDistribution(np.array([0.25, 0.5]), np.array([10, 10, 10]))
    report = ScoringSummary.of(counts, reference.edges, reference).to_json()
    assert report["unseen"] == {"item": 1 / 3, "history": 1 / 3, "device": 2 / 3}
    assert report["scores"]["psi"] == population_stability_index([10, 10, 10], [2, 1, 1])
    assert report["scores"]["mean"] == pytest.approx(0.375)


def test_parts_add_up_to_the_whole() -> None:
    score, edges = np.array([0.1, 0.2, 0.3, 0.9]), EVEN_EDGES
    whole = counted(rows(), score, edges)
    parts = ScoringCounts()
    for begin, end in ((0, 1), (1, 1), (1, 3), (3, 4)):
        parts += ScoringCounts.from_dict(counted(rows().slice(begin, end - begin), score[begin:end], edges).to_dict())
    assert parts.to_dict() == whole.to_dict() | {"total": pytest.approx(whole.total)}


def test_no_rows_and_no_reference_are_said() -> None:
    nothing = counted(rows().slice(0, 0), np.zeros(0), EVEN_EDGES)
    report = ScoringSummary.of(nothing, EVEN_EDGES, None).to_json()
    assert report["scores"]["psi"] is None and "register it again" in report["scores"]["reason"]
    assert report["unseen"] == {"item": None, "history": None, "device": None}
    assert report["scores"]["mean"] is None
