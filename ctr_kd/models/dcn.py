"""Cross network over pooled segments and context (DCN-V2, Wang et al. 2021, arXiv:2008.13535), and a small MLP on top."""

from __future__ import annotations

import torch
from torch import Tensor

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.cross_network import CrossNetwork
from ctr_kd.models.layers import Head, chained
from ctr_kd.models.pooled import Pooled

CROSSES = 2  # products of up to three inputs


class DCN(Pooled):
    """The pooled student's inputs, multiplied with each other by layers that learn which products matter, before its head."""

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__(signature, config)
        size = (2 if self.compares else 1) * config.width + self.context.size
        self.crosses = CrossNetwork(size, config.width, CROSSES)
        self.head = Head(size, config.hidden, signature.outputs, config.dropout)

    def answer(self, history: Tensor, candidate: Tensor | None, context: Tensor) -> Tensor:
        """Logits (rows, outputs) from vectors of each row: of its history and its candidate (rows, width), and of its context."""
        segments = [history] if candidate is None else [history, candidate]
        logits = self.head(self.crosses(torch.cat([*segments, context], dim=-1)))  # (rows, outputs)
        return chained(logits) if self.chain else logits
