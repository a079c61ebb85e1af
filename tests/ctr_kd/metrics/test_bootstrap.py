"""Bootstrap: statistics equal the metrics on repeated rows, intervals cover, and everything repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctr_kd.evaluation.model_metrics import MacroF1Statistic, OneVsRestStatistic
from ctr_kd.metrics import UndefinedMetric, auc_score, macro_f1_score, one_vs_rest_auc_score
from ctr_kd.metrics.bootstrap import AucStatistic, Bootstrap, RatioStatistic, Resample, paired_difference, percentile_interval

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 4)), min_size=2, max_size=40)


def resample(counts):
    return Resample(np.asarray(counts, np.int32), np.asarray(counts, np.float64))


class TestAucStatistic:
    @given(ROWS, st.lists(st.integers(0, 3), min_size=5, max_size=5))
    @settings(max_examples=150, deadline=None)
    def test_equals_the_auc_of_repeated_rows(self, rows, counts):
        label, score, unit = (np.array(column) for column in zip(*rows, strict=True))
        assume(0 < label.sum() < len(label))
        value = AucStatistic(label, score, unit)(resample(counts))
        times = np.array(counts)[unit]
        repeated = np.repeat(label, times)
        if len(set(repeated)) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(auc_score(repeated, np.repeat(score, times)), abs=1e-12)

    @given(ROWS, st.lists(st.integers(0, 3), min_size=5, max_size=5), st.integers(0, 999))
    @settings(max_examples=100, deadline=None)
    def test_a_weight_is_a_repetition(self, rows, counts, seed):
        label, score, unit = (np.array(column) for column in zip(*rows, strict=True))
        weight = np.random.default_rng(seed).integers(0, 4, len(label))
        again = np.repeat(np.arange(len(label)), weight)
        assume(0 < label[again].sum() < len(again))
        value = AucStatistic(label, score, unit, weight)(resample(counts))
        assert value == pytest.approx(AucStatistic(label[again], score[again], unit[again])(resample(counts)), abs=1e-12, nan_ok=True)

    def test_once_each_is_the_metric(self):
        rng = np.random.default_rng(0)
        label, score = rng.integers(0, 2, 1000), rng.random(1000)
        assert AucStatistic(label, score, np.arange(1000))(resample(np.ones(1000))) == auc_score(label, score)

    def test_one_label_is_undefined(self):
        with pytest.raises(UndefinedMetric):
            AucStatistic([1, 1], [0.1, 0.2], np.array([0, 1]))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=30), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_statistics_of_classes_equal_the_metrics_of_repeated_rows(rows, seed):
    label, predicted, unit = (np.array(column) for column in zip(*rows, strict=True))
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, 5)
    times = counts[unit]
    assume(times.sum())
    value = MacroF1Statistic(label, predicted, unit)(resample(counts))
    assert value == pytest.approx(macro_f1_score(np.repeat(label, times), np.repeat(predicted, times)))
    score = rng.dirichlet(np.ones(4), len(label))
    assume(len(set(np.repeat(label, times))) > 1)
    value = OneVsRestStatistic(label, score, unit)(resample(counts))
    assert value == pytest.approx(one_vs_rest_auc_score(np.repeat(label, times), np.repeat(score, times, axis=0)))


class TestBootstrap:
    def test_draws_as_many_users_as_there_are(self):
        bootstrap = Bootstrap(["eve", "ann", "eve", "bob"], rows=4)
        assert bootstrap.unit.tolist() == [2, 0, 2, 1]
        for replicate in range(20):
            drawn = bootstrap.resample(replicate)
            assert drawn.counts.sum() == 3 and drawn.counts.shape == (3,)

    def test_repeats_whatever_the_threads(self):
        rng = np.random.default_rng(1)
        label, score, user = rng.integers(0, 2, 2000), rng.random(2000), rng.integers(0, 100, 2000)

        def values(**settings):
            bootstrap = Bootstrap(user, rows=2000, **settings)
            return bootstrap.values_of({"auc": AucStatistic(label, score, bootstrap.unit)})["auc"]

        one, two = values(replicates=40, seed=5, threads=1), values(replicates=40, seed=5, threads=3)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one[:25], values(replicates=25, seed=5, threads=1))  # more replicates continue the same ones
        assert not np.array_equal(one, values(replicates=40, seed=6, threads=1))

    def test_rows_where_there_are_no_users(self):
        bootstrap = Bootstrap(None, rows=50, replicates=10)
        assert bootstrap.units == 50 and not bootstrap.by_user
        means = bootstrap.values_of({"mean": RatioStatistic(np.arange(50.0), np.ones(50))})["mean"]
        assert means.shape == (10,) and abs(means.mean() - 24.5) < 8

    def test_an_error_in_a_thread_is_not_lost(self):
        def broken(_):
            raise RuntimeError("broken statistic")

        with pytest.raises(RuntimeError, match="broken statistic"):
            Bootstrap(None, rows=5, replicates=4).values_of({"broken": broken})

    def test_bad_settings(self):
        with pytest.raises(ValueError, match="replicates"):
            Bootstrap(None, rows=5, replicates=0)
        with pytest.raises(ValueError, match="2 rows, not 5"):
            Bootstrap(["ann", "bob"], rows=5)

    def test_users_widen_the_interval_where_their_rows_agree(self):
        """Forty copies of each user's row carry the news of one row; resampling rows would not notice."""
        rng = np.random.default_rng(2)
        value, user = np.repeat(rng.random(200), 40), np.repeat(np.arange(200), 40)

        def width(units):
            bootstrap = Bootstrap(units, rows=8000, replicates=100)
            sums, rows = bootstrap.sums(value, bootstrap.unit), bootstrap.sums(np.ones(8000), bootstrap.unit)
            interval = percentile_interval(value.mean(), bootstrap.values_of({0: RatioStatistic(sums, rows)})[0])
            return interval.high - interval.low

        assert width(user) > 4 * width(None)


