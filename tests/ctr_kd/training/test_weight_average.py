import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ctr_kd.training.weight_average import WeightAverage

WEIGHTS = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12)


def averages(weights: list[float], steps: float) -> list[float]:
    """What the average is after each step of a model with one weight."""
    model = nn.Linear(1, 1, bias=False)
    average, found = WeightAverage(model, steps), []
    for step, weight in enumerate(weights, start=1):
        model.weight.data.fill_(weight)
        average.update(step)
        with average.in_place():
            found.append(model.weight.item())
        assert model.weight.item() == pytest.approx(weight)
    return found


def test_the_mean_is_plain_until_its_memory_is_full_then_exponential() -> None:
    assert averages([8.0, 4.0, 0.0, 8.0], steps=2) == [8.0, 6.0, 3.0, 5.5]
    assert averages([8.0, 4.0, 0.0, 8.0], steps=50) == [8.0, 6.0, 4.0, 5.0]
    assert averages([8.0, 4.0, 0.0], steps=0.3) == [8.0, 4.0, 0.0]


@settings(deadline=None, max_examples=30)
@given(WEIGHTS, st.integers(1, 20))
def test_it_is_the_sum_by_the_weight_that_each_step_has(weights: list[float], memory: int) -> None:
    """A second implementation: what each step still counts at the end, the start of the training nothing."""
    rates = [max(1 / number, 1 / memory) for number in range(1, len(weights) + 1)]
    counts = []
    for i, rate in enumerate(rates):
        for later in rates[i + 1 :]:
            rate *= 1 - later
        counts.append(rate)
    assert sum(counts) == pytest.approx(1)
    expected = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    assert averages(weights, memory)[-1] == pytest.approx(expected, abs=1e-4)


def test_of_a_long_memory_some_steps_are_left_out() -> None:
    """A memory of 200 steps is refreshed after every fourth."""
    assert averages([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], steps=200)[3:] == [4.0, 4.0, 4.0, 4.0, 6.0]


def test_weights_that_do_not_move_stay_and_buffers_are_the_models_own() -> None:
    norm = nn.BatchNorm1d(2, momentum=1.0)
    model = nn.Sequential(nn.Linear(2, 2), norm)
    before, average = copy.deepcopy(model.state_dict()), WeightAverage(model, 3)
    for step in (1, 2, 3, 4):
        average.update(step)
    norm(torch.tensor([[6.0, 6.0], [8.0, 8.0]]))
    with average.in_place():
        found = model.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in before.items() if "running" not in name and "num" not in name)
        assert found["1.running_mean"].tolist() == [7.0, 7.0]


def test_the_model_has_its_own_weights_again_whatever_happens_in_between() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 3)
    nn.init.normal_(model.weight)
    before = model.weight.detach().clone()
    with pytest.raises(KeyError), average.in_place():
        assert not torch.equal(model.weight, before)
        raise KeyError
    assert torch.equal(model.weight, before) and model.weight.requires_grad


def test_a_state_that_was_loaded_goes_on_as_the_one_that_was_saved() -> None:
    models = nn.Linear(2, 2), nn.Linear(2, 2)
    saved, loaded = (WeightAverage(model, 5) for model in models)
    saved.update(1)
    loaded.load_state_dict(copy.deepcopy(saved.state_dict()))
    for model, average in zip(models, (saved, loaded), strict=True):
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        average.update(2)
    assert all(torch.equal(a, b) for a, b in zip(saved.state_dict()["mean"], loaded.state_dict()["mean"], strict=True))
