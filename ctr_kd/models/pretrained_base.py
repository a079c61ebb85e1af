"""What all teachers share: new layers over a pretrained encoder."""

from __future__ import annotations

from torch import nn

from ctr_kd.models.bert import MaskedItemModel

INITIAL_SCALE = 0.1  # of what pretraining knows, when fine-tuning begins


class OnPretrained(nn.Module):
    """A teacher, as far as fine-tuning asks: what of it was pretrained and what is new."""

    pretrained: MaskedItemModel

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters that pretraining did not see; they train at the full rate."""
        known = {id(p) for p in self.pretrained.parameters()}
        return [p for p in self.parameters() if id(p) not in known]
