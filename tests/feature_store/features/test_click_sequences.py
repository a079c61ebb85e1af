"""Clicks as sequences by user, and what their digests are equal for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.config import FeatureStoreConfig
from feature_store.features.click_sequences import ClickSequences, PrefixDigest, read_click_sequences
from tests.feature_store.logs import MINUTE, START, Event, at, random_event, write_store


def read(folder: Path, log: list[Event], minute: int | None = None) -> ClickSequences:
    return read_click_sequences(write_store(folder, log, False), FeatureStoreConfig(threads=1), None if minute is None else at(minute))


def digests(clicks: ClickSequences, counts: list[int]) -> list[str]:
    digest = PrefixDigest(clicks, np.argsort(clicks.known_at, kind="stable"))
    return [digest.of(count) for count in counts]


def test_clicks_of_a_user_are_together_and_in_order_of_time(tmp_path: Path) -> None:
    clicks = read(tmp_path, [Event(1, 5, 30), Event(0, 6, 20), Event(0, 5, 10), Event(1, 7, 15, delay=25), Event(0, 7, 30)])
    items, users = clicks.items["item_id"].to_pylist(), clicks.users.to_pylist()
    minutes = ((clicks.known_at - START) // MINUTE).tolist()
    assert [(users[u], items[i], known) for u, i, known in zip(clicks.user, clicks.item, minutes, strict=True)] == [
        *((users[0], items[0], 10), (users[0], items[1], 20), (users[0], items[2], 30)),
        *((users[1], items[2], 40), (users[1], items[0], 30)),  # of minute 15, and known later than the one after it
    ]
    assert clicks.first.tolist() == [0, 0, 0, 3, 3]


def test_what_was_not_known_at_a_time_is_left_out(tmp_path: Path) -> None:
    log = [Event(0, 5, 10), Event(0, 6, 20, delay=30), Event(0, 7, 30)]
    assert len(read(tmp_path / "all", log).item) == 3
    assert ((read(tmp_path / "some", log, 40).known_at - START) // MINUTE).tolist() == [10, 30]


@settings(max_examples=15, deadline=None)
@given(log=st.lists(random_event(False, users=4, items=4, times=40), min_size=4, max_size=12), minute=st.integers(5, 800))
def test_digests_of_what_was_known_are_those_of_what_is_known_later(
    tmp_path_factory: pytest.TempPathFactory, log: list[Event], minute: int
) -> None:
    """Whatever codes users and items have once there are more of them."""
    earlier = [event for event in log if event.known < START + minute * MINUTE]
    if not earlier:
        return
    before, after = (read(tmp_path_factory.mktemp("log"), events) for events in (earlier, log))
    counts = list(range(len(earlier) + 1))
    assert digests(before, counts) == digests(after, counts)
    assert digests(after, [0, len(earlier)]) == [digests(after, counts)[0], digests(after, counts)[-1]]  # by whatever steps
    changed = [*log[:-1], Event(9, 9, 1)]
    assert digests(read(tmp_path_factory.mktemp("log"), changed), [len(log)]) != digests(after, [len(log)])
