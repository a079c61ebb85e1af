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

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences; an empty one is zero."""
        vectors = self.token(tokens)  # (segments, length, width)
        return vectors.sum(1) / length.clamp(min=1).unsqueeze(1).to(vectors.dtype)

    def score(self, history: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        """Logits (rows, outputs) from encoded histories (segments, width)."""
        compared = compare(history.index_select(0, segment_of_row), self.token(segment_b).sum(1))  # (rows, 4 * width)
        return self.head(torch.cat([compared, self.context(categorical, dense)], dim=-1))  # (rows, outputs)

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.batching.Batch`."""
        return self.score(self.encode(segment_a, segment_a_length), segment_of_row, segment_b, categorical, dense)
