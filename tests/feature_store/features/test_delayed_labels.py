"""Labels of scored rows: literal logs, nothing from before the scoring, and nothing that is not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.config import FeatureStoreConfig
from feature_store.features.delayed_labels import labels_of
from tests.feature_store.logs import MINUTE, START, Event, at, write_store

ENGINE = FeatureStoreConfig(threads=1)
HOUR = timedelta(hours=1)


def scored(path: Path, rows: Sequence[tuple[int, int, int, int | None]]) -> Path:
    """Rows (user, item, minute, request), whose score is their place."""
    user, item, minute, request = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {
        "request_id": pa.array(request, pa.int64()),
        "user_id": pa.array(user, pa.int64()),
        "item_id": pa.array(item, pa.int64()),
        "timestamp": pa.array([START + m * MINUTE for m in minute], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "score": pa.array(np.arange(len(user)), pa.float64()),
    }
    pq.write_table(pa.table(columns), path / "scores.parquet")
    return path / "scores.parquet"


def by_place(found: object) -> dict[int, int]:
    return {int(score): int(label) for score, label in zip(found.score, found.label, strict=True)}  # type: ignore[attr-defined]


def test_an_impression_has_the_label_of_its_own_request(tmp_path: Path) -> None:
    log = [
        Event(1, 1, 0, clicked=0, request=7),
        Event(1, 1, 0, clicked=1, request=8),  # the same item at the same time in another request
        Event(1, 2, 0, clicked=0, request=7),
        Event(1, 2, 30, clicked=1, request=9),  # clicked later: another impression
        Event(2, 1, 0, clicked=0),
        Event(2, 1, 0, clicked=1, delay=20),  # the click came after the impression without it
    ]
    store = write_store(tmp_path / "store", log, True)
    file = scored(tmp_path, [(1, 1, 0, 7), (1, 1, 0, 8), (1, 2, 0, 7), (2, 1, 0, None), (3, 1, 0, None)])
    assert by_place(labels_of(store, file, ENGINE)) == {0: 0, 1: 1, 2: 0, 3: 1}
    assert by_place(labels_of(store, file, ENGINE, as_of=at(20))) == {0: 0, 1: 1, 2: 0, 3: 0}
    users = labels_of(store, file, ENGINE).user  # type: ignore[union-attr]
    assert len(set(users[:3].tolist())) == 1 and users[3] != users[0]


def test_a_candidate_has_the_label_of_what_was_shown_after_scoring_and_not_before(tmp_path: Path) -> None:
    log = [
        Event(1, 1, 59, clicked=1),  # before
        Event(1, 2, 60, clicked=1),  # at the moment itself
        Event(1, 3, 119, clicked=0),
        Event(1, 4, 120, clicked=1),  # the hour is over
        Event(1, 5, 100, clicked=1, delay=300),  # known much later
        Event(2, 9, 150, clicked=0),
    ]
    store = write_store(tmp_path / "store", log, True)
    file = scored(tmp_path, [(1, item, 60, None) for item in (1, 2, 3, 4, 5)])
    assert by_place(labels_of(store, file, ENGINE, horizon=HOUR)) == {1: 1, 2: 0, 4: 1}
    assert by_place(labels_of(store, file, ENGINE, as_of=at(200), horizon=HOUR)) == {1: 1, 2: 0}


def test_of_clicks_only_the_rows_of_users_who_clicked_have_labels(tmp_path: Path) -> None:
    log = [Event(1, 1, 70), Event(2, 2, 10), Event(3, 1, 200)]
    store = write_store(tmp_path / "store", log, False)
    file = scored(tmp_path, [(1, 1, 60, None), (1, 2, 60, None), (2, 2, 60, None), (3, 1, 60, None)])
    assert by_place(labels_of(store, file, ENGINE, horizon=HOUR)) == {0: 1, 1: 0}
    sampled = scored(tmp_path, [(1, 1, 70, 5), (1, 2, 70, 5), (2, 1, 10, 0), (2, 2, 10, 0)])
    assert by_place(labels_of(store, sampled, ENGINE)) == {0: 1, 1: 0, 2: 0, 3: 1}


def test_labels_are_waited_for_until_the_horizon_has_passed(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [Event(1, 1, 70, clicked=1), Event(2, 2, 125, clicked=0)], True)
    assert labels_of(store, scored(tmp_path, [(1, 1, 66, None)]), ENGINE, horizon=HOUR) is None
    assert labels_of(store, scored(tmp_path, [(1, 1, 65, None)]), ENGINE, horizon=HOUR) is not None
    assert labels_of(store, scored(tmp_path, [(1, 1, 65, None)]), ENGINE, as_of=at(124), horizon=HOUR) is None


def test_scores_without_rows_have_no_labels(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [Event(1, 1, 70)], True)
    found = labels_of(store, scored(tmp_path, []), ENGINE, horizon=HOUR)
    assert found is not None and len(found.label) == 0


EVENTS = st.builds(
    Event,
    user=st.integers(1, 2),
    item=st.integers(1, 3),
    minute=st.integers(0, 1500),
    clicked=st.integers(0, 1),
    delay=st.sampled_from([0, 0, 30, 2000]),
)


@given(st.lists(EVENTS, min_size=1, max_size=12), st.integers(0, 1400), st.integers(0, 3000))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_after_scoring_are_those_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, log: list[Event], minute: int, now: int
) -> None:
    root = tmp_path_factory.mktemp("labels")
    whole = [*log, Event(9, 9, 1600, clicked=0)]
    store = write_store(root / "store", whole, True)
    pairs = [(user, item) for user in (1, 2) for item in (1, 2, 3)]
    found = labels_of(store, scored(root, [(*pair, minute, None) for pair in pairs]), ENGINE, as_of=at(now), horizon=HOUR)
    if found is None:  # clicks may still come: nothing in the partitions up to that date is an hour younger than the scores
        newest = max((e.minute + e.delay for e in whole if at(e.minute).date() <= at(now).date()), default=-1)
        assert min(now, newest) < minute + 60
        return
    expected = {}
    for place, pair in enumerate(pairs):
        seen = [e for e in log if (e.user, e.item) == pair and minute <= e.minute < minute + 60 and max(e.minute, e.minute + e.delay) < now]
        if seen:
            expected[place] = max(e.clicked for e in seen)
    assert by_place(found) == expected


@pytest.mark.parametrize("has_impressions", [True, False])
def test_a_labelled_row_weighs_what_its_click_does(tmp_path: Path, has_impressions: bool) -> None:
    log = [Event(1, 1, 0, clicked=1, weight=4.0), Event(2, 3, 0, clicked=1, weight=0.5)]
    log += [Event(1, 1, 0, clicked=0, weight=2.0), Event(1, 2, 0, clicked=0, weight=3.0)] if has_impressions else []
    file = scored(tmp_path, [(1, 1, 0, None), (1, 2, 0, None), (2, 3, 0, None)])
    found = labels_of(write_store(tmp_path / "store", log, has_impressions, weighted=True), file, ENGINE)
    assert found is not None and found.label.tolist() == [1, 0, 1] and found.weight is not None
    assert found.weight.tolist() == [4.0, 3.0 if has_impressions else 4.0, 0.5]
    assert labels_of(write_store(tmp_path / "plain", log, has_impressions), file, ENGINE).weight is None  # type: ignore[union-attr]
