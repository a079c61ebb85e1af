from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from feature_store.config import SimulatorConfig, SourceConfig
from feature_store.readers.simulated import SimulatedReader
from feature_store.simulator.events import Impressions, _Minds, _repeats, simulate
from feature_store.simulator.world import SUBCATEGORIES, ClickWorld, Shelf
from feature_store.tables.contracts import ContractCheck, RawBatch

SMALL: dict[str, Any] = {"users": 200, "items": 150, "days": 4, "requests": 3000}
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds


def log_of(world: ClickWorld, **options: int) -> Impressions:
    """The whole log as one batch, in time order."""
    batches = list(simulate(world, **options))
    order = np.argsort(np.concatenate([batch.timestamp for batch in batches]), kind="stable")
    names = ("user", "timestamp", "device", "item", "probability", "clicked")
    return Impressions(-1, *(np.concatenate([getattr(batch, name) for batch in batches])[order] for name in names))


def read(**settings: Any) -> Iterator[RawBatch]:
    source = SourceConfig(reader="simulated", simulator=SimulatorConfig(**settings))
    return SimulatedReader(source, None).read([])


def events(**settings: Any) -> pa.Table:
    return pa.concat_tables(batch.table for batch in read(**settings) if batch.kind == "events")


@pytest.fixture(scope="module")
def world() -> ClickWorld:
    return ClickWorld(SimulatorConfig())


@pytest.fixture(scope="module")
def log(world: ClickWorld) -> Impressions:
    return log_of(world)


# The log as a log.


def test_same_seed_same_log() -> None:
    assert events(**SMALL).equals(events(**SMALL))


def test_another_seed_is_another_log() -> None:
    one, other = events(**SMALL), events(**SMALL, seed=8)
    assert one.num_rows == other.num_rows
    for name in ("user_id", "item_id", "timestamp", "clicked", "click_probability"):
        assert not one[name].equals(other[name])


def test_every_request_shows_its_candidates_once(log: Impressions) -> None:
    assert log.item.shape == (60_000, 6)
    assert not _repeats(log.item).any()


def test_times_lie_inside_their_day_and_in_the_past() -> None:
    world = ClickWorld(SimulatorConfig(**SMALL))
    for batch in simulate(world):
        start = world.start_us + batch.day * DAY
        assert (np.diff(batch.timestamp) >= 0).all()
        assert start <= batch.timestamp[0] and batch.timestamp[-1] < start + DAY
    assert world.start_us + 4 * DAY < datetime.now(UTC).timestamp() * 1e6


