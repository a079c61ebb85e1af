import torch

from ctr_kd.models.inputs import ContextEncoder
from ctr_kd.samples import PAD, Signature


def test_a_null_category_embeds_to_zero_and_stays_there():
    """An optional column that is absent is null in every row: it must not add a vector that nothing trained."""
    torch.manual_seed(0)
    signature = Signature(tokens={"item": 7}, categorical={"device": 7, "country": 9}, dense={}, outputs=1, max_length=5)
    encoder = ContextEncoder(signature, 4)
    categorical, dense = torch.tensor([[PAD, 5], [6, PAD]], dtype=torch.int32), torch.zeros(2, 0)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        code = encoder(categorical, dense)  # (rows, 2 * 4)
        assert (code[0, :4] == 0).all() and (code[1, 4:] == 0).all() and (code[0, 4:] != 0).all() and (code[1, :4] != 0).all()
        optimizer.zero_grad()
        code.sum().backward()
        optimizer.step()
