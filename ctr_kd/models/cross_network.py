"""Cross network: layers that learn which inputs to multiply with each other (DCN-V2, Wang et al. 2021, arXiv:2008.13535)."""

from __future__ import annotations

from torch import Tensor, nn


class Cross(nn.Module):
    """x0 * (U V^T x + b) + x: every input times a mixture of the last layer's (section 3.2), the matrix of low rank (section 3.5)."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(size, rank, bias=False)
        self.widen = nn.Linear(rank, size)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        """Cross the inputs ``x0`` and the last layer's ``x``, both (rows, size), into (rows, size)."""
        return x0 * self.widen(self.narrow(x)) + x


class CrossNetwork(nn.ModuleList):
    """Products of up to ``layers`` + 1 inputs; without a layer it returns its input.

    Parameters
    ----------
    size : int
        Number of inputs, and of outputs.
    rank : int
        Of each layer's matrix.
    layers : int
    """

    def __init__(self, size: int, rank: int, layers: int) -> None:
        super().__init__([Cross(size, rank) for _ in range(layers)])

    def forward(self, x0: Tensor) -> Tensor:
        """Cross (rows, size) into (rows, size)."""
        x = x0
        for cross in self:
            x = cross(x0, x)
        return x
