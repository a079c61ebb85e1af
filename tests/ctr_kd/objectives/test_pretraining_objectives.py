import numpy as np
import torch

from ctr_kd.config import EncoderConfig
from ctr_kd.objectives.masked_item import hidden_spans, mask_items, masked_part, predict_next
from ctr_kd.objectives.next_segment import make_pairs, next_segment_loss, pairs_part, segment_pairs
from ctr_kd.objectives.sampled_softmax import softmax_loss
from ctr_kd.training.pretrain import build_encoder
from feature_store.special_tokens import CLS, MASK, SPECIALS, UNKNOWN


def sequences(count=400, longest=6, seed=0):
    rng = np.random.default_rng(seed)
    length = rng.integers(2, longest + 1, count)
    tokens = np.stack(
        [rng.integers(len(SPECIALS), 20, (count, longest)), rng.integers(5, 7, (count, longest)), rng.integers(0, 9, (count, longest))],
        axis=2,
    )
    tokens[np.arange(longest) >= length[:, None]] = 0
    tokens[0, 0, 0] = UNKNOWN
    return tokens.astype(np.int32), length


def test_last_item_masking_hides_the_last_item_alone():
    tokens, length = sequences()
    masked = mask_items(tokens, length, np.random.default_rng(0), mask_rate=0.5, last_item_rate=1.0)
    assert masked.position.tolist() == (np.arange(len(length)) * 6 + length - 1).tolist()
    assert masked.target.tolist() == tokens[np.arange(len(length)), length - 1, 0].tolist()


def test_masked_tokens_lose_their_attributes_and_shares_are_berts():
    tokens, length = sequences(4000)
    masked = mask_items(tokens, length, np.random.default_rng(0), mask_rate=0.3, last_item_rate=0.0)
    flat = masked.tokens.numpy().reshape(-1, 3)[masked.position.numpy()]
    hidden = flat[:, 0] == MASK
    assert abs(hidden.mean() - 0.8) < 0.02
    assert (flat[hidden, 1:] == 0).all()
    kept = flat[:, 0] == masked.target.numpy()
    assert abs(kept.mean() - 0.1 - 0.1 / 15) < 0.02
    assert abs(len(masked.target) / (tokens[:, :, 0] >= len(SPECIALS)).sum() - 0.3) < 0.02
    assert (masked.target.numpy() >= len(SPECIALS)).all(), "the unknown item and padding are never targets"
    untouched = np.setdiff1d(np.arange(tokens.shape[0] * 6), masked.position.numpy())
    assert np.array_equal(masked.tokens.numpy().reshape(-1, 3)[untouched], tokens.reshape(-1, 3)[untouched])


def test_masked_head_equals_full_head(assembly, signature):
    """Computing hidden positions only gives the loss of computing all of them."""
    torch.manual_seed(0)
    model = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2)).eval()
    tokens, length = sequences(32, 5)
    tokens = np.minimum(tokens, 6)
    masked = mask_items(tokens, length, np.random.default_rng(0), mask_rate=0.4, last_item_rate=0.2)
    hidden = model.bert(masked.tokens, masked.length)
    loss = softmax_loss(model, model.states(masked.tokens, masked.length, masked.position), masked.target)
    full = model.all_items(model.transform(hidden)).flatten(0, 1)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(full[masked.position], masked.target))


def test_spans_cover_the_rate_in_stretches_of_the_mean_length():
    hidden = hidden_spans((20_000, 40), np.random.default_rng(0), 0.25, 3.0)
    assert np.abs(hidden.mean(0) - 0.25).max() < 0.02, "every position is as likely"
    begins = hidden[:, 1:] & ~hidden[:, :-1]
    ends = hidden[:, :-1] & ~hidden[:, 1:]
    assert abs(hidden.sum() / (begins.sum() + ends.sum()) * 2 - 3.0) < 0.15
    assert abs(hidden_spans((20_000, 40), np.random.default_rng(0), 0.25, 1.0).mean() - 0.25) < 0.01


def test_next_items_by_hand():
    tokens = np.array([[[7], [8], [UNKNOWN]], [[9], [0], [0]]], np.int32)
    masked = predict_next(tokens, np.array([3, 1]))
    assert masked.tokens[:, :, 0].tolist() == [[CLS, 7, 8, UNKNOWN], [CLS, 9, 0, 0]]
    assert masked.length.tolist() == [4, 2]
    assert masked.position.tolist() == [0, 1, 4], "the unknown item is no target, and after the last there is none"
    assert masked.target.tolist() == [7, 8, 9]


