import pytest
import torch

from ctr_kd.data.samples import of_mean_one
from ctr_kd.objectives.classification import base_logits, hard_cross_entropy, labelled_share


@pytest.mark.parametrize(("outputs", "label"), [(1, [1.0] + [0.0] * 29), (3, [0.0] * 20 + [1.0] * 8 + [2.0] * 2)])
def test_base_logits_have_the_least_loss_of_all_constants(outputs, label):
    labels = torch.tensor(label).repeat(100)  # so many that the row that every class counts more does not matter
    base = base_logits(labels, outputs)
    least = hard_cross_entropy(base.expand(len(labels), -1), labels)
    for i in range(outputs):
        for step in (-0.1, 0.1):
            other = base.clone()
            other[i] += step
            assert least < hard_cross_entropy(other.expand(len(labels), -1), labels)


def test_base_logits_are_finite_without_a_click_and_pass_unlabelled_rows_over():
    assert torch.isfinite(base_logits(torch.zeros(5), 1)).all() and torch.isfinite(base_logits(torch.zeros(0), 3)).all()
    assert torch.equal(base_logits(torch.tensor([1.0, 0.0, -1.0]), 1), torch.zeros(1))


def test_a_weight_is_a_repetition_and_ones_are_none():
    logits, label = torch.tensor([[0.5], [-1.0], [2.0], [0.0]]), torch.tensor([1.0, 0.0, 0.0, -1.0])
    times = torch.tensor([3, 1, 2, 1])
    again = torch.repeat_interleave(torch.arange(4), times)
    weight = torch.from_numpy(of_mean_one(times[:3].numpy()))
    weight = torch.cat([weight, torch.ones(1)])  # a row without a label has no hard term, whatever it weighs
    assert hard_cross_entropy(logits, label, weight).item() == pytest.approx(hard_cross_entropy(logits[again], label[again]).item())
    assert torch.equal(hard_cross_entropy(logits, label, torch.ones(4)), hard_cross_entropy(logits, label))
    many = [one.repeat(1000) for one in (label, weight)]  # so many that the row that every class counts more does not matter
    torch.testing.assert_close(base_logits(many[0], 1, many[1]), base_logits(label[again].repeat(1000), 1), atol=1e-3, rtol=0)
    assert torch.equal(base_logits(label, 1, torch.ones(4)), base_logits(label, 1))


def test_shares_of_parts_add_up_to_the_loss_of_weighted_rows():
    logits, label, weight = torch.randn(10, 1), (torch.arange(10) % 3 == 0).float(), torch.arange(10.0) / 4.5
    parts = [slice(0, 3), slice(3, 10)]
    shares = [hard_cross_entropy(logits[part], label[part], weight[part]) * labelled_share(label[part], label) for part in parts]
    torch.testing.assert_close(sum(shares), hard_cross_entropy(logits, label, weight))
