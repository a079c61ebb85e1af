"""The teacher without fine-tuning."""

from __future__ import annotations

import torch

from ctr_kd.config import EncoderConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.models.next_segment import NextSegment


def test_it_answers_in_single_precision_whatever_is_around():
    """Of bfloat16 there would be a hundred different logits."""
    torch.manual_seed(0)
    tokens = {"token": 40}
    pretrained = MaskedItemModel(Bert(tokens, 8, EncoderConfig(width=16)), torch.arange(5, 40, dtype=torch.int32).unsqueeze(1))
    with torch.no_grad():
        pretrained.next_segment[-1].bias.fill_(-4.0)
        pretrained.next_segment[-1].weight.mul_(200)
    signature = Signature(tokens, {}, {}, max_length=3, max_length_b=3, outputs=2)
    model, rows = NextSegment(pretrained, signature).eval(), 500
    text = torch.randint(5, 40, (2, rows, 3, 1), dtype=torch.int32)
    batch = (text[0], torch.full((rows,), 3), torch.arange(rows), text[1], torch.zeros(rows, 0, dtype=torch.int32), torch.zeros(rows, 0))
    with torch.no_grad():
        expected = model(*batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*batch)
    assert found.dtype == torch.float32 and len(found[:, 1].unique()) > 0.9 * rows
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert not torch.equal(found, expected)
