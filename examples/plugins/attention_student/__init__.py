"""A student of another package: it learns which clicks of a history matter, whatever the candidate."""

from pydantic import Field
from torch import Tensor, nn

from ctr_kd.models import Comparing, ContextEncoder, Head, Signature, StudentSettings, TokenEmbedding, compared_size, padding_mask


class AttentionPooling(Comparing):
    """The mean of a history's embeddings, weighed by a softmax of scores that each click has (Yang et al. 2016, NAACL, section 2.2)."""

    class Settings(StudentSettings):
        """Keys of ``distill.student`` beside ``kind`` and ``width``."""

        attention: int = Field(16, ge=1, description="width of the layer that scores clicks")
        hidden: int = Field(64, ge=2, description="width of the head's first hidden layer")
        dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the head's first hidden layer")

    def __init__(self, signature: Signature, settings: Settings) -> None:
        super().__init__(signature)
        self.token = TokenEmbedding(signature.tokens, settings.width, vectors=signature.vectors)
        self.context = ContextEncoder(signature, 4)
        self.weigh = nn.Sequential(nn.Linear(settings.width, settings.attention), nn.Tanh(), nn.Linear(settings.attention, 1))
        inputs = compared_size(signature, settings.width) + self.context.size
        self.head = Head(inputs, settings.hidden, signature.outputs, settings.dropout)

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences; an empty one is zero."""
        vectors = self.token(tokens)  # (segments, longest, width)
        outside = ~padding_mask(length, tokens.shape[1]).unsqueeze(-1)
        weight = self.weigh(vectors).masked_fill(outside, -1e9).softmax(dim=1)  # (segments, longest, 1)
        return (weight * vectors).sum(1)
