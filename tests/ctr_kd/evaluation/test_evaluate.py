"""Tables of metrics.json: their shape, their values, and null with a reason in place of what is undefined."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ctr_kd.evaluation.evaluate import click_curves, evaluate_models, wilson_interval
from ctr_kd.evaluation.rows import EvaluationRows, standard_slices
from ctr_kd.metrics import auc_score, gauc_score, grouped_auc, log_loss, macro_f1_score, normalized_entropy, of_full_stream

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    users, rows = 300, 4000
    user = rng.integers(0, users, rows)
    logit = rng.normal(0, 1, rows) + rng.normal(0, 0.5, users)[user] - 1.5
    probability = 1 / (1 + np.exp(-logit))
    label = (rng.random(rows) < probability).astype(np.int8)

    def noisy(scale):
        return 1 / (1 + np.exp(-(logit + rng.normal(0, scale, rows))))

    scores = {"teacher": noisy(0.3), "student": noisy(0.5), "student_alone": noisy(1.5), "popularity": noisy(4), "oracle": probability}
    slices = standard_slices(history_length=rng.poisson(7, rows) * rng.integers(0, 2, rows), unseen_item=rng.random(rows) < 0.1)
    return EvaluationRows(label, user, np.arange(rows) // 5, slices), scores


def evaluated(*arguments, **named):
    """What metrics.json has of an evaluation."""
    return evaluate_models(*arguments, **named).to_json()


@pytest.fixture(scope="module")
def result(world):
    return evaluated(*world, replicates=60, seed=3)


class TestModels:
    def test_values_are_those_of_the_metrics(self, world, result):
        rows, scores = world
        for name, score in scores.items():
            entry = result["models"][name]
            assert entry["auc"]["value"] == auc_score(rows.label, score)
            assert entry["gauc"]["value"] == gauc_score(rows.label, score, rows.user)
            assert entry["gauc_by_clicks"]["value"] == gauc_score(rows.label, score, rows.user, "clicks")
            assert entry["gauc_mean"]["value"] == gauc_score(rows.label, score, rows.user, "mean")
            assert entry["log_loss"]["value"] == pytest.approx(log_loss(rows.label, score))
            assert entry["normalized_entropy"] == normalized_entropy(rows.label, score)
            assert entry["gauc"]["undefined_users"] == grouped_auc(rows.label, score, rows.user).undefined

    def test_request_auc_ranks_inside_requests(self, world, result):
        rows, scores = world
        assert result["models"]["student"]["request_auc"]["value"] == gauc_score(rows.label, scores["student"], rows.request, "mean")

    def test_intervals_hold_their_values(self, result):
        for entry in result["models"].values():
            for metric in ("auc", "gauc", "gauc_by_clicks", "gauc_mean", "request_auc", "log_loss"):
                assert entry[metric]["low"] < entry[metric]["value"] < entry[metric]["high"]

    def test_is_json_without_nan(self, result):
        assert json.loads(json.dumps(result, allow_nan=False)) == result

    def test_repeats(self, world, result):
        assert evaluated(*world, replicates=60, seed=3, threads=1) == result
        assert evaluated(*world, replicates=60, seed=4)["models"] != result["models"]

    def test_raw_ids_give_the_same_as_codes(self, world, result):
        rows, scores = world
        named = EvaluationRows(rows.label, np.array([f"u{u:05d}" for u in rows.user]), rows.request, rows.slices)
        assert evaluated(named, scores, replicates=60, seed=3) == result


@pytest.fixture(scope="module")
def both(world):
    rows, scores = world
    thinned = EvaluationRows(rows.label, rows.user, slices=rows.slices, negative_sampling_rate=0.25)
    score = {"student": scores["student"]}
    again = np.repeat(np.arange(len(rows.label)), np.where(rows.label == 1, 1, 4))
    slices = {name: mask[again] for name, mask in rows.slices.items()}
    whole = EvaluationRows(rows.label[again], rows.user[again], slices=slices)
    return evaluated(thinned, score, replicates=20), evaluated(whole, {"student": scores["student"][again]}, replicates=20)


class TestThinnedLogs:
    """Of a log that kept a share of its rows without a click, figures are those of the log in which each such row stands several times."""

    def test_probabilities_are_measured_as_on_the_full_stream(self, both):
        thinned, whole = (one["models"]["student"] for one in both)
        for name in ("value", "low", "high"):  # the same users are drawn
            assert thinned["log_loss"][name] == pytest.approx(whole["log_loss"][name])
        for name in ("normalized_entropy", "calibration_ratio"):
            assert thinned[name] == pytest.approx(whole[name])
        assert thinned["calibration_error"] == pytest.approx(whole["calibration_error"], abs=0.01)  # bins are cut elsewhere
        assert thinned["calibration_ratio"] != pytest.approx(1, abs=0.5)
        for name, part in both[0]["slices"].items():
            assert part["student"]["log_loss"]["value"] == pytest.approx(both[1]["slices"][name]["student"]["log_loss"]["value"])

    def test_rankings_are_the_same(self, both, result):
        thinned, whole = (one["models"]["student"] for one in both)
        assert thinned["auc"]["value"] == result["models"]["student"]["auc"]["value"] == pytest.approx(whole["auc"]["value"])
        assert thinned["gauc_mean"]["value"] == pytest.approx(whole["gauc_mean"]["value"])

    def test_curves_show_the_rates_of_the_full_stream(self, world):
        rows, scores = world
        kept = click_curves(rows.label, scores).reliability["oracle"]
        score = {"oracle": of_full_stream(scores["oracle"], 0.25)}
        whole = click_curves(rows.label, score, negative_sampling_rate=0.25).reliability["oracle"]
        for one, other in zip(whole, kept, strict=True):
            clicks = other.observed * other.rows
            assert one.observed == pytest.approx(clicks / (clicks + 4 * (other.rows - clicks)))
            assert one.low < one.observed < one.high
        assert np.mean([one.low < one.predicted < one.high for one in whole]) > 0.8


class TestComparisons:
    def test_pairs_that_are_there(self, result):
        assert list(result["comparisons"]) == [
            "student-student_alone",
            "student-teacher",
            "teacher-student_alone",
            "student-popularity",
            "student-oracle",
        ]

    def test_difference_is_that_of_the_values(self, result):
        found = result["comparisons"]["student-student_alone"]
        for metric in ("auc", "gauc", "log_loss"):
            values = [result["models"][name][metric]["value"] for name in ("student", "student_alone")]
            assert found[metric]["difference"] == pytest.approx(values[0] - values[1])
            assert found[metric]["low"] <= found[metric]["high"] and 0 < found[metric]["p_value"] <= 1
        assert found["auc"]["low"] > 0 and found["log_loss"]["high"] < 0

    def test_other_pairs_may_be_asked_for(self, world):
        found = evaluated(*world, replicates=5, pairs=(("teacher", "oracle"), ("teacher", "nobody")))
        assert list(found["comparisons"]) == ["teacher-oracle"]


class TestSlices:
    def test_values_are_those_of_the_rows(self, world, result):
        rows, scores = world
        for name, mask in rows.slices.items():
            entry = result["slices"][name]["student"]
            assert entry["rows"] == mask.sum()
            assert entry["auc"]["value"] == auc_score(rows.label[mask], scores["student"][mask])
            assert entry["log_loss"]["value"] == pytest.approx(log_loss(rows.label[mask], scores["student"][mask]))
            assert entry["auc"]["low"] < entry["auc"]["high"]

    def test_history_lengths_and_items(self):
        masks = standard_slices(history_length=[0, 1, 2, 3, 10, 11, 99], unseen_item=[0, 0, 0, 0, 0, 0, 1])
        assert {name: mask.nonzero()[0].tolist() for name, mask in masks.items()} == {
            "history_length/0": [0],
            "history_length/1-2": [1, 2],
            "history_length/3-10": [3, 4],
            "history_length/11+": [5, 6],
            "item/seen": [0, 1, 2, 3, 4, 5],
            "item/unseen": [6],
        }

    def test_hours_then_days_then_pieces(self):
        hours = standard_slices(timestamp=np.array([2, 3, 3, 5]) * HOUR, cutoff=0)
        assert list(hours) == ["hours_after_cutoff/2-3", "hours_after_cutoff/3-4", "hours_after_cutoff/5-6"]
        days = standard_slices(timestamp=np.array([0, 30, 60]) * HOUR, cutoff=0)
        assert list(days) == ["days_after_cutoff/0-1", "days_after_cutoff/1-2", "days_after_cutoff/2-3"]
        pieces = standard_slices(timestamp=np.arange(100) * 24 * HOUR, cutoff=0)
        assert list(pieces)[:2] == ["days_after_cutoff/0-13", "days_after_cutoff/13-26"]
        assert len(pieces) == 8 and sum(mask.sum() for mask in pieces.values()) == 100

    def test_empty_parts_are_left_out(self):
        assert list(standard_slices(history_length=[0, 0], unseen_item=[False, False])) == ["history_length/0", "item/seen"]
        assert standard_slices(timestamp=[], cutoff=0) == {}


class TestUndefined:
    def test_one_label(self):
        rows = EvaluationRows(np.zeros(6, int), np.array([1, 1, 2, 2, 3, 3]))
        entry = evaluated(rows, {"student": np.full(6, 0.2), "teacher": np.full(6, 0.1)}, replicates=10)
        student = entry["models"]["student"]
        assert student["auc"] == {"value": None, "reason": "all 6 labels are 0"}
        assert student["gauc"] == {"value": None, "reason": "none of the 3 groups has both labels", "users": 0, "undefined_users": 3}
        assert student["normalized_entropy"] == {"value": None, "reason": "all 6 labels are 0"}
        assert student["calibration_ratio"]["value"] is None
        assert student["log_loss"]["value"] == pytest.approx(-np.log(0.8))
        assert list(entry["comparisons"]["student-teacher"]) == ["log_loss"]

    def test_one_user_has_no_interval(self):
        rows = EvaluationRows(np.array([0, 1, 0, 1]), np.array([7, 7, 7, 7]))
        result = evaluated(rows, {"student": np.array([0.1, 0.8, 0.3, 0.2]), "teacher": np.array([0.1, 0.8, 0.3, 0.6])}, replicates=10)
        assert result["models"]["student"]["auc"] == {
            "value": 0.75,
            "low": None,
            "high": None,
            "reason": "an interval needs at least two users",
        }
        found = result["comparisons"]["student-teacher"]["auc"]
        assert found["difference"] == -0.25 and found["p_value"] is None and found["reason"]

    def test_no_rows(self):
        result = evaluated(EvaluationRows(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)), {"student": np.zeros(0)}, replicates=5)
        for value in result["models"]["student"].values():
            assert value["value"] is None and value["reason"]
        json.dumps(result, allow_nan=False)

    def test_a_slice_of_one_label(self):
        rows = EvaluationRows(np.array([0, 1, 1, 0]), np.array([1, 2, 3, 4]), slices={"item/unseen": np.array([False, True, True, False])})
        entry = evaluated(rows, {"student": np.array([0.1, 0.9, 0.8, 0.3])}, replicates=10)["slices"]["item/unseen"]["student"]
        assert entry["auc"] == {"value": None, "reason": "all 2 labels are 1"} and entry["rows"] == 2

    def test_a_slice_of_one_user_has_no_interval(self):
        mask = np.array([True, True, False, False])
        rows = EvaluationRows(np.array([0, 1, 1, 0]), np.array([1, 1, 2, 2]), slices={"history_length/0": mask})
        entry = evaluated(rows, {"student": np.array([0.1, 0.9, 0.8, 0.3])}, replicates=10)["slices"]["history_length/0"]["student"]
        assert entry["auc"]["value"] == 1 and entry["auc"]["low"] is None and "two users" in entry["auc"]["reason"]

    @pytest.mark.parametrize(
        ("score", "message"),
        [
            (np.array([0.1, 0.2]), "scores of teacher: there are 3 rows"),
            (np.array([0.1, np.nan, 0.2]), r"scores of teacher: .*row 1 has nan"),
            (np.array([0.1, 3.0, 0.2]), r"scores of teacher: .*row 1 has 3\.0"),
        ],
    )
    def test_bad_scores_name_the_model(self, score, message):
        with pytest.raises(ValueError, match=message):
            evaluated(EvaluationRows(np.array([0, 1, 0])), {"teacher": score})

    def test_bad_rows(self):
        with pytest.raises(ValueError, match="slice cold must be a bool array"):
            evaluated(EvaluationRows(np.array([0, 1]), slices={"cold": np.array([0, 1])}), {})
        with pytest.raises(ValueError, match="request has 1 rows"):
            evaluated(EvaluationRows(np.array([0, 1]), request=np.array([0])), {})


class TestTexts:
    """Classes instead of clicks: no users, one column of probabilities per class."""

    def test_classifier(self):
        rng = np.random.default_rng(1)
        label = rng.integers(0, 3, 400)
        score = rng.dirichlet([1, 1, 1], 400) * 0.5 + 0.5 * np.eye(3)[label] * rng.random((400, 1))
        score /= score.sum(axis=1, keepdims=True)
        worse = rng.dirichlet([1, 1, 1], 400)
        rows = EvaluationRows(label, classes=["sport", "culture", "finance"], slices={"length/short": rng.random(400) < 0.5})
        result = evaluated(rows, {"student": score, "student_alone": worse}, replicates=50)
        student = result["models"]["student"]
        assert student["accuracy"]["value"] == np.mean(score.argmax(axis=1) == label)
        assert student["macro_f1"]["value"] == macro_f1_score(label, score.argmax(axis=1))
        for metric in ("auc", "accuracy", "macro_f1", "log_loss"):
            assert student[metric]["low"] < student[metric]["value"] < student[metric]["high"]
        assert list(student["report"]) == ["sport", "culture", "finance"]
        assert student["normalized_entropy"] < 1 and "gauc" not in student
        assert result["comparisons"]["student-student_alone"]["accuracy"]["low"] > 0
        assert set(result["slices"]["length/short"]["student"]) == {"rows", "auc", "log_loss", "accuracy"}
        json.dumps(result, allow_nan=False)

    def test_rows_that_do_not_add_up(self):
        with pytest.raises(ValueError, match=r"scores of student: .*add up to 1"):
            evaluated(EvaluationRows(np.array([0, 1])), {"student": np.array([[0.5, 0.4], [0.5, 0.5]])})


class TestCurves:
    def test_points_and_bins(self, world):
        rows, scores = world
        found = click_curves(rows.label, scores | {"classes": np.zeros((len(rows.label), 2))}, points=50, bins=10).to_json()
        assert set(found["roc"]) == set(found["reliability"]) == set(scores)
        x, y = np.array(found["roc"]["student"]).T
        assert len(x) <= 50 and np.trapezoid(y, x) == pytest.approx(auc_score(rows.label, scores["student"]), abs=5e-3)
        bins = found["reliability"]["oracle"]
        assert sum(b["rows"] for b in bins) == len(rows.label)
        assert sum(b["low"] <= b["predicted"] <= b["high"] for b in bins) >= 8  # true probabilities lie on the diagonal
        json.dumps(found, allow_nan=False)

    def test_one_label_has_no_curve(self):
        assert click_curves([0, 0], {"student": [0.1, 0.2]}).to_json() == {"roc": {}, "reliability": {}}

    def test_wilson_stays_inside(self):
        low, high = wilson_interval(np.array([0.0, 1.0]), np.array([5, 5]))
        assert low[0] == pytest.approx(0) and high[1] == pytest.approx(1) and high[0] == pytest.approx(0.4345, abs=1e-3)


class TestWeights:
    """Figures of weighted rows are those of rows that are there as often as they weigh."""

    @pytest.fixture
    def both(self, world):
        rows, scores = world
        weight = np.random.default_rng(1).integers(0, 4, len(rows.label))
        weight[0] += -weight.sum() % 20  # so that no bin of the calibration cuts a row
        again = np.repeat(np.arange(len(weight)), weight)
        rows = dataclasses.replace(rows, request=rows.user * 4 + np.arange(len(weight)) % 4)  # of one user each
        score = {name: scores[name] for name in ("student", "teacher")}
        whole = EvaluationRows(
            rows.label[again], rows.user[again], rows.request[again], {name: mask[again] for name, mask in rows.slices.items()}
        )
        weighted = dataclasses.replace(rows, row_weight=weight / 7)  # only how they compare counts
        return evaluated(weighted, score, replicates=20), evaluated(whole, {n: s[again] for n, s in score.items()}, replicates=20)

    def test_are_repetitions(self, both):
        weighted, whole = both
        for name, figures in whole["models"].items():
            for metric, value in figures.items():
                assert weighted["models"][name][metric] == pytest.approx(value), metric
        for metric, difference in whole["comparisons"]["student-teacher"].items():
            assert weighted["comparisons"]["student-teacher"][metric] == pytest.approx(difference), metric
        for part, models in whole["slices"].items():
            for metric in ("auc", "log_loss"):
                assert weighted["slices"][part]["student"][metric] == pytest.approx(models["student"][metric]), (part, metric)

    def test_the_plain_auc_stands_beside_it(self, both, result):
        weighted, whole = (one["models"]["student"] for one in both)
        assert weighted["auc_unweighted"] == result["models"]["student"]["auc"]["value"] != weighted["auc"]["value"]
        assert "auc_unweighted" not in whole

    def test_ones_are_no_weights(self, world, result):
        rows, scores = world
        ones = evaluated(dataclasses.replace(rows, row_weight=np.ones(len(rows.label))), scores, replicates=60, seed=3)
        for name, figures in result["models"].items():
            for metric, value in figures.items():
                assert ones["models"][name][metric] == pytest.approx(value), metric

    def test_with_a_thinned_log_too(self, world):
        rows, scores = world
        both = dataclasses.replace(rows, negative_sampling_rate=0.25, row_weight=np.where(rows.user < 100, 2.0, 1.0))
        found = evaluated(both, {"student": scores["student"]}, replicates=2)["models"]["student"]
        alone = evaluated(dataclasses.replace(both, negative_sampling_rate=None), {"student": scores["student"]}, replicates=2)
        assert found["auc"] == alone["models"]["student"]["auc"]  # a ranking is the same in both
        assert found["log_loss"]["value"] == pytest.approx(log_loss(rows.label, scores["student"], both.weight))

    def test_curves(self, world):
        rows, scores = world
        weight = np.random.default_rng(1).integers(1, 4, len(rows.label))
        again = np.repeat(np.arange(len(weight)), weight)
        found = click_curves(rows.label, {"oracle": scores["oracle"]}, row_weight=weight)
        whole = click_curves(rows.label[again], {"oracle": scores["oracle"][again]})
        ours, theirs = (np.array(curves.roc["oracle"]) for curves in (found, whole))  # other points of the same curve
        np.testing.assert_allclose(np.interp(theirs[:, 0], *ours.T), theirs[:, 1], atol=0.02)
        for one in found.reliability["oracle"]:
            assert one.low < one.observed < one.high
        wide, narrow = (np.mean([one.high - one.low for one in curves.reliability["oracle"]]) for curves in (found, whole))
        assert wide > 1.2 * narrow  # a row that weighs three is not three

    def test_a_slice_that_weighs_nothing_is_undefined(self, world):
        rows, scores = world
        empty = dataclasses.replace(rows, row_weight=(~rows.slices["item/unseen"]).astype(float))
        found = evaluated(empty, {"student": scores["student"]}, replicates=2)["slices"]["item/unseen"]["student"]
        assert found["log_loss"] == {"value": None, "reason": "all weights are 0"} and found["auc"]["value"] is None
