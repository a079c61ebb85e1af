"""Cross network: layers that learn which inputs to multiply with each other (DCN-V2, Wang et al. 2021, arXiv:2008.13535)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ctr_kd.models.layers import linear_of_two


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

    def into(self, layer: nn.Linear, learned: Tensor, given: Tensor) -> Tensor:
        """``layer(self(x0))``, (rows, outputs), of few outputs and one cross at least, at half the cost.

        The last cross is never made. What ``layer`` weighs by w is x0 * (U h + b) + x, with h = V^T x; the sum of its first term is
        h . (w * U)^T x0, a product of two short vectors.

        Parameters
        ----------
        layer : Linear
        learned, given : float tensors (rows, ...)
            ``x0`` in two pieces, see :func:`ctr_kd.models.layers.linear_of_two`.
        """
        *crosses, last = cast("list[Cross]", list(self))
        x, y = learned, given
        for cross in crosses:
            factor = cross.widen(linear_of_two(cross.narrow.weight, None, x, y)).split([x.shape[1], y.shape[1]], dim=1)
            x, y = torch.addcmul(x, learned, factor[0]), torch.addcmul(y, given, factor[1])
        outputs, rank = layer.out_features, last.narrow.out_features
        weighed = (layer.weight.unsqueeze(1) * last.widen.weight.T).flatten(0, 1)  # (outputs * rank, size)
        of_x0 = linear_of_two(torch.cat([weighed, layer.weight * last.widen.bias]), None, learned, given).to(layer.weight.dtype)
        of_x = linear_of_two(torch.cat([last.narrow.weight, layer.weight]), None, x, y).to(layer.weight.dtype)
        product = of_x0[:, :-outputs].view(-1, outputs, rank) * of_x[:, None, :rank]
        return product.sum(2) + of_x0[:, -outputs:] + of_x[:, rank:] + layer.bias
