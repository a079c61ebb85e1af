import pytest
import torch

from ctr_kd.objectives.classification import base_logits, hard_cross_entropy


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
