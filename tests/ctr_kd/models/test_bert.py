"""The encoder's options."""

import torch

from ctr_kd.config import EncoderConfig
from ctr_kd.models.bert import Bert

LENGTH = 6


def test_positions_count_from_either_end():
    """With the table of positions turned around the two agree on full sequences, and on no others."""
    torch.manual_seed(0)
    from_end = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, positions="from_end")).eval()
    from_start = Bert({"item": 20}, LENGTH, EncoderConfig(width=16, positions="from_start")).eval()
    from_start.load_state_dict(from_end.state_dict())
    with torch.no_grad():
        from_start.position.weight.copy_(from_end.position.weight.flip(0))
        tokens, length = torch.randint(5, 20, (2, LENGTH, 1), dtype=torch.int32), torch.tensor([LENGTH, LENGTH - 2])
        one, two = from_end(tokens, length), from_start(tokens, length)
    torch.testing.assert_close(one[0], two[0])
    assert (one[1, : LENGTH - 2] - two[1, : LENGTH - 2]).abs().max() > 0.01
