"""What is proposed for a log: keys of few values, windows of its pace, and a trial that ends before the test window."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.config_types import duration_text
from feature_store.features import statistics_proposal
from feature_store.features.statistics_proposal import Proposal, propose_statistics, windows_of_pace
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from tests.feature_store.logs import Event, at, write_store

ENGINE = FeatureStoreConfig(threads=1)
ITEMS = pa.table({"item_id": list(range(8)), "category": list("aabbccdd"), "title_id": [f"t{n}" for n in range(8)], "only": ["x"] * 8})
USERS = pa.table({"user_id": [0, 1, 2], "segment": ["x", "y", None]})
# An event a minute; every item is new once and clicked again three hours later
LOG = [Event(n % 3, n % 8, n, clicked=int(n % 4 == 0), device="tv" if n % 2 else "pc") for n in range(100)]


@pytest.fixture(autouse=True)
def few_clicks_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_proposal, "NEEDED_CLICKS", 1)


def proposed(store: Store, folder: Path, **keys: object) -> Proposal | None:
    config = AssemblyConfig.model_validate({"split": {"train_until": at(60), "validate_until": at(80), "test_until": at(100)}} | keys)
    return propose_statistics(store, config, ENGINE, None, folder / "scratch")


def test_item_and_user_are_crossed_with_what_has_few_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_proposal, "FEW_VALUES", 4)  # title_id has eight, only has one
    store = write_store(tmp_path / "store", LOG, True, ITEMS, USERS)
    of = [{"by": ["device", "user"], "count": ["clicks"]}]
    found = proposed(store, tmp_path, statistics={"of": of})
    assert found is not None
    assert [one.by for one in found.declared] == [("item", "device"), ("item", "segment"), ("user", "category")]
    assert [duration_text(window) for window in found.declared[0].windows] == ["10m", "1h", "6h"]
    assert found.declared[0].share_of == (("item",), ("device",)) and found.declared[0].count == ("clicks",)
    assert [one.by for one in found.trial.statistics.of] == [("user", "device"), *(one.by for one in found.declared)]
    assert not (tmp_path / "scratch").exists()


def test_a_log_without_such_columns_has_nothing_to_try(tmp_path: Path) -> None:
    events = [Event(event.user, event.item, event.minute, event.clicked, device="tv") for event in LOG]
    assert proposed(write_store(tmp_path / "store", events, True), tmp_path) is None


def test_the_trial_is_of_the_newest_training_rows_and_ends_before_the_test_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_proposal, "LEARNED", 24)
    monkeypatch.setattr(statistics_proposal, "JUDGED", 5)
    found = proposed(write_store(tmp_path / "store", LOG, True), tmp_path)
    assert found is not None
    split = found.trial.split  # rows of 36 to 55 teach, those of 56 to 59 say when to stop, those of 60 to 64 judge
    micro = timedelta(microseconds=1)
    assert (split.train_from, split.train_until, split.validate_until) == (at(36), at(56), at(60))
    assert split.test_until == at(64) + micro


def test_candidates_that_are_sampled_count_as_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_proposal, "LEARNED", 24)
    events = [Event(event.user, event.item, event.minute, device=event.device) for event in LOG]
    found = proposed(write_store(tmp_path / "store", events, False), tmp_path, candidates={"per_click": 3})
    assert found is not None and found.trial.split.train_from == at(54)  # six clicks with three candidates each


def test_the_pace_is_that_of_the_training_window(tmp_path: Path) -> None:
    day = 24 * 60
    late = [Event(n % 3, 0, 100 * day + n, device="tv" if n % 2 else "pc") for n in range(300)]  # an old item, clicked after the split
    found = proposed(write_store(tmp_path / "store", [*LOG, *late], True), tmp_path)
    assert found is not None
    assert [duration_text(window) for window in found.declared[0].windows] == ["10m", "1h", "6h"]
    weekly = [Event(n % 3, n % 8, 8 * n * 60, device="tv" if n % 2 else "pc") for n in range(60)]  # clicked for three weeks
    keys = {"split": {"train_until": at(60 * 8 * 50), "validate_until": at(60 * 8 * 55), "test_until": at(60 * 8 * 60)}}
    found = proposed(write_store(tmp_path / "slow", weekly, True), tmp_path, **keys)
    assert found is not None
    assert [duration_text(window) for window in found.declared[0].windows] == ["1h", "1d", "7d"]


@pytest.mark.parametrize(
    ("hours", "longest"), [(0, "6h"), (6, "6h"), (11, "6h"), (13, "1d"), (24 * 4, "7d"), (24 * 20, "30d"), (9e4, "30d")]
)
def test_the_longest_window_is_about_the_age(hours: float, longest: str) -> None:
    windows = windows_of_pace(timedelta(hours=hours))
    assert len(windows) == 3 and list(windows) == sorted(windows) and duration_text(windows[-1]) == longest


def test_a_training_window_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the validation split, .* has no row"):
        keys = {"split": {"train_until": at(200), "validate_until": at(300), "test_until": at(400)}}
        proposed(write_store(tmp_path / "store", LOG, True), tmp_path, **keys)
