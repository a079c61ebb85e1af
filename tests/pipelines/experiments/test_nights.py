"""When the nights of a backtest are, and which windows they have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.experiments.nights import at_night, nights_between

NOON, HOUR = datetime(2024, 1, 5, 12, tzinfo=UTC), timedelta(hours=1)


def config(split: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate({"name": "demo", "source": {"reader": "simulated"}, "split": split})


def test_every_night_is_tested_within_the_range() -> None:
    assert nights_between(NOON, NOON + 8 * HOUR, 4 * HOUR) == [NOON, NOON + 4 * HOUR]
    assert nights_between(NOON, NOON + 9 * HOUR, 4 * HOUR) == [NOON, NOON + 4 * HOUR]
    with pytest.raises(ConfigError, match="at least one --step"):
        nights_between(NOON, NOON + 3 * HOUR, 4 * HOUR)


@pytest.mark.parametrize(
    "split",
    [
        {"train": "3d", "validation": "2h", "test": "9h"},
        {"train_from": "3d", "train_until": "2024-01-01", "validate_until": "2024-01-01T02:00", "test_until": "2024-01-02"},
        {
            "train_from": "2023-12-29",
            "train_until": "2024-01-01",
            "validate_until": "2024-01-01T02:00",
            "test_until": "2024-01-02",
        },
    ],
)
def test_windows_keep_their_length_and_end_at_the_night(split: dict[str, Any]) -> None:
    windows = at_night(config(split), NOON, 4 * HOUR).split
    assert windows is not None
    assert windows.train_from == timedelta(days=3)
    assert (windows.train_until, windows.validate_until, windows.test_until) == (NOON - 2 * HOUR, NOON, NOON + 4 * HOUR)


def test_a_window_from_the_beginning_of_the_log_grows() -> None:
    split = {"train_until": "2024-01-01", "validate_until": "2024-01-01T02:00", "test_until": "2024-01-02"}
    windows = at_night(config(split), NOON, HOUR).split
    assert windows is not None and windows.train_from is None


def test_shares_of_a_log_have_no_length() -> None:
    with pytest.raises(ConfigError, match="moves windows of time"):
        at_night(config({"fractions": [0.8, 0.1, 0.1]}), NOON, HOUR)
