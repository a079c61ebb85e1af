"""Boosted trees of either library: they learn, choose on validation, repeat, and read nulls, unknown categories and any number of rows."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from ctr_kd.baselines.boosted_trees import BoostedTrees, TreeColumns, window_ratios
from ctr_kd.baselines.tree_libraries import TreeSettings
from ctr_kd.metrics import UndefinedMetric, auc_score, log_loss

needs_lightgbm = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="LightGBM is not installed: pip install lightgbm")
LIBRARIES = [pytest.param("lightgbm", marks=needs_lightgbm), "scikit-learn"]
QUICK = dataclasses.replace(TreeSettings.for_rows(6000), trees=60, patience=15, learning_rate=0.1)
NAMES = {"numeric": ["age", "clicks"], "categorical": ["device"]}


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


TRAIN, VALIDATION = click_columns(6000, 0), click_columns(2000, 1)


@pytest.fixture(scope="module", params=LIBRARIES)
def fitted(request):
    return BoostedTrees.fit(*TRAIN, *VALIDATION, **NAMES, library=request.param, settings=QUICK)


class TestBoostedTrees:
    def test_learns(self, fitted):
        columns, label = click_columns(3000, 2)
        probability = fitted.predict(columns)
        assert auc_score(label, probability) > 0.8 > auc_score(label, columns["clicks"])
        assert log_loss(label, probability) < log_loss(label, np.full(3000, label.mean())) - 0.1

    def test_number_of_trees_is_the_best_on_validation(self, fitted):
        columns, label = VALIDATION
        losses = fitted.trees.validation_losses
        assert fitted.trees.count == 1 + int(np.argmin(losses)) <= len(losses)
        assert log_loss(label, fitted.predict(columns)) == pytest.approx(min(losses), rel=1e-6)

    def test_learns_by_weights(self, fitted):
        ones = {"weight": np.ones(6000), "validation_weight": np.full(2000, 3.0)}
        again = BoostedTrees.fit(*TRAIN, *VALIDATION, **NAMES, **ones, library=fitted.library, settings=QUICK)
        np.testing.assert_allclose(again.predict(VALIDATION[0]), fitted.predict(VALIDATION[0]), rtol=1e-5)
        others, of_others = VALIDATION
        weights = [np.where(label == 1, 1.0, 5.0) for label in (TRAIN[1], of_others)]  # as where a fifth of the other rows were kept
        rare = BoostedTrees.fit(
            *TRAIN, *VALIDATION, **NAMES, weight=weights[0], validation_weight=weights[1], library=fitted.library, settings=QUICK
        )
        expected = np.average(of_others, weights=weights[1])
        assert np.average(rare.predict(others), weights=weights[1]) == pytest.approx(expected, rel=0.1)
        assert fitted.predict(others).mean() > 2 * expected
        losses = rare.trees.validation_losses
        assert log_loss(of_others, rare.predict(others), weights[1]) == pytest.approx(min(losses), rel=1e-5)

    def test_stops_early_and_leaves_out_the_trees_after_the_best(self, fitted):
        hasty = dataclasses.replace(QUICK, learning_rate=0.9, trees=200, patience=5)
        model = BoostedTrees.fit(*TRAIN, *VALIDATION, numeric=["age", "clicks"], library=fitted.library, settings=hasty)
        losses = model.trees.validation_losses
        assert model.trees.count < len(losses) < 200
        assert log_loss(VALIDATION[1], model.predict(VALIDATION[0])) == pytest.approx(min(losses), rel=1e-6)

    def test_the_same_seed_gives_the_same_bytes(self, fitted):
        drawn = dataclasses.replace(QUICK, trees=20, column_share=0.5)
        models = [BoostedTrees.fit(*TRAIN, *VALIDATION, **NAMES, library=fitted.library, settings=drawn, seed=seed) for seed in (0, 0, 1)]
        first, again, other = (model.predict(VALIDATION[0]).tobytes() for model in models)
        assert first == again != other

    def test_a_tiny_log_is_told_apart(self, fitted):
        columns, label = {"clicks": np.repeat([0.0, 5.0], 20)}, np.repeat([0, 1], 20)
        model = BoostedTrees.fit(columns, label, columns, label, numeric=["clicks"], library=fitted.library)
        never, often = model.predict({"clicks": [0.0, 5.0]})
        assert never < 0.1 and often > 0.9

    def test_null_is_a_value_of_its_own(self, fitted):
        value = np.tile([1.0, np.nan], 200)
        label = np.isnan(value)
        model = BoostedTrees.fit({"age": value}, label, {"age": value}, label, numeric=["age"], library=fitted.library)
        known, null = model.predict({"age": pa.array([1.0, None])})
        assert known < 0.1 and null > 0.9
        category = {"device": pa.array(["tv", None] * 200)}
        model = BoostedTrees.fit(category, label, category, label, numeric=[], categorical=["device"], library=fitted.library)
        known, null = model.predict({"device": pa.array(["tv", None])})
        assert known < 0.1 and null > 0.9

    def test_unknown_categories_are_null(self, fitted):
        one = {"age": np.array([2.0]), "clicks": np.array([3.0])}
        assert fitted.predict(one | {"device": ["watch"]}) == fitted.predict(one | {"device": np.array([None], object)})

    def test_a_row_is_scored_alone_as_among_others(self, fitted):
        columns, _ = click_columns(50, 3)
        together = fitted.predict(columns)
        alone = [fitted.predict({name: column[row : row + 1] for name, column in columns.items()})[0] for row in range(50)]
        np.testing.assert_array_equal(alone, together)

    def test_no_rows_to_predict(self, fitted):
        none = {"age": [], "clicks": [], "device": []}
        assert fitted.predict(none).shape == (0,)
        assert fitted.logits(none).shape == (0, 1)

    def test_as_a_teacher_they_are_never_certain(self, fitted):
        columns, _ = click_columns(50, 3)
        probability = fitted.predict(columns)
        np.testing.assert_allclose(fitted.logits(columns)[:, 0], np.log(probability / (1 - probability)))
        sure = dataclasses.replace(fitted, trees=dataclasses.replace(fitted.trees, log_odds=lambda inputs: np.full(len(inputs), 99.0)))
        assert (1 / (1 + np.exp(-sure.logits(columns)))).max() == pytest.approx(1 - 1e-6)

    def test_arrow_and_pandas_columns_give_the_same(self, fitted):
        columns, _ = VALIDATION
        expected = fitted.predict(columns)
        table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})
        np.testing.assert_array_equal(fitted.predict(table), expected)
        encoded = table.set_column(2, "device", table["device"].dictionary_encode())
        np.testing.assert_array_equal(fitted.predict(encoded), expected)
        np.testing.assert_array_equal(fitted.predict(pd.DataFrame(columns)), expected)

    def test_many_categories_keep_the_frequent_ones(self, fitted):
        rng = np.random.default_rng(3)
        names = np.array([f"site{i:03d}" for i in range(400)])[np.minimum(rng.geometric(0.01, 4000) - 1, 399)]
        site, few = {"site": names}, {"site": names[:500]}
        label = rng.integers(0, 2, 4000)
        only = dataclasses.replace(QUICK, trees=3)
        model = BoostedTrees.fit(site, label, few, label[:500], numeric=[], categorical=["site"], library=fitted.library, settings=only)
        assert len(model.columns.categories["site"]) == TreeColumns.MOST_CATEGORIES
        assert model.predict(site).shape == (4000,)

    def test_it_says_what_it_did(self, fitted):
        said: list[str] = []
        BoostedTrees.fit(*TRAIN, *VALIDATION, **NAMES, library=fitted.library, settings=QUICK, report=said.append)
        assert len(said) == 1
        assert said[0].startswith(f"boosted trees ({fitted.library}): {fitted.trees.count} trees on 6,000 rows and 3 columns, validation")

    def test_errors_say_which(self, fitted):
        columns, label = TRAIN
        with pytest.raises(UndefinedMetric, match="training rows: all 6000 labels are 0"):
            BoostedTrees.fit(columns, np.zeros(6000), *VALIDATION, numeric=["age"])
        with pytest.raises(UndefinedMetric, match="validation rows: there are no rows"):
            BoostedTrees.fit(columns, label, {"age": []}, [], numeric=["age"])
        with pytest.raises(ValueError, match="column height is missing"):
            BoostedTrees.fit(columns, label, *VALIDATION, numeric=["height"])
        with pytest.raises(ValueError, match="at least one column"):
            BoostedTrees.fit(columns, label, *VALIDATION, numeric=[])


@needs_lightgbm
def test_lightgbm_grows_the_same_trees_with_any_number_of_threads():
    scores = set()
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            model = BoostedTrees.fit(*TRAIN, *VALIDATION, **NAMES, library="lightgbm", settings=QUICK)
            scores.add(model.predict(VALIDATION[0]).tobytes())
    assert len(scores) == 1


class TestMatrix:
    def test_numbers_then_ratios_then_categories(self):
        columns = {
            "clicks_1d": pa.array([4, 0, None, 9]),
            "clicks_10m": pa.array([2.0, 0.0, 1.0, None]),
            "device": pa.array(["tv", "pc", None, "tv"]),
        }
        read = TreeColumns.of(columns, ["clicks_1d", "clicks_10m"], ["device"])
        assert read.is_categorical() == [False, False, False, True]
        expected = [[4, 2, 0.4, 0], [0, 0, 0, 1], [np.nan, 1, np.nan, np.nan], [9, np.nan, np.nan, 0]]
        np.testing.assert_array_equal(read.matrix(columns), np.array(expected, np.float32))

    def test_a_ratio_that_is_none_is_null(self):
        columns = {"change_1h": [1.0, 0.0], "change_1d": [-1.0, -1.0]}
        read = TreeColumns.of(columns, ["change_1h", "change_1d"], [])
        assert np.isnan(read.matrix(columns)[:, 2]).all()

    def test_a_column_of_nulls_is_null(self):
        columns = {"device": pa.array([None, None], pa.string())}
        read = TreeColumns.of(columns, [], ["device"])
        assert np.isnan(read.matrix(columns)).all()
        assert np.isnan(read.matrix({"device": ["tv"]})).all()

    def test_it_holds_single_precision_once(self):
        inputs = TreeColumns.of(TRAIN[0], NAMES["numeric"], NAMES["categorical"]).matrix(TRAIN[0])
        assert inputs.dtype == np.float32 and inputs.flags.f_contiguous  # LightGBM then bins it as it lies, without a copy


WINDOWS = {"10m": 600, "1h": 3600, "90m": 5400, "1d": 86400, "2w": 1209600}


class TestWindowRatios:
    def test_declared_keys_and_other_names(self):
        names = ["item_referrer_clicks_1h", "hour", "item_clicks_1h", "item_referrer_clicks_10m", "item_ctr", "user_region_clicks_7d", "1h"]
        shares_and_trends = ["item_referrer_clicks_1h_of_item", "item_referrer_clicks_10m_of_item", "item_clicks_10m_of_1h"]
        assert window_ratios([*names, *shares_and_trends]) == [("item_referrer_clicks_10m", "item_referrer_clicks_1h")]

    @given(
        st.dictionaries(st.sampled_from(["item_clicks", "item_os_clicks", "user"]), st.sets(st.sampled_from(sorted(WINDOWS)))), st.randoms()
    )
    @settings(max_examples=50, deadline=None)
    def test_every_window_but_the_longest_is_over_the_next(self, prefixes, random):
        names = [f"{prefix}_{window}" for prefix, windows in prefixes.items() for window in windows]
        random.shuffle(names)
        expected = set()
        for prefix, windows in prefixes.items():
            for window in windows:
                longer = [other for other in windows if WINDOWS[other] > WINDOWS[window]]
                if longer:
                    expected.add((f"{prefix}_{window}", f"{prefix}_{min(longer, key=WINDOWS.__getitem__)}"))
        found = window_ratios(names)
        assert set(found) == expected and len(found) == len(expected)
