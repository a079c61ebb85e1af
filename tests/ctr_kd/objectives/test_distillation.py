"""Each term against golden values and a second implementation in float64 NumPy, in its value, its gradient and its limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ctr_kd.config import DistillConfig
from ctr_kd.data.samples import of_mean_one
from ctr_kd.objectives.classification import hard_cross_entropy
from ctr_kd.objectives.distillation import (
    class_shares,
    kl_divergence,
    label_gate,
    listwise,
    log_softened,
    logit_mse,
    logits_loss,
    soft_targets,
)

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-8, 8))
TERMS = {
    "soft_targets": lambda student, teacher: soft_targets(student, teacher, 3.0),
    "kl": lambda student, teacher: kl_divergence(student, teacher, 3.0),
    "logit_mse": logit_mse,
}


def distribution(logits, temperature):
    """Softmax, or for one output the sigmoid and its complement, in plain float64 NumPy."""
    if logits.shape[1] == 1:
        p = 1 / (1 + np.exp(-logits / temperature))
        return np.concatenate([p, 1 - p], axis=1)
    e = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return e / e.sum(axis=1, keepdims=True)


def gradient(term, student, teacher):
    student = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    term(student, torch.tensor(teacher, dtype=torch.float64)).sum().backward()
    return student.grad.numpy()


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.5, 20), st.integers(0, 1000))
def test_terms_of_rows_equal_numpy(teacher, temperature, seed):
    student = np.random.default_rng(seed).normal(size=teacher.shape)
    s, t = torch.tensor(student), torch.tensor(teacher)
    p, q = distribution(student, temperature), distribution(teacher, temperature)
    near = {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(soft_targets(s, t, temperature), -(q * np.log(p)).sum(axis=1) * temperature**2, **near)
    np.testing.assert_allclose(kl_divergence(s, t, temperature), (q * np.log(q / p)).sum(axis=1) * temperature**2, **near)
    np.testing.assert_allclose(logit_mse(s, t), ((student - teacher) ** 2).mean(axis=1), **near)


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.integers(0, 1000))
def test_hard_labels_equal_numpy(logits, seed):
    outputs = logits.shape[1]
    label = np.random.default_rng(seed).integers(0, max(outputs, 2), len(logits))
    p = distribution(logits, 1.0)
    of_label = p[np.arange(len(p)), 1 - label if outputs == 1 else label]
    got = hard_cross_entropy(torch.tensor(logits), torch.tensor(label, dtype=torch.float64)).item()
    assert got == pytest.approx(-np.log(of_label).mean(), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.floats(0.2, 10), st.integers(0, 1000))
def test_listwise_equals_numpy(sizes, temperature, seed):
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 3, (2, sum(sizes), 1))
    request = np.repeat(rng.permutation(len(sizes)) * 7, sizes)
    expected = []
    for value in dict.fromkeys(request.tolist()):
        p, q = (distribution(logits[request == value].T, temperature) for logits in (student, teacher))
        expected.append((q * np.log(q / p)).sum() * temperature**2 if p.shape[1] > 1 and (request == value).sum() > 1 else 0.0)
    got = listwise(torch.tensor(student), torch.tensor(teacher), torch.tensor(request), temperature)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.integers(0, 1000))
def test_the_gate_equals_numpy(teacher, seed):
    outputs, rng = teacher.shape[1], np.random.default_rng(seed)
    label = rng.integers(-1, max(outputs, 2), len(teacher))
    base = rng.dirichlet(np.ones(max(outputs, 2)))
    q = distribution(teacher, 1.0)
    column = np.where(label < 0, 0, 1 - label if outputs == 1 else label)
    expected = np.where(label < 0, 1.0, np.minimum(1.0, q[np.arange(len(q)), column] / base[column]))
    got = label_gate(torch.tensor(teacher), torch.tensor(label, dtype=torch.float64), torch.tensor(base))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_golden_values():
    student, teacher = torch.tensor([[0.0]]), torch.tensor([[2.0]])
    p = 1 / (1 + math.exp(-1.0))  # the teacher's click probability at T = 2
    expected = 4 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    assert kl_divergence(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)
    assert soft_targets(student, teacher, 2.0).item() == pytest.approx(4 * math.log(2), rel=1e-6)
    assert logit_mse(student, teacher).item() == 4.0
    assert hard_cross_entropy(torch.tensor([[0.0], [0.0]]), torch.tensor([1.0, 0.0])).item() == pytest.approx(math.log(2))
    assert hard_cross_entropy(torch.zeros(1, 4), torch.tensor([3.0])).item() == pytest.approx(math.log(4))
    # A teacher that is sure of one of two candidates against a student that is not: log 2; a single candidate has nothing to rank.
    three = listwise(torch.zeros(3, 1), torch.tensor([[50.0], [0.0], [9.0]]), torch.tensor([4, 4, 8]), 1.0)
    assert three.tolist() == pytest.approx([math.log(2), 0.0])
    # Clicks are a fifth of the rows. A teacher at that rate is right to be so cautious; one at a tenth is half as much to be trusted.
    even, low = math.log(0.25), math.log(1 / 9)
    gate = label_gate(torch.tensor([[even], [low], [low], [low]]), torch.tensor([1.0, 1.0, 0.0, -1.0]), torch.tensor([0.2, 0.8]))
    assert gate.tolist() == pytest.approx([1.0, 0.5, 1.0, 1.0])
    assert class_shares(torch.tensor([2.0, 0.0, 2.0, -1.0, 1.0]), 3).tolist() == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_no_gradient_when_the_student_equals_the_teacher(outputs, term):
    logits = torch.randn(5, outputs, dtype=torch.float64)
    student, teacher = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    term(student, teacher).sum().backward()
    assert student.grad.abs().max() < 1e-12 and teacher.grad is None
    assert kl_divergence(student, teacher, 3.0).abs().max() < 1e-12


def test_no_listwise_gradient_when_the_order_and_distances_are_the_teachers():
    logits = torch.randn(6, 1, dtype=torch.float64)
    student, teacher = (logits + 5).requires_grad_(), logits.clone().requires_grad_()
    listwise(student, teacher, torch.tensor([0, 0, 0, 1, 2, 2]), 2.0).sum().backward()
    assert student.grad.abs().max() < 1e-12 and teacher.grad is None


@pytest.mark.parametrize("outputs", [1, 3])
def test_t_squared_keeps_the_gradients_scale(outputs):
    """The factor makes up for the two powers of T by which the gradient falls (Hinton et al., section 2.1)."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 50, outputs))
    scale = {t: np.abs(gradient(lambda s, q, t=t: soft_targets(s, q, t), student, teacher)).mean() for t in (1.0, 4.0, 16.0, 64.0)}
    assert max(scale.values()) < 1.6 * min(scale.values())
    assert scale[64.0] == pytest.approx(scale[16.0], rel=0.02)


