"""The cheapest student: summed embeddings of each segment, compared where there are two, and a small MLP."""

from __future__ import annotations

from torch import Tensor

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import COMBINERS, ContextEncoder, Head, TokenEmbedding, compared_size, length_of
from ctr_kd.models.recency import recency_of
from ctr_kd.models.siamese import Comparing
from ctr_kd.models.user_state import UserState


class Pooled(Comparing):
    """A segment's token embeddings, combined to their mean or as configured; padding embeds to zero, so a sum needs no mask.

    To a history's is added what its newest clicks say, unless it is to be a bag (:mod:`ctr_kd.models.recency`).
    """

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__(signature)
        self.combine = COMBINERS[config.combiner]
        self.token = TokenEmbedding(signature.tokens, config.width, vectors=signature.vectors)
        reads_means = type(self).encode is Pooled.encode  # a class on top that encodes otherwise has no use for it
        self.recency = recency_of(signature, config.width, reads_means and config.recency)
        self.context = ContextEncoder(signature, 4)
        self.user_state = UserState(signature, config.width)
        self.head = Head(compared_size(signature, config.width) + self.context.size, config.hidden, signature.outputs, config.dropout)

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences; an empty one is zero."""
        vectors = self.token(tokens)
        combined = self.combine(vectors, length)
        return combined if self.recency is None else combined + self.recency(vectors, length)

    def candidate(self, segment_b: Tensor) -> Tensor:
        """Vectors (rows, width) of the second segments, combined as the first ones are."""
        return self.combine(self.token(segment_b), length_of(segment_b))
