"""The teacher without fine-tuning: the pretrained next-segment head says whether segment B continues A, hence whether the two match."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.data.samples import Signature
from ctr_kd.models.bert import MaskedItemModel, append_token, last_position
from ctr_kd.models.cross_encoder import join_segments
from ctr_kd.models.layers import length_of
from ctr_kd.models.pretrained_base import OnPretrained
from feature_store.special_tokens import CLS


class NextSegment(OnPretrained):
    """The logit of "B continues A" (Devlin et al. 2019, arXiv:1810.04805, section 3.1) as that of the second class, or of a click.

    It reads a pair as pretraining did: [CLS] A [SEP] B [SEP] where the encoder was trained so, else A B [CLS]
    (:func:`ctr_kd.objectives.next_segment.segment_pairs`).

    Parameters
    ----------
    pretrained : MaskedItemModel
        With a trained next-segment head.
    signature : Signature
        Of one or two outputs.
    """

    def __init__(self, pretrained: MaskedItemModel, signature: Signature) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.outputs = signature.outputs

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`; context says nothing here."""
        bert = self.pretrained.bert
        first, length_a = bert.first(segment_a.index_select(0, segment_of_row), segment_a_length.index_select(0, segment_of_row))
        behind, length_b = bert.second(segment_b, length_of(segment_b))
        most = None if bert.position is None else bert.position.num_embeddings
        if most is not None and not bert.config.framed:  # the end of B makes room for [CLS]
            length_b = torch.minimum(length_b, most - 1 - length_a)
        tokens, second = join_segments(first, length_a, behind, length_b)
        length = length_a + length_b
        if bert.config.framed:
            at = torch.arange(len(length), device=length.device) * tokens.shape[1]  # of [CLS]
        else:
            tokens, length = append_token(tokens, length, CLS)
            tokens, second = tokens[:, :most], F.pad(second, (0, 1))[:, :most]
            at = last_position(tokens, length)
        state = bert(tokens, length, second.long(), wanted=at)  # (rows, width)
        with torch.autocast(state.device.type, enabled=False):  # as any head answers, see :class:`ctr_kd.models.layers.Head`
            logit = self.pretrained.next_segment(state.float())  # (rows, 1)
        return F.pad(logit, (self.outputs - 1, 0))  # (rows, outputs)
