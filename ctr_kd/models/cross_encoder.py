"""The teacher where segment B is a sequence of its own, or none: the pretrained encoder reads both segments at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.config import FinetuneConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.layers import ContextEncoder, Head, TokenEmbedding, compared_size, length_of, mean_of, padding_mask, pair_features
from ctr_kd.models.pretrained_base import INITIAL_SCALE, OnPretrained
from feature_store.special_tokens import PAD


class CrossEncoder(OnPretrained):
    """BERT encoder plus a head over the means of its states, in which every token of one segment has seen those of the other.

    Segment B comes behind A and carries the other segment embedding, as in next-segment pretraining (Devlin et al. 2019,
    arXiv:1810.04805, section 3.1). The mean of the states does better than that of a [CLS] where a small encoder was pretrained on short
    sequences without one. Beside it are embeddings of the head's own, which train at the full rate
    (:class:`ctr_kd.models.click_bert.ClickBert` says why, and why states are scaled).

    Parameters
    ----------
    pretrained : MaskedItemModel
        Encoder and masked-item transform, whose parameters are the pretrained ones.
    signature : Signature
    config : FinetuneConfig
        Of the head: ``head_width``, ``head_dropout``, ``embedding_std``.
    """

    def __init__(self, pretrained: MaskedItemModel, signature: Signature, config: FinetuneConfig) -> None:
        super().__init__()
        width = pretrained.bert.norm.normalized_shape[0]
        own = width // 2
        self.pretrained = pretrained
        self.compares = signature.max_length_b > 0
        self.context = ContextEncoder(signature, 8)
        self.scale = nn.Parameter(torch.full((compared_size(signature, width),), INITIAL_SCALE))
        self.token = TokenEmbedding(signature.tokens, own, std=config.embedding_std, vectors=signature.vectors)
        size = compared_size(signature, width) + compared_size(signature, own) + self.context.size
        self.head = Head(size, config.head_width, signature.outputs, config.head_dropout)

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`."""
        bert = self.pretrained.bert
        own = mean_of(self.token(segment_a), segment_a_length).index_select(0, segment_of_row)  # (rows, width / 2)
        first, length_a = bert.first(segment_a, segment_a_length)
        if not self.compares:
            known = _mean_state(bert(first, length_a), length_a).index_select(0, segment_of_row)
        else:
            own = pair_features(own, mean_of(self.token(segment_b), length_of(segment_b)))
            first, length_a = first.index_select(0, segment_of_row), length_a.index_select(0, segment_of_row)
            behind, length_b = bert.second(segment_b, length_of(segment_b))
            tokens, second = join_segments(first, length_a, behind, length_b)
            states = bert(tokens, length_a + length_b, second.long())  # (rows, length a + length b, width)
            all_of_b = torch.where(second.unsqueeze(2), states, 0.0).sum(1) / length_b.clamp(min=1).unsqueeze(1).to(states.dtype)
            known = pair_features(_mean_state(states, length_a), all_of_b)  # (rows, 4 * width)
        return self.head(torch.cat([self.scale * known, own, self.context(categorical, dense)], dim=-1))  # (rows, outputs)


def join_segments(a: Tensor, length_a: Tensor, b: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
    """Put each sequence of b right behind that of a.

    Parameters
    ----------
    a, b : int32 tensors (rows, longest, features)
        Right-padded.
    length_a, length_b : int64 tensors (rows,)

    Returns
    -------
    tokens : int32 tensor (rows, longest a + longest b, features)
        Right-padded.
    second : bool tensor (rows, longest a + longest b)
        True at the tokens of b.

    Examples
    --------
    >>> a, b = torch.tensor([[[5], [6]], [[7], [0]]]), torch.tensor([[[8]], [[9]]])
    >>> tokens, second = join_segments(a, torch.tensor([2, 1]), b, torch.tensor([1, 1]))
    >>> tokens[:, :, 0].tolist(), second.int().tolist()
    ([[5, 6, 8], [7, 9, 0]], [[0, 0, 1], [0, 1, 0]])
    """
    at = torch.arange(a.shape[1] + b.shape[1], device=a.device).unsqueeze(0)  # (1, length a + length b)
    from_b = (at >= length_a.unsqueeze(1)) & (at < (length_a + length_b).unsqueeze(1))
    both = torch.cat([a, b], dim=1)
    source = torch.where(from_b, at - length_a.unsqueeze(1) + a.shape[1], at.clamp(max=a.shape[1] - 1))
    tokens = both.gather(1, source.unsqueeze(2).expand(-1, -1, both.shape[2]))
    tokens = torch.where((from_b | (at < length_a.unsqueeze(1))).unsqueeze(2), tokens, PAD)
    return tokens, from_b


def _mean_state(states: Tensor, length: Tensor) -> Tensor:
    """Means (sequences, width) of the first ``length`` states of each sequence; of none, zero."""
    inside = padding_mask(length, states.shape[1]).unsqueeze(2)
    return mean_of(torch.where(inside, states, 0.0), length)
