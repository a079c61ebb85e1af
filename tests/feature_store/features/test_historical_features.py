"""Features for rows that come from elsewhere, and candidates of a date."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features import historical_features as serving
from feature_store.features.historical_features import FeatureLookup, candidate_batches_on, candidates_on, features_for, live_on
from feature_store.features.training_set import assemble
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError, NoEvents
from tests.feature_store.logs import FEW, Event, at, short_or_long, write_store

ENGINE = FeatureStoreConfig(threads=1)
CONFIG = AssemblyConfig.model_validate(
    {"split": {"fractions": [0.6, 0.2, 0.2]}, "candidates": {"per_click": 2}, "history": {"min_length": 1}}
)
DAY = date(2024, 1, 1)
EVENTS = st.builds(
    Event,
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 3_900) | st.sampled_from([1079, 1080, 1081, 2520]),  # about midnight
    clicked=st.integers(0, 1),
    delay=st.sampled_from([0, 0, 1, 200, 1_080, 3_000]),
    request=st.none() | st.integers(1, 3),
    time_known=st.sampled_from([True, True, True, False]),
    device=st.sampled_from(["a", "b", None]),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Clicks from 06:00 on; users and items 1 to 4; the last click of user 1 is on the next day."""
    log = [Event(1 + n % 4, 1 + n % 3, 10 * n, device="phone" if n % 2 else None) for n in range(30)]
    return write_store(tmp_path / "store", [*log, Event(1, 4, 1090, device="tv")], False)


def test_features_of_literal_rows(store: Store) -> None:
    frame = pa.table(
        {"timestamp": ["2024-01-01T07:00", "2024-01-01 07:00:00.000001"], "item_id": ["1", "1"], "user_id": [1.0, 3.0], "own": [True, None]}
    )
    found = features_for(store, frame, CONFIG, ENGINE)
    assert found.column_names[:6] == ["timestamp", "item_id", "user_id", "own", "history", "history_timestamps"]
    assert found["own"].to_pylist() == [True, None]
    assert found["history"].to_pylist() == [[1, 2], [3, 1]]  # user 1 at minutes 0 and 40, user 3 at 20 and 60
    assert found["history_timestamps"].to_pylist() == [[at(0), at(40)], [at(20), at(60)]]
    assert found["item_clicks_1h"].to_pylist() == [2, 2]  # minutes 0, 30 at 60; minutes 30, 60 a microsecond later
    assert found["user_gap"].to_pylist()[0] == 1200
    assert found["user_item_clicks"].to_pylist() == [1, 1]


def test_unknown_ids_and_no_user_have_features_too(store: Store) -> None:
    time = pa.array([at(100)] * 3, pa.timestamp("us", "UTC"))
    found = features_for(
        store, pa.table({"user_id": ["nobody", None, "1"], "item_id": ["1", "1", None], "timestamp": time}), CONFIG, ENGINE
    )
    assert found["history"].to_pylist()[:2] == [[], []] and found["user_gap"].to_pylist()[:2] == [None, None]
    assert found["user_clicks"].to_pylist() == [0, None, 3] and found["user_item_clicks"].to_pylist() == [0, None, 0]
    assert found["item_age"].to_pylist() == [6000, 6000, None] and found["item_clicks_1d"].to_pylist() == [4, 4, 0]
    without = features_for(store, pa.table({"item_id": [1], "timestamp": [datetime(2024, 1, 1, 7, tzinfo=UTC)]}), CONFIG, ENGINE)
    assert without["user_clicks"].to_pylist() == [None] and without["item_clicks_1d"].to_pylist() == [2]


def test_features_before_the_log_and_of_no_rows(store: Store) -> None:
    early = features_for(store, pa.table({"user_id": [1], "item_id": [1], "timestamp": ["2001-01-01"]}), CONFIG, ENGINE)
    assert early["history"].to_pylist() == [[]] and early["item_age"].to_pylist() == [None] and early["hour"].to_pylist() == [0]
    none = features_for(store, early.select(["user_id", "item_id", "timestamp"]).slice(0, 0), CONFIG, ENGINE)
    assert none.num_rows == 0 and none.schema.equals(early.schema)


def test_features_keep_columns_that_the_frame_has(store: Store) -> None:
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": ["2024-01-01T07:00"], "item_age": [5.0], "history": [["x"]]})
    found = features_for(store, frame, CONFIG, ENGINE)
    assert found["item_age"].to_pylist() == [5.0] and found["history"].to_pylist() == [["x"]] and found["user_clicks"].to_pylist() == [2]


def test_features_as_of_a_time(store: Store) -> None:
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": [at(100)]})
    assert features_for(store, frame, CONFIG, ENGINE, as_of=at(40))["history"].to_pylist() == [[1]]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pa.table({"item": [1], "timestamp": [1]}), "column item_id is missing; the nearest existing name is 'item'"),
        (pa.table({"item_id": [1]}), "column timestamp is missing"),
        (pa.table({"item_id": [1, 2], "timestamp": ["2024-01-01", "soon"]}), "column timestamp: row 2 holds no time"),
        (pa.table({"item_id": [[1]], "timestamp": [1]}), "column item_id has type list"),
        (pa.table({"item_id": [1], "timestamp": [True]}), "column timestamp has type bool"),
    ],
)
def test_frames_that_cannot_be_read(store: Store, frame: pa.Table, message: str) -> None:
    with pytest.raises(DataError, match=message):
        features_for(store, frame, CONFIG, ENGINE)