def test_requests_come_in_sessions(log: Impressions) -> None:
    order = np.lexsort((log.timestamp, log.user))
    gap = np.diff(log.timestamp[order])[np.diff(log.user[order]) == 0]
    assert (gap > 0).all()  # a user's requests have an order
    assert 0.7 < (gap < HOUR // 4).mean() < 0.9  # five requests to a session: four gaps of minutes, then one of hours
    assert np.median(gap) < 3 * 60e6 and np.quantile(gap, 0.95) > 6 * HOUR


def test_activity_has_a_long_tail_and_users_arrive(world: ClickWorld, log: Impressions) -> None:
    counts = np.sort(np.bincount(log.user, minlength=3000))[::-1]
    assert 0.4 < counts[:300].sum() / counts.sum() < 0.7
    day = (log.timestamp - world.start_us) // DAY
    assert (log.user < world.arrived[day]).all()
    late = day >= 13
    assert 0.03 < (~np.isin(log.user[late], log.user[~late])).mean() < 0.2


def test_big_days_come_in_batches_of_whole_users() -> None:
    world = ClickWorld(SimulatorConfig(**SMALL))
    batches = list(simulate(world, batch_rows=600))
    assert len(batches) > 20
    assert sum(len(batch.user) for batch in batches) == 3000
    for day in range(4):
        users = np.concatenate([np.unique(batch.user) for batch in batches if batch.day == day])
        assert len(users) == len(set(users))
    assert all(len(batch.user) <= 100 or len(set(batch.user)) == 1 for batch in batches)


def test_few_requests_leave_days_empty() -> None:
    world = ClickWorld(SimulatorConfig(users=5, items=20, days=14, requests=10))
    assert sum(len(batch.user) for batch in simulate(world)) == 10


@pytest.mark.parametrize(
    "size", [{"users": 2, "items": 10, "candidates": 10}, {"users": 3, "items": 30, "candidates": 9, "categories": 50}]
)
def test_tiny_worlds(size: dict[str, int]) -> None:
    world = ClickWorld(SimulatorConfig(days=2, requests=100, **size))
    log = log_of(world)
    assert log.item.shape == (100, size["candidates"]) and not _repeats(log.item).any()
    assert_live(world, log)


# Items.


def assert_live(world: ClickWorld, log: Impressions) -> None:
    hours = (log.timestamp[:, None] - world.start_us) / HOUR
    assert (world.birth_hour[log.item] <= hours).all()
    assert (hours < world.death_hour[log.item]).all()


def test_items_are_shown_between_birth_and_death(world: ClickWorld, log: Impressions) -> None:
    assert_live(world, log)
    assert (world.birth_hour > 0).sum() > 500 and (world.death_hour < 24 * 14).sum() > 500


def test_tomorrow_has_unseen_items(world: ClickWorld, log: Impressions) -> None:
    past = log.timestamp < world.start_us + int(0.9 * 14 * DAY)
    assert 0.1 < (~np.isin(log.item[~past], log.item[past])).mean() < 0.2


def test_popularity_has_a_long_tail(log: Impressions) -> None:
    clicks = np.sort(np.bincount(log.item[log.clicked], minlength=2000))[::-1]
    assert clicks[:200].sum() > 0.5 * clicks.sum() and (clicks[1000:] > 0).mean() > 0.5


def test_a_shelf_draws_live_items_of_the_category() -> None:
    world = ClickWorld(SimulatorConfig(**SMALL, categories=3))
    rng = np.random.default_rng(0)
    hour, category = rng.integers(24, size=5000), rng.integers(-1, 3, size=5000)
    items = Shelf(world, day=2).draw(rng, hour, category)
    assert (world.category[items] == category)[category >= 0].all()
    assert set(world.category[items[category < 0]]) == {0, 1, 2}
    assert (world.birth_hour[items] <= 48 + hour).all() and (world.death_hour[items] > 48 + hour).all()


def test_a_shelf_draws_by_popularity_and_age() -> None:
    world = ClickWorld(SimulatorConfig(users=2, items=10, days=1))
    world.birth_hour[:], world.death_hour[:] = 30, 40
    world.birth_hour[:3], world.death_hour[:3] = 0, [10, 10, 24]
    world.log_popularity[:3] = np.log([3.0, 1.0, 1.0])
    items = Shelf(world, day=0).draw(np.random.default_rng(0), np.full(40_000, 5))
    expected = np.array([3 * np.exp(-2.5 / 2), np.exp(-2.5 / 2), np.exp(-2.5 * 5 / 24)])  # shares of life that are over
    np.testing.assert_allclose(np.bincount(items, minlength=10), np.r_[expected / expected.sum(), np.zeros(7)] * 40_000, atol=400)


def test_repeats_marks_later_copies() -> None:
    rows = np.array([[4, 4, 2], [1, 2, 3], [7, 5, 7]], dtype=np.int32)
    assert _repeats(rows).tolist() == [[False, True, False], [False, False, False], [False, False, True]]


# Clicks and their truth.


def test_clicks_are_as_frequent_as_their_probability_says(log: Impressions) -> None:
    p = log.probability
    assert ((p > 0) & (p < 1)).all()
    error = np.sqrt((p * (1 - p)).sum()) / p.size
    assert abs(log.clicked.mean() - p.mean()) < 3 * error
    assert 0.08 < log.clicked.mean() < 0.2


def test_the_oracle_is_calibrated_in_every_decile(log: Impressions) -> None:
    order = np.argsort(log.probability, axis=None)
    for tenth in np.array_split(order, 10):
        p, y = log.probability.ravel()[tenth], log.clicked.ravel()[tenth]
        assert abs(y.mean() - p.mean()) < 3.5 * np.sqrt((p * (1 - p)).sum()) / len(p)


def test_there_is_room_between_popularity_and_the_oracle(log: Impressions) -> None:
    past, clicked = slice(None, 54_000), log.clicked[54_000:].ravel()
    shows = np.bincount(log.item[past].ravel(), minlength=2000)
    clicks = np.bincount(log.item[past][log.clicked[past]], minlength=2000)
    rate = (clicks + 20 * 0.15) / (shows + 20)
    assert 0.58 < roc_auc_score(clicked, rate[log.item[54_000:]].ravel()) < 0.67
    assert 0.80 < roc_auc_score(clicked, log.probability[54_000:].ravel()) < 0.86


def test_deeper_positions_are_clicked_less(log: Impressions) -> None:
    rates = log.clicked.mean(axis=0)
    assert (np.diff(rates) < 0).all() and rates[0] > 3 * rates[5]
    phone, desktop = (log.clicked[log.device == device].mean(axis=0) for device in (0, 1))
    assert phone[5] / phone[0] < 0.9 * desktop[5] / desktop[0]  # small screens hide what is below


def newest_clicks(log: Impressions, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Items of the clicks before each request, newest first, (requests, keep), -1 where none; minutes since the newest, (requests,)."""
    recent = np.full((len(log.user), keep), -1)
    minutes = np.full(len(log.user), np.inf)
    known: dict[int, list[int]] = {}
    at: dict[int, int] = {}
    for row, user in enumerate(log.user.tolist()):
        clicks = known.setdefault(user, [])
        recent[row, : len(clicks)] = clicks[:keep]
        if user in at:
            minutes[row] = (log.timestamp[row] - at[user]) / 60e6
        for item in log.item[row][log.clicked[row]].tolist():
            clicks.insert(0, item)
            at[user] = log.timestamp[row]
    return recent, minutes


def test_what_was_clicked_has_lost_its_appeal_even_tomorrow(world: ClickWorld, log: Impressions) -> None:
    recent, minutes = newest_clicks(log, keep=6)
    today = (log.timestamp - world.start_us) % DAY / 60e6
    yesterday = np.isfinite(minutes) & (minutes > today)  # the newest click is of an earlier day
    again = (log.item[:, :, None] == recent[:, None, :]).any(axis=2)
    for rows in (yesterday, ~yesterday):
        assert again[rows].sum() > 500
        # What was chosen once is better than the rest: without the penalty it would be clicked three times as often.
        assert log.clicked[rows][again[rows]].mean() < 1.5 * log.clicked[rows][~again[rows]].mean()


def test_the_order_of_clicks_matters(world: ClickWorld, log: Impressions) -> None:
    rows = slice(0, 20_000)
    log = Impressions(-1, *(getattr(log, name)[rows] for name in ("user", "timestamp", "device", "item", "probability", "clicked")))
    recent, minutes = newest_clicks(log, keep=20)
    soon = (minutes < 30) & (recent[:, 1] >= 0)
    vectors = world.vector[recent[soon]] * (recent[soon] >= 0)[:, :, None]  # (requests, 20, latent)
    average = vectors.sum(axis=1) / (recent[soon] >= 0).sum(axis=1, keepdims=True)
    oldest = vectors[np.arange(len(vectors)), (recent[soon] >= 0).sum(axis=1) - 1]

    def auc(source: np.ndarray, effect: np.ndarray) -> float:
        score = np.einsum("nkd,nd->nk", world.vector[log.item[soon]], source @ effect.T)
        return float(roc_auc_score(log.clicked[soon].ravel(), score.ravel()))

    newest = auc(vectors[:, 0], world.pull)
    assert newest > 0.68
    assert newest > auc(average, world.pull) + 0.03  # a bag of clicks says less than the last one
    assert newest > auc(oldest, world.pull) + 0.05
    assert newest > auc(vectors[:, 0], world.pull.T) + 0.1  # what follows a phone does not precede it


def test_the_pull_is_skew_but_for_similarity(world: ClickWorld) -> None:
    pull = world.pull.astype(float)
    np.testing.assert_allclose(pull + pull.T, np.eye(len(pull)) * (pull + pull.T)[0, 0], atol=1e-6)
    assert (pull + pull.T)[0, 0] > 0


def test_tastes_drift(world: ClickWorld) -> None:
    user = np.arange(3000, dtype=np.int32)
    minds, rng = _Minds(world), np.random.default_rng(0)
    first, second, last = (minds.drift_to(rng, user, day).copy() for day in (0, 1, 13))

    def correlation(left: np.ndarray, right: np.ndarray) -> float:
        return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])

    assert correlation(first, second) == pytest.approx(0.85, abs=0.02)
    assert correlation(first, last) == pytest.approx(0.85**13, abs=0.03)
    assert first.std() == pytest.approx(last.std(), rel=0.05)


# The reader.


@pytest.mark.parametrize("clicks_only", [False, True])
def test_rows_keep_the_contract(clicks_only: bool) -> None:
    settings = SimulatorConfig(**SMALL, clicks_only=clicks_only)
    reader = SimulatedReader(SourceConfig(reader="simulated", simulator=settings), None)
    assert reader.files() == []
    contract = reader.contract()
    assert contract.oracle is contract.has_impressions is not clicks_only
    check, kinds = ContractCheck(contract), []
    for batch in reader.read([]):
        good, rejected = check.split(batch)
        assert not rejected and good.num_rows == batch.table.num_rows == len(batch.lines)
        assert not any(good[name].null_count for name in batch.table.column_names)
        kinds.append(batch.kind)
    assert kinds == ["items", "users"] + ["events"] * 4


def test_rows_say_what_was_simulated() -> None:
    world = ClickWorld(SimulatorConfig(**SMALL))
    first = next(simulate(world))
    items, users, batch = (next(batches) for batches in [read(**SMALL)] * 3)
    table = batch.table
    row = 6 * 17 + 4
    item = int(first.item[17, 4])
    assert table["user_id"][row].as_py() == f"u{first.user[17]:06d}"
    assert table["item_id"][row].as_py() == f"i{item:05d}"
    assert table["timestamp"][row].value == first.timestamp[17]
    assert (table["request_id"][row].as_py(), table["position"][row].as_py()) == (17, 4.0)
    assert table["clicked"][row].as_py() == first.clicked[17, 4]
    assert table["click_probability"][row].as_py() == first.probability[17, 4]
    category = f"c{world.category[item]:02d}"
    assert items.table.slice(item, 1).to_pylist() == [
        {"item_id": f"i{item:05d}", "category": category, "subcategory": f"{category}.{world.subcategory[item]}"}
    ]
    assert users.table.slice(0, 1).to_pylist() == [{"user_id": "u000000", "segment": f"s{world.segment[0]}"}]
    assert len(set(items.table["subcategory"].to_pylist())) <= 20 * SUBCATEGORIES


def test_request_ids_name_one_request_each() -> None:
    table = events(**SMALL)
    groups = table.group_by("request_id").aggregate(
        [("timestamp", "count_distinct"), ("user_id", "count_distinct"), ("item_id", "count_distinct")]
    )
    assert groups.num_rows == 3000
    assert set(groups["timestamp_count_distinct"].to_pylist()) == set(groups["user_id_count_distinct"].to_pylist()) == {1}
    assert set(groups["item_id_count_distinct"].to_pylist()) == {6}


def test_clicks_only_is_the_same_log_without_the_rest() -> None:
    full = events(**SMALL)
    clicks = events(**SMALL, clicks_only=True)
    assert clicks.equals(full.filter(pc.equal(full["clicked"], 1)).select(clicks.column_names))
    assert not {"position", "click_probability"} & set(clicks.column_names)


def test_the_fingerprint_follows_every_setting() -> None:
    def fingerprint(**settings: Any) -> str:
        return SimulatedReader(SourceConfig(reader="simulated", simulator=SimulatorConfig(**settings)), None).fingerprint()

    changes: dict[str, Any] = {"start": "2023-01-01", "clicks_only": True, "item_life": "7d", "seed": 1}
    changes |= {"users": 7, "items": 70, "categories": 7, "days": 7, "requests": 77, "candidates": 7, "vectors": 7, "item_spread": 0.7}
    assert changes.keys() == SimulatorConfig.model_fields.keys()
    found = [fingerprint(), *(fingerprint(**{name: value}) for name, value in changes.items())]
    assert len(set(found)) == len(found) and fingerprint() == found[0]


# Settings.


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"users": 1}, "users"),
        ({"items": 9}, "items"),
        ({"categories": 1}, "categories"),
        ({"days": 0}, "days"),
        ({"requests": 9}, "requests"),
        ({"candidates": 1}, "candidates"),
        ({"seed": -1}, "seed"),
        ({"item_life": "0d"}, "item_life"),
        ({"items": 10, "candidates": 11}, r"candidates \(11\) cannot exceed items \(10\)"),
        ({"start": datetime.now(UTC) - timedelta(days=3)}, "must lie in the past"),
        ({"horses": 3}, "horses"),
    ],
)
def test_impossible_worlds_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SimulatorConfig(**settings)
