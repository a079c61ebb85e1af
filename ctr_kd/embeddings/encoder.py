"""The state of a history: a weighted mean of the vectors of its newest clicks, and what a layer makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PooledEncoder(nn.Module):
    """A mean of vectors, the newer clicks weighing as learned, plus a layer of it.

    Parameters
    ----------
    length : int
        Newest clicks that are read.
    width : int
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.recency = nn.Parameter(torch.linspace(1.0, -1.0, length))  # logarithms of the weights, newest first
        self.layer = nn.Linear(width, width)
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, history: Tensor, seen: Tensor, vectors: Tensor) -> Tensor:
        """States, float (rows, width); zero for an empty history.

        Parameters
        ----------
        history : int64 tensor (rows, length)
            Rows of ``vectors``, newest click first.
        seen : bool tensor (rows, length)
            Whether there is such a click.
        vectors : float tensor (vectors, width)
        """
        weight = torch.exp(self.recency) * seen
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
        mean = F.embedding_bag(history, vectors, mode="sum", per_sample_weights=weight)
        return mean + torch.tanh(self.layer(mean)) * seen.any(1, keepdim=True)


def set_parameters(encoder: PooledEncoder, parameters: np.ndarray) -> None:
    """Give an encoder the numbers that a file of facts has."""
    own = list(encoder.parameters())
    sizes = np.cumsum([one.numel() for one in own])
    with torch.no_grad():
        for one, numbers in zip(own, np.split(parameters[: sizes[-1]], sizes[:-1]), strict=True):
            one.copy_(torch.from_numpy(numbers).view_as(one))


@contextmanager
def one_thread() -> Iterator[None]:
    """Steps are too small to be shared: further threads would only wait for each other, and round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
