"""Permutation importance: whatever a model does not read is worth exactly nothing, and a permutation changes no distribution."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.importance import METRICS, permutation_importance, permuted
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.metrics import auc_score, log_loss

READERS = {  # what a model that reads one input knows of each row
    "history": lambda samples: samples.a.end % 7,
    "item_id": lambda samples: samples.b.pool[samples.b.start, 0] % 7,
    "topic": lambda samples: samples.b.pool[samples.b.start, 1],
    "device": lambda samples: samples.categorical[:, 0],
    "item_age": lambda samples: np.nan_to_num(samples.dense[:, 0]) / 1000,
    "item_clicks_1h": lambda samples: samples.dense[:, 1],
    "user_gap": lambda samples: samples.dense[:, 2] / 50,
}
CONTAINS = {"item_age": ("item statistics", "all statistics"), "item_clicks_1h": ("item statistics", "all statistics")}
CONTAINS["user_gap"] = ("all statistics",)


def score_of(name):
    return lambda samples: 1 / (1 + np.exp(1.0 - READERS[name](samples)))


@pytest.fixture(scope="module")
def samples(assembly):
    return assembly.samples("train")


@pytest.fixture(scope="module")
def learnable(samples):
    """Labels that follow a score: the rows for a model that reads one input."""

    def of(name):
        drawn = np.random.default_rng(1).random(len(samples)) < score_of(name)(samples)
        return replace(samples, label=drawn.astype(np.float32))

    return of


@pytest.mark.parametrize("name", READERS)
def test_an_input_that_alone_is_read_has_all_the_importance(name, assembly, learnable):
    found = permutation_importance(score_of(name), learnable(name), assembly.input_groups(), replicates=20, seed=3)
    read = {name, *CONTAINS.get(name, ())}
    assert {one for one, group in found.groups.items() if group.drop > 0.02} == read
    assert set(list(found.groups)[: len(read)]) == read  # the largest drop first
    for one in found.groups.keys() - read:
        for difference in found.groups[one].differences.values():
            assert (difference.difference, difference.low, difference.high) == (0, 0, 0)
    drop = found.groups[name].differences
    assert drop["auc"].low <= drop["auc"].difference <= drop["auc"].high
    assert drop["log_loss"].difference < 0


def test_figures_are_those_of_the_metrics(assembly, learnable):
    samples, score = learnable("item_age"), score_of("item_age")
    found = permutation_importance(score, samples, assembly.input_groups(), replicates=20, seed=3).to_json()
    order = np.random.default_rng(3).permutation(len(samples))
    before, after = score(samples), score(samples)[order]  # the score reads nothing else
    for name, metric in (("auc", auc_score), ("log_loss", log_loss)):
        assert found[name]["value"] == pytest.approx(metric(samples.label, before))
        expected = metric(samples.label, before) - metric(samples.label, after)
        for group in ("item_age", "item statistics", "all statistics"):
            assert found["groups"][group][name]["difference"] == pytest.approx(expected)
    assert found["rows"] == len(samples)
    assert found["groups"]["item statistics"]["inputs"] == ["item_age", "item_clicks_1h"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_seed_gives_the_same_figures(assembly, learnable):
    samples, groups = learnable("device"), assembly.input_groups()
    first, again, other = (
        permutation_importance(score_of("device"), samples, groups, replicates=20, seed=seed).to_json() for seed in (3, 3, 4)
    )
    assert first == again
    assert first["groups"]["device"]["auc"] != other["groups"]["device"]["auc"]


def test_a_figure_does_not_depend_on_which_other_groups_there_are(assembly, learnable):
    groups = assembly.input_groups()
    alone = permutation_importance(score_of("device"), learnable("device"), {"device": groups["device"]}, replicates=20)
    assert alone.groups["device"] == permutation_importance(score_of("device"), learnable("device"), groups, replicates=20).groups["device"]


def test_figures_are_those_of_an_evaluation_and_depend_on_no_threads(assembly, learnable):
    samples, score, groups = learnable("item_age"), score_of("item_age"), assembly.input_groups()
    found = permutation_importance(score, samples, groups, replicates=20, seed=3, threads=1)
    assert list(found.groups.items()) == list(
        permutation_importance(score, samples, groups, replicates=20, seed=3, threads=4).groups.items()
    )
    order = np.random.default_rng(3).permutation(len(samples))
    scores = {"whole": score(samples)} | {name: score(permuted(samples, group, order)) for name, group in groups.items()}
    rows = EvaluationRows(samples.label.astype(np.int8), samples.user)
    expected = evaluate_models(rows, scores, replicates=20, seed=3, pairs=tuple(("whole", name) for name in groups))
    for name, group in found.groups.items():
        assert group.differences == {metric: expected.comparisons[f"whole-{name}"][metric] for metric in METRICS}
    assert found.model == {metric: expected.models["whole"][metric] for metric in METRICS}


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_the_drop_of_auc_is_null_with_its_reason(label, assembly, samples):
    one_class = replace(samples, label=np.full(len(samples), label, np.float32))
    found = permutation_importance(score_of("device"), one_class, assembly.input_groups(), replicates=20).to_json()
    assert found["auc"]["value"] is None
    for group in found["groups"].values():
        assert group["auc"] == {"difference": None, "reason": found["auc"]["reason"]}
        assert f"labels are {label}" in group["auc"]["reason"]
    assert found["groups"]["device"]["log_loss"]["difference"] is not None


def test_one_user_has_a_difference_and_no_interval(assembly, learnable):
    samples = replace(learnable("device"), user=np.zeros(len(learnable("device")), np.int64))
    auc = permutation_importance(score_of("device"), samples, assembly.input_groups(), replicates=20).to_json()["groups"]["device"]["auc"]
    assert auc["difference"] > 0 and auc["low"] is None and auc["reason"] == "an interval needs at least two users"


def test_rates_of_a_thinned_log_are_those_of_the_full_stream(assembly, learnable):
    """Each row without a click stands for four, so the log loss is that of the rows with those repeated."""
    samples, score = learnable("device"), score_of("device")
    found = permutation_importance(score, samples, assembly.input_groups(), replicates=20, negative_sampling_rate=0.25)
    again = np.repeat(np.arange(len(samples)), np.where(samples.label == 1, 1, 4))
    assert found.model["log_loss"].value == pytest.approx(log_loss(samples.label[again], score(samples)[again]))
    assert found.model["auc"].value == pytest.approx(auc_score(samples.label, score(samples)))


def test_weighted_rows_count_as_repeated_ones(assembly, learnable):
    samples, score, groups = learnable("device"), score_of("device"), assembly.input_groups()
    times = np.random.default_rng(0).integers(0, 3, len(samples))
    again = np.repeat(np.arange(len(samples)), times)
    found = permutation_importance(score, replace(samples, weight=times.astype(np.float32)), groups, replicates=20)
    assert found.model["auc"].value == pytest.approx(auc_score(samples.label[again], score(samples)[again]))
    assert found.model["log_loss"].value == pytest.approx(log_loss(samples.label[again], score(samples)[again]))


def inputs_of(samples):
    """What a model reads of each row, by input."""
    history = np.stack([samples.a.start, samples.a.end], axis=1)
    candidate = samples.b.pool[samples.b.start]
    return {"history": history, "candidate": candidate, "categorical": samples.categorical, "dense": samples.dense}


def rows_of(values):
    return sorted(map(tuple, np.nan_to_num(values, nan=-1).tolist()))


@pytest.fixture(scope="module")
def order(samples):
    return np.random.default_rng(0).permutation(len(samples))


class TestPermuted:
    def test_a_group_keeps_its_joint_distribution_and_nothing_else_moves(self, assembly, samples, order):
        before = inputs_of(samples)
        for name, group in assembly.input_groups().items():
            after = inputs_of(permuted(samples, group, order))
            moved = {"history": (0, 1) if group.history else (), "candidate": group.candidate}
            moved |= {"categorical": group.categorical, "dense": group.dense}
            for kind, columns in moved.items():
                stay = [column for column in range(before[kind].shape[1]) if column not in columns]
                np.testing.assert_array_equal(after[kind][:, stay], before[kind][:, stay])
                np.testing.assert_array_equal(after[kind][:, list(columns)], before[kind][order][:, list(columns)])
                assert rows_of(after[kind][:, list(columns)]) == rows_of(before[kind][:, list(columns)]), name

    def test_samples_are_not_changed_in_place(self, assembly, samples, order):
        before = {name: values.copy() for name, values in inputs_of(samples).items()}
        for group in assembly.input_groups().values():
            permuted(samples, group, order)
        for name, values in inputs_of(samples).items():
            np.testing.assert_array_equal(values, before[name])

    def test_rows_with_histories_of_others_share_none(self, assembly, samples, order):
        """Batches take it that the rows of a request have one history."""
        groups = assembly.input_groups()
        assert len(np.unique(permuted(samples, groups["history"], order).group)) == len(samples)
        np.testing.assert_array_equal(permuted(samples, groups["device"], order).group, samples.group)


def test_figures_are_the_same_however_many_groups_are_held_at_once(assembly, learnable, monkeypatch):
    def measured():
        return permutation_importance(score_of("device"), learnable("device"), assembly.input_groups(), replicates=20, seed=3)

    at_once = measured()
    monkeypatch.setattr("ctr_kd.evaluation.importance.MOST_PREPARED", 1)
    assert measured() == at_once
