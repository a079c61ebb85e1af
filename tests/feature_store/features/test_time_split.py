"""Time splits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig, SplitConfig
from feature_store.features.summary import ClickSummary
from feature_store.features.training_set import assemble
from feature_store.tables.contracts import DataError
from tests.feature_store.logs import Event, at, write_store

ENGINE = FeatureStoreConfig(threads=1)


def log(minutes: list[int]) -> list[Event]:
    """An impression and a click at each minute."""
    return [Event(0, item, minute, clicked=item, request=minute) for minute in minutes for item in (0, 1)]


def splits(
    tmp_path: Path, minutes: list[int], split: dict[str, Any], as_of: int | None = None
) -> tuple[dict[str, list[int]], ClickSummary]:
    config = AssemblyConfig.model_validate({"split": split})
    summary = assemble(
        write_store(tmp_path / "store", log(minutes), True), config, ENGINE, None if as_of is None else at(as_of), tmp_path / "out"
    )
    found: dict[str, set[int]] = {"train": set(), "validation": set(), "test": set()}
    for row in pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist():
        found[row["split"]].add((row["timestamp"] - int(at(0).timestamp()) * 10**6) // (60 * 10**6))
    assert {name: 2 * len(minutes) for name, minutes in found.items()} == summary.rows
    return {name: sorted(minutes) for name, minutes in found.items()}, summary


def test_absolute_bounds_are_exclusive_and_rows_outside_are_counted(tmp_path: Path) -> None:
    bounds = {"train_from": at(10), "train_until": at(30), "validate_until": at(40), "test_until": at(60)}
    found, summary = splits(tmp_path, [0, 10, 20, 30, 40, 50, 60], bounds)
    assert found == {"train": [10, 20], "validation": [30], "test": [40, 50]}
    assert summary.excluded["outside_split"] == 2
    assert summary.split.train_until == at(30)


def test_train_from_as_a_duration_limits_labels_but_not_histories(tmp_path: Path) -> None:
    bounds = {"train_from": "15m", "train_until": at(30), "validate_until": at(40), "test_until": at(60)}
    found, _ = splits(tmp_path, [0, 10, 20, 30, 40, 50], bounds)
    assert found["train"] == [20]
    first = pq.read_table(tmp_path / "out" / "rows.parquet").slice(0, 1).to_pylist()[0]
    assert (first["history_start"], first["history_end"]) == (0, 2)  # the clicks of minutes 0 and 10


def test_relative_windows_end_just_after_the_newest_event(tmp_path: Path) -> None:
    found, summary = splits(tmp_path, [0, 10, 20, 30, 40, 50], {"train": "20m", "validation": "10m", "test": "10m"})
    # the windows end just after minute 50: test holds more than minute 40, up to and with minute 50
    assert found == {"train": [20, 30], "validation": [40], "test": [50]}
    assert summary.excluded["outside_split"] == 2 and summary.split.test_until.isoformat() == "2024-01-01T06:50:00.000001+00:00"


def test_relative_windows_end_at_as_of_and_later_events_do_not_exist(tmp_path: Path) -> None:
    found, summary = splits(tmp_path, [0, 10, 20, 30, 40, 50], {"train": "20m", "validation": "10m", "test": "10m"}, as_of=40)
    assert found == {"train": [0, 10], "validation": [20], "test": [30]}
    assert summary.clicks == 4 and summary.as_of == at(40)


def test_as_of_hides_events_that_are_not_known_yet(tmp_path: Path) -> None:
    events = [*log([0, 10, 20, 30]), Event(0, 9, 5, delay=60)]
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.5, 0.25, 0.25]}})
    store = write_store(tmp_path / "store", events, True)
    assert assemble(store, config, ENGINE, at(65), tmp_path / "a").clicks == 4  # known at minute 65: not before it
    assert assemble(store, config, ENGINE, at(66), tmp_path / "b").clicks == 5


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (list(range(10)), {"train": [0, 1, 2, 3, 4, 5], "validation": [6, 7], "test": [8, 9]}),
        ([0, 1, 2, 3, 4], {"train": [0, 1, 2], "validation": [3], "test": [4]}),
    ],
)
def test_fractions_are_in_time_order(tmp_path: Path, minutes: list[int], expected: dict[str, list[int]]) -> None:
    assert splits(tmp_path, minutes, {"fractions": [0.6, 0.2, 0.2]})[0] == expected


def test_fractions_keep_requests_of_one_moment_together(tmp_path: Path) -> None:
    events = [Event(user, 1, minute, clicked=user % 2) for minute, users in ((0, 4), (1, 4), (2, 2)) for user in range(users)]
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.5, 0.3, 0.2]}})
    # 5 of 10 requests would cut through minute 1: all of it falls behind the boundary
    summary = assemble(write_store(tmp_path / "store", events, True), config, ENGINE, None, tmp_path / "out")
    assert summary.requests == {"train": 4, "validation": 4, "test": 2}


def test_leave_one_out_tests_the_newest_moment_and_validates_the_one_before(tmp_path: Path) -> None:
    found, summary = splits(tmp_path, [0, 10, 20, 30], {"leave_one_out": True})
    assert found == {"train": [0, 10], "validation": [20], "test": [30]}
    assert summary.split.to_json() == {
        "train_from": None,
        "train_until": "2024-01-01T06:20:00+00:00",
        "validate_until": "2024-01-01T06:30:00+00:00",
        "test_until": "2024-01-01T06:30:00.000001+00:00",
    }


def test_leave_one_out_as_of_a_time_leaves_the_last_out_that_is_known_then(tmp_path: Path) -> None:
    found, _ = splits(tmp_path, [0, 10, 20, 30], {"leave_one_out": True, "train_from": "10m"}, as_of=30)
    assert found == {"train": [0], "validation": [10], "test": [20]}


def test_leave_one_out_of_one_moment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all requests are at 2024-01-01T06:10.* leave_one_out needs two times"):
        splits(tmp_path, [10, 10], {"leave_one_out": True})
    with pytest.raises(DataError, match=r"the train split, .* has no row"):
        splits(tmp_path / "two", [10, 20], {"leave_one_out": True})


@pytest.mark.parametrize("split", [{}, {"leave_one_out": False}, {"leave_one_out": True, "fractions": [0.8, 0.1, 0.1]}])
def test_a_split_is_named_in_one_way(split: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="name the split in one way"):
        SplitConfig.model_validate(split)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            {"train_until": at(-10), "validate_until": at(10), "test_until": at(99)},
            r"the train split, the beginning to .*05:50.* has no row",
        ),
        (
            {"train_until": at(20), "validate_until": at(21), "test_until": at(22)},
            r"the validation split, .*06:20:00\+00:00 to .*06:21.* no click",
        ),
        ({"train_until": at(20), "validate_until": at(22), "test_until": at(23)}, "the test split, .* has no row"),
        ({"train_from": at(30), "train_until": at(20), "validate_until": at(22), "test_until": at(23)}, "train_from .* is not before"),
    ],
)
def test_a_split_without_rows_or_clicks_is_named_with_its_bounds(tmp_path: Path, split: dict[str, Any], message: str) -> None:
    store = write_store(tmp_path / "store", [*log([0, 10]), Event(0, 3, 20, clicked=0), *log([21])], True)
    with pytest.raises(DataError, match=message) as error:
        assemble(store, AssemblyConfig.model_validate({"split": split}), ENGINE, None, tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("days", [-40, 40])
def test_a_split_outside_of_the_log_fails_before_anything_is_made_and_names_the_range_of_the_log(tmp_path: Path, days: int) -> None:
    split = {name: at(24 * 60 * days + more) for name, more in (("train_until", 0), ("validate_until", 1), ("test_until", 2))}
    with pytest.raises(DataError, match=r"split, .* has no row: the log has requests from 2024-01-01T06:00:00.* to 2024-01-01T06:30:00"):
        assemble(
            write_store(tmp_path / "store", log([0, 10, 30]), True),
            AssemblyConfig.model_validate({"split": split}),
            ENGINE,
            None,
            tmp_path / "out",
        )
    assert not list((tmp_path / "out").glob("*.*"))


def test_a_split_whose_requests_are_all_left_out_says_why(tmp_path: Path) -> None:
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.6, 0.2, 0.2]}, "history": {"min_length": 99}})
    with pytest.raises(DataError, match=r"the train split, .* has no row left: .* history\.min_length"):
        assemble(write_store(tmp_path / "store", log(list(range(10))), True), config, ENGINE, None, tmp_path / "out")


def test_short_histories_are_left_out_and_counted(tmp_path: Path) -> None:
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.6, 0.2, 0.2]}, "history": {"min_length": 2}})
    summary = assemble(write_store(tmp_path / "store", log(list(range(10))), True), config, ENGINE, None, tmp_path / "out")
    assert summary.excluded["short_history"] == 2 and summary.requests["train"] == 4
    rows = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert min(rows["user_clicks"].to_pylist()) == 2


def test_clicks_at_unknown_times_are_no_requests(tmp_path: Path) -> None:
    listed = [Event(0, 5, -20, time_known=False), Event(0, 6, -10, time_known=False)]
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.6, 0.2, 0.2]}})
    summary = assemble(write_store(tmp_path / "store", listed + log(list(range(10))), True), config, ENGINE, None, tmp_path / "out")
    assert summary.excluded["time_unknown"] == 2 and sum(summary.requests.values()) == 10
    first = pq.read_table(tmp_path / "out" / "rows.parquet").slice(0, 1).to_pylist()[0]
    assert (first["user_clicks"], first["user_gap"], first["history_end"] - first["history_start"]) == (2, None, 2)


def test_an_empty_log_as_of_an_early_time_says_so(tmp_path: Path) -> None:
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.6, 0.2, 0.2]}})
    with pytest.raises(DataError, match="holds no click as of"):
        assemble(write_store(tmp_path / "store", log([5]), True), config, ENGINE, at(0) - timedelta(days=9), tmp_path / "out")
