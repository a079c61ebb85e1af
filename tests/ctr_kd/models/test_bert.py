"""The encoder's options."""

import math

import numpy as np
import pytest
import torch

from ctr_kd.config import EncoderConfig
from ctr_kd.models.bert import Attention, Bert, LocalFilter, MaskedItemModel, distance_bias, prepend_cls
from ctr_kd.models.layers import Dropout

LENGTH = 6


def test_positions_count_from_either_end():
    """With the table of positions turned around the two agree on full sequences, and on no others."""
    torch.manual_seed(0)
    from_end = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, positions="from_end")).eval()
    from_start = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, positions="from_start")).eval()
    from_start.load_state_dict(from_end.state_dict())
    with torch.no_grad():
        from_start.position.weight.copy_(from_end.position.weight.flip(0))
        tokens, length = torch.randint(5, 20, (2, LENGTH, 1), dtype=torch.int32), torch.tensor([LENGTH, LENGTH - 2])
        one, two = from_end(tokens, length), from_start(tokens, length)
    torch.testing.assert_close(one[0], two[0])
    assert (one[1, : LENGTH - 2] - two[1, : LENGTH - 2]).abs().max() > 0.01


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("positions", ["relative", "from_start"])
def test_a_causal_encoder_sees_of_a_prefix_what_it_sees_of_it_alone(positions, local):
    torch.manual_seed(0)
    bert = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, attention="causal", positions=positions, local_filter=local)).eval()
    tokens = torch.randint(5, 20, (3, LENGTH, 1), dtype=torch.int32)
    with torch.no_grad():
        whole = bert(tokens, torch.full((3,), LENGTH))
        for length in range(1, LENGTH):
            torch.testing.assert_close(bert(tokens[:, :length], torch.full((3,), length)), whole[:, :length])


@pytest.mark.parametrize("local", [0, 3])
def test_relative_positions_are_the_same_wherever_a_sequence_is_padded(local):
    torch.manual_seed(0)
    bert = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, positions="relative", local_filter=local)).eval()
    tokens = torch.randint(5, 20, (1, LENGTH - 2, 1), dtype=torch.int32)
    padded = torch.cat([tokens, torch.randint(5, 20, (1, 2, 1), dtype=torch.int32)], dim=1)
    with torch.no_grad():
        alone, in_a_batch = bert(tokens, torch.tensor([LENGTH - 2])), bert(padded, torch.tensor([LENGTH - 2]))
    torch.testing.assert_close(alone, in_a_batch[:, : LENGTH - 2])
    assert bert.position is None


def test_a_local_filter_by_hand():
    """The newest three tokens of each dimension, weighed; the rest of a token by the square of a weight; all of it normalised."""
    torch.manual_seed(0)
    local = LocalFilter(EncoderConfig(width=8, local_filter=3)).eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        found = local(x).numpy()
    inputs, weight, quick = (one.detach().double().numpy() for one in (x, local.weight, local.quick))
    for row in range(2):
        for at in range(5):
            slow = sum(weight[:, 0, 2 - back] * inputs[row, at - back] for back in range(3) if at >= back)
            value = inputs[row, at] + slow + quick**2 * (inputs[row, at] - slow)
            np.testing.assert_allclose(found[row, at], (value - value.mean()) / value.std(), atol=1e-5)


