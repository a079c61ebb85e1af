"""Weights of teachers that change from row to row."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.training.distill import combine_logits
from ctr_kd.training.teacher_weights import TeacherWeights, fit_teacher_weights, row_context
from feature_store.special_tokens import UNKNOWN

HALVES = {"a": 0.5, "b": 0.5}


def log_loss(logit, label):
    return float(np.mean(np.logaddexp(0, logit) - label * logit))


def world(rows=4000, seed=0):
    """Two teachers, each of which knows one half of the rows and guesses in the other; the context says which half a row is of."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, rows)
    truth = rng.normal(0, 2, rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    guess = rng.normal(0, 2, (2, rows))
    logits = {"a": np.where(side == 0, truth, guess[0])[:, None], "b": np.where(side == 1, truth, guess[1])[:, None]}
    return {name: one.astype(np.float32) for name, one in logits.items()}, side[:, None].astype(np.float64), label


def test_each_teacher_is_trusted_where_it_knows():
    logits, context, label = world()
    learned = fit_teacher_weights(logits, context, label, HALVES)
    new, context, label = world(seed=1)
    weights = learned.weights(context)
    assert weights["a"][context == 0].min() > 0.8 and weights["b"][context == 1].min() > 0.8
    combined = combine_logits(new, weights)
    assert combined.shape == (4000, 1) and combined.dtype == np.float32
    assert log_loss(combined[:, 0], label) < log_loss(combine_logits(new, HALVES)[:, 0], label) - 0.02


def test_where_nothing_can_be_told_the_fixed_weights_stay():
    logits, context, label = world()
    rng = np.random.default_rng(2)
    for one in logits.values():
        one[:] = rng.normal(size=one.shape)
    few = fit_teacher_weights({k: v[:20] for k, v in logits.items()}, context[:20] * 0, label[:20], {"a": 0.2, "b": 0.8})
    assert abs(few.weights(np.zeros((1, 1)))["a"][0, 0] - 0.2) < 0.15


def test_the_fit_is_a_minimum_of_the_penalised_log_loss():
    """Against a float64 NumPy version: no small step from the fitted weights makes the loss smaller."""
    logits, context, label = world(rows=300)
    learned = fit_teacher_weights(logits, context, label, HALVES)
    experts = np.concatenate(list(logits.values()), axis=1).astype(np.float64)

    def loss(bias, slope):
        score = context @ slope + bias
        share = np.exp(score) / np.exp(score).sum(1, keepdims=True)
        combined = (share * experts).sum(1)
        best = min(
            log_loss(np.exp(scale) * combined + offset, label)
            for scale in np.linspace(-0.6, 0.6, 49)
            for offset in np.linspace(-0.3, 0.3, 25)
        )
        return best + (((bias - np.log(0.5)) ** 2).sum() + (slope**2).sum()) / (2 * len(label))

    at = loss(learned.bias, learned.slope)
    rng = np.random.default_rng(0)
    for _ in range(6):
        step = rng.normal(size=(2, 2))
        step *= 0.5 / np.linalg.norm(step)
        assert loss(learned.bias + step[0], learned.slope + step[1:]) > at - 1e-4


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_weights_add_up_and_survive_a_file(seed, rows):
    rng = np.random.default_rng(seed)
    one = TeacherWeights(("a", "b", "c"), rng.normal(0, 50, 3), rng.normal(0, 50, (2, 3)))
    again = TeacherWeights.from_dict(json.loads(json.dumps(one.to_dict())))
    context = rng.normal(size=(rows, 2))
    weights = one.weights(context)
    np.testing.assert_allclose(sum(weights.values()), np.ones((rows, 1)))
    assert all(np.array_equal(weight, again.weights(context)[name]) for name, weight in weights.items())


def test_the_context_of_a_row_is_finite_and_does_not_read_its_label(assembly, signature):
    samples = assembly.samples("train")
    context = row_context(samples, signature)
    assert context.shape == (len(samples), 3 + 2 * len(signature.dense)) and np.isfinite(context).all()
    assert np.abs(context[:, 3::2]).max() <= 0.5
    assert np.array_equal(context[:, 1], samples.a.start == samples.a.end)
    assert np.array_equal(context[:, 2], samples.b.pool[samples.b.start, 0] == UNKNOWN)
    samples.label[:] = 1 - samples.label
    assert np.array_equal(context, row_context(samples, signature))


def test_classes_are_refused():
    with pytest.raises(ValueError, match="learned for clicks, one logit a row"):
        fit_teacher_weights({"a": np.zeros((4, 3)), "b": np.zeros((4, 3))}, np.zeros((4, 1)), np.zeros(4), HALVES)


def test_weights_of_teachers_follow_the_rows_that_count():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 2000).astype(np.float32)
    right, noise = (label * 2 - 1)[:, None] * 2.0, rng.normal(size=(2000, 1))
    first = np.arange(2000) < 1000  # there a is right, and elsewhere b
    logits = {"a": np.where(first[:, None], right, noise), "b": np.where(first[:, None], noise, right)}
    found = {}
    for name, weight in (("none", None), ("ones", np.ones(2000)), ("first", np.where(first, 2.0, 0.0))):
        learned = fit_teacher_weights(logits, np.ones((2000, 1)), label, {"a": 0.5, "b": 0.5}, row_weight=weight)
        found[name] = float(learned.weights(np.ones((1, 1)))["a"][0, 0])
    assert found["none"] == pytest.approx(found["ones"]) == pytest.approx(0.5, abs=0.05) and found["first"] > 0.55
