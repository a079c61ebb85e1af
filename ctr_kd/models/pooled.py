"""The cheapest student: averaged embeddings of the history, compared with the candidate, and a small MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.config import StudentConfig
from ctr_kd.models.inputs import ContextEncoder, Head, TokenEmbedding, compare
from ctr_kd.samples import Signature


class Pooled(nn.Module):
    """Mean of the history's token embeddings; padding embeds to zero, so the sum needs no mask."""

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__()
        self.token = TokenEmbedding(signature.tokens, config.width)
        self.context = ContextEncoder(signature, 4)
        self.head = Head(4 * config.width + self.context.size, config.hidden, signature.outputs, config.dropout)

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.batching.Batch`."""
        count = segment_a_length.clamp(min=1).unsqueeze(1).to(dense.dtype)  # (segments, 1)
        history = (self.token(segment_a).sum(1) / count).index_select(0, segment_of_row)  # (rows, width)
        candidate = self.token(segment_b).sum(1)  # (rows, width)
        return self.head(torch.cat([compare(history, candidate), self.context(categorical, dense)], dim=-1))  # (rows, outputs)
