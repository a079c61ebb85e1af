"""Baselines: the order of popularity is exact, the trees learn, choose on validation, and repeat."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctr_kd.baselines.clicks import BoostedTrees, Popularity
from ctr_kd.metrics import UndefinedMetric, auc_score, calibration_error, log_loss

COUNTS = ("item_clicks_1h", "item_clicks_1d")


def popularity_columns(short, long):
    return {"item_clicks_1h": np.asarray(short, np.float32), "item_clicks_1d": np.asarray(long, np.float32)}


class TestPopularity:
    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50), st.integers(0, 1)), min_size=1, max_size=60),
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 200)), min_size=2, max_size=30),
    )
    @example([(0, 1, 0)], [(0, 0), (0, 1)])  # below all training counts
    @example([(1, 1, 1)], [(1000, 0), (1000, 1)])  # above them
    @settings(max_examples=100, deadline=None)
    def test_order_is_that_of_the_counts(self, train, test):
        short, long, label = zip(*train, strict=True)
        model = Popularity.fit(popularity_columns(short, long), label, COUNTS)
        probability = model.predict(popularity_columns(*zip(*test, strict=True)))
        assert ((probability > 0) & (probability < 1)).all()
        order = sorted(range(len(test)), key=lambda i: test[i])
        for one, other in itertools.pairwise(order):
            if test[one] == test[other]:
                assert probability[one] == probability[other]
            else:
                assert probability[one] < probability[other]

    def test_probability_is_the_rate_of_the_count(self):
        rng = np.random.default_rng(0)
        short = rng.poisson(5, 50_000)
        label = rng.random(50_000) < short / 20
        model = Popularity.fit(popularity_columns(short, short), label, COUNTS)
        probability = model.predict(popularity_columns(short, short))
        assert calibration_error(label, probability) < 0.01
        assert model.predict(popularity_columns([4], [4]))[0] == pytest.approx(0.2, abs=0.02)

    def test_popular_items_clicked_less_give_the_average_rate_in_the_same_order(self):
        rng = np.random.default_rng(1)
        short = rng.integers(0, 10, 20_000)
        label = rng.random(20_000) < 0.5 - short / 20
        probability = Popularity.fit(popularity_columns(short, short), label, COUNTS).predict(popularity_columns(short, short))
        assert probability == pytest.approx(np.full(20_000, label.mean()), abs=2e-4)
        assert auc_score(label, probability) == auc_score(label, short) < 0.5

    def test_null_counts_are_zero(self):
        model = Popularity.fit(popularity_columns([0, 3], [0, 3]), [0, 1], COUNTS)
        table = pa.table({"item_clicks_1h": pa.array([None, 0.0]), "item_clicks_1d": pa.array([None, 0.0])})
        first, second = model.predict(table)
        assert first == second

    def test_no_rows(self):
        with pytest.raises(UndefinedMetric, match="no training rows"):
            Popularity.fit(popularity_columns([], []), [], COUNTS)


def click_columns(rows, seed):
    rng = np.random.default_rng(seed)
    age, clicks = rng.exponential(5, rows).astype(np.float32), rng.poisson(4, rows).astype(np.float32)
    age[rng.random(rows) < 0.1] = np.nan
    device = rng.choice(["phone", "desk", "tablet"], rows, p=[0.6, 0.3, 0.1])
    logit = -1.5 + 0.4 * clicks - 0.3 * np.nan_to_num(age, nan=8.0) + np.where(device == "desk", np.where(clicks > 3, 1.5, -1.5), 0)
    label = rng.random(rows) < 1 / (1 + np.exp(-logit))
    columns = {"age": age, "clicks": clicks, "device": device.astype(object)}
    columns["device"][rng.random(rows) < 0.05] = None
    return columns, label.astype(np.int8)


@pytest.fixture(scope="module")
def fitted():
    train, validation = click_columns(6000, 0), click_columns(2000, 1)
    return BoostedTrees.fit(*train, *validation, statistics=["age", "clicks"], categorical=["device"], max_trees=60), train, validation


class TestBoostedTrees:
    def test_learns(self, fitted):
        model, *_ = fitted
        columns, label = click_columns(3000, 2)
        probability = model.predict(columns)
        assert auc_score(label, probability) > 0.8 > auc_score(label, columns["clicks"])
        assert log_loss(label, probability) < log_loss(label, np.full(3000, label.mean())) - 0.1

    def test_number_of_trees_is_the_best_on_validation(self, fitted):
        model, _, (columns, label) = fitted
        assert model.trees == 1 + int(np.argmin(model.validation_losses)) <= len(model.validation_losses)
        assert log_loss(label, model.predict(columns)) == pytest.approx(min(model.validation_losses), rel=1e-9)

    def test_stops_early_and_leaves_out_the_trees_after_the_best(self, fitted):
        _, train, validation = fitted
        model = BoostedTrees.fit(*train, *validation, statistics=["age", "clicks"], learning_rate=0.9, max_trees=200, patience=5)
        assert model.trees < len(model.validation_losses) < 200
        assert log_loss(validation[1], model.predict(validation[0])) == pytest.approx(min(model.validation_losses), rel=1e-9)

    def test_repeats(self, fitted):
        model, train, validation = fitted
        again = BoostedTrees.fit(*train, *validation, statistics=["age", "clicks"], categorical=["device"], max_trees=60)
        np.testing.assert_array_equal(model.predict(validation[0]), again.predict(validation[0]))

    def test_arrow_and_pandas_columns_give_the_same(self, fitted):
        model, _, (columns, _) = fitted
        expected = model.predict(columns)
        table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})
        np.testing.assert_array_equal(model.predict(table), expected)
        encoded = table.set_column(2, "device", table["device"].dictionary_encode())
        np.testing.assert_array_equal(model.predict(encoded), expected)
        np.testing.assert_array_equal(model.predict(pd.DataFrame(columns)), expected)

    def test_unknown_categories_are_null(self, fitted):
        model, *_ = fitted
        one = {"age": np.array([2.0]), "clicks": np.array([3.0])}
        assert model.predict(one | {"device": ["watch"]}) == model.predict(one | {"device": np.array([None], object)})

    def test_many_categories_keep_the_frequent_ones(self):
        rng = np.random.default_rng(3)
        names = np.array([f"site{i:03d}" for i in range(400)])[np.minimum(rng.geometric(0.01, 4000) - 1, 399)]
        label = rng.integers(0, 2, 4000)
        model = BoostedTrees.fit(
            {"site": names}, label, {"site": names[:500]}, label[:500], statistics=[], categorical=["site"], max_trees=3
        )
        assert len(model.categories["site"]) == BoostedTrees.MAX_CATEGORIES
        assert model.predict({"site": names}).shape == (4000,)

    def test_row_cap_takes_a_seeded_sample(self, fitted):
        _, (columns, label), validation = fitted
        said: list[str] = []
        settings = {"statistics": ["age", "clicks"], "max_trees": 10, "max_rows": 1000, "max_validation_rows": 500}
        one = BoostedTrees.fit(columns, label, *validation, **settings, seed=1, report=said.append)
        two = BoostedTrees.fit(columns, label, *validation, **settings, seed=1)
        other = BoostedTrees.fit(columns, label, *validation, **settings, seed=2)
        assert "1,000 rows" in said[0]
        np.testing.assert_array_equal(one.predict(columns), two.predict(columns))
        assert not np.array_equal(one.predict(columns), other.predict(columns))

    def test_no_rows_to_predict(self, fitted):
        assert fitted[0].predict({"age": [], "clicks": [], "device": []}).shape == (0,)

    def test_errors_say_which(self, fitted):
        _, (columns, label), validation = fitted
        with pytest.raises(UndefinedMetric, match="training rows: all 6000 labels are 0"):
            BoostedTrees.fit(columns, np.zeros(6000), *validation, statistics=["age"])
        with pytest.raises(UndefinedMetric, match="validation rows: there are no rows"):
            BoostedTrees.fit(columns, label, {"age": []}, [], statistics=["age"])
        with pytest.raises(ValueError, match="column height is missing"):
            BoostedTrees.fit(columns, label, *validation, statistics=["height"])
        with pytest.raises(ValueError, match="at least one column"):
            BoostedTrees.fit(columns, label, *validation, statistics=[])