@settings(max_examples=30, deadline=None)
@given(LOGITS, st.integers(0, 1000))
def test_at_infinite_temperature_all_is_uniform_and_gradients_are_logit_differences(teacher, seed):
    """Hinton et al., section 2.1, equation 4: differences from the mean over the number of classes; a click's other logit is 0."""
    student, hot = np.random.default_rng(seed).normal(size=teacher.shape), 1e6
    classes = max(teacher.shape[1], 2)
    np.testing.assert_allclose(log_softened(torch.tensor(teacher), hot).exp(), np.full((len(teacher), classes), 1 / classes), atol=1e-4)
    difference = student - teacher
    expected = difference / 4 if teacher.shape[1] == 1 else (difference - difference.mean(axis=1, keepdims=True)) / classes
    for term in (soft_targets, kl_divergence):
        np.testing.assert_allclose(gradient(lambda s, q, term=term: term(s, q, hot), student, teacher), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_temperature_zero_the_teacher_is_one_hot(dtype):
    cold = 1e-3
    clicks, classes = torch.tensor([[0.5], [-0.5]], dtype=dtype), torch.tensor([[0.1, 0.4, -2.0]], dtype=dtype)
    np.testing.assert_allclose(log_softened(clicks, cold).exp(), [[1.0, 0.0], [0.0, 1.0]], atol=1e-30)
    np.testing.assert_allclose(log_softened(classes, cold).exp(), [[0.0, 1.0, 0.0]], atol=1e-30)
    # Without its T^2 the term is the hard cross entropy of the scaled logits with the teacher's choice as the label.
    student = torch.tensor([[2e-3], [2e-3]], dtype=dtype)
    expected = hard_cross_entropy(student / cold, torch.tensor([1.0, 0.0], dtype=dtype))
    for term in (soft_targets, kl_divergence):
        torch.testing.assert_close((term(student, clicks, cold) / cold**2).mean(), expected)
        assert torch.isfinite(term(student, clicks, 1e-6)).all()
    assert torch.isfinite(listwise(student.repeat(2, 1)[:3], torch.randn(3, 1, dtype=dtype), torch.tensor([0, 0, 1]), 1e-4)).all()


def test_unlabelled_rows_have_no_hard_term():
    logits = torch.tensor([[0.3], [2.0]], dtype=torch.float64)
    one = hard_cross_entropy(logits[:1], torch.tensor([1.0]))
    assert hard_cross_entropy(logits, torch.tensor([1.0, -1.0])).item() == pytest.approx(one.item())
    assert hard_cross_entropy(logits, torch.tensor([-1.0, -1.0])).item() == 0.0


@pytest.mark.parametrize("soft", [*TERMS, "none"])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("gate", ["none", "label"])
def test_what_the_logits_say_is_a_mixture(soft, share, gate):
    if soft == "none" and (gate == "label" or share == 0.25):
        return
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 1, generator=generator)
    label, request, base = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, -1.0]), torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0.4, 0.6])
    hints = {"hidden": 1.0} if soft == "none" and not share else {}
    config = DistillConfig(soft=soft, listwise=share, gate=gate, temperature=3, hints=hints)
    got = logits_loss(student, teacher, config, temperature=3.0, label=label, request=request, base=base)
    rows = TERMS[soft](student, teacher) if soft != "none" else torch.zeros(6)
    if gate == "label":
        rows = rows * label_gate(teacher, label, base)
    torch.testing.assert_close(got, (1 - share) * rows.mean() + share * listwise(student, teacher, request, 3.0).mean())


