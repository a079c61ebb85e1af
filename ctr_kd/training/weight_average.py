"""The running mean of a model's weights, which is measured and kept in place of those of the last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_UPDATES = 50  # in the memory of an average: weights of neighbouring steps are alike, and each update reads every table whole


class WeightAverage:
    """Mean of the weights over about the last ``steps`` steps, the newest counting most.

    Steps at a high rate scatter around where they lead, and their mean lies nearer to it than any of them (Polyak and Juditsky 1992,
    doi:10.1137/0330046; of networks Izmailov et al. 2018, arXiv:1803.05407). The first updates are those of a plain mean, and from the
    one on that fills the memory they are exponential: update n moves the mean by ``max(1 / n, 1 / memory)`` of the way to the weights.
    So the weights that a training begins with have no part in it.

    Parameters
    ----------
    model : Module
        Its parameters are averaged; what it holds beside them (buffers) is not.
    steps : float
        Memory of the mean.

    Examples
    --------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(model, steps=2)
    >>> for step, weight in enumerate([4.0, 6.0, 9.0], start=1):
    ...     _ = model.weight.data.fill_(weight)
    ...     average.update(step)
    >>> with average.in_place():
    ...     model.weight.item()
    7.0
    """

    def __init__(self, model: nn.Module, steps: float) -> None:
        self._parameters: list[Tensor] = list(model.parameters())
        self._every = max(1, round(steps / _UPDATES))
        self._memory = max(1.0, steps / self._every)
        self._mean = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1; some steps are left out where the memory is long."""
        number, left_out = divmod(step, self._every)
        if not left_out:
            torch._foreach_lerp_(self._mean, self._parameters, max(1 / number, 1 / self._memory))

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Let the model have the mean for the body of a ``with`` statement, and its own weights again afterwards, bit for bit."""
        own = [parameter.detach().clone() for parameter in self._parameters]
        torch._foreach_copy_(self._parameters, self._mean)
        try:
            yield
        finally:
            torch._foreach_copy_(self._parameters, own)

    def state_dict(self) -> dict[str, Any]:
        """The mean, as a checkpoint has it."""
        return {"mean": self._mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""
        torch._foreach_copy_(self._mean, state["mean"])