class TestIntervals:
    def test_interval_of_the_auc_covers_the_truth(self):
        """300 small samples of users with effects of their own; the true AUC lies in about 95 % of the intervals."""
        rng = np.random.default_rng(3)
        users, rows, runs = 60, 6, 300
        mean = 1.0

        def sample(count):
            effect = np.repeat(rng.normal(0, 0.7, count), rows)
            label = rng.random(count * rows) < 0.4
            return label, mean * label + effect + rng.normal(size=count * rows), np.repeat(np.arange(count), rows)

        truth = auc_score(*sample(100_000)[:2])
        covered = 0
        for seed in range(runs):
            label, score, user = sample(users)
            bootstrap = Bootstrap(user, rows=len(label), replicates=120, seed=seed, threads=1)
            values = bootstrap.values_of({"auc": AucStatistic(label, score, bootstrap.unit)})["auc"]
            interval = percentile_interval(auc_score(label, score), values)
            covered += interval.low <= truth <= interval.high
        assert 0.90 <= covered / runs <= 0.98

    def test_replicates_without_a_value_are_left_out(self):
        interval = percentile_interval(0.5, [np.nan, 0.4, 0.6, 0.5])
        assert interval.low == pytest.approx(0.405) and interval.high == pytest.approx(0.595)

    def test_mostly_undefined_is_undefined(self):
        with pytest.raises(UndefinedMetric, match="undefined on 2 of 4 resamples"):
            percentile_interval(0.5, [np.nan, np.nan, 0.4, 0.6])


class TestPairedDifference:
    def test_golden_values(self):
        first, second = np.array([0.70, 0.72, 0.74, 0.71]), np.array([0.71, 0.70, 0.70, 0.70])
        found = paired_difference(0.72, 0.70, first, second)
        assert found.difference == pytest.approx(0.02)
        assert found.p_value == pytest.approx(2 * (1 + 1) / 5)  # one of four differences is below zero

    def test_p_value_is_never_zero_and_never_above_one(self):
        assert paired_difference(0.8, 0.7, np.full(299, 0.8), np.full(299, 0.7)).p_value == pytest.approx(2 / 300)
        assert paired_difference(0.7, 0.7, np.full(9, 0.7), np.full(9, 0.7)).p_value == 1

    def test_swapping_the_models_mirrors(self):
        rng = np.random.default_rng(4)
        first, second = rng.normal(0.7, 0.01, 99), rng.normal(0.69, 0.01, 99)
        one, other = paired_difference(0.7, 0.69, first, second), paired_difference(0.69, 0.7, second, first)
        assert (one.difference, one.low, one.p_value) == (-other.difference, pytest.approx(-other.high), other.p_value)

    def test_pairing_sees_what_two_intervals_do_not(self):
        """Two models that share their errors differ by little, but surely."""
        rng = np.random.default_rng(5)
        label, user = rng.integers(0, 2, 3000), rng.integers(0, 150, 3000)
        base = label + rng.normal(0, 1.5, 3000)
        better, worse = base, base + rng.normal(0, 0.5, 3000)
        bootstrap = Bootstrap(user, rows=3000, replicates=100)
        values = bootstrap.values_of({name: AucStatistic(label, s, bootstrap.unit) for name, s in (("better", better), ("worse", worse))})
        one, two = (percentile_interval(0, values[name]) for name in ("better", "worse"))
        found = paired_difference(auc_score(label, better), auc_score(label, worse), values["better"], values["worse"])
        assert one.low < two.high  # the intervals overlap
        assert found.low > 0 and found.p_value < 0.05
