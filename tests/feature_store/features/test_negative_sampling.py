"""The candidate sampler of logs of clicks only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features import negative_sampling as candidates
from feature_store.features.negative_sampling import Support
from feature_store.features.training_set import assemble
from feature_store.tables.contracts import DataError
from tests.feature_store.logs import START, Event, Naive, at, write_store

ENGINE = FeatureStoreConfig(threads=1, memory="500MB")


def settings(**changes: Any) -> AssemblyConfig:
    base: dict[str, Any] = {
        "split": {"fractions": [0.6, 0.2, 0.2]},
        "candidates": {"per_click": 3, "window": "1h"},
        "vocabulary": {"min_count": 1},
    }
    return AssemblyConfig.model_validate({**base, **changes})


def busy_log(seed: int = 0, clicks: int = 600) -> list[Event]:
    """Clicks of 40 users on 12 items, one in five known late, over ten hours."""
    rng = np.random.default_rng(seed)
    popular = rng.zipf(1.5, clicks) % 12
    return [
        Event(int(user), int(item), int(minute), delay=int(late) * int(delay))
        for user, item, minute, late, delay in zip(
            rng.integers(0, 40, clicks),
            popular,
            rng.integers(0, 600, clicks),
            rng.random(clicks) < 0.2,
            rng.integers(1, 90, clicks),
            strict=True,
        )
    ]


@pytest.mark.parametrize("by", ["popularity", "uniform"])
def test_candidates_are_distinct_live_and_not_the_clicked_item(tmp_path: Path, by: str) -> None:
    log = busy_log()
    config = settings(candidates={"per_click": 3, "window": "1h", "by": by})
    summary = assemble(write_store(tmp_path / "store", log, False), config, ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    naive = Naive(log, config, False)
    items = pq.read_table(tmp_path / "out" / "items.parquet")["item_id"].to_pylist()
    requests: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        requests.setdefault(row["request"], []).append(row)
    short = 0
    for of_request in requests.values():
        assert len({row["item"] for row in of_request}) == len(of_request) <= 4
        assert sum(row["label"] for row in of_request) == 1
        assert len({row["device"] for row in of_request}) == 1
        assert all(naive.in_window(items[row["item"]], row["timestamp"]) > 0 for row in of_request)
        short += len(of_request) < 4
    assert summary.candidates.short == short < len(requests) / 2
    assert summary.candidates.support.auc_of_count_zero == 0.5
    assert summary.candidates.support.clicked_share[0] == summary.candidates.support.sampled_share[0] == 0


def literal_log(requests: int) -> list[Event]:
    """In the hour before the requests item 0 was clicked 6 times, 1 three times, 2 once, and 3 only before that hour; half of
    the clicks on item 1 came to be known late. Every request is a click on item 9 in the same microsecond."""
    pool = [Event(0, 3, 0), Event(0, 9, 70)]
    pool += [Event(1 + n, 0, 70 + n) for n in range(6)] + [
        Event(10, 1, 71),
        Event(11, 1, 72, delay=30),
        Event(12, 1, 73, delay=30),
        Event(13, 2, 75),
    ]
    pool += [Event(14, 3, 5, delay=100)]  # became known in the hour, but happened before it
    return pool + [Event(100 + n, 9, 110) for n in range(requests)] + [Event(0, 0, 111), Event(0, 0, 112)]


LITERAL_SPLIT = {"train_until": at(111), "validate_until": at(112), "test_until": at(113)}


@pytest.mark.parametrize(("by", "expected"), [("popularity", {0: 0.6, 1: 0.3, 2: 0.1}), ("uniform", {0: 1 / 3, 1: 1 / 3, 2: 1 / 3})])
def test_the_first_candidate_is_drawn_by_popularity_or_uniformly(tmp_path: Path, by: str, expected: dict[int, float]) -> None:
    config = settings(candidates={"per_click": 1, "window": "1h", "by": by}, split=LITERAL_SPLIT)
    assemble(write_store(tmp_path / "store", literal_log(3000), False), config, ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    items = pq.read_table(tmp_path / "out" / "items.parquet")["item_id"].to_numpy()
    sampled = rows[(rows.label == 0) & (rows.timestamp == START + 110 * 60 * 10**6)]
    drawn = Counter(items[sampled.item].tolist())
    assert set(drawn) == set(expected) and len(sampled) == 3000
    for item, share in expected.items():
        assert abs(drawn[item] / 3000 - share) < 4 * np.sqrt(share * (1 - share) / 3000)


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", busy_log(), False)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assemble(store, settings(candidates={"per_click": 3, "seed": seed}), ENGINE, None, tmp_path / name)
    files = {name: (tmp_path / name / "rows.parquet").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_candidates_do_not_change_with_what_becomes_known_later(tmp_path: Path) -> None:
    log = busy_log()
    later = [Event(e.user + 7, e.item, e.minute, delay=700) for e in log[:50]]
    alone = [
        time for time, count in Counter(e.time for e in log + later).items() if count == 1
    ]  # those of one moment are told apart by rank
    drawn = []
    for name, events in (("a", log), ("b", log + later)):
        store = write_store(tmp_path / name / "store", events, False)
        assemble(store, settings(), ENGINE, None, tmp_path / name / "out")
        rows = pq.read_table(tmp_path / name / "out" / "rows.parquet").to_pandas()
        users = pq.read_table(tmp_path / name / "out" / "users.parquet")["user_id"].to_numpy()
        rows = rows[rows.timestamp.isin(alone)]
        drawn.append({(users[u], t, i) for u, t, i in zip(rows.user, rows.timestamp, rows.item, strict=True)})
    assert drawn[1] and drawn[1] <= drawn[0]


def test_the_check_finds_a_sampler_that_does_not_demand_a_live_clicked_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "LIVE", "true")
    store = write_store(tmp_path / "store", busy_log(), False)
    with pytest.raises(DataError, match=r"\d+ of \d+ clicked rows are on items without a click in the candidates' window"):
        assemble(store, settings(), ENGINE, None, tmp_path / "out")


def test_support_on_literal_counts() -> None:
    support = Support()
    support.add(np.array([1, 1, 0, 0, 0, 0]), np.array([0, 4, 1, 2, 7, 500]))
    summary = support.summary()
    assert summary.counts == ["0", "1", "2", "3-5", "6-20", "21-100", "101+"]
    assert summary.clicked_share == [0.5, 0, 0, 0.5, 0, 0, 0]
    assert summary.sampled_share == [0, 0.25, 0.25, 0, 0.25, 0, 0.25]
    assert summary.auc_of_count_zero == 0.75
    with pytest.raises(DataError, match="1 of 2 clicked rows"):
        support.check()


def test_support_without_sampled_rows_is_undefined() -> None:
    support = Support()
    support.add(np.array([1]), np.array([3]))
    assert support.summary().auc_of_count_zero is None and support.summary().sampled_share is None
    support.check()


def test_a_window_where_nobody_else_clicked_leaves_requests_short(tmp_path: Path) -> None:
    log = [Event(0, 1, minute) for minute in range(0, 100, 10)]
    with_one = [*log, Event(1, 2, 5), Event(1, 2, 55)]
    summary = assemble(write_store(tmp_path / "store", with_one, False), settings(), ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    assert rows.groupby("request").size().max() == 2  # one other item at most
    assert summary.candidates.short == rows.request.nunique()
    assert summary.excluded["item_not_live"] == 2  # the first click on either item
