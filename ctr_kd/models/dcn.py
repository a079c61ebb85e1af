"""Cross network over pooled segments and context (DCN-V2, Wang et al. 2021, arXiv:2008.13535), and a small MLP on top."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.config import StudentConfig
from ctr_kd.models.inputs import Head
from ctr_kd.models.pooled import Pooled
from ctr_kd.samples import Signature

CROSSES = 2  # products of up to three inputs


class Cross(nn.Module):
    """x0 * (U V^T x + b) + x: every input times a mixture of the last layer's (section 3.2), the matrix of low rank (section 3.5)."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(size, rank, bias=False)
        self.widen = nn.Linear(rank, size)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x0 * self.widen(self.narrow(x)) + x  # (rows, size)


class DCN(Pooled):
    """The pooled student's inputs, multiplied with each other by layers that learn which products matter, before its head."""

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__(signature, config)
        size = 2 * config.width + self.context.size
        self.crosses = nn.ModuleList([Cross(size, config.width) for _ in range(CROSSES)])
        self.head = Head(size, config.hidden, signature.outputs, config.dropout)

    def score(self, history: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        """Logits (rows, outputs) from encoded histories (segments, width)."""
        candidate, context = self.candidate(segment_b), self.context(categorical, dense)
        x0 = x = torch.cat([history.index_select(0, segment_of_row), candidate, context], dim=-1)  # (rows, size)
        for cross in self.crosses:
            x = cross(x0, x)
        return self.head(x)  # (rows, outputs)
