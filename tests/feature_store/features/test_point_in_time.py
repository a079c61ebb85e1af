"""The leak test: assembled histories and statistics against a naive implementation that sees visible events only."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features.historical_features import features_for
from feature_store.features.training_set import assemble
from feature_store.tables.contracts import DataError
from tests.feature_store.logs import FEW, MINUTE, START, Event, Naive, random_event, short_or_long, with_listed, write_store

pytestmark = pytest.mark.slow

ENGINE = FeatureStoreConfig(threads=1, memory="500MB")
CONFIG = AssemblyConfig.model_validate(
    {
        "split": {"fractions": [0.5, 0.25, 0.25]},
        "candidates": {"per_click": 2, "window": "2h"},
        "history": {"max_length": 3},
        "statistics": {"windows": ["1h", "2h", "3h"], "co_clicks": {"window": "2h", "history": 2}},
        "vocabulary": {"min_count": 1},
    }
)


def events(has_impressions: bool) -> st.SearchStrategy[list[Event]]:
    """Few users, items and times, so that ties, repeats, late clicks and unknown times meet."""
    return with_listed(short_or_long(random_event(has_impressions, users=3, items=4, times=25)), users=3, items=4)


def same(found: float | None, expected: float | None) -> bool:
    return found is expected if found is None or expected is None else bool(np.float32(found) == np.float32(expected))


@pytest.mark.parametrize("has_impressions", [False, True])
def test_assembled_rows_equal_the_naive_ones(has_impressions: bool) -> None:
    @FEW
    @given(log=events(has_impressions))
    def check(log: list[Event]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = write_store(Path(folder) / "store", log, has_impressions)
            naive = Naive(log, CONFIG, has_impressions)
            out = Path(folder) / "out"
            try:
                summary = assemble(store, CONFIG, ENGINE, None, out)
            except DataError as error:
                assert "split" in str(error) or "holds no click" in str(error)  # as it must be for so small logs
                if not (out / "rows.parquet").exists():
                    return
                summary = None
            rows = pq.read_table(out / "rows.parquet").to_pylist()
            clicks = pq.read_table(out / "clicks.parquet").to_pydict()
            users, items = (pq.read_table(out / f"{kind}s.parquet")[f"{kind}_id"].to_pylist() for kind in ("user", "item"))
            assert [row["row_id"] for row in rows] == list(range(len(rows)))
            assert [(r["timestamp"], r["request"]) for r in rows] == sorted((r["timestamp"], r["request"]) for r in rows)
            for row in rows:
                t, user, item = row["timestamp"], users[row["user"]], items[row["item"]]
                history = naive.history(user, t)
                span = slice(row["history_start"], row["history_end"])
                assert [items[code] for code in clicks["item"][span]] == [e.item for e in history]
                assert clicks["timestamp"][span] == [e.time for e in history]
                assert clicks["time_known"][span] == [e.time_known for e in history]
                for name, expected in naive.statistics(user, item, t).items():
                    assert same(row[name], expected), (name, row, expected)
            shown = [e for e in naive.events if e.time_known]
            if has_impressions:
                assert sorted((users[r["user"]], items[r["item"]], r["timestamp"], r["label"]) for r in rows) == sorted(
                    (e.user, e.item, e.time, e.clicked) for e in shown
                )
            else:
                eligible = [e for e in shown if naive.in_window(e.item, e.time) > 0]
                positive = [r for r in rows if r["label"]]
                assert sorted((users[r["user"]], items[r["item"]], r["timestamp"]) for r in positive) == sorted(
                    (e.user, e.item, e.time) for e in eligible
                )
                assert all(naive.in_window(items[r["item"]], r["timestamp"]) > 0 for r in rows)
                if summary:
                    assert summary.excluded["item_not_live"] == len(shown) - len(eligible)
            whole = [
                (u, t, i, k)
                for u, t, i, k, c in zip(*(clicks[n] for n in ("user", "timestamp", "item", "known_at", "canonical")), strict=True)
                if c
            ]
            assert whole == sorted(whole)  # users one after the other, each in order of time
            assert [(users[u], t, items[i]) for u, t, i, _ in whole] == sorted((e.user, e.time, e.item) for e in naive.clicks(naive.events))

    check()


def grid(log: Sequence[Event]) -> pa.Table:
    """Every user and item (one of each unknown) at the times around the events."""
    minutes = sorted({e.minute + shift for e in log for shift in (0, 1)} | {e.minute + e.delay + 1 for e in log})[::3]
    asked = [(user, item, START + minute * MINUTE) for user in range(4) for item in range(5) for minute in minutes]
    user, item, time = zip(*asked, strict=True)
    return pa.table({"user_id": user, "item_id": item, "timestamp": pa.array(time).cast(pa.timestamp("us"))})


@pytest.mark.parametrize("has_impressions", [False, True])
def test_features_of_any_row_equal_the_naive_ones(has_impressions: bool) -> None:
    @FEW
    @given(log=events(has_impressions))
    def check(log: list[Event]) -> None:
        naive = Naive(log, CONFIG, has_impressions)
        with tempfile.TemporaryDirectory() as folder:
            frame = grid(log)
            found = features_for(write_store(Path(folder), log, has_impressions), frame, CONFIG, ENGINE)
        assert found.select(frame.column_names).equals(frame)
        for row in found.cast(pa.schema([f.with_type(pa.int64()) if f.name == "timestamp" else f for f in found.schema])).to_pylist():
            history = naive.history(row["user_id"], row["timestamp"])
            assert row["history"] == [e.item for e in history]
            times = [None if t is None else int(t.timestamp() * 1e6) for t in row["history_timestamps"]]
            assert times == [e.time if e.time_known else None for e in history]
            for name, expected in naive.statistics(row["user_id"], row["item_id"], row["timestamp"]).items():
                assert same(row[name], expected), (name, row, expected)

    check()


@pytest.mark.parametrize("has_impressions", [False, True])
def test_nothing_that_happens_or_becomes_known_later_changes_features(has_impressions: bool) -> None:
    @FEW
    @given(log=events(has_impressions), more=events(has_impressions), minute=st.integers(0, 24).map(lambda n: 20 * n))
    def check(log: list[Event], more: list[Event], minute: int) -> None:
        t = START + minute * MINUTE
        later = [e for e in more if e.time >= t or e.known >= t]
        frame = grid(log)
        frame = frame.filter(pa.compute.less_equal(frame["timestamp"].cast(pa.int64()), t))
        with tempfile.TemporaryDirectory() as folder:
            before = features_for(write_store(Path(folder) / "a", log, has_impressions), frame, CONFIG, ENGINE)
            after = features_for(write_store(Path(folder) / "b", log + later, has_impressions), frame, CONFIG, ENGINE)
        assert before.equals(after)

    check()
