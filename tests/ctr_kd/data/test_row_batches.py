from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.data import row_batches as module
from ctr_kd.data.batching import batch_plan
from ctr_kd.data.row_batches import SectionBatches, row_batches
from ctr_kd.data.samples import Samples, Segment


def samples_of(sizes: list[int], lengths: list[int]) -> Samples:
    """Requests of so many rows, with histories of so many clicks."""
    count = sum(sizes)
    group = np.repeat(np.arange(len(sizes)), sizes)
    start = np.zeros(count, np.int64)
    nothing, pool = np.zeros(count, np.int64), np.zeros((99, 2), np.int32)
    return Samples(
        row_id=np.arange(count),
        group=group,
        user=nothing,
        a=Segment(pool, start, np.repeat(lengths, sizes), gap_column=-1),
        b=Segment(pool, nothing, nothing + 1),
        categorical=np.zeros((count, 0), np.int32),
        dense=np.zeros((count, 0), np.float32),
        label=np.zeros(count, np.float32),
    )


@pytest.fixture
def small_sections(monkeypatch):
    monkeypatch.setattr(module, "MOST_SHUFFLED", 64)
    monkeypatch.setattr(module, "BLOCK", 8)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9)), min_size=12, max_size=80), st.integers(6, 30), st.booleans())
def test_batches_of_sections_hold_every_row_once_and_keep_groups_whole(requests, batch_size, shuffled):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_SHUFFLED", 64)
        patch.setattr(module, "BLOCK", 8)
        sizes, lengths = zip(*requests, strict=True)
        samples = samples_of(list(sizes), list(lengths))
        batches = SectionBatches(samples, batch_size, np.random.default_rng(1) if shuffled else None)
        found = list(batches)
        assert sorted(np.concatenate(found).tolist()) == list(range(len(samples)))
        for rows in found:
            of_batch = set(samples.group[rows].tolist())
            assert not of_batch & set(np.delete(samples.group, rows).tolist())
        by_place = [batches[place] for place in range(len(batches))]
        assert {rows.tobytes() for rows in by_place} == {rows.tobytes() for rows in found}
        assert len(found) <= len(batches) <= len(found) + len(samples) // 30 + 1


def test_any_batch_is_had_without_those_before_it(small_sections):
    samples = samples_of([3] * 100, list(range(100)))
    one, two = (SectionBatches(samples, 16, np.random.default_rng(5)) for _ in range(2))
    backwards = [one[place] for place in reversed(range(len(one)))]
    for place, rows in enumerate(reversed(backwards)):
        assert np.array_equal(two[place], rows)
    with pytest.raises(IndexError):
        one[len(one)]


def test_another_epoch_has_another_order_and_other_neighbours(small_sections):
    samples = samples_of([1] * 1000, [0] * 1000)
    one, two = (list(SectionBatches(samples, 16, np.random.default_rng(seed))) for seed in (1, 2))
    assert not any(np.array_equal(a, b) for a, b in zip(one, two, strict=False))
    spread = [int(rows.max() - rows.min()) for rows in one]
    assert np.median(spread) > 300  # of one batch the rows lie far apart in time


def test_a_split_that_fits_is_planned_as_a_whole(small_sections):
    samples = samples_of([4] * 16, list(range(16)))
    found = row_batches(samples, 8, np.random.default_rng(3))
    expected = batch_plan(samples.a.end - samples.a.start, samples.group, 8, np.random.default_rng(3))
    assert isinstance(found, list) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert isinstance(row_batches(samples_of([4] * 17, list(range(17))), 8, None), SectionBatches)


def test_requests_longer_than_a_batch_leave_no_batch_empty(small_sections):
    samples = samples_of([50, 1, 40, 1, 33, 1, 1], [1] * 7)
    batches = SectionBatches(samples, 4, np.random.default_rng(0))
    assert all(len(batches[place]) for place in range(len(batches)))
    assert {int(row) for place in range(len(batches)) for row in batches[place]} == set(range(len(samples)))


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_have_few_batches(rows):
    samples = samples_of([1] * rows, [0] * rows)
    assert len(row_batches(samples, 8, None)) == rows


def test_blocks_begin_with_a_request(small_sections):
    group = np.repeat([0, 1, 2], [20, 3, 1])
    assert module.block_edges(group, 8).tolist() == [0, 20, 24]
    same = replace(samples_of([24], [1]), group=np.zeros(24, np.int64))
    assert module.block_edges(same.group, 8).tolist() == [0, 24]
