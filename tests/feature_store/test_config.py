"""Settings of the feature store that are more than their types."""

import pytest
from pydantic import ValidationError

from feature_store.config import StatisticsConfig, duration_text


def test_windows_come_shortest_first_and_none_twice():
    config = StatisticsConfig(windows=("1d", "600s", "1h"))
    assert [duration_text(window) for window in config.windows] == ["10m", "1h", "1d"]
    with pytest.raises(ValidationError, match="the same window is named twice"):
        StatisticsConfig(windows=("60m", "1h"))
    with pytest.raises(ValidationError):
        StatisticsConfig(windows=())
