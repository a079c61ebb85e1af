"""A term of another package in the loss: weighed and gated as ours, and one line where it is no such term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ctr_kd.config import DistillConfig
from ctr_kd.objectives.distillation import label_gate, logit_mse, logits_loss
from ctr_kd.training.distill import without_effect
from feature_store import plugins
from feature_store.plugins import PluginError, register_plugin

STUDENT, TEACHER = torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([[1.0], [0.0], [-2.0]])
LABEL, BASE = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.5, 0.5])


@pytest.fixture(autouse=True)
def term(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], DistillConfig]:
    """Makes a configuration whose ``soft`` is a function of this test."""
    monkeypatch.setattr(plugins, "_registered", {})

    def make(function: Any, **keys: Any) -> DistillConfig:
        register_plugin("ctr_kd.objectives", "mine")(function)
        return DistillConfig(soft="mine", **keys)

    return make


def loss(config: DistillConfig, weight: Tensor | None = None) -> Tensor:
    return logits_loss(STUDENT, TEACHER, config, temperature=2.0, label=LABEL, request=torch.arange(3), base=BASE, weight=weight)


def test_it_is_weighed_and_gated_as_ours_are(term: Callable[..., DistillConfig]) -> None:
    of_mine = lambda student, teacher, label: (student - teacher).square()[:, 0]  # noqa: E731
    for keys in ({}, {"gate": "label"}):
        for weight in (None, torch.tensor([0.5, 2.0, 0.5])):
            assert torch.equal(loss(term(of_mine, **keys), weight), loss(DistillConfig(soft="logit_mse", **keys), weight))
    expected = (logit_mse(STUDENT, TEACHER) * label_gate(TEACHER, LABEL, BASE)).mean()
    torch.testing.assert_close(loss(term(of_mine, gate="label")), expected)


def test_it_is_told_the_label_and_the_teacher_gets_no_gradient(term: Callable[..., DistillConfig]) -> None:
    seen: list[Tensor] = []

    def of_mine(student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return (student * teacher)[:, 0]

    teacher = TEACHER.clone().requires_grad_()
    student = STUDENT.clone().requires_grad_()
    logits_loss(student, teacher, term(of_mine), temperature=2.0, label=LABEL, request=torch.arange(3), base=BASE).backward()
    assert torch.equal(seen[0], LABEL) and teacher.grad is None and student.grad is not None


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda student, teacher, label: student, r"returns \(3, 1\) for 3 rows, not a tensor of a loss per row"),
        (lambda student, teacher, label: student.mean(), r"returns \(\) for 3 rows"),
        (lambda student, teacher, label: 3.0, r"returns float for 3 rows"),
        (lambda student, teacher: student[:, 0], r"raises TypeError: "),
    ],
)
def test_what_is_no_loss_per_row_is_one_line(term: Callable[..., DistillConfig], function: Any, said: str) -> None:
    with pytest.raises(PluginError, match=r"distill.soft: the objective 'mine' " + said):
        loss(term(function))


def test_a_name_that_means_no_function_is_refused(term: Callable[..., DistillConfig]) -> None:
    with pytest.raises(ValidationError, match="there is no objective 'yours'; there are soft_targets, kl, logit_mse, none"):
        DistillConfig(soft="yours")
    for other in (3, DistillConfig):
        with pytest.raises(ValidationError, match="the objective 'mine' is no function but"):
            term(other)


def test_a_temperature_has_no_effect_on_it(term: Callable[..., DistillConfig]) -> None:
    lines = without_effect(term(lambda student, teacher, label: student[:, 0], temperature=3.0))
    assert lines == ["warning: temperature has no effect: soft is mine, which has none"]
