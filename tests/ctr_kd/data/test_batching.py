from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.data.batching import batch_plan, gather, leave_out, make_batch, part_of
from ctr_kd.data.samples import Segment
from feature_store.special_tokens import MASK, UNKNOWN


def test_gather_pads_on_the_right_and_hides_the_first_gap():
    pool = np.array([[5, 9], [6, 9], [7, 9]], np.int32)
    tokens, length = gather(Segment(pool, np.array([0]), np.array([0]), gap_column=1), np.array([0, 1, 2]), np.array([2, 3, 2]))
    assert length.tolist() == [2, 2, 0]
    assert tokens[:, :, 0].tolist() == [[5, 6], [6, 7], [0, 0]]
    assert tokens[:, :, 1].tolist() == [[0, 9], [0, 9], [0, 0]]


def test_gather_of_an_empty_pool_keeps_its_shape():
    nothing = Segment(np.zeros((0, 2), np.int32), np.array([0]), np.array([0]), gap_column=1)
    tokens, length = gather(nothing, np.array([0]), np.array([0]))
    assert tokens.shape == (1, 1, 2) and length.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 99))
def test_what_is_left_of_a_sequence_is_a_part_of_it_in_order_with_both_its_ends(lengths, rate, seed):
    length = np.array(lengths)
    inside = np.arange(max(lengths) + 1) < length[:, None]
    tokens = np.where(inside[:, :, None], 5 + np.arange(inside.size * 2).reshape(*inside.shape, 2), 0)
    packed, kept = leave_out(tokens, length, rate, np.random.default_rng(seed))
    assert packed.shape[1] == max(kept.max(), 1) and (kept <= length).all()
    for before, n, after, m in zip(tokens, length, packed, kept, strict=True):
        whole, part = before[:n].tolist(), after[:m].tolist()
        assert part == [token for token in whole if token in part] and not after[m:].any()
        assert part[:1] == whole[:1] and part[-1:] == whole[-1:]


def test_a_rate_of_nothing_leaves_out_nothing_and_half_leaves_out_half():
    tokens, length = np.ones((50, 402, 1), np.int32), np.full(50, 402)
    assert np.array_equal(leave_out(tokens, length, 0.0, np.random.default_rng(0))[1], length)
    assert leave_out(tokens, length, 0.5, np.random.default_rng(0))[1].mean() == pytest.approx(202, abs=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=40), st.integers(1, 20), st.booleans())
def test_a_plan_holds_every_row_once_and_keeps_groups_whole(groups, batch_size, shuffled):
    group = np.repeat(np.arange(len(groups)), [size for size, _ in groups])
    length = np.repeat([n for _, n in groups], [size for size, _ in groups])
    plan = batch_plan(length, group, batch_size, np.random.default_rng(1) if shuffled else None)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(group)))
    for rows in plan:
        assert not set(group[rows]) & set(group[np.setdiff1d(np.arange(len(group)), rows)])
        assert len(rows) < batch_size + 5 or len(rows) <= 2 * batch_size + 5


def test_a_requests_candidates_share_one_history(assembly):
    samples = assembly.samples("train")
    batch = make_batch(samples, np.arange(6))
    assert batch.segment_a.shape[0] <= 2 + 1
    for row in range(6):
        begin, end = samples.a.start[row], samples.a.end[row]
        shared = batch.segment_a[batch.segment_of_row[row]]
        assert shared[: end - begin, 0].tolist() == samples.a.pool[begin:end, 0].tolist()


def test_hiding_ids_and_statistics_is_seeded_and_leaves_the_samples_alone(assembly):
    samples = assembly.samples("train")
    rows = np.arange(len(samples))
    before = samples.b.pool.copy()
    one, two = (
        make_batch(samples, rows, np.random.default_rng(3), unknown_rate=0.5, hidden_rate=0.5, attribute_rate=0.5) for _ in range(2)
    )
    assert all(np.array_equal(a.numpy(), b.numpy(), equal_nan=a.is_floating_point()) for a, b in zip(one, two, strict=True))
    assert np.array_equal(before, samples.b.pool)
    assert np.isnan(one.dense.numpy()).all(axis=1).mean() == pytest.approx(0.5, abs=0.15)


def test_parts_of_a_batch_hold_its_rows_and_their_histories(assembly):
    samples = assembly.samples("train")
    rows = batch_plan(samples.a.end - samples.a.start, samples.group, 30, None)[2]
    batch = make_batch(samples, rows)
    assert all(np.array_equal(one, two, equal_nan=True) for one, two in zip(part_of(batch, slice(0, len(rows))), batch, strict=True))
    for a, b in ((0, 4), (4, 5), (5, len(rows))):  # also inside a request
        part, alone = part_of(batch, slice(a, b)), make_batch(samples, rows[a:b])
        assert all(np.array_equal(one, two, equal_nan=True) for one, two in zip(part, alone, strict=True))


def test_every_feature_with_a_vocabulary_is_hidden_by_itself(assembly):
    """Ids, attributes and categories; null stays null, and a gap has no unknown token."""
    samples = assembly.samples("train")
    rows = np.arange(len(samples))
    whole, hidden = make_batch(samples, rows), make_batch(samples, rows, np.random.default_rng(3), unknown_rate=0.5, attribute_rate=0.5)
    pairs = {name: (getattr(whole, name).numpy(), getattr(hidden, name).numpy()) for name in ("segment_a", "segment_b", "categorical")}
    features = [pair for name, (a, b) in pairs.items() for pair in zip(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0), strict=True)]
    item, topic, gap, candidate, candidate_topic, candidate_gap, device = features
    drawn = {}
    for name, (before, after) in {"a": item, "at": topic, "b": candidate, "bt": candidate_topic, "d": device}.items():
        known = before > MASK
        drawn[name] = (before != after)[known]
        assert (after[known & (before != after)] == UNKNOWN).all() and np.array_equal(before[~known], after[~known])
        assert drawn[name].mean() == pytest.approx(0.5, abs=0.15), name
    assert np.array_equal(*gap) and np.array_equal(*candidate_gap)
    both = (candidate[0] > MASK) & (candidate_topic[0] > MASK)
    together = ((candidate[0] != candidate[1]) & (candidate_topic[0] != candidate_topic[1]))[both]
    assert together.mean() == pytest.approx(0.25, abs=0.12)


def test_what_is_drawn_for_ids_and_statistics_does_not_depend_on_the_other_features(assembly):
    samples = assembly.samples("train")
    bare = replace(
        samples,
        a=replace(samples.a, pool=samples.a.pool[:, [0, 2]]),
        b=replace(samples.b, pool=samples.b.pool[:, [0, 2]]),
        categorical=samples.categorical[:, :0],
    )
    rows = np.arange(len(samples))
    one, two = (
        make_batch(s, rows, np.random.default_rng(3), unknown_rate=0.5, hidden_rate=0.5, attribute_rate=0.5) for s in (samples, bare)
    )
    assert np.array_equal(one.segment_a[:, :, 0], two.segment_a[:, :, 0]) and np.array_equal(one.segment_b[:, :, 0], two.segment_b[:, :, 0])
    assert np.array_equal(one.dense, two.dense, equal_nan=True)