def test_causal_states_see_nothing_later(assembly, signature):
    """The state at a position is that of the sequence cut there: in training as in the summary of a history."""
    torch.manual_seed(0)
    config = EncoderConfig(width=16, heads=2, attention="causal", positions="from_start")
    model = build_encoder(assembly, signature, config).eval()
    tokens, length = sequences(30, 5)
    tokens = np.minimum(tokens, 6)
    masked = predict_next(tokens, length)
    every = model.transform(model.bert(masked.tokens, masked.length))  # (batch, length + 1, width)
    for cut in range(5):
        rows = np.flatnonzero(length >= cut)
        state = model.history_state(torch.from_numpy(tokens[rows, :cut]), torch.full((len(rows),), cut))
        torch.testing.assert_close(state, every[rows, cut], atol=1e-5, rtol=1e-4)


def test_a_masked_last_item_has_the_state_of_its_history(assembly, signature):
    torch.manual_seed(0)
    model = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2)).eval()
    tokens, length = sequences(30, 5)
    tokens = np.minimum(tokens, 6)
    masked = mask_items(tokens, length, np.random.default_rng(0), mask_rate=0.5, last_item_rate=1.0, disguised=0.0)
    states = model.states(masked.tokens, masked.length, masked.position)
    rows = masked.position.numpy() // 5
    history = tokens[rows].copy()
    history[np.arange(len(rows)), length[rows] - 1] = 0
    torch.testing.assert_close(
        states, model.history_state(torch.from_numpy(history), torch.from_numpy(length[rows] - 1)), atol=1e-5, rtol=1e-4
    )


def test_pairs_by_hand():
    tokens = np.array([[[5], [6], [7]], [[8], [9], [0]]], np.int32)
    pairs, total, segment, continues = segment_pairs(tokens, np.array([3, 2]), np.random.default_rng(2))
    for i in range(2):
        own = tokens[i, tokens[i, :, 0] > 0, 0].tolist()
        shown = pairs[i, : total[i] - 1, 0].tolist()
        assert pairs[i, total[i] - 1, 0] == CLS
        cut = segment[i].tolist().index(1)
        assert shown[:cut] == own[:cut]
        assert bool(continues[i]) == (shown[cut:] == own[cut:])
        assert segment[i, total[i] - 1 :].sum() == 0


def test_the_length_of_a_pair_does_not_tell_whether_it_continues():
    tokens = np.random.default_rng(0).integers(5, 20, (200, 9, 2)).astype(np.int32)
    _, total, segment, continues = segment_pairs(tokens, np.full(200, 9), np.random.default_rng(0))
    assert 0.3 < continues.mean() < 0.7
    assert (total == 10).all()
    assert (segment.sum(1) >= 1).all() and (segment[:, 0] == 0).all()
    of_two = segment_pairs(tokens[:, :4], np.array([2, 4] * 100), np.random.default_rng(0))
    assert (of_two[2].sum(1) >= 1).all(), "the end of a shorter sequence is what there is behind its first token"


def test_about_half_of_the_pairs_continue_and_the_loss_learns(assembly, signature):
    tokens, length = sequences(600)
    *_, continues = segment_pairs(tokens, length, np.random.default_rng(0))
    assert 0.4 < continues.mean() < 0.6
    torch.manual_seed(0)
    model = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2))
    pairs = make_pairs(np.minimum(tokens[:, :4], 6), np.minimum(length, 4), np.random.default_rng(0))
    loss = next_segment_loss(model, pairs)
    loss.backward()
    assert model.bert.segment.weight.grad.abs().sum() > 0


def test_parts_of_a_batch_hold_its_sequences_trimmed():
    tokens, length = sequences(50)
    order = np.argsort(length, kind="stable")
    tokens, length = tokens[order], length[order]
    masked = mask_items(tokens, length, np.random.default_rng(0), mask_rate=0.4, last_item_rate=0.2)
    parts = [masked_part(masked, slice(a, b)) for a, b in ((0, 11), (11, 30), (30, 50))]
    assert torch.equal(torch.cat([part.target for part in parts]), masked.target)
    assert parts[0].tokens.shape[1] < masked.tokens.shape[1]
    for part in parts:
        assert part.tokens.shape[1] == part.length.max()
        hidden = part.tokens.flatten(0, 1)[part.position, 0]
        assert ((hidden == MASK) | (hidden >= len(SPECIALS))).all()
    whole = masked_part(masked, slice(0, 50))
    assert all(torch.equal(one, two) for one, two in zip(whole, masked, strict=True))
    pairs = make_pairs(tokens, length, np.random.default_rng(1))
    assert all(torch.equal(one, two) for one, two in zip(pairs_part(pairs, slice(0, 50)), pairs, strict=True))
    some = pairs_part(pairs, slice(3, 9))
    assert some.segment.shape == some.tokens.shape[:2] and torch.equal(some.continues, pairs.continues[3:9])
