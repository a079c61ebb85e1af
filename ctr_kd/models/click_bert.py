"""The teacher: the pretrained encoder reads the history once per request, a click head compares it with each candidate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.config import FinetuneConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.bert import MaskedItemModel, past_length
from ctr_kd.models.cross_network import CrossNetwork
from ctr_kd.models.layers import ContextEncoder, Head, TokenEmbedding, chained, mean_of, padding_mask, pair_features
from ctr_kd.models.pretrained_base import INITIAL_SCALE, OnPretrained
from ctr_kd.models.recency import recency_of
from ctr_kd.models.user_state import UserState
from feature_store.special_tokens import PAD


class ClickBert(OnPretrained):
    """BERT encoder plus a click head over [history, candidate, their product and difference, context, statistics].

    The history's summary is the state that predicted the next item in pretraining
    (:meth:`ctr_kd.models.bert.MaskedItemModel.history_state`); its product with a candidate's embedding is the logit that
    pretraining gave the candidate as the next item. So the head starts from what the encoder already knows. Beside it are
    embeddings of its own, which train at the full rate: what makes an item clicked today changes faster than a slowly trained
    encoder may follow. They begin near zero, while normalised states have unit variance, and would drown: so these are scaled per
    feature, from a small scale that is learned (LayerScale, Touvron et al. 2021, arXiv:2103.17239). They know the order of the newest
    clicks, too (:mod:`ctr_kd.models.recency`), which an encoder that few clicks taught does not. Where configured, a cross network
    multiplies own embeddings, context and statistics with each other, and its logit joins the head's: it finds within a few hundred
    steps what the hidden layers take many more for.

    Of rows with clicks that came after the request (:mod:`ctr_kd.data.later_clicks`) the encoder reads both sides, the embeddings of its
    own the past alone.

    Parameters
    ----------
    pretrained : MaskedItemModel
        Encoder and masked-item transform, whose parameters are the pretrained ones.
    signature : Signature
    config : FinetuneConfig
        Of the click head: ``head_width``, ``head_dropout``, ``cross_layers``, ``embedding_std``, ``recency``.
    """

    def __init__(self, pretrained: MaskedItemModel, signature: Signature, config: FinetuneConfig) -> None:
        super().__init__()
        width = pretrained.bert.norm.normalized_shape[0]
        self.pretrained, self.chain, self.reads_later = pretrained, signature.chain, signature.later > 0
        self.context = ContextEncoder(signature, 8)
        self.next_item = nn.Linear(1, 1)  # scale of the pretrained next-item logit
        self.candidate_norm = nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.full((4 * width,), INITIAL_SCALE))
        own = width // 2
        self.token = TokenEmbedding(signature.tokens, own, std=config.embedding_std, vectors=signature.vectors)
        self.recency = recency_of(signature, own, config.recency)
        self.user_state = UserState(signature, own)
        self.head = Head(6 * width + 1 + self.context.size, config.head_width, signature.outputs, config.head_dropout)
        self.crosses: CrossNetwork | None = None
        if config.cross_layers:
            size = 2 * own + self.context.size
            self.crosses = CrossNetwork(size, own, config.cross_layers)
            self.crossed = nn.Linear(size, signature.outputs)

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`."""
        state = self.pretrained.state_between if self.reads_later else self.pretrained.history_state
        summary = state(segment_a, segment_a_length).index_select(0, segment_of_row)  # (rows, width)
        if self.reads_later:
            segment_a_length = past_length(segment_a, segment_a_length)
            segment_a = torch.where(padding_mask(segment_a_length, segment_a.shape[1]).unsqueeze(2), segment_a, PAD)
        candidate = self.pretrained.bert.token(segment_b).sum(1)  # (rows, width)
        next_item = self.next_item((summary * candidate).sum(-1, keepdim=True))  # (rows, 1)
        clicks = self.token(segment_a)
        pooled = mean_of(clicks, segment_a_length)  # (segments, width / 2)
        if self.recency is not None:
            pooled = pooled + self.recency(clicks, segment_a_length)
        pooled = self.user_state(pooled.index_select(0, segment_of_row), dense)
        own = self.token(segment_b).sum(1)  # (rows, width / 2)
        context, given = self.context.learned_and_given(categorical, dense)
        known = self.scale * pair_features(summary, self.candidate_norm(candidate))  # (rows, 4 * width)
        features = [known, pair_features(pooled, own), next_item, context]
        logits = self.head(torch.cat(features, dim=-1), given)  # (rows, outputs)
        if self.crosses is not None:
            logits = logits + self.crosses.into(self.crossed, torch.cat([pooled, own, context], dim=-1), given)
        return chained(logits) if self.chain else logits
