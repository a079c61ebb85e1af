"""Rows per second: of the rows that are asked about, after a few that nobody counts."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.tasks.timing import rate_of


def test_a_rate_is_that_of_all_rows_after_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 2.0, 2.5])  # the start, before and behind the only turn, and the end
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("pipelines.tasks.timing.TIMED_SECONDS", 1.0)
    monkeypatch.setattr("pipelines.tasks.timing.TIMED_ROWS", 95)
    asked: list[int] = []
    rate = rate_of(lambda rows: asked.append(rows.num_rows), pa.table({"a": range(200)}))
    assert asked == [10, 95]
    assert rate == 95 / 2.5


def test_of_no_rows_there_is_no_rate() -> None:
    assert rate_of(len, pa.table({"a": []})) is None
