"""What the newest clicks of a history say beyond its mean: their order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import padding_mask

SPANS = (1.0, 4.0)  # clicks over which the weight of a weighted mean falls by a factor of e, at the start


class Recency(nn.Module):
    """A linear layer of weighted means of a history's clicks, to be added to its plain mean.

    A mean does not know which click was the last, and the product of a history and a candidate that are embedded by one table finds
    what is alike, not what follows. Here the weight of a click depends on its place from the newest on, a learned number under a softmax,
    and the layer turns what was clicked into what is clicked next. At the start the layer is zero, so that a history is its mean.
    All of it is computed once per history, whatever the number of candidates.

    Parameters
    ----------
    length : int
        Clicks of the longest history; in a longer one the older weigh as the last of these does.
    width : int
        Of a click's embedding.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        age = torch.arange(length, dtype=torch.float32).unsqueeze(1)
        self.weight = nn.Parameter(-age / torch.tensor(SPANS))  # (places, spans), logarithms
        self.layer = nn.Linear(len(SPANS) * width, width, bias=False)  # no bias: an empty history stays zero
        nn.init.zeros_(self.layer.weight)

    def forward(self, clicks: Tensor, length: Tensor) -> Tensor:
        """Vectors (histories, width).

        Parameters
        ----------
        clicks : float tensor (histories, longest, width)
            Embedded, oldest first, zero at padding.
        length : int64 tensor (histories,)
        """
        weight = self.weights(length, clicks.shape[1])
        return self.layer((weight.transpose(1, 2) @ clicks).reshape(clicks.shape[0], -1))

    def weights(self, length: Tensor, longest: int) -> Tensor:
        """What each click of histories of some ``length`` (histories,) weighs, oldest first: (histories, longest, spans)."""
        age = length.unsqueeze(1) - 1 - torch.arange(longest, device=length.device)  # (histories, longest)
        place = age.clamp(0, len(self.weight) - 1).flatten()
        # index_select, since the gradient of square brackets adds up in the order of threads: no training would repeat
        weight = self.weight.index_select(0, place).view(length.shape[0], longest, -1)
        return weight.masked_fill(~padding_mask(length, longest).unsqueeze(2), -1e9).softmax(1)


def recency_of(signature: Signature, width: int, wanted: bool) -> Recency | None:
    """The layer for a model whose segment A is a history, which then has a candidate beside it; None for texts, or where none is wanted."""
    return Recency(signature.max_length, width) if wanted and signature.max_length_b == 1 else None
