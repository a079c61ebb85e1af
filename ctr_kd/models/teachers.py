"""Pretrained encoders under a head: one, or several whose mean is the teacher."""

import copy
from collections.abc import Sequence

from ctr_kd.config import FinetuneConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.models.cross_encoder import CrossEncoder
from ctr_kd.models.ensemble import Ensemble
from ctr_kd.models.next_segment import NextSegment
from feature_store.config_types import is_auto

Member = ClickBert | CrossEncoder | NextSegment


def build_member(pretrained: MaskedItemModel, signature: Signature, config: FinetuneConfig) -> Member:
    """The pretrained encoder under a head: a single token as segment B is a candidate, which shares the reading of its history."""
    if config.strategy == "next_segment":
        return NextSegment(pretrained, signature)
    return ClickBert(pretrained, signature, config) if signature.max_length_b == 1 else CrossEncoder(pretrained, signature, config)


def build_teacher(encoders: Sequence[MaskedItemModel], signature: Signature, config: FinetuneConfig) -> Ensemble:
    """``config.members`` over each of the encoders, each with one of its own that begins as the given one."""
    return Ensemble([build_member(copy.deepcopy(one), signature, config) for one in encoders for _ in range(members_of(config))])


def members_of(config: FinetuneConfig) -> int:
    """Fine-tunings of each encoder; one where no log has decided."""
    return 1 if is_auto(config.members) else config.members
