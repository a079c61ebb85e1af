"""Every statistic that rows have is said in words."""

from __future__ import annotations

import pytest

from feature_store.config_statistics import StatisticsConfig
from feature_store.features.event_log import Log
from feature_store.features.statistics import statistic_meanings, statistic_names


@pytest.mark.parametrize("has_impressions", [True, False])
def test_every_statistic_has_a_meaning_of_its_own(has_impressions: bool) -> None:
    of = [
        {"by": ["item", "device"], "count": ["clicks"], "windows": ["10m", "1h"], "share_of": ["item"], "trend": True, "age_of_last": True}
    ]
    config = StatisticsConfig.model_validate({"windows": ["10m", "1h", "7d"], "ctr_prior": 5, "of": of, "co_clicks": {"history": 9}})
    log = Log(has_impressions, categorical=("device",), dense=(), item_attributes=(), user_attributes=(), oracle=False)
    meanings = {name: statistic_meanings(config)[name] for name in statistic_names(config, log)}
    assert len(set(meanings.values())) == len(meanings) and all(meanings.values())
    assert meanings["item_clicks_10m"] == "clicks on the item in the 10m before the request"
    assert "in 7d" in meanings["transition_clicks"]
    assert "in 1d right after any of the last 9 items" in meanings["co_clicks_1d"]
    assert ("by 5 impressions" in meanings.get("item_ctr", "")) == has_impressions
    assert meanings["item_device_clicks_10m"] == "clicks of the same item and device in the 10m before the request"
