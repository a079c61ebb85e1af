"""Several fine-tunings, of one pretrained encoder or of several, as one teacher: they make different mistakes, and their mean fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.pretrained_base import OnPretrained


class Ensemble(nn.Module):
    """The mean of its members' logits (deep ensembles, Lakshminarayanan et al. 2017, arXiv:1612.01474); of one, that one's.

    Parameters
    ----------
    members : sequence of OnPretrained
        One at least, with the same inputs and outputs.
    """

    def __init__(self, members: Sequence[OnPretrained]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def pretrained(self) -> MaskedItemModel:
        """The first member's encoder: where an embedding or a state is asked for, one must speak for all."""
        first: Any = self.members[0]
        return cast(MaskedItemModel, first.pretrained)

    def forward(self, *batch: Tensor) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`."""
        return torch.stack([member(*batch) for member in self.members]).mean(0)
