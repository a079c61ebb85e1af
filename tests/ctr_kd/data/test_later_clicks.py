"""Clicks after a request, against the rules as a plain loop; and the leaks that there could be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.data.batching import make_batch, part_of
from ctr_kd.data.later_clicks import later_positions
from ctr_kd.data.samples import Assembly, gap_bucket
from feature_store.special_tokens import MASK
from tests.ctr_kd.worlds import write_assembly

UNTIL = 20
Arrays = dict[str, np.ndarray[Any, Any]]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Arrays, Arrays]:
    """A pool of clicks of three users on few items at few times, many of them alike, and requests of two candidates."""
    pool = []
    for user in range(3):
        click = st.tuples(st.integers(0, 25), st.integers(0, 4), st.integers(0, 6), st.booleans(), st.booleans())
        for time, item, delay, known, canonical in sorted(draw(st.lists(click, max_size=12))):
            pool.append((user, item, time, time + delay, known or canonical, canonical or known))
    columns = np.array(pool or np.zeros((0, 6)), dtype=np.int64).reshape(-1, 6).T
    clicks = dict(zip(("user", "item", "timestamp", "known_at", "time_known", "canonical"), columns, strict=True))
    clicks |= {name: clicks[name].astype(bool) for name in ("time_known", "canonical")}
    asked = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25), st.sets(st.integers(0, 4), min_size=1, max_size=2)), max_size=8))
    rows = [(number, user, time, item) for number, (user, time, items) in enumerate(asked) for item in sorted(items)]
    columns = np.array(rows or np.zeros((0, 4)), dtype=np.int64).reshape(-1, 4).T
    return clicks, dict(zip(("request", "user", "timestamp", "item"), columns, strict=True))


def by_loop(clicks: Arrays, rows: Arrays, row: int, most: int) -> list[int]:
    """Places of the clicks that follow one row."""
    candidates = {int(item) for item, request in zip(rows["item"], rows["request"], strict=True) if request == rows["request"][row]}
    found = []
    for place in range(len(clicks["user"])):
        mine = clicks["canonical"][place] and clicks["user"][place] == rows["user"][row]
        follows = clicks["time_known"][place] and clicks["timestamp"][place] > rows["timestamp"][row]
        in_training = clicks["timestamp"][place] < UNTIL and clicks["known_at"][place] < UNTIL
        if mine and follows and in_training and int(clicks["item"][place]) not in candidates:
            found.append(place)
    return found[:most]


@settings(max_examples=200, deadline=None)
@given(world=worlds(), most=st.integers(1, 4))
def test_later_clicks_are_those_of_a_plain_loop(world: tuple[Arrays, Arrays], most: int) -> None:
    clicks, rows = world
    position, (start, end) = later_positions(clicks, **rows, until=UNTIL, most=most)
    for row in range(len(rows["request"])):
        assert position[start[row] : end[row]].tolist() == by_loop(clicks, rows, row, most)


def test_the_click_of_the_row_itself_is_not_shown_whenever_it_was_stored() -> None:
    """Stored at the time of the request, a moment later, twice: a teacher that saw it would read the label off."""
    times = np.array([5, 6, 6, 7, 8])
    clicks = {"user": np.zeros(5, int), "item": np.array([1, 1, 2, 1, 3]), "timestamp": times, "known_at": times}
    clicks |= {name: np.ones(5, bool) for name in ("time_known", "canonical")}
    rows = {"request": np.array([0, 0]), "user": np.zeros(2, int), "timestamp": np.array([5, 5]), "item": np.array([1, 4])}
    position, (start, end) = later_positions(clicks, **rows, until=UNTIL, most=9)
    assert position.tolist() == [2, 4] and start.tolist() == [0, 0] and end.tolist() == [2, 2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_assembly(tmp_path / "assembly", users=12)


def test_only_training_rows_have_later_clicks_with_gaps_of_their_own(directory: Path) -> None:
    assembly = Assembly(directory, 5, later_clicks=3)
    assert assembly.samples("validation").later is None and assembly.samples("test").later is None
    assert Assembly(directory, 5).samples("train").later is None
    assert assembly.signature().later == 3 and "later" not in assembly.signature().to_dict()
    train = assembly.samples("train")
    later = train.later
    assert later is not None and (later.end > later.start).any()
    rows = pq.read_table(directory / "rows.parquet", filters=[("split", "=", "train")])
    table = pq.read_table(directory / "clicks.parquet")
    clicks = {name: table[name].to_numpy() for name in table.column_names}
    asked = {name: rows[name].to_numpy() for name in ("request", "user", "timestamp", "item")}
    position, (start, end) = later_positions(clicks, **asked, until=7 * 86_400 * 10**6, most=3)
    assert np.array_equal(start, later.start) and np.array_equal(end, later.end)
    for one in range(len(train)):
        places = position[start[one] : end[one]]
        assert np.array_equal(later.pool[start[one] : end[one], :-1], assembly.clicks[places, :-1])
        first = np.arange(len(places)) == 0
        expected = gap_bucket(clicks["timestamp"][places], np.ones(len(places), bool), first)
        assert np.array_equal(later.pool[start[one] : end[one], -1], expected)


def test_a_batch_has_later_clicks_behind_a_mark_and_hides_them_for_half_of_the_histories(directory: Path) -> None:
    train = Assembly(directory, 5, later_clicks=3).samples("train")
    plain, rows = make_batch(replace(train, later=None), np.arange(len(train))), np.arange(len(train))
    later = train.later
    assert later is not None
    shown = make_batch(train, rows)
    for one in range(len(train)):
        segment = int(shown.segment_of_row[one])
        tokens = shown.segment_a[segment, : shown.segment_a_length[segment]].numpy()
        before = plain.segment_a[plain.segment_of_row[one], : plain.segment_a_length[plain.segment_of_row[one]]].numpy()
        after = later.pool[later.start[one] : later.end[one]]
        assert np.array_equal(tokens[: len(before)], before)
        if len(after):
            assert tokens[len(before)].tolist() == [MASK, *[0] * (tokens.shape[1] - 1)]
            assert np.array_equal(tokens[len(before) + 1 :], after)
        else:
            assert len(tokens) == len(before)
    requests = len(np.unique(train.group))
    assert len(shown.segment_a) <= requests and len(part_of(shown, slice(0, 6)).segment_a) <= 2  # candidates share what their request has

    followed = [int((make_batch(train, rows, np.random.default_rng(seed)).segment_a[:, :, 0] == MASK).any(1).sum()) for seed in range(20)]
    whole = int((shown.segment_a[:, :, 0] == MASK).any(1).sum())
    assert 0.4 * whole < np.mean(followed) < 0.6 * whole and max(followed) < whole
    again = [make_batch(train, rows, np.random.default_rng(3)).segment_a for _ in range(2)]
    assert bool((again[0] == again[1]).all())


def test_requests_with_one_history_and_other_later_clicks_are_read_apart(directory: Path) -> None:
    """Two requests between which a user clicked nothing share a history; their candidates, which are left out, are not the same."""
    table = pq.read_table(directory / "rows.parquet")
    zeros = pa.array(np.zeros(table.num_rows, np.int64))
    for name in ("history_start", "history_end"):
        table = table.set_column(table.column_names.index(name), name, zeros)
    pq.write_table(table, directory / "rows.parquet")
    train = Assembly(directory, 5, later_clicks=3).samples("train")
    later = train.later
    assert later is not None
    batch = make_batch(train, np.arange(len(train)))
    for one in range(len(train)):
        segment = int(batch.segment_of_row[one])
        tokens = batch.segment_a[segment, : batch.segment_a_length[segment]].numpy()
        assert np.array_equal(tokens[1:], later.pool[later.start[one] : later.end[one]])
