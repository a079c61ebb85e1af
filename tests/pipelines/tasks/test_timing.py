"""Rows per second: of the rows that are asked about, after a few that nobody counts."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.tasks.timing import rate_of


def test_a_rate_is_that_of_all_rows_after_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.tasks.timing.TIMED_SECONDS", 0.01)
    monkeypatch.setattr("pipelines.tasks.timing.TIMED_ROWS", 95)
    asked: list[int] = []
    rate = rate_of(lambda rows: asked.append(rows.num_rows), pa.table({"a": range(200)}))
    assert asked[0] == 10 and set(asked[1:]) == {95}
    assert rate is not None and 0 < rate <= 95 * len(asked) / 0.01


def test_of_no_rows_there_is_no_rate() -> None:
    assert rate_of(len, pa.table({"a": []})) is None
