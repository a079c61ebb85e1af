import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ctr_kd.config import HintsConfig
from ctr_kd.objectives.hints import hidden_hint, hints_loss, relation_hint


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_hints_equal_numpy(histories, width, teacher_width, seed):
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(histories, width)), rng.normal(size=(histories, teacher_width))
    projection = nn.Linear(width, teacher_width).double()
    projected = student @ projection.weight.detach().numpy().T + projection.bias.detach().numpy()
    hidden = ((projected - teacher) ** 2).mean(axis=1)
    rows = [gram / np.linalg.norm(gram, axis=1, keepdims=True) for gram in (student @ student.T, teacher @ teacher.T)]
    relation = ((rows[0] - rows[1]) ** 2).sum(axis=1)
    s, t = torch.tensor(student), torch.tensor(teacher)
    np.testing.assert_allclose(hidden_hint(projection(s), t).detach(), hidden, rtol=1e-9)
    np.testing.assert_allclose(relation_hint(s, t), relation, rtol=1e-7, atol=1e-12)
    of_row = np.sort(rng.integers(0, histories, 9))
    got = hints_loss(s, t, torch.tensor(of_row), projection, HintsConfig(hidden=2, relation=3)).item()
    assert got == pytest.approx(2 * hidden[of_row].mean() + 3 * relation.mean())


def test_golden_values():
    assert hidden_hint(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [2.5]
    # The student finds all histories alike, the teacher none of them: rows (1, 1) / sqrt 2 against (1, 0) and (0, 1).
    assert relation_hint(torch.ones(2, 1), torch.eye(2)).tolist() == pytest.approx([2 - 2**0.5] * 2)
    # A turn and a scale of the space change no relation.
    states = torch.randn(4, 3)
    turned = torch.cat([states.flip(1), torch.zeros(4, 2)], dim=1) * 7
    assert relation_hint(turned, states).abs().max() < 1e-6


@pytest.mark.parametrize("term", [hidden_hint, relation_hint])
def test_no_gradient_when_equal_and_none_into_the_teacher(term):
    states = torch.randn(5, 3, dtype=torch.float64)
    student, teacher = states.clone().requires_grad_(), states.clone().requires_grad_()
    term(student, teacher).sum().backward()
    assert student.grad.abs().max() < 1e-12 and teacher.grad is None


def test_empty_histories_have_finite_gradients():
    student = torch.zeros(3, 2, requires_grad=True)
    relation_hint(student, torch.ones(3, 4)).sum().backward()
    assert torch.isfinite(student.grad).all()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="differ in shape"):
        hidden_hint(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="number of histories: 2 and 3"):
        relation_hint(torch.zeros(2, 3), torch.zeros(3, 3))


def test_a_weighted_history_counts_as_its_rows_do():
    rng = np.random.default_rng(0)
    student, teacher = (torch.tensor(rng.normal(size=(2, 3))) for _ in range(2))
    segment, weight, projection = torch.tensor([0, 0, 1]), torch.tensor([0.25, 0.75, 2.0], dtype=torch.float64), nn.Identity()
    hidden, relation = hidden_hint(student, teacher), relation_hint(student, teacher)
    found = hints_loss(student, teacher, segment, projection, HintsConfig(hidden=1.0, relation=1.0), weight=weight)
    expected = (1.0 * hidden[0] + 2.0 * hidden[1]) / 3 + (0.5 * relation[0] + 2.0 * relation[1]) / 2
    torch.testing.assert_close(found, expected)
