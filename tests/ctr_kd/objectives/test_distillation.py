import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ctr_kd.objectives.classification import hard_cross_entropy
from ctr_kd.objectives.distillation import distillation_loss, logit_mse, soft_targets

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-8, 8))


def numpy_soft_targets(student, teacher, temperature):
    """KL(teacher || student) of the softened distributions times T^2, in plain float64 NumPy."""

    def distribution(logits):
        if logits.shape[1] == 1:
            p = 1 / (1 + np.exp(-logits / temperature))
            return np.concatenate([p, 1 - p], axis=1)
        e = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
        return e / e.sum(axis=1, keepdims=True)

    p, q = distribution(student), distribution(teacher)
    return (q * (np.log(q) - np.log(p))).sum(axis=1).mean() * temperature**2


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.5, 20), st.integers(0, 1000))
def test_soft_targets_equal_numpy(teacher, temperature, seed):
    student = np.random.default_rng(seed).normal(size=teacher.shape)
    got = soft_targets(torch.tensor(student), torch.tensor(teacher), temperature).item()
    assert got == pytest.approx(numpy_soft_targets(student, teacher, temperature), rel=1e-6, abs=1e-9)


def test_golden_values():
    student, teacher = torch.tensor([[0.0]]), torch.tensor([[2.0]])
    p = 1 / (1 + math.exp(-1.0))  # the teacher's click probability at T = 2
    expected = 4 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    assert soft_targets(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)
    assert logit_mse(student, teacher).item() == 4.0
    assert hard_cross_entropy(torch.tensor([[0.0], [0.0]]), torch.tensor([1.0, 0.0])).item() == pytest.approx(math.log(2))
    assert hard_cross_entropy(torch.zeros(1, 4), torch.tensor([3.0])).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("soft", ["logit_mse", "soft_targets"])
def test_no_gradient_when_the_student_equals_the_teacher(outputs, soft):
    logits = torch.randn(5, outputs, dtype=torch.float64)
    student, teacher = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = distillation_loss(student, teacher, torch.full((5,), -1.0), 0.0, soft, 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-12 and teacher.grad is None


def test_t_squared_keeps_the_gradients_scale():
    """At high temperature the gradient tends to the logit difference over the number of classes (Hinton et al., section 2.1)."""
    teacher = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64)
    for temperature in (200.0, 2000.0):
        student = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        soft_targets(student, teacher, temperature).backward()
        torch.testing.assert_close(student.grad, -teacher / 3, rtol=0.06, atol=1e-3)


def test_unlabelled_rows_have_no_hard_term():
    logits = torch.tensor([[0.3], [2.0]], dtype=torch.float64)
    one = hard_cross_entropy(logits[:1], torch.tensor([1.0]))
    assert hard_cross_entropy(logits, torch.tensor([1.0, -1.0])).item() == pytest.approx(one.item())
    assert hard_cross_entropy(logits, torch.tensor([-1.0, -1.0])).item() == 0.0


def test_alpha_mixes_and_one_is_the_labels_alone():
    student, teacher, label = torch.randn(4, 1), torch.randn(4, 1), torch.tensor([0.0, 1.0, 1.0, 0.0])
    hard, soft = hard_cross_entropy(student, label), logit_mse(student, teacher)
    mixed = distillation_loss(student, teacher, label, 0.25, "logit_mse", 1.0)
    torch.testing.assert_close(mixed, 0.25 * hard + 0.75 * soft)
    # temperature 0 is how the starting documents train the student alone; it must not be divided by
    torch.testing.assert_close(distillation_loss(student, teacher, label, 1.0, "soft_targets", 0.0), hard)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="differ in shape"):
        logit_mse(torch.zeros(2, 1), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="above zero"):
        soft_targets(torch.zeros(1, 1), torch.zeros(1, 1), 0.0)