def test_asked_positions_alone_are_what_they_are_among_all():
    torch.manual_seed(0)
    bert = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, local_filter=4)).eval()
    tokens, wanted = torch.randint(5, 20, (2, LENGTH, 1), dtype=torch.int32), torch.tensor([1, LENGTH + 2])
    with torch.no_grad():
        whole = bert(tokens, torch.full((2,), LENGTH))
        torch.testing.assert_close(bert(tokens, torch.full((2,), LENGTH), wanted=wanted), whole.flatten(0, 1)[wanted])


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("positions", ["from_end", "from_start", "relative"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_one_position_of_each_sequence_is_what_it_is_among_all_and_so_is_its_gradient(attention, positions, local):
    torch.manual_seed(0)
    config = EncoderConfig(width=16, heads=2, attention=attention, positions=positions, local_filter=local, dropout=0)
    bert = Bert({"item": 20}, LENGTH, config).double()
    tokens, length = torch.randint(5, 20, (3, 6, 1), dtype=torch.int32), torch.tensor([6, 1, 4])
    wanted = 6 * torch.arange(3) + torch.tensor([5, 0, 1])
    found = []
    for of_each in (False, True):
        bert.zero_grad()
        state = bert(tokens, length, wanted=wanted, of_each=of_each)
        state.sin().sum().backward()
        found.append([state.detach(), *(parameter.grad for parameter in bert.parameters() if parameter.grad is not None)])
    torch.testing.assert_close(found[1], found[0], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("positions", ["from_end", "relative"])
def test_attention_with_dropout_is_that_without_where_nothing_is_dropped(attention, positions, monkeypatch):
    """On a processor it is computed step by step, where torch has a kernel for the rest."""
    torch.manual_seed(0)
    bert = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, heads=2, attention=attention, positions=positions)).double()
    tokens, length = torch.randint(5, 20, (3, 6, 1), dtype=torch.int32), torch.tensor([6, 1, 4])
    inside = torch.arange(6) < length.unsqueeze(1)
    expected = bert.eval()(tokens, length)[inside]
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x)
    torch.testing.assert_close(bert.train()(tokens, length)[inside], expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("positions", ["from_end", "relative"])
@pytest.mark.parametrize("of_each", [False, True])
def test_a_batch_without_padding_has_the_same_states_and_gradients_without_a_mask(of_each, positions, dropout, monkeypatch):
    torch.manual_seed(0)
    bert = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, positions=positions, dropout=dropout))
    tokens, length = torch.randint(5, 20, (4, LENGTH, 1), dtype=torch.int32), torch.full((4,), LENGTH)
    wanted = torch.arange(4) * LENGTH + 2 if of_each else None
    found = []
    for with_mask in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=with_mask: compiling)
        torch.manual_seed(1)
        bert.zero_grad()
        states = bert(tokens, length, wanted=wanted, of_each=of_each)
        states.square().sum().backward()
        assert (bert._mask(length, LENGTH, padded=with_mask) is None) == (not with_mask and positions != "relative")
        found.append([states, *(parameter.grad.clone() for parameter in bert.parameters() if parameter.grad is not None)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_gets_a_mask_where_something_is_padded_or_nobody_knows(device, monkeypatch):
    """Lengths that lie beside the tokens on another device would have to be waited for."""
    bert, masks = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, layers=1)).eval().to(device), []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spied(*inputs, attn_mask, **how):
        masks.append(attn_mask)
        return attend(*inputs, attn_mask=attn_mask, **how)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spied)
    tokens, full = torch.zeros(2, LENGTH, 1, dtype=torch.int32, device=device), torch.full((2,), LENGTH)
    for length in (full, torch.tensor([LENGTH, LENGTH - 1]), full.to(device)):
        bert(tokens, length)
    assert [mask is None for mask in masks] == [True, False, device == "cpu"]
    bert(tokens[:, :1], torch.tensor([0, 1]))  # an empty sequence is padded
    assert masks[-1] is not None


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_an_encoder_that_was_traced_without_padding_still_hides_it():
    """A student of a plug-in may have one, and is exported by tracing."""
    torch.manual_seed(0)
    bert = Bert({"item": 20}, LENGTH, EncoderConfig(width=16)).eval()
    tokens, length = torch.randint(5, 20, (3, LENGTH, 1), dtype=torch.int32), torch.tensor([LENGTH, 2, 1])
    with torch.no_grad():
        traced = torch.jit.trace(bert, (tokens, torch.full((3,), LENGTH)), check_trace=False)
        torch.testing.assert_close(traced(tokens, length), bert(tokens, length))


def test_states_that_predict_directly_lie_among_the_items():
    """Without a hidden layer in between, a logit is the product of a state and an item's embedding, and the bias."""
    torch.manual_seed(0)
    vocabulary = torch.arange(20, dtype=torch.int32).unsqueeze(1)
    model = MaskedItemModel(Bert({"item": 20}, LENGTH, EncoderConfig(width=16, attention="causal", prediction="direct")), vocabulary).eval()
    tokens, length = torch.randint(5, 20, (2, 3, 1), dtype=torch.int32), torch.tensor([3, 2])
    with torch.no_grad():
        model.bias.normal_()
        state = model.history_state(tokens, length)
        shown, shown_length = prepend_cls(tokens, length)
        expected = model.bert(shown, shown_length)[torch.arange(2), length]
        torch.testing.assert_close(state, expected)
        items = model.bert.token.embeddings()[0].weight
        torch.testing.assert_close(model.all_items(state), expected @ items.T + model.bias)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_falls_with_distance_as_published(causal):
    """One attention against its formula in NumPy: softmax(q k / sqrt(d) - slope * distance) v."""
    torch.manual_seed(0)
    config = EncoderConfig(width=8, heads=2, attention="causal" if causal else "bidirectional", positions="relative")
    attention = Attention(config).eval()
    x = torch.randn(1, 4, 8)
    with torch.no_grad():
        found = attention(x, distance_bias(4, 2, causal))[0].numpy()
        q, k, v = attention.query_key_value(x)[0].view(4, 3, 2, 4).double().numpy().transpose(1, 2, 0, 3)  # each (heads, length, 4)
    for head, slope in enumerate((1 / 2, 1 / 8)):
        for i in range(4):
            seen = range(i + 1) if causal else range(4)
            score = np.array([q[head, i] @ k[head, j] / math.sqrt(4) - slope * abs(i - j) for j in seen])
            share = np.exp(score) / np.exp(score).sum()
            expected = sum(s * v[head, j] for s, j in zip(share, seen, strict=True))
            np.testing.assert_allclose(found[i, 4 * head : 4 * head + 4], expected, rtol=1e-5, atol=1e-6)
