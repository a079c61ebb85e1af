"""What students share that sum a history up in one vector, whatever the candidate, and compare the two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.models.inputs import ContextEncoder, Head, TokenEmbedding, compare


class Comparing(nn.Module):
    """A student that says how it encodes a history; the rest, from both vectors to the logits, is here."""

    token: TokenEmbedding
    context: ContextEncoder
    head: Head

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences."""
        raise NotImplementedError

    def candidate(self, segment_b: Tensor) -> Tensor:
        """Vectors (rows, width) of the candidates: a token's embedding, or the sum of several."""
        return self.token(segment_b).sum(1)

    def score(self, history: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        """Logits (rows, outputs) from encoded histories (segments, width)."""
        compared = compare(history.index_select(0, segment_of_row), self.candidate(segment_b))  # (rows, 4 * width)
        return self.head(torch.cat([compared, self.context(categorical, dense)], dim=-1))  # (rows, outputs)

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.batching.Batch`."""
        return self.score(self.encode(segment_a, segment_a_length), segment_of_row, segment_b, categorical, dense)
