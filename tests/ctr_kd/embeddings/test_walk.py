"""Vectors learned in the order of time: resumed is uninterrupted, later clicks change nothing earlier, and facts say what was learned."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.embeddings import walk
from ctr_kd.embeddings.as_of import Requests, VectorsAsOf
from ctr_kd.embeddings.facts import FactsFolder, FactsList
from ctr_kd.embeddings.walk import Walk, block_length, windows
from feature_store.config import EmbeddingsConfig
from feature_store.features.click_sequences import ClickSequences
from feature_store.tables.contracts import DataError
from tests.ctr_kd.embeddings.click_worlds import HOUR, START, known_before, random_events, sequences

CONFIG = EmbeddingsConfig.model_validate({"block": "1h", "width": 8, "negatives": 8, "replay": "6h"})
LENGTH = 5


def walked(
    clicks: ClickSequences, folder: Path, now: int, changes_from: int | None = START, config: EmbeddingsConfig = CONFIG
) -> FactsList:
    return Walk(clicks, config, LENGTH, FactsFolder(folder, "these"), now, changes_from).learn()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def products(clicks: ClickSequences, folder: Path, moments: np.ndarray, config: EmbeddingsConfig = CONFIG) -> np.ndarray:
    """Of every item, for a history of the first three items, at some moments: (moments, items)."""
    items = clicks.items.num_rows
    history = np.tile(np.array([0, 1, 2, -1, -1], np.int32), (len(moments), 1))
    request = np.repeat(np.arange(len(moments)), items)
    asked = Requests(moments, moments, history, request, np.tile(np.arange(items, dtype=np.int32), len(moments)))
    return VectorsAsOf(FactsFolder(folder, "these"), config, LENGTH, clicks.items).of(asked).product.reshape(len(moments), items)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), stops=st.lists(st.integers(1, 70), min_size=1, max_size=3))
def test_resumed_is_uninterrupted(tmp_path_factory: pytest.TempPathFactory, seed: int, stops: list[int]) -> None:
    events, end = random_events(seed), START + 70 * HOUR
    once, often = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("often")
    walked(sequences(events), once, end)
    for stop in sorted(stops):
        moment = START + stop * HOUR + 123
        if known := known_before(events, moment):  # fewer users and items have other codes
            walked(sequences(known), often, moment)
    walked(sequences(events), often, end)
    assert contents(often) == contents(once)


def test_a_resumed_bert_is_an_uninterrupted_one(tmp_path: Path) -> None:
    config, events = CONFIG.model_copy(update={"encoder": "bert", "layers": 2}), random_events(5)
    walked(sequences(events), tmp_path / "once", START + 70 * HOUR, config=config)
    for stop in (10, 41):
        moment = START + stop * HOUR
        walked(sequences(known_before(events, moment)), tmp_path / "often", moment, config=config)
    walked(sequences(events), tmp_path / "often", START + 70 * HOUR, config=config)
    assert contents(tmp_path / "often") == contents(tmp_path / "once")
    clicks, moments = sequences(events), np.array([START + 60 * HOUR])
    assert np.isfinite(products(clicks, tmp_path / "once", moments, config)).all()


def test_a_kill_between_file_and_list_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clicks, end = sequences(random_events(1)), START + 70 * HOUR
    walked(clicks, tmp_path / "once", end)
    write, written = FactsFolder.write, []

    def killed(self: FactsFolder, *arguments: object) -> object:
        written.append(arguments)
        if len(written) == 20:
            raise KeyboardInterrupt
        return write(self, *arguments)

    monkeypatch.setattr(FactsFolder, "write", killed)
    monkeypatch.setattr(walk, "PUBLISH_SECONDS", -1.0)  # a list after each file
    with pytest.raises(KeyboardInterrupt):
        walked(clicks, tmp_path / "killed", end)
    monkeypatch.undo()
    left = FactsFolder(tmp_path / "killed", "these").read()
    assert left is not None and len(left.entries) == 19
    walked(clicks, tmp_path / "killed", end)
    assert contents(tmp_path / "killed") == contents(tmp_path / "once")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 100), moved=st.integers(0, 399))
def test_a_click_moved_into_the_future_changes_no_earlier_figure(tmp_path_factory: pytest.TempPathFactory, seed: int, moved: int) -> None:
    events, end = random_events(seed), START + 70 * HOUR
    user, item, _, known = events[moved]
    changed = [*events[:moved], *events[moved + 1 :], (user, item, end - 2, end - 2)]
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    walked(sequences(events), one, end)
    walked(sequences(changed), other, end)
    clicks = sequences(events)
    moments = np.arange(START, (known // HOUR + 1) * HOUR, HOUR // 2)  # up to the end of the block in which it became known
    np.testing.assert_array_equal(products(clicks, one, moments), products(clicks, other, moments))


def test_rows_of_a_block_do_not_see_its_clicks(tmp_path: Path) -> None:
    """Whatever happens within a block, what its rows see is what was known when it began."""
    events = random_events(3)
    begin = START + 30 * HOUR
    walked(sequences(known_before(events, begin)), tmp_path / "before", begin)
    walked(sequences(events), tmp_path / "after", START + 70 * HOUR)
    clicks = sequences(events)
    within = np.array([begin, begin + 1, begin + HOUR - 1])
    seen = products(clicks, tmp_path / "after", within)
    np.testing.assert_array_equal(seen, products(clicks, tmp_path / "before", within))
    assert not np.array_equal(seen[0], products(clicks, tmp_path / "after", np.array([begin + HOUR]))[0])


def test_a_coin_flip_cannot_be_foreseen(tmp_path: Path) -> None:
    """Each block has items of its own, clicked by chance: whoever ranks them well has seen their clicks."""
    rng = np.random.default_rng(0)
    events = [
        (f"u{user}", f"i{hour:02d}{rng.integers(0, 2)}", START + hour * HOUR + user, START + hour * HOUR + user)
        for hour in range(40)
        for user in range(40)
    ]
    clicks = sequences(events)
    walked(clicks, tmp_path, START + 41 * HOUR)
    vectors, right = VectorsAsOf(FactsFolder(tmp_path, "these"), CONFIG, LENGTH, clicks.items), []
    names = clicks.items["item_id"].to_pylist()
    for hour in range(5, 40):
        both = np.array([names.index(f"i{hour:02d}{side}") for side in (0, 1)], np.int32)
        mine = np.flatnonzero(np.isin(clicks.item, both))
        history, seen = windows(mine, clicks.first[mine], LENGTH)
        moment = clicks.known_at[mine]
        asked = Requests(
            moment,
            moment,
            np.where(seen, clicks.item[history], -1).astype(np.int32),
            np.repeat(np.arange(len(mine)), 2),
            np.tile(both, len(mine)),
        )
        found = vectors.of(asked).product.reshape(-1, 2)
        clicked, other = (
            found[np.arange(len(mine)), side]
            for side in ((clicks.item[mine] == both[1]).astype(int), (clicks.item[mine] == both[0]).astype(int))
        )
        right.append(np.mean(clicked > other) + np.mean(clicked == other) / 2)
    assert np.mean(right) == pytest.approx(0.5, abs=0.02)


def test_what_users_like_is_learned(tmp_path: Path) -> None:
    """Users of two tastes: the product tells apart the items that they go on to click."""
    rng = np.random.default_rng(0)
    events = []
    for hour in range(48):
        for _ in range(60):
            user = int(rng.integers(0, 40))
            time = START + hour * HOUR + int(rng.integers(0, HOUR))
            events.append((f"u{user}", f"i{rng.integers(0, 6) * 2 + user % 2:02d}", time, time))
    clicks = sequences(events)
    walked(clicks, tmp_path, START + 49 * HOUR)
    items = clicks.items.num_rows
    even = np.tile(np.array([0, 2, 4, 6, 8], np.int32), (1, 1))
    moment = np.array([START + 49 * HOUR])
    asked = Requests(moment, moment, even, np.zeros(items, np.int64), np.arange(items, dtype=np.int32))
    found = VectorsAsOf(FactsFolder(tmp_path, "these"), CONFIG, LENGTH, clicks.items).of(asked).product
    assert found[::2].min() > found[1::2].max()


def test_facts_begin_where_they_are_needed(tmp_path: Path) -> None:
    """From then on rows see what they would see had every block been kept; earlier ones see the vectors of the day before."""
    clicks, end, begin = sequences(random_events(5)), START + 70 * HOUR, START + 40 * HOUR + 1234
    every = walked(clicks, tmp_path / "every", end)
    some = walked(clicks, tmp_path / "some", end, changes_from=begin)
    moments = np.arange(begin, end, HOUR // 3)
    np.testing.assert_array_equal(products(clicks, tmp_path / "some", moments), products(clicks, tmp_path / "every", moments))
    assert len(some.entries) < len(every.entries) and some.entries[0].kind == "all"
    assert {file.name for file in (tmp_path / "some").glob("*.parquet")} == {entry.file for entry in some.entries}
    walked(clicks, tmp_path / "some", end, changes_from=START)  # and further back, they are learned again
    np.testing.assert_array_equal(
        products(clicks, tmp_path / "some", moments - 20 * HOUR), products(clicks, tmp_path / "every", moments - 20 * HOUR)
    )


def test_a_click_that_comes_to_light_is_learned_where_it_belongs(tmp_path: Path) -> None:
    """A row of an old day without a time of arrival was known then: what follows is learned anew, and the days before stay."""
    events, end = random_events(7), START + 70 * HOUR
    found = [*events, ("u1", "i003", START + 35 * HOUR, START + 35 * HOUR)]
    before = walked(sequences(events), tmp_path / "mended", end)
    after = walked(sequences(found), tmp_path / "mended", end)
    walked(sequences(found), tmp_path / "once", end)
    assert contents(tmp_path / "mended") == contents(tmp_path / "once")
    same = [one.file == other.file for one, other in zip(before.entries, after.entries, strict=False)]
    until = [entry.until for entry in before.entries]
    assert all(same[: until.index(START + 35 * HOUR)])
    assert not same[until.index(START + 36 * HOUR)]


def test_a_late_click_in_the_newest_block_is_learned_with_it(tmp_path: Path) -> None:
    """The block counted as complete when a later click was seen; then one of its last second came to light."""
    events, moment = random_events(7), START + 40 * HOUR
    known = known_before(events, moment)
    walked(sequences(known), tmp_path / "mended", moment)
    late = ("u1", "i003", moment - 1, moment - 1)
    walked(sequences([*events, late]), tmp_path / "mended", START + 70 * HOUR)
    walked(sequences([*events, late]), tmp_path / "once", START + 70 * HOUR)
    assert contents(tmp_path / "mended") == contents(tmp_path / "once")


def test_one_walk_leaves_what_another_needs(tmp_path: Path) -> None:
    """Nights with later windows, and runs as of an earlier time with earlier ones, share the folder."""
    events, end = random_events(5), START + 70 * HOUR
    clicks, moments = sequences(events), np.arange(START + 40 * HOUR, end, HOUR // 2)
    walked(clicks, tmp_path / "shared", end, changes_from=START + 40 * HOUR)
    before = products(clicks, tmp_path / "shared", moments)
    walked(clicks, tmp_path / "shared", end, changes_from=START + 60 * HOUR)
    np.testing.assert_array_equal(products(clicks, tmp_path / "shared", moments), before)
    # further back, as of earlier: what is later is not told any more, and does not count as told
    earlier = walked(sequences(known_before(events, START + 45 * HOUR)), tmp_path / "shared", START + 45 * HOUR, changes_from=START)
    assert earlier.until == START + 45 * HOUR
    again = walked(clicks, tmp_path / "shared", end, changes_from=START + 40 * HOUR)
    assert again.until == (clicks.known_at.max() // HOUR + 1) * HOUR
    np.testing.assert_array_equal(products(clicks, tmp_path / "shared", moments), before)


def test_files_of_blocks_go_after_a_time(tmp_path: Path) -> None:
    config, clicks = CONFIG.model_copy(update={"keep": 10 * CONFIG.block}), sequences(random_events(5))
    walked(clicks, tmp_path, START + 40 * HOUR, config=config)
    facts = walked(clicks, tmp_path, START + 70 * HOUR, changes_from=START + 65 * HOUR, config=config)
    assert facts.changes_from >= START + 50 * HOUR
    assert {file.name for file in tmp_path.iterdir()} == {FactsList.FILE, *(entry.file for entry in facts.entries)}


def test_no_time_of_a_command_makes_vectors_young(tmp_path: Path) -> None:
    clicks = sequences(random_events(6))
    facts = walked(clicks, tmp_path, START + 1000 * HOUR)
    assert facts.until == (clicks.known_at.max() // HOUR + 1) * HOUR


def test_an_earlier_logical_time_leaves_later_facts_alone(tmp_path: Path) -> None:
    events, end = random_events(9), START + 70 * HOUR
    walked(sequences(events), tmp_path, end)
    before = contents(tmp_path)
    walked(sequences(known_before(events, START + 20 * HOUR)), tmp_path, START + 20 * HOUR)
    assert contents(tmp_path) == before


def test_vectors_of_items_that_nobody_clicks_leave(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"forget": CONFIG.replay})
    facts = walked(sequences(random_events(11)), tmp_path, START + 70 * HOUR, config=config)
    last = [entry for entry in facts.entries if entry.kind == "all"][-1]
    rows = FactsFolder(tmp_path, "these").load(last).rows
    assert rows.clicked[2:].min() >= last.until - 6 * HOUR
    assert not any(value.startswith("i0") and int(value[1:]) < 16 for _, value in rows.keys[2:])  # of the first twenty hours


def test_an_unseen_item_is_known_by_its_attribute(tmp_path: Path) -> None:
    """Items of a category that a user likes rank above those of another, though nobody clicked them yet."""
    rng, events = np.random.default_rng(0), []
    for hour in range(48):
        for _ in range(60):
            user = int(rng.integers(0, 40))
            time = START + hour * HOUR + int(rng.integers(0, HOUR))
            events.append((f"u{user}", f"i{rng.integers(0, 6) * 2 + user % 2:02d}", time, time))
    new = START + 60 * HOUR
    events += [("u90", "x_even", new, new), ("u91", "x_odd", new, new), ("u92", "x_none", new, new)]
    categories = {f"i{n:02d}": ("even", "odd")[n % 2] for n in range(12)} | {"x_even": "even", "x_odd": "odd"}
    clicks = sequences(events, categories)
    walked(clicks, tmp_path, START + 50 * HOUR)
    names = clicks.items["item_id"].to_pylist()
    asked_items = np.array([names.index(name) for name in ("x_even", "x_none", "x_odd")], np.int32)
    history = np.array([[0, 2, 4, 6, 8]], np.int32)
    asked = Requests(np.array([new]), np.array([new]), history, np.zeros(3, np.int64), asked_items)
    even, _, odd = VectorsAsOf(FactsFolder(tmp_path, "these"), CONFIG, LENGTH, clicks.items).of(asked).product
    assert even > odd


def test_without_history_or_before_the_first_block_nothing_is_said(tmp_path: Path) -> None:
    clicks = sequences(random_events(2))
    walked(clicks, tmp_path, START + 70 * HOUR)
    vectors = VectorsAsOf(FactsFolder(tmp_path, "these"), CONFIG, LENGTH, clicks.items)
    moment = np.array([START + 50 * HOUR, START - HOUR, START + 50 * HOUR])
    none, some = np.full(LENGTH, -1, np.int32), np.array([0, 1, -1, -1, -1], np.int32)
    asked = Requests(moment, moment, np.stack([none, some, some]), np.arange(3), np.zeros(3, np.int32))
    found = vectors.of(asked)
    assert np.isnan(found.product).tolist() == [True, True, False]
    assert np.isnan(found.age).tolist() == [False, True, False]


def test_a_longer_refresh_sees_older_facts(tmp_path: Path) -> None:
    clicks = sequences(random_events(4))
    walked(clicks, tmp_path, START + 70 * HOUR)
    slow = CONFIG.model_copy(update={"refresh": 6 * CONFIG.block})
    moments = np.arange(START + 30 * HOUR, START + 40 * HOUR, HOUR // 2)
    refreshed = moments // (6 * HOUR) * 6 * HOUR
    np.testing.assert_array_equal(products(clicks, tmp_path, moments, slow), products(clicks, tmp_path, refreshed))


def test_missed_refreshes_are_older_vectors_and_their_age(tmp_path: Path) -> None:
    clicks = sequences(random_events(4))
    walked(clicks, tmp_path, START + 70 * HOUR)
    vectors, history = VectorsAsOf(FactsFolder(tmp_path, "these"), CONFIG, LENGTH, clicks.items), np.array([[0, 1, 2, -1, -1]], np.int32)
    moment = np.array([START + 40 * HOUR + 90 * 10**6])

    def read(as_of: int) -> tuple[list[float], list[float]]:
        asked = Requests(moment, np.array([as_of]), history, np.zeros(4, np.int64), np.arange(4, dtype=np.int32))
        return vectors.of(asked).product.tolist(), vectors.of(asked).age.tolist()

    assert read(moment[0])[1] == [90.0] * 4
    assert read(moment[0] - 5 * HOUR)[1] == [5 * 3600 + 90.0] * 4
    assert read(moment[0] - 5 * HOUR)[0] == products(clicks, tmp_path, moment - 5 * HOUR)[0, :4].tolist()
    moment = np.array([START + 75 * HOUR])  # the newest click was fifteen hours before
    assert read(moment[0])[1] == [15 * 3600.0] * 4


def test_going_back_in_time_begins_anew(tmp_path: Path) -> None:
    clicks = sequences(random_events(6))
    walked(clicks, tmp_path, START + 70 * HOUR)
    vectors = VectorsAsOf(FactsFolder(tmp_path, "these"), CONFIG, LENGTH, clicks.items)

    def at(hour: int) -> np.ndarray:
        history = np.array([[0, 1, 2, -1, -1]], np.int32)
        moment = np.array([START + hour * HOUR])
        return vectors.of(Requests(moment, moment, history, np.zeros(4, np.int64), np.arange(4, dtype=np.int32))).product

    early = at(20)
    at(60)
    np.testing.assert_array_equal(at(20), early)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    clicks = sequences(random_events(8))
    facts = walked(clicks, tmp_path, START + 70 * HOUR)
    file = tmp_path / facts.entries[-1].file
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(DataError, match=file.name):
        products(clicks, tmp_path, np.array([START + 70 * HOUR]))
    shutil.rmtree(tmp_path)


def test_a_list_names_no_file_elsewhere(tmp_path: Path) -> None:
    facts = walked(sequences(random_events(8)), tmp_path, START + 70 * HOUR)
    text = (tmp_path / FactsList.FILE).read_text()
    (tmp_path / FactsList.FILE).write_text(text.replace(facts.entries[0].file, "../secret-all-0123456789ab.parquet"))
    with pytest.raises(DataError, match=r"facts\.json is damaged: entries\.0\.file"):
        FactsFolder(tmp_path, "these").read()


def test_where_nothing_was_learned_nothing_is_answered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no item vectors were learned there"):
        products(sequences(random_events(8)), tmp_path, np.array([START]))


def test_facts_of_other_settings_are_refused(tmp_path: Path) -> None:
    walked(sequences(random_events(8)), tmp_path, START + 70 * HOUR)
    with pytest.raises(DataError, match="other settings"):
        FactsFolder(tmp_path, "those").read()


def test_the_length_of_a_block_fits_the_pace() -> None:
    per_hour = np.linspace(0, 10 * HOUR, 30_000).astype(np.int64)
    assert block_length(EmbeddingsConfig(), per_hour) == HOUR
    assert block_length(EmbeddingsConfig(), per_hour[:50]) == HOUR
    assert block_length(EmbeddingsConfig(), np.zeros(0, np.int64)) == 7 * 24 * HOUR
    assert block_length(CONFIG, per_hour[:50]) == HOUR
