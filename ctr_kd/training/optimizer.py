"""AdamW for dense parameters and lazy Adam for item tables of which a step touches few rows, behind one face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctr_kd.config_training import TrainingConfig
from ctr_kd.training.lazy_adam import LazyAdam, merged
from ctr_kd.training.rate_schedule import CosineSchedule, PlateauSchedule


@dataclass
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes
    ----------
    parameters : list of Parameter
    rate : float
        Multiple of the configured learning rate.
    starts_at : float
        Share of the steps before which the group stays as it is: it has no gradients then, and so no part in their norm.
    """

    parameters: list[nn.Parameter]
    rate: float = 1.0
    starts_at: float = 0.0


class Optimizer:
    """Steps all parameters of a training; embeddings with sparse gradients by rows.

    A row that a step does not touch keeps its moments and does not move (:class:`ctr_kd.training.lazy_adam.LazyAdam`): at 100,000 items
    a step touches one in fifty. Weight decay does not reach such tables.

    Parameters
    ----------
    model : Module
        Tells which parameters are embeddings, and which of them have sparse gradients.
    groups : sequence of ParameterGroup
    config : TrainingConfig
    """

    def __init__(self, model: nn.Module, groups: Sequence[ParameterGroup], config: TrainingConfig) -> None:
        self.config = config
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        embeddings = {id(table.weight) for table in tables}
        by_rows = {id(table.weight) for table in tables if table.sparse}
        dense: list[dict[str, Any]] = []
        sparse: list[dict[str, Any]] = []
        for group in groups:
            schedule = {"rate": group.rate, "starts_at": group.starts_at}
            kinds: dict[float, list[nn.Parameter]] = {}
            for parameter in group.parameters:
                if id(parameter) in by_rows:
                    sparse.append({"params": [parameter], **schedule})
                    continue
                decay = config.embedding_decay if id(parameter) in embeddings else config.weight_decay if parameter.ndim > 1 else 0.0
                kinds.setdefault(decay, []).append(parameter)
            dense += [{"params": parameters, "weight_decay": decay, **schedule} for decay, parameters in kinds.items()]
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(dense, lr=config.learning_rate, fused=True)] if dense else []
        self._parts += [LazyAdam(sparse, lr=config.learning_rate)] if sparse else []

    def set_rates(self, step: int, schedule: CosineSchedule | PlateauSchedule) -> None:
        """Take a step's learning rates from the schedule; a group that starts later is frozen before."""
        for part in self._parts:
            for group in part.param_groups:
                starts_at = group["starts_at"]
                group["lr"] = self.config.learning_rate * group["rate"] * schedule.factor(step, starts_at)
                if starts_at:
                    for parameter in group["params"]:
                        parameter.requires_grad_(step + 1 > starts_at * schedule.end)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move all parameters by their gradients."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Moments of all parameters, as a checkpoint has them."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""
        for part, of_part in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(of_part)


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most ``largest``; returns the norm before, a tensor ()."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = merged(parameter.grad)  # rows that were read twice have one gradient, whose norm counts
            gradients.append(parameter.grad.values())
        else:
            gradients.append(parameter.grad)
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm
