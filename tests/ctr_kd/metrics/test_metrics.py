"""Metrics: literal values, equality with scikit-learn and with naive versions, and what happens where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctr_kd.metrics import (
    UndefinedMetric,
    accuracy_score,
    auc_score,
    calibration_error,
    calibration_ratio,
    classification_report,
    gauc_score,
    grouped_auc,
    log_loss,
    macro_f1_score,
    normalized_entropy,
    one_vs_rest_auc_score,
    reliability_bins,
    roc_points,
)


def naive_auc(label, score, weight=None):
    """All pairs of a click and a non-click, in exact weights."""
    weight = [1.0] * len(label) if weight is None else weight
    wins = total = 0.0
    for clicked, value, w in zip(label, score, weight, strict=True):
        for other, below, v in zip(label, score, weight, strict=True):
            if clicked == 1 and other == 0:
                wins += w * v * (1.0 if value > below else 0.5 if value == below else 0.0)
                total += w * v
    return wins / total if total else None


def naive_gauc(label, score, user, weighting):
    values, weights = [], []
    for one in sorted(set(user)):
        mine = [i for i, u in enumerate(user) if u == one]
        area = naive_auc([label[i] for i in mine], [score[i] for i in mine])
        if area is not None:
            clicks = sum(label[i] for i in mine)
            values.append(area)
            weights.append({"rows": len(mine), "clicks": clicks, "mean": 1}[weighting])
    return np.average(values, weights=weights) if values else None


# Few distinct scores, so that ties are the rule rather than the exception.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


def columns(rows):
    label, score, user, weight = (np.array(column) for column in zip(*rows, strict=True))
    return label, score / 6, user, weight.astype(float)


class TestAuc:
    def test_golden_values(self):
        assert auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
        assert auc_score([0, 1], [0.5, 0.5]) == 0.5
        assert auc_score([1, 0, 1, 0, 1], [3, 2, 2, 1, 1]) == 4 / 6  # ties across and inside the labels
        assert auc_score(np.array([True, False]), np.array([1, 0])) == 1.0

    @given(ROWS)
    @settings(max_examples=150, deadline=None)
    def test_equals_all_pairs_and_scikit_learn(self, rows):
        label, score, _, weight = columns(rows)
        assume(0 < label.sum() < len(label))
        assert auc_score(label, score) == pytest.approx(naive_auc(label, score), abs=1e-12)
        assert auc_score(label, score) == pytest.approx(sklearn.metrics.roc_auc_score(label, score), abs=1e-12)
        assume(weight[label == 0].sum() and weight[label == 1].sum())
        assert auc_score(label, score, weight) == pytest.approx(naive_auc(label, score, weight), abs=1e-12)

    @given(ROWS)
    @settings(max_examples=80, deadline=None)
    def test_a_weight_is_a_repetition(self, rows):
        label, score, _, weight = columns(rows)
        times = weight.astype(int)
        assume(times[label == 0].sum() and times[label == 1].sum())
        assert auc_score(label, score, weight) == pytest.approx(auc_score(np.repeat(label, times), np.repeat(score, times)), abs=1e-12)

    def test_order_of_rows_does_not_matter(self):
        rng = np.random.default_rng(0)
        label, score = rng.integers(0, 2, 500), rng.integers(0, 20, 500) / 20
        order = rng.permutation(500)
        assert auc_score(label, score) == auc_score(label[order], score[order])

    def test_reversed_scores_mirror(self):
        rng = np.random.default_rng(1)
        label, score = rng.integers(0, 2, 300), rng.random(300)
        assert auc_score(label, score) + auc_score(label, -score) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("label", "reason"), [([1, 1], "all 2 labels are 1"), ([0, 0, 0], "all 3 labels are 0"), ([], "there are no rows")]
    )
    def test_one_label_is_undefined(self, label, reason):
        with pytest.raises(UndefinedMetric) as undefined:
            auc_score(label, np.zeros(len(label)))
        assert undefined.value.reason == reason

    def test_a_label_without_weight_does_not_occur(self):
        with pytest.raises(UndefinedMetric, match="all 2 labels are 1"):
            auc_score([0, 1, 1], [0.1, 0.2, 0.3], weight=[0, 1, 1])

    @pytest.mark.parametrize(
        ("label", "score", "message"),
        [
            ([0, 2], [0.1, 0.2], "row 1 has 2"),
            ([0, 1], [0.1, np.nan], "row 1 has nan"),
            ([0, 1], [0.1], "one shape"),
            ([[0, 1]], [[0.1, 0.2]], "one shape"),
        ],
    )
    def test_bad_rows_are_refused(self, label, score, message):
        with pytest.raises(ValueError, match=message):
            auc_score(label, score)

    @pytest.mark.parametrize("weight", [[1, -1], [1, np.inf], [1]])
    def test_bad_weights_are_refused(self, weight):
        with pytest.raises(ValueError, match="weight must hold 2 finite numbers"):
            auc_score([0, 1], [0.1, 0.2], weight)


class TestGauc:
    LABEL, SCORE, USER = [0, 1, 0, 0, 1, 1, 0], [0.1, 0.9, 0.1, 0.8, 0.3, 0.4, 0.4], [1, 1, 2, 2, 2, 3, 3]

    @pytest.mark.parametrize(("weighting", "value"), [("rows", 4.5 / 7), ("clicks", 2 / 3), ("mean", 2 / 3)])
    def test_golden_values(self, weighting, value):
        # user 1: 1.0 on 2 rows; user 2: 0.5 on 3 rows; user 3: 0.5 (a tie) on 2 rows; one click each
        assert gauc_score(self.LABEL, self.SCORE, self.USER, weighting) == pytest.approx(value)

    @given(ROWS)
    @settings(max_examples=150, deadline=None)
    def test_equals_a_loop_over_users(self, rows):
        label, score, user, _ = columns(rows)
        expected = {w: naive_gauc(label, score, user, w) for w in ("rows", "clicks", "mean")}
        assume(expected["rows"] is not None)
        for weighting, value in expected.items():
            assert gauc_score(label, score, user, weighting) == pytest.approx(value, abs=1e-12)

    @given(ROWS)
    @settings(max_examples=60, deadline=None)
    def test_users_left_out_are_counted(self, rows):
        label, score, user, _ = columns(rows)
        result = grouped_auc(label, score, user)
        one_label = [u for u in set(user) if len(set(label[user == u])) == 1]
        assert result.undefined == len(one_label)
        assert set(result.group) == set(user) - set(one_label)
        assert result.rows.tolist() == [int((user == u).sum()) for u in result.group]
        assert result.clicks.tolist() == [int(label[user == u].sum()) for u in result.group]

    def test_wide_identifiers_take_the_other_sort(self, monkeypatch):
        rng = np.random.default_rng(3)
        label, score, user = rng.integers(0, 2, 400), rng.integers(0, 9, 400) / 9, rng.integers(0, 30, 400)
        packed = grouped_auc(label, score, user)
        monkeypatch.setattr("ctr_kd.metrics.ranking.PACKED_BITS", 0)
        sorted_by_both = grouped_auc(label, score, user)
        np.testing.assert_array_equal(packed.auc, sorted_by_both.auc)
        np.testing.assert_array_equal(packed.group, sorted_by_both.group)

    def test_names_may_be_texts(self):
        names = np.array(["ann", "bob", "eve"])[np.array(self.USER) - 1]
        assert gauc_score(self.LABEL, self.SCORE, names) == gauc_score(self.LABEL, self.SCORE, self.USER)

    def test_no_user_with_both_labels_is_undefined(self):
        with pytest.raises(UndefinedMetric, match="none of the 2 groups has both labels"):
            gauc_score([0, 1], [0.1, 0.2], ["ann", "bob"])
        with pytest.raises(UndefinedMetric, match="no rows"):
            gauc_score([], [], [])

    def test_unknown_weighting_is_refused(self):
        with pytest.raises(ValueError, match="rows, clicks and mean"):
            gauc_score(self.LABEL, self.SCORE, self.USER, "impressions")


class TestLogLoss:
    def test_golden_value(self):
        assert log_loss([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.65]) == pytest.approx(0.21616187468057912)

    @given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.integers(1, 3)), min_size=1, max_size=30))
    @settings(max_examples=100, deadline=None)
    def test_equals_scikit_learn(self, rows):
        label, score, weight = (np.array(column) for column in zip(*rows, strict=True))
        assert log_loss(label, score) == pytest.approx(sklearn.metrics.log_loss(label, score, labels=[0, 1]), rel=1e-9, abs=1e-12)
        assert log_loss(label, score, weight) == pytest.approx(log_loss(np.repeat(label, weight), np.repeat(score, weight)))

    def test_certain_and_wrong_is_finite_in_both_precisions(self):
        assert log_loss([1], np.array([0.0])) == pytest.approx(-np.log(np.finfo(np.float64).eps))
        assert log_loss([1], np.array([0.0], np.float32)) == pytest.approx(-np.log(np.finfo(np.float32).eps), rel=1e-6)

    def test_only_probabilities(self):
        with pytest.raises(ValueError, match=r"between 0 and 1; row 1 has 1\.5$"):
            log_loss([0, 1], [0.5, 1.5])

    def test_no_rows(self):
        with pytest.raises(UndefinedMetric):
            log_loss([], [])
        with pytest.raises(UndefinedMetric, match="all weights are 0"):
            log_loss([1], [0.5], weight=[0])


class TestNormalizedEntropy:
    def test_predicting_the_average_costs_one(self):
        label = np.repeat([0, 1], [90, 10])
        assert normalized_entropy(label, np.full(100, 0.1)) == pytest.approx(1)
        assert normalized_entropy(label, np.where(label, 0.9, 0.01)) < 0.2

    def test_golden_value(self):
        # log loss 0.2161618747 over ln 2
        assert normalized_entropy([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.65]) == pytest.approx(0.21616187468057912 / np.log(2))

    def test_weight_is_a_repetition(self):
        assert normalized_entropy([1, 0, 0], [0.6, 0.2, 0.3], [1, 3, 1]) == pytest.approx(
            normalized_entropy([1, 0, 0, 0, 0], [0.6, 0.2, 0.2, 0.2, 0.3])
        )

    def test_one_label_is_undefined(self):
        with pytest.raises(UndefinedMetric, match="all 2 labels are 0"):
            normalized_entropy([0, 0], [0.1, 0.2])


class TestCalibration:
    def test_golden_value(self):
        label, score = [0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9]
        # two bins of two rows: |0.2 - 0| and |0.7 - 1|
        assert calibration_error(label, score, bins=2) == pytest.approx(0.25)
        assert calibration_error(label, score, bins=1) == pytest.approx(0.05)

    def test_equal_predictions_share_a_bin(self):
        label, score = np.array([0, 1, 1, 0, 1, 0]), np.array([0.5, 0.5, 0.5, 0.5, 0.9, 0.9])
        bins = reliability_bins(label, score, bins=3)
        assert bins.rows.tolist() == [4, 2]
        assert bins.predicted.tolist() == pytest.approx([0.5, 0.9])
        assert bins.observed.tolist() == [0.5, 0.5]

    @given(ROWS, st.integers(1, 12))
    @settings(max_examples=80, deadline=None)
    def test_bins_partition_the_rows_in_any_order(self, rows, bins):
        label, score, _, _ = columns(rows)
        result = reliability_bins(label, score, bins)
        assert result.rows.sum() == len(label) and 1 <= len(result.rows) <= bins and result.rows.min() > 0
        assert (result.observed * result.rows).sum() == pytest.approx(label.sum())
        assert (result.predicted * result.rows).sum() == pytest.approx(score.sum())
        assert (np.diff(result.predicted) > 0).all()
        order = np.random.default_rng(0).permutation(len(label))
        assert calibration_error(label[order], score[order], bins) == pytest.approx(calibration_error(label, score, bins))

    def test_true_probabilities_are_calibrated(self):
        rng = np.random.default_rng(5)
        score = rng.beta(2, 8, 200_000)
        label = rng.random(200_000) < score
        assert calibration_error(label, score) < 0.005
        assert calibration_error(label, np.minimum(score * 1.5, 1)) > 0.08
        assert calibration_ratio(label, score) == pytest.approx(1, abs=0.02)

    def test_undefined(self):
        with pytest.raises(UndefinedMetric):
            calibration_error([], [])
        with pytest.raises(UndefinedMetric, match="all 1 labels are 0"):
            calibration_ratio([0], [0.5])
        with pytest.raises(ValueError, match="bins"):
            calibration_error([0], [0.5], bins=0)


class TestRoc:
    def test_encloses_the_auc(self):
        rng = np.random.default_rng(2)
        label, score = rng.integers(0, 2, 5000), rng.integers(0, 400, 5000)
        score = score + 120 * label
        x, y = np.array(roc_points(label, score, points=150)).T
        assert len(x) <= 150 and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
        assert np.trapezoid(y, x) == pytest.approx(auc_score(label, score), abs=1e-3)

    def test_one_label_is_undefined(self):
        with pytest.raises(UndefinedMetric):
            roc_points([1], [0.5])


class TestClasses:
    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
    @settings(max_examples=100, deadline=None)
    def test_equal_scikit_learn(self, rows):
        label, predicted = (np.array(column) for column in zip(*rows, strict=True))
        assert accuracy_score(label, predicted) == pytest.approx(sklearn.metrics.accuracy_score(label, predicted))
        assert macro_f1_score(label, predicted) == pytest.approx(
            sklearn.metrics.f1_score(label, predicted, average="macro", zero_division=0)
        )
        ours = classification_report(label, predicted)
        theirs = sklearn.metrics.classification_report(label, predicted, output_dict=True, zero_division=np.nan)
        for name, figures in ours.items():
            for key in ("precision", "recall"):
                if isinstance(figures[key], dict):
                    assert np.isnan(theirs[name][key]) and figures[key]["reason"]
                else:
                    assert figures[key] == pytest.approx(theirs[name][key])
            assert figures["support"] == theirs[name]["support"]

    def test_names_of_classes(self):
        assert list(classification_report([0, 2], [0, 0], names=["sport", "culture", "finance"])) == ["sport", "finance"]

    def test_one_against_the_rest(self):
        rng = np.random.default_rng(4)
        label = rng.integers(0, 3, 200)
        score = rng.dirichlet([1, 1, 1], 200)
        expected = sklearn.metrics.roc_auc_score(label, score, multi_class="ovr", average="macro")
        assert one_vs_rest_auc_score(label, score) == pytest.approx(expected)
        two = np.column_stack([1 - score[:, 0], score[:, 0]])
        assert one_vs_rest_auc_score(label % 2, two) == auc_score(label % 2, two[:, 1])

    def test_undefined_and_bad(self):
        with pytest.raises(UndefinedMetric, match="all 2 labels are class 1"):
            one_vs_rest_auc_score([1, 1], [[0.5, 0.5], [0.2, 0.8]])
        with pytest.raises(UndefinedMetric):
            macro_f1_score([], [])
        with pytest.raises(ValueError, match="from 0 to 1"):
            one_vs_rest_auc_score([0, 2], [[0.5, 0.5], [0.2, 0.8]])


WEIGHTED = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30
)  # label, score, user, weight


class TestWeights:
    """A whole weight is so many equal rows."""

    @given(WEIGHTED)
    @settings(max_examples=100, deadline=None)
    def test_auc_inside_users(self, rows):
        label, score, user, weight = (np.array(column) for column in zip(*rows, strict=True))
        found, repeated = grouped_auc(label, score, user, weight), grouped_auc(*(np.repeat(one, weight) for one in (label, score, user)))
        assert found.group.tolist() == repeated.group.tolist() and found.undefined == repeated.undefined
        for name in ("auc", "rows", "clicks"):
            np.testing.assert_allclose(getattr(found, name), getattr(repeated, name), rtol=1e-12)
        plain, ones = grouped_auc(label, score, user), grouped_auc(label, score, user, np.ones(len(label)))
        np.testing.assert_allclose(ones.auc, plain.auc, rtol=1e-12)

    @given(WEIGHTED, st.integers(1, 4))
    @settings(max_examples=100, deadline=None)
    def test_bins_where_they_cut_no_row(self, rows, bins):
        label, score, _, weight = (np.array(column) for column in zip(*rows, strict=True))
        assume(weight.sum() and weight.sum() % bins == 0)
        found = reliability_bins(label, score / 4, bins, weight, weight)
        repeated = reliability_bins(np.repeat(label, weight), np.repeat(score / 4, weight), bins)
        for name in ("predicted", "observed", "weight"):
            np.testing.assert_allclose(getattr(found, name), getattr(repeated, name), rtol=1e-12)
        tenths = weight / 10  # the unit of the weights is no matter
        np.testing.assert_array_equal(reliability_bins(label, score / 4, bins, tenths, tenths).rows, found.rows)

    def test_roc(self):
        label, score, weight = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], np.array([1, 2, 3, 0])
        assert roc_points(label, score, weight=weight) == roc_points(np.repeat(label, weight), np.repeat(score, weight))
        assert roc_points(label, score, weight=weight) == [(0.0, 0.0), (0.75, 0.0), (0.75, 1.0), (1.0, 1.0)]

    def test_rows_that_weigh_nothing_are_none(self):
        with pytest.raises(UndefinedMetric, match="all clicks weigh 0"):
            calibration_ratio([0, 1], [0.5, 0.5], [1, 0])
        with pytest.raises(UndefinedMetric, match="all weights are 0"):
            calibration_error([0, 1], [0.5, 0.5], weight=[0, 0], size=[0, 0])
        with pytest.raises(UndefinedMetric, match="all 1 labels are 0"):
            roc_points([0, 1], [0.5, 0.5], weight=[1, 0])
