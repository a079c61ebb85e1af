"""What students share that sum segment A up in one vector, whatever segment B is, and compare the two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import ContextEncoder, Head, TokenEmbedding, chained, length_of, mean_of, pair_features
from ctr_kd.models.user_state import UserState


class Comparing(nn.Module):
    """A student that says how it encodes a segment; the rest, from the vectors to the logits, is here.

    One without ``user_state`` reads a teacher's state of the user among its dense inputs alone.
    """

    token: TokenEmbedding
    context: ContextEncoder
    head: Head
    user_state: UserState

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.compares, self.chain = signature.max_length_b > 0, signature.chain

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences."""
        raise NotImplementedError

    def candidate(self, segment_b: Tensor) -> Tensor:
        """Vectors (rows, width) of the second segments: a candidate's embedding, or the mean of several tokens'."""
        return mean_of(self.token(segment_b), length_of(segment_b))

    def score(self, history: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        """Logits (rows, outputs) from encoded histories (segments, width)."""
        features = history.index_select(0, segment_of_row)  # (rows, width)
        if "user_state" in self._modules:
            features = self.user_state(features, dense)
        return self.answer(features, self.candidate(segment_b) if self.compares else None, self.context(categorical, dense))

    def answer(self, history: Tensor, candidate: Tensor | None, context: Tensor) -> Tensor:
        """Logits (rows, outputs) from vectors of each row: of its history and its candidate (rows, width), and of its context."""
        features = history if candidate is None else pair_features(history, candidate)  # (rows, 4 * width)
        logits = self.head(torch.cat([features, context], dim=-1))  # (rows, outputs)
        return chained(logits) if self.chain else logits

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`."""
        return self.score(self.encode(segment_a, segment_a_length), segment_of_row, segment_b, categorical, dense)
