import copy

import pytest
import torch
from torch import nn

from ctr_kd.config_training import TrainingConfig
from ctr_kd.training.optimizer import Optimizer, ParameterGroup, clip_gradients
from ctr_kd.training.rate_schedule import CosineSchedule

CONFIG = TrainingConfig(weight_decay=0.0, learning_rate=0.01)


class Model(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.items = nn.Embedding(6, 4, sparse=sparse)
        self.layer = nn.Linear(4, 1)

    def loss(self, rows: list[int]) -> torch.Tensor:
        return self.layer(self.items(torch.tensor(rows))).square().sum()


def trained(model: Model, steps: list[list[int]], config: TrainingConfig = CONFIG) -> Model:
    optimizer = Optimizer(model, [ParameterGroup(list(model.parameters()))], config)
    for number, rows in enumerate(steps):
        optimizer.set_rates(number, CosineSchedule(config, len(steps)))
        optimizer.zero_grad()
        model.loss(rows).backward()
        clip_gradients(model.parameters(), config.clip)
        optimizer.step()
    return model


def test_rows_that_every_step_touches_train_as_in_a_dense_table() -> None:
    steps = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0, 0, 3]] * 5
    sparse, dense = trained(Model(True), steps), trained(Model(False), steps)
    for mine, other in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_a_row_that_no_step_touches_stays() -> None:
    before = Model(True).items.weight.detach().clone()
    after = trained(Model(True), [[0, 1], [1, 2], [0, 0]], CONFIG.model_copy(update={"embedding_decay": 0.1})).items.weight
    assert torch.equal(after[3:], before[3:])
    assert not torch.isclose(after[:3], before[:3]).any()


@pytest.mark.parametrize("sparse", [False, True])
def test_momentum_carries_a_row_on_only_in_a_dense_table(sparse: bool) -> None:
    once, later = (trained(Model(sparse), [[0, 1], *[[1, 2]] * more], CONFIG.model_copy(update={"warmup": 0.0})) for more in (0, 8))
    moved = (later.items.weight[0] - once.items.weight[0]).abs().max().item()
    assert moved == 0 if sparse else moved > CONFIG.learning_rate


@pytest.mark.parametrize("sparse", [False, True])
def test_clipping_equals_torchs_whatever_the_gradient(sparse: bool) -> None:
    """A row that was read twice has the sum of its gradients, and the norm is that of the sum."""
    model, reference = Model(sparse), Model(False)
    for one in (model, reference):
        one.loss([1, 1, 2, 5]).backward()
    norm = clip_gradients(model.parameters(), 0.1)
    expected = nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    torch.testing.assert_close(norm, expected)
    for mine, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad.to_dense(), other.grad)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_state_that_was_loaded_goes_on_as_the_one_that_was_saved(sparse: bool) -> None:
    models, optimizers = [], []
    for _ in range(2):
        models.append(Model(sparse))
        optimizers.append(Optimizer(models[-1], [ParameterGroup(list(models[-1].parameters()))], CONFIG))

    def step(model: Model, optimizer: Optimizer, rows: list[int]) -> None:
        optimizer.zero_grad()
        model.loss(rows).backward()
        optimizer.step()

    step(models[0], optimizers[0], [0, 1])
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer, [1, 2])
    for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_group_that_has_not_started_has_no_part_in_the_norm_nor_in_the_moments() -> None:
    """A frozen encoder's gradients would shrink the steps of the head above it."""
    model = Model(sparse=False)
    before = model.items.weight.detach().clone()
    groups = [ParameterGroup(list(model.layer.parameters())), ParameterGroup([model.items.weight], starts_at=0.5)]
    optimizer, norms = Optimizer(model, groups, CONFIG), []
    for step in range(4):
        optimizer.set_rates(step, CosineSchedule(CONFIG, 4))
        optimizer.zero_grad()
        (1000 * model.loss([0, 1])).backward()
        own = torch.cat([parameter.grad.flatten() for parameter in model.layer.parameters()]).norm()
        norms.append((clip_gradients(model.parameters(), CONFIG.clip) / own).item())
        optimizer.step()
        if step < 2:
            torch.testing.assert_close(model.items.weight, before, rtol=0, atol=0)
    assert norms[:2] == pytest.approx([1.0, 1.0]) and min(norms[2:]) > 1.01
    assert not torch.equal(model.items.weight, before)
