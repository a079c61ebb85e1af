"""Adam of the rows that are read, beside one that is written row by row."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ctr_kd.training import lazy_adam
from ctr_kd.training.lazy_adam import LazyAdam, merged

ROWS, WIDTH, RATE = 7, 3, 0.05
STEPS = st.lists(st.lists(st.integers(0, ROWS - 1), max_size=12), min_size=1, max_size=6)


def gradient_of(rows: list[int], seed: int) -> torch.Tensor:
    """A gradient for each place at which a row is read, some of them tiny."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(rows), WIDTH)) * 10.0 ** rng.integers(-9, 1, size=(len(rows), 1))
    index = torch.tensor([rows], dtype=torch.int64)
    return torch.sparse_coo_tensor(index, torch.tensor(values, dtype=torch.float32), (ROWS, WIDTH), check_invariants=True)


def table_of() -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.random.default_rng(9).normal(size=(ROWS, WIDTH)).astype(np.float32)))


def train(make: type[torch.optim.Optimizer], steps: list[list[int]]) -> tuple[torch.Tensor, dict]:
    table = table_of()
    optimizer = make([table], lr=RATE)
    for number, rows in enumerate(steps):
        table.grad = gradient_of(rows, number)
        optimizer.step()
    return table.detach(), optimizer.state[table]


def row_by_row(steps: list[list[int]]) -> np.ndarray:
    """Algorithm 1 of Kingma and Ba, in double precision, of the rows that a step reads."""
    weight = table_of().detach().numpy().astype(np.float64)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for number, rows in enumerate(steps):
        slope = gradient_of(rows, number).to_dense().numpy().astype(np.float64)
        for row in set(rows):
            first[row] = 0.9 * first[row] + 0.1 * slope[row]
            second[row] = 0.999 * second[row] + 0.001 * slope[row] ** 2
            rate = RATE * (1 - 0.999 ** (number + 1)) ** 0.5 / (1 - 0.9 ** (number + 1))
            weight[row] -= rate * first[row] / (second[row] ** 0.5 + 1e-8)
    return weight


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([1, WIDTH, 2 * WIDTH, 1 << 17]))
def test_it_is_adam_of_the_rows_that_are_read(steps, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_adam, "PIECE", piece)
        found, _ = train(LazyAdam, steps)
    np.testing.assert_allclose(found.numpy(), row_by_row(steps), rtol=1e-5, atol=1e-5)
    unread = sorted(set(range(ROWS)).difference(*steps))
    assert torch.equal(found[unread], table_of().detach()[unread])


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_it_is_torchs_own_up_to_rounding(steps):
    (mine, state), (other, expected) = train(LazyAdam, steps), train(torch.optim.SparseAdam, steps)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    assert state["step"] == expected["step"]
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[name], expected[name], rtol=1e-5, atol=1e-12)


def test_a_row_that_is_not_read_keeps_its_moments():
    _, before = train(LazyAdam, [[0, 1, 2], [0, 1]])
    _, after = train(LazyAdam, [[0, 1, 2], [0, 1], [1], [1, 1]])
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(before[name][[0, 2]], after[name][[0, 2]]) and not torch.equal(before[name][1], after[name][1])
    assert not after["exp_avg"][3:].any()


def test_a_state_that_was_loaded_goes_on_to_the_bit():
    steps = [[0, 1, 1], [2, 1], [5, 0], [1]]
    whole, _ = train(LazyAdam, steps)
    table = table_of()
    optimizer = LazyAdam([table], lr=RATE)
    for number, rows in enumerate(steps):
        if number == 2:
            state, table = copy.deepcopy(optimizer.state_dict()), nn.Parameter(table.detach().clone())
            optimizer = LazyAdam([table], lr=RATE)
            optimizer.load_state_dict(state)
        table.grad = gradient_of(rows, number)
        optimizer.step()
    assert torch.equal(table.detach(), whole)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, ROWS - 1), max_size=40), st.integers(0, 5))
def test_a_merged_gradient_is_torchs_coalesced_one(rows, seed):
    gradient = gradient_of(rows, seed)
    found, expected = merged(gradient), gradient.coalesce()
    assert found.is_coalesced() and found.shape == expected.shape
    assert torch.equal(found.indices(), expected.indices())
    # Of more than sixteen entries torch's sort keeps no order, so it adds a row's up in another one.
    torch.testing.assert_close(found.values(), expected.values(), rtol=1e-5, atol=1e-6)
    assert torch.equal(merged(gradient).values(), found.values())
    assert merged(found) is found
