import numpy as np
import pytest
import torch

from ctr_kd.config import EncoderConfig
from ctr_kd.data.samples import Segment
from ctr_kd.objectives.sampled_softmax import (
    Negatives,
    NegativeSampler,
    attribute_loss,
    gbce_loss,
    sampled_softmax_loss,
    softmax_loss,
)
from ctr_kd.training.pretrain import build_encoder, item_counts
from feature_store.special_tokens import SPECIALS


@pytest.fixture
def model(assembly, signature):
    torch.manual_seed(0)
    model = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2)).eval()
    with torch.no_grad():
        model.bias.normal_()
        model.bias[: len(SPECIALS)] = -1e9  # the softmax over all items is then one over the real ones
    return model


@pytest.fixture
def state():
    return torch.randn(50, 16, generator=torch.Generator().manual_seed(1))


def targets(model, rows=50):
    return torch.from_numpy(np.random.default_rng(2).integers(len(SPECIALS), len(model.vocabulary), rows))


def test_every_item_as_negative_is_the_full_softmax(model, state):
    """The target itself is among the negatives and must count once."""
    items = torch.arange(len(SPECIALS), len(model.vocabulary))
    negatives = Negatives(items, torch.zeros(len(model.vocabulary)))
    target = targets(model)
    torch.testing.assert_close(sampled_softmax_loss(model, state, target, negatives), softmax_loss(model, state, target))


def test_smoothing_by_hand(model, state):
    target = targets(model)
    with torch.no_grad():
        model.bias.normal_()
        nats = -model.all_items(state).double().log_softmax(1).numpy()
        found = softmax_loss(model, state, target, smoothing=0.2)
    expected = torch.from_numpy(0.8 * nats[np.arange(len(target)), target.numpy()] + 0.2 * nats.mean(1)).float()
    torch.testing.assert_close(found, expected.mean())


def test_the_correction_makes_many_draws_the_full_softmax(model, state):
    """With log-Q the sampled loss tends to the full one whatever the sampling; without it, it does not."""
    count = np.random.default_rng(0).integers(1, 1000, len(model.vocabulary))
    target = targets(model)
    sampler = NegativeSampler(count, 200_000)
    negatives = sampler.draw(np.random.default_rng(3))
    full = softmax_loss(model, state, target)
    torch.testing.assert_close(sampled_softmax_loss(model, state, target, negatives), full, atol=0.02, rtol=0)
    plain = Negatives(negatives.item, torch.zeros_like(negatives.log_expected))
    assert (sampled_softmax_loss(model, state, target, plain) - full).abs() > 0.5


def test_draws_follow_the_expected_counts_and_are_never_specials():
    count = np.array([0, 9, 9, 9, 9, 1, 4, 100, 0])
    negatives = NegativeSampler(count, 100_000).draw(np.random.default_rng(0))
    drawn = np.bincount(negatives.item.numpy(), minlength=len(count))
    assert drawn[: len(SPECIALS)].sum() == 0
    expected = negatives.log_expected.exp().numpy()
    np.testing.assert_allclose(drawn[len(SPECIALS) :], expected[len(SPECIALS) :], rtol=0.05)
    np.testing.assert_allclose(expected[6] / expected[5], 2.0, rtol=1e-5)  # the square root of 4 over that of 1


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_equals_a_second_implementation(model, state, calibration):
    target = targets(model)
    negatives = NegativeSampler(np.ones(len(model.vocabulary)), 12).draw(np.random.default_rng(1))
    with torch.no_grad():
        logits = model.all_items(state).double().numpy()
        found = gbce_loss(model, state, target, negatives, calibration).item()
    share = 12 / (len(model.vocabulary) - len(SPECIALS) - 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    assert calibration != 0.0 or beta == pytest.approx(1.0)
    assert calibration != 1.0 or beta == pytest.approx(share)
    total = 0.0
    for row, own in enumerate(target.tolist()):
        total -= beta * np.log(1 / (1 + np.exp(-logits[row, own])))
        for other in negatives.item.tolist():
            total -= np.log(1 - 1 / (1 + np.exp(-logits[row, other]))) if other != own else 0.0
    assert found == pytest.approx(total / len(target), rel=1e-5)


def test_attributes_by_hand(model, state):
    target = targets(model)
    topic = model.vocabulary[target, 1].long()
    known = (topic >= len(SPECIALS)).numpy()
    assert 0 < known.sum() < len(known)
    with torch.no_grad():
        logits = (state @ model.bert.token.embeddings()[1].weight.T).log_softmax(1)
    expected = -logits[torch.arange(len(topic)), topic][torch.from_numpy(known)].sum() / len(target)
    torch.testing.assert_close(attribute_loss(model, state, target), expected)
    without = target[~torch.from_numpy(known)]
    assert attribute_loss(model, state[: len(without)], without).item() == 0.0


def test_counts_are_those_of_the_sequences():
    pool = np.array([[5, 0], [6, 0], [5, 0], [7, 0], [5, 0]], np.int32)
    sequences = Segment(pool, np.array([0, 3]), np.array([2, 5]))
    assert item_counts(sequences, 9).tolist() == [0, 0, 0, 0, 0, 2, 1, 1, 0]