def test_sampled_candidates_of_a_date_are_those_of_the_assembly(store: Store, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"history": CONFIG.history.model_copy(update={"min_length": 0})})
    assemble(store, config, ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    items, users = (pq.read_table(tmp_path / "out" / f"{kind}s.parquet")[f"{kind}_id"].to_numpy() for kind in ("item", "user"))
    found = candidates_on(store, DAY, CONFIG, ENGINE)  # min_length does not apply
    assert found.column_names == ["request_id", "user_id", "item_id", "timestamp", "device"]
    of_day = rows[rows.timestamp < datetime(2024, 1, 2, tzinfo=UTC).timestamp() * 1e6]
    assert found["request_id"].to_pylist() == of_day.request.tolist()
    assert found["item_id"].to_pylist() == items[of_day.item].tolist() and found["user_id"].to_pylist() == users[of_day.user].tolist()
    assert found["device"].to_pylist() == of_day.device.astype(object).where(of_day.device.notna(), None).tolist()
    assert found["timestamp"].cast(pa.int64()).to_pylist() == of_day.timestamp.tolist()


def test_live_candidates_are_users_of_the_date_times_items_live_at_its_end(store: Store) -> None:
    found = candidates_on(store, DAY, CONFIG, ENGINE, kind="live").to_pylist()
    # the log's last event of the day is at minute 290; items 1, 2 and 3 were clicked in the hour before
    assert [(row["user_id"], row["item_id"]) for row in found] == [(user, item) for user in (1, 2, 3, 4) for item in (1, 2, 3)]
    assert {row["timestamp"] for row in found} == {at(290).replace(microsecond=1)}
    assert [row["device"] for row in found[::3]] == [None, "phone", None, "phone"]  # of the newest click of each
    earlier = candidates_on(store, DAY, CONFIG, ENGINE, as_of=at(20), kind="live").to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in earlier] == [(user, item) for user in (1, 2) for item in (1, 2)]


def test_live_candidates_of_a_date_that_has_no_event_yet(store: Store) -> None:
    """The users of the week before, at its beginning; the log's last events are at minutes 290 and, of user 1 on item 4, 1090."""
    ahead = candidates_on(store, date(2024, 1, 3), CONFIG, ENGINE, kind="live").to_pylist()
    assert [(row["user_id"], row["item_id"], row["device"]) for row in ahead] == [
        (1, 4, "tv"),
        (2, 4, "phone"),
        (3, 4, None),
        (4, 4, "phone"),
    ]
    assert {row["timestamp"] for row in ahead} == {datetime(2024, 1, 3, tzinfo=UTC)}
    hour, day = timedelta(hours=1), timedelta(days=1)
    assert candidates_on(store, date(2024, 1, 2), CONFIG, ENGINE, at(1080), kind="live", window=hour).column("item_id").to_pylist() == 4 * [
        1,
        2,
        3,
    ]
    assert candidates_on(store, date(2024, 1, 3), CONFIG, ENGINE, kind="live", users=day)["user_id"].to_pylist() == [1]
    assert candidates_on(store, date(2024, 1, 3), CONFIG, ENGINE, kind="live", window=day)["item_id"].to_pylist()[:4] == [1, 2, 3, 4]
    both = candidates_on(store, date(2024, 1, 2), CONFIG, ENGINE, kind="live", users=2 * day)  # of that date and the one before
    assert both["user_id"].to_pylist() == [1, 2, 3, 4]
    assert live_on(store, date(2024, 1, 3), CONFIG, ENGINE, window=day).clicks.tolist() == [10, 10, 10, 1]
    with pytest.raises(NoEvents, match="nobody had an event in the 7d before 2024-01-20; the log holds 2024-01-01 to"):
        candidates_on(store, date(2024, 1, 20), CONFIG, ENGINE, kind="live")


def test_impressions_of_a_date(tmp_path: Path) -> None:
    log = [Event(1, item, minute, clicked=0, request=None if minute == 20 else 7 + minute) for minute in (20, 10, 1500) for item in (2, 1)]
    log.append(Event(1, 1, 0))
    found = candidates_on(write_store(tmp_path / "store", log, True), DAY, CONFIG, ENGINE).to_pylist()
    assert [(row["request_id"], row["item_id"]) for row in found] == [(None, 1), (17, 1), (17, 2), (None, 1), (None, 2)]
    assert [row["timestamp"] for row in found] == [at(0), at(10), at(10), at(20), at(20)]


@pytest.mark.parametrize(("kind", "what"), [("log", "no event on"), ("live", "nobody had an event in the 7d before")])
def test_a_date_without_events_is_an_error(store: Store, kind: str, what: str) -> None:
    with pytest.raises(DataError, match=f"{what} 2024-02-01; the log holds 2024-01-01 to 2024-01-02"):
        candidates_on(store, date(2024, 2, 1), CONFIG, ENGINE, kind=kind)  # type: ignore[arg-type]


