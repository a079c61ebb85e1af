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

    def score(self, history: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        """Logits (rows, outputs) from encoded histories (segments, width)."""
        seen = self.user_state(history.index_select(0, segment_of_row), dense)
        segments = [seen, *([self.candidate(segment_b)] if self.compares else [])]
        x = torch.cat([*segments, self.context(categorical, dense)], dim=-1)  # (rows, size)
        logits = self.head(self.crosses(x))  # (rows, outputs)
        return chained(logits) if self.chain else logits
