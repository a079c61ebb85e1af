"""The cheapest student: averaged embeddings of each segment, compared where there are two, and a small MLP."""

from __future__ import annotations

from torch import Tensor

from ctr_kd.config import StudentConfig
from ctr_kd.models.comparing import Comparing
from ctr_kd.models.inputs import ContextEncoder, Head, TokenEmbedding, compared_size, mean_of
from ctr_kd.samples import Signature


class Pooled(Comparing):
    """Mean of a segment's token embeddings; padding embeds to zero, so the sum needs no mask."""

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__(signature)
        self.token = TokenEmbedding(signature.tokens, config.width)
        self.context = ContextEncoder(signature, 4)
        self.head = Head(compared_size(signature, config.width) + self.context.size, config.hidden, signature.outputs, config.dropout)

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences; an empty one is zero."""
        return mean_of(self.token(tokens), length)
