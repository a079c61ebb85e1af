"""The shop's log: the same by seed, of the sizes it promises, with clicks that can be told, and without the truth in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.shop_log import CANDIDATES, KEPT, SHELF, USERS, ShopLog, kept, shown, write_shop_log
from ctr_kd.metrics import auc_score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def everything() -> ShopLog:
    return shown()


@pytest.fixture(scope="module")
def log(everything: ShopLog) -> ShopLog:
    return kept(everything)


def clicks(log: ShopLog) -> np.ndarray:
    return log.events["clicked"].to_numpy()


def test_it_has_the_sizes_that_it_promises(everything: ShopLog, log: ShopLog) -> None:
    assert 0.05 < clicks(everything).mean() < 0.08
    assert len(log.events) == pytest.approx(91_000, rel=0.01)
    assert 0.95 * USERS < len(set(log.events["user_id"].to_pylist())) <= USERS
    requests = everything.events.to_pandas().groupby("request_id")
    assert (requests["item_id"].nunique() == CANDIDATES).all() and (requests["user_id"].nunique() == 1).all()
    assert (np.diff(everything.events["timestamp"].to_numpy()).astype(np.int64) >= 0).all()


@pytest.mark.parametrize("week", range(4))
def test_half_of_the_products_are_new_in_each_week(everything: ShopLog, week: int) -> None:
    born = everything.born
    on_shelf = (born <= 7 * week + 7) & (born > 7 * week + 7 - 14)
    assert on_shelf.sum() == SHELF
    assert ((born > 7 * week) & on_shelf).sum() == SHELF / 2


def test_a_product_is_shown_while_it_is_on_the_shelf(everything: ShopLog) -> None:
    events = everything.events.to_pandas()
    day = (events["timestamp"] - events["timestamp"].min().floor("D")).dt.total_seconds() / 86_400
    born = everything.born[events["item_id"].str[1:].astype(int)]
    assert (day >= born - 1e-6).all() and (day < born + 14 + 1e-6).all()


def test_all_clicks_are_kept_and_a_fifth_of_the_rest(everything: ShopLog, log: ShopLog) -> None:
    assert clicks(log).sum() == clicks(everything).sum()
    assert (clicks(log) == 0).sum() / (clicks(everything) == 0).sum() == pytest.approx(KEPT, abs=0.005)


def test_clicks_were_drawn_from_the_probabilities(everything: ShopLog) -> None:
    assert clicks(everything).mean() == pytest.approx(everything.probability.mean(), rel=0.02)
    assert auc_score(clicks(everything), everything.probability) > 0.75


def test_the_same_seed_writes_the_same_log_and_the_truth_stays_outside(log: ShopLog, tmp_path: Path) -> None:
    assert write_shop_log(tmp_path).events.equals(log.events)
    events = pq.read_table(tmp_path / "events.parquet")
    assert events.column_names == ["user_id", "item_id", "timestamp", "clicked", "request_id", "device"]
    assert pq.read_table(tmp_path / "items.parquet").column_names == ["item_id", "category", "brand", "price"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.parquet", "items.parquet", "truth"]
    truth = pq.read_table(tmp_path / "truth" / "probabilities.parquet")
    assert truth.select(["request_id", "item_id"]).equals(events.select(["request_id", "item_id"]))