def test_mistakes_are_named():
    for term in (logit_mse, TERMS["kl"], TERMS["soft_targets"]):
        with pytest.raises(ValueError, match="differ in shape"):
            term(torch.zeros(2, 1), torch.zeros(2, 3))
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above zero"):
            soft_targets(torch.zeros(1, 1), torch.zeros(1, 1), temperature)
    with pytest.raises(ValueError, match="there are 3 outputs"):
        listwise(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2), 1.0)


@pytest.mark.parametrize("soft", ["soft_targets", "kl", "logit_mse"])
@pytest.mark.parametrize(("listwise", "gate"), [(0.0, "none"), (0.0, "label"), (0.4, "none"), (1.0, "none")])
def test_a_weight_is_a_repetition(soft, listwise, gate):
    """Of rows, and of requests, which count as much as their rows do on average."""
    rng = np.random.default_rng(0)
    student, teacher = (torch.tensor(rng.normal(size=(8, 1))) for _ in range(2))
    label, base, request = torch.tensor(rng.integers(0, 2, 8).astype(float)), torch.tensor([0.3, 0.7]), torch.arange(8) // 2
    config, times = DistillConfig(soft=soft, listwise=listwise, gate=gate), torch.tensor([3, 1, 2, 1]).repeat_interleave(2)

    def loss(rows, of_request, weight=None):
        named = {"label": label[rows], "request": of_request, "base": base, "weight": weight}
        return logits_loss(student[rows], teacher[rows], config, temperature=2.0, **named)

    again = torch.cat([torch.tensor([2 * n, 2 * n + 1]).repeat(int(times[2 * n])) for n in range(4)])
    weight = torch.from_numpy(of_mean_one(times.numpy())).double()
    torch.testing.assert_close(loss(torch.arange(8), request, weight), loss(again, torch.arange(len(again)) // 2))
    torch.testing.assert_close(loss(torch.arange(8), request, torch.ones(8)), loss(torch.arange(8), request), rtol=1e-12, atol=0)


def test_shares_of_weighted_classes():
    label, weight = torch.tensor([1.0, 0.0, 0.0, -1.0]), torch.tensor([2.0, 1.0, 1.0, 9.0])
    torch.testing.assert_close(class_shares(label, 1, weight), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(class_shares(label, 1, torch.ones(4)), class_shares(label, 1))


@pytest.mark.parametrize("keys", [{}, {"soft": "logit_mse"}, {"listwise": 0.5}, {"gate": "label"}])
def test_labels_that_are_all_alike_teach_as_one(keys):
    config, label = DistillConfig(**keys), (torch.arange(12) % 3 - 1.0)
    request, weight = torch.arange(12) // 3, torch.rand(12) * 2
    student, teacher = torch.randn(12, 1), torch.randn(12, 1)
    given = {"config": config, "temperature": 2.0, "request": request, "weight": weight}
    single = logits_loss(student, teacher, label=label, base=class_shares(label, 1), **given)
    labels = label[:, None].expand(-1, 2)
    assert class_shares(labels, 2).shape == (2, 2)
    alike = logits_loss(student.expand(-1, 2), teacher.expand(-1, 2), label=labels, base=class_shares(labels, 2), **given)
    torch.testing.assert_close(alike, single)


def test_each_label_has_its_own_teacher():
    config, labels = DistillConfig(soft="kl"), torch.zeros(6, 2)
    student, teacher = torch.randn(6, 2), torch.randn(6, 2)
    given = {"config": config, "temperature": 1.0, "request": torch.arange(6)}
    value = logits_loss(student, teacher, label=labels, base=class_shares(labels, 2), **given)
    each = [kl_divergence(student[:, [i]], teacher[:, [i]], 1.0).mean() for i in range(2)]
    torch.testing.assert_close(value, sum(each) / 2)
    with pytest.raises(ValueError, match="differ in shape"):
        logits_loss(student, teacher[:, :1], label=labels, base=class_shares(labels, 2), **given)
