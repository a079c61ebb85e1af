"""Popularity: its order is exact, and its probabilities are rates."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctr_kd.baselines.popularity import Popularity
from ctr_kd.metrics import UndefinedMetric, auc_score, calibration_error

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


def test_a_weight_is_a_repetition():
    columns, label, times = (
        {"recent": np.array([0, 0, 3, 3, 5]), "older": np.array([0, 1, 5, 5, 9])},
        np.array([0, 0, 0, 1, 1]),
        [2, 1, 3, 1, 0],
    )
    weighted = Popularity.fit(columns, label, ("recent", "older"), times)
    again = {name: np.repeat(values, times) for name, values in columns.items()}
    repeated = Popularity.fit(again, np.repeat(label, times), ("recent", "older"))
    np.testing.assert_allclose(weighted.predict(columns), repeated.predict(columns), rtol=1e-12)
    with pytest.raises(UndefinedMetric, match="all weights are 0"):
        Popularity.fit(columns, label, ("recent", "older"), np.zeros(5))