def test_a_lookup_serves_frames_in_any_order_of_time(store: Store) -> None:
    frames = [pa.table({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [at(minute), at(minute + 3)]}) for minute in (100, 250, 30, 250)]
    with FeatureLookup(store, CONFIG, ENGINE) as lookup:
        assert [lookup.of(frame) for frame in frames] == [features_for(store, frame, CONFIG, ENGINE) for frame in frames]


@FEW
@given(
    events=short_or_long(EVENTS),
    impressions=st.booleans(),
    hidden=st.none() | st.integers(400, 4_000),
    kind=st.sampled_from(["log", "live"]),
)
def test_a_reading_up_to_a_later_date_answers_as_one_up_to_the_midnight_after_the_rows(
    events: list[Event], impressions: bool, hidden: int | None, kind: Literal["log", "live"]
) -> None:
    """What came later, or became known later, is in no answer; and what is to be scored comes from the same rows."""
    log = [event if impressions and event.time_known else replace(event, clicked=1) for event in events]
    log.append(Event(1, 1, 3_000))
    as_of = None if hidden is None else at(hidden)
    until = lambda midnight: midnight if as_of is None else min(as_of, midnight)  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", log, impressions)
        with FeatureLookup(store, CONFIG, ENGINE, until(datetime(2024, 1, 5, tzinfo=UTC))) as shared:
            for day in (date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)):
                midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
                try:
                    rows = candidates_on(store, day, CONFIG, ENGINE, as_of, kind=kind).select(["user_id", "item_id", "timestamp"])
                except DataError:  # no event of that day, or no live item
                    continue
                with FeatureLookup(store, CONFIG, ENGINE, until(midnight)) as own:
                    assert shared.of(rows).to_pydict() == own.of(rows).to_pydict()


def test_live_candidates_come_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = candidates_on(store, DAY, CONFIG, ENGINE, kind="live")
    monkeypatch.setattr(serving, "BATCH", 7)  # two users' worth of items
    batches = list(candidate_batches_on(store, DAY, CONFIG, ENGINE, kind="live"))
    assert [batch.num_rows for batch in batches] == [6, 6] and pa.concat_tables(batches) == whole


def test_impressions_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = [Event(user, item, minute, clicked=item % 2) for minute in (5, 10, 1500) for user in (1, 2) for item in (1, 2, 3)]
    store = write_store(tmp_path / "store", log, True)
    whole = candidates_on(store, DAY, CONFIG, ENGINE)
    monkeypatch.setattr(serving, "BATCH", 5)
    batches = list(candidate_batches_on(store, DAY, CONFIG, ENGINE))
    assert [batch.num_rows for batch in batches] == [5, 5, 2] and pa.concat_tables(batches) == whole


def test_impressions_are_read_from_their_date_alone(tmp_path: Path) -> None:
    log = [Event(user, item, minute, clicked=item % 2) for minute in (5, 1500) for user in (1, 2) for item in (1, 2, 3)]
    store = write_store(tmp_path / "store", log, True)
    whole = candidates_on(store, date(2024, 1, 2), CONFIG, ENGINE)
    (store.root / "events" / "date=2024-01-01" / "events.parquet").write_bytes(b"")
    assert candidates_on(store, date(2024, 1, 2), CONFIG, ENGINE) == whole and whole.num_rows == 6


def test_no_live_item_is_an_error(tmp_path: Path) -> None:
    log = [Event(1, 1, 0), Event(1, 2, 100, clicked=0)]
    with pytest.raises(DataError, match="no item was clicked in the 1h before; use a longer window"):
        candidates_on(write_store(tmp_path / "store", log, True), DAY, CONFIG, ENGINE, kind="live")


@pytest.mark.parametrize("name", ["events/date=2024-01-01/events.parquet", "items/items.parquet", "users/users.parquet"])
def test_a_changed_byte_in_what_is_read_is_named_before_any_of_it_is_used(tmp_path: Path, name: str) -> None:
    people = pa.table({"user_id": [1, 2], "segment": ["s0", "s1"]})
    things = pa.table({"item_id": [1, 2], "category": ["c0", "c1"]})
    store = write_store(tmp_path / "store", [Event(1 + n % 2, 1 + n % 2, 10 * n) for n in range(9)], True, things, people)
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": ["2024-01-01T07:00"]})
    features_for(store, frame, CONFIG, ENGINE)
    held = (store.root / name).read_bytes()
    (store.root / name).write_bytes(held[: len(held) // 2] + bytes([held[len(held) // 2] ^ 1]) + held[len(held) // 2 + 1 :])
    for read in (lambda: features_for(store, frame, CONFIG, ENGINE), lambda: candidates_on(store, DAY, CONFIG, ENGINE)):
        with pytest.raises(DataError, match=rf"{name}: its sha256 is not that of its manifest, the file is damaged; restore it"):
            read()
    (store.root / name).write_bytes(held)
    assert candidates_on(store, DAY, CONFIG, ENGINE).num_rows == 9
