"""The teacher that reads both sides of a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.models.teachers import build_teacher
from ctr_kd.training.pretrain import build_encoder


@pytest.mark.parametrize("positions", ["from_end", "from_start", "relative"])
@pytest.mark.parametrize("framed", [False, True])
def test_without_later_clicks_it_reads_as_one_that_knows_none(assembly: Any, signature: Any, positions: Any, framed: bool) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=2, positions=positions, framed=framed)).eval()
    batch = make_batch(assembly.samples("test"), np.arange(40))
    with torch.no_grad():
        plain = encoder.history_state(batch.segment_a, batch.segment_a_length)
        both = encoder.state_between(batch.segment_a, batch.segment_a_length)
    torch.testing.assert_close(both, plain, atol=1e-6, rtol=1e-5)


def test_the_past_keeps_its_positions_and_the_future_has_those_of_the_other_side(assembly: Any, signature: Any) -> None:
    """What the embeddings of positions and segments are given, token by token."""
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=1))
    seen: dict[str, torch.Tensor] = {}
    encoder.bert.position.register_forward_hook(lambda _, given, __: seen.update(position=given[0]))
    encoder.bert.segment.register_forward_hook(lambda _, given, __: seen.update(segment=given[0]))
    tokens = torch.zeros(2, 6, len(signature.tokens), dtype=torch.int32)
    tokens[:, :, 0] = torch.tensor([[7, 8, 2, 9, 7, 8], [7, 8, 9, 0, 0, 0]])  # two clicks, the request, three clicks; and three clicks
    encoder.state_between(tokens, torch.tensor([6, 3]))
    assert seen["position"][0, :6].tolist() == [2, 1, 0, 1, 2, 3] and seen["segment"][0, :6].tolist() == [0, 0, 0, 1, 1, 1]
    assert seen["position"][1, :4].tolist() == [3, 2, 1, 0] and seen["segment"][1, :4].tolist() == [0, 0, 0, 0]


def test_later_clicks_change_what_it_says_through_the_encoder_alone(assembly: Any, signature: Any) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=1))
    model = build_teacher([encoder], replace(signature, later=2), FinetuneConfig(head_width=8, members=1)).eval()
    member = model.members[0]
    tokens = torch.zeros(3, 4, len(signature.tokens), dtype=torch.int32)
    tokens[:, :, 0] = torch.tensor([[7, 0, 0, 0], [7, 2, 8, 9], [7, 2, 8, 0]])
    length, b = torch.tensor([1, 4, 3]), torch.zeros(3, 1, len(signature.tokens), dtype=torch.int32)
    b[:, :, 0] = 10
    more = (torch.zeros(3, len(signature.categorical), dtype=torch.int32), torch.zeros(3, len(signature.dense)))
    with torch.no_grad():
        said = model(tokens, length, torch.arange(3), b, *more)
        assert len(set(said[:, 0].tolist())) == 3
        member.scale.zero_()  # nothing of the encoder's states
        member.next_item.weight.zero_()
        said = model(tokens, length, torch.arange(3), b, *more)
    assert said.std() < 1e-6
