"""Every statistic that rows have is said in words."""

from __future__ import annotations

import pytest

from feature_store.config import StatisticsConfig
from feature_store.features.event_log import Log
from feature_store.features.meanings import statistic_meanings
from feature_store.features.statistics import statistic_names


@pytest.mark.parametrize("has_impressions", [True, False])
def test_every_statistic_has_a_meaning_of_its_own(has_impressions: bool) -> None:
    config = StatisticsConfig(windows=("10m", "1h", "7d"), ctr_prior=5)
    log = Log(has_impressions, categorical=(), dense=(), item_attributes=(), user_attributes=(), oracle=False)
    names = statistic_names(config, log)
    meanings = statistic_meanings(config, names)
    assert list(meanings) == names
    assert len(set(meanings.values())) == len(names)
    assert meanings["item_clicks_10m"] == "clicks on the item in the 10m before the request"
    assert "in 7d" in meanings["transition_clicks"]
    assert ("by 5 impressions" in meanings.get("item_ctr", "")) == has_impressions


def test_what_is_no_statistic_has_none() -> None:
    with pytest.raises(KeyError, match="item_sales"):
        statistic_meanings(StatisticsConfig(), ["item_sales"])
