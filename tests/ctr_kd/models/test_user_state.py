"""States of users in models: they change a score, padding and neighbours do not, and models without them are what they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import ContextEncoder, PiecewiseLinear
from ctr_kd.models.students import STUDENTS
from ctr_kd.models.user_state import LARGEST, UserState

STATES = {f"teacher_state_{n}": [0.0, 1.0] for n in range(3)}
KINDS = ["pooled", "bilstm", "din", "dcn"]


def signature(dense: dict[str, list[float]]) -> Signature:
    return Signature(tokens={"item": 9, "gap": 4}, categorical={"device": 7}, dense=dense, outputs=1, max_length=5)


def inputs(dense: list[list[float]]) -> list[torch.Tensor]:
    rows = len(dense)
    history = torch.tensor([[[5, 0], [6, 1]]], dtype=torch.int32)
    candidate = torch.tensor([[[7, 0]]] * rows, dtype=torch.int32)
    one = torch.zeros(rows, dtype=torch.int64)
    return [history, torch.tensor([2]), one, candidate, torch.full((rows, 1), 5, dtype=torch.int32), torch.tensor(dense)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_changes_the_score_of_its_row_alone(kind: str) -> None:
    torch.manual_seed(0)
    model = STUDENTS[kind](signature({"age": [0.0, 1.0, 2.0], **STATES}), StudentConfig(kind=kind, width=4, hidden=8)).eval()
    nan, huge = float("nan"), 1e30
    rows = [[1.0, 0.5, -1.0, 2.0], [1.0, nan, nan, nan], [1.0, 0.0, 0.0, 0.0], [1.0, -0.5, 1.0, 2.0], [1.0, huge, 0.0, 0.0]]
    with torch.no_grad():
        together = model(*inputs(rows))[:, 0].numpy()
        alone = np.array([model(*inputs([row])).item() for row in rows])
    assert np.allclose(together, alone, atol=1e-6)
    assert len(set(together.round(6).tolist())) == len(rows) and np.isfinite(together).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_states_is_what_it_was(kind: str) -> None:
    torch.manual_seed(0)
    model = STUDENTS[kind](signature({"age": [0.0, 1.0, 2.0]}), StudentConfig(kind=kind, width=4, hidden=8))
    assert not any("user_state" in name or "states" in name or "others" in name for name in model.state_dict())


def test_the_numbers_of_a_state_stand_beside_the_other_inputs_as_they_are() -> None:
    torch.manual_seed(0)
    edges = [0.0, 1.0, 2.0]
    encoder = ContextEncoder(signature({"teacher_state_0": [0.0, 1.0], "age": edges, "teacher_state_1": [0.0, 1.0]}), 2)
    nan = float("nan")
    dense = torch.tensor([[0.5, 1.5, -9.0], [nan, nan, nan]])
    found = encoder(torch.full((2, 1), 5), dense)
    assert found.shape == (2, encoder.size)
    assert torch.equal(found[:, 2:-3], PiecewiseLinear([edges])(dense[:, 1:2]))
    assert found[:, -3:].tolist() == [[0.5, -LARGEST, 0.0], [0.0, 0.0, 1.0]]


def test_a_state_is_added_to_the_history_in_its_space() -> None:
    torch.manual_seed(0)
    module, history = UserState(signature({"age": [0.0, 1.0], **STATES}), 4), torch.randn(2, 4)
    assert module.project is not None
    dense = torch.tensor([[7.0, 1.0, 2.0, 3.0], [7.0, float("nan"), float("nan"), float("nan")]])
    weight = module.project.weight
    by_hand = torch.stack([history[0] + weight @ torch.tensor([1.0, 2.0, 3.0, 0.0]), history[1] + weight[:, 3]])
    assert torch.allclose(module(history, dense), by_hand, atol=1e-6)
    assert torch.equal(UserState(signature({"age": [0.0, 1.0]}), 4)(history, dense), history)
