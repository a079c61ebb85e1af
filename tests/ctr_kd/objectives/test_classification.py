import pytest
import torch

from ctr_kd.data.samples import of_mean_one
from ctr_kd.objectives.classification import base_logits, cross_entropy_share, hard_cross_entropy, labelled_share, weighed_counts


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


def test_a_share_is_that_of_whole_numbers_and_is_not_read_from_where_the_part_lies():
    loss = torch.tensor(0.7310586)
    for rows in (1, 3, 7, 1000, 2**20 + 1):
        whole = torch.ones(rows)
        for labelled in {0, 1, rows // 3, rows - 1, rows}:
            assert torch.equal(loss * labelled_share(whole[:labelled], whole), loss * (labelled / rows))
    assert labelled_share(torch.ones(2, device="meta"), torch.ones(3)).device.type == "meta"  # which holds nothing to read


def test_labels_that_are_all_alike_are_one_label():
    logits, label, weight = torch.randn(12, 1), (torch.arange(12) % 3 - 1.0).clamp(min=-1), torch.rand(12) * 2
    alike, labels = logits.expand(-1, 3).clone().requires_grad_(), label[:, None].expand(-1, 3)
    single = logits.clone().requires_grad_()
    value, expected = cross_entropy_share(alike, labels, labels, weight), cross_entropy_share(single, label, label, weight)
    torch.testing.assert_close(value, expected)
    assert torch.equal(cross_entropy_share(single, label, label, weight), hard_cross_entropy(single, label, weight))
    value.backward()
    expected.backward()
    torch.testing.assert_close(alike.grad, single.grad.expand(-1, 3) / 3)
    torch.testing.assert_close(base_logits(labels, 3, weight), base_logits(label, 1, weight).expand(3))


def test_a_label_is_learned_from_the_rows_that_say_it_and_shares_of_parts_add_up():
    logits = torch.randn(10, 2)
    labels = torch.stack([(torch.arange(10) % 2).float(), torch.tensor([1.0, 0.0, 1.0] + [-1.0] * 7)], dim=1)
    whole = cross_entropy_share(logits, labels, labels)
    each = [hard_cross_entropy(logits[:, :1], labels[:, 0]), hard_cross_entropy(logits[:3, 1:], labels[:3, 1])]
    torch.testing.assert_close(whole, sum(each) / 2)
    parts = [slice(0, 2), slice(2, 5), slice(5, 10)]
    torch.testing.assert_close(sum(cross_entropy_share(logits[part], labels[part], labels) for part in parts), whole)
    nobody_says = torch.stack([labels[:, 0], torch.full((10,), -1.0)], dim=1)
    torch.testing.assert_close(cross_entropy_share(logits, nobody_says, nobody_says), each[0] / 2)


def test_a_chain_begins_at_the_shares_given_a_click():
    clicked = (torch.arange(1000) % 4 == 0).float()
    bought = clicked * (torch.arange(1000) % 8 == 0)
    share = base_logits(torch.stack([clicked, bought], dim=1), 2, chain=True).sigmoid()
    torch.testing.assert_close(share, torch.tensor([0.25, 0.5]), atol=0.01, rtol=0)
    assert torch.isfinite(base_logits(torch.stack([bought, clicked], dim=1), 2, chain=True)).all()  # more than clicks: no share of them


def test_weights_of_millions_of_rows_add_up():
    rows = 1 << 22
    counts = weighed_counts(torch.ones(rows, dtype=torch.long), torch.full((rows,), 0.3), 2)
    torch.testing.assert_close(counts, torch.tensor([0.0, 0.3 * rows]))
