"""The newest clicks of a history weigh by their place, and what they say is added to its mean."""

import numpy as np
import pytest
import torch

from ctr_kd.config import FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.texts import TextAssembly
from ctr_kd.models.dcn import DCN
from ctr_kd.models.pooled import Pooled
from ctr_kd.models.recency import SPANS, Recency
from ctr_kd.models.students import STUDENTS
from tests.ctr_kd.drawn_weights import where_order_counts
from tests.ctr_kd.models.test_students import TEACHERS, build
from tests.ctr_kd.text_worlds import write_texts


def test_two_clicks_by_hand():
    recency = Recency(length=3, width=1)
    recency.weight.data = torch.tensor([[0.0, 0.0], [float(np.log(3)), 0.0], [9.0, 9.0]])  # newest first
    recency.layer.weight.data = torch.tensor([[1.0, 10.0]])
    clicks = torch.tensor([[[4.0], [8.0], [0.0]]])  # oldest first, then padding
    # first span: 1/4 of the newest and 3/4 of the one before, second: half of each
    torch.testing.assert_close(recency(clicks, torch.tensor([2])), torch.tensor([[0.25 * 8 + 0.75 * 4 + 10 * 6.0]]))


def test_each_history_equals_the_same_one_alone_and_an_empty_one_is_zero():
    recency, length = where_order_counts(Recency(length=4, width=3)), torch.tensor([4, 0, 2, 6])
    clicks = torch.randn(4, 6, 3) * (torch.arange(6).unsqueeze(0) < length.unsqueeze(1)).unsqueeze(2)
    together = recency(clicks, length)
    assert not together[1].any()
    for row, n in enumerate(length.tolist()):
        if n:  # against a second implementation, of a click at a time
            weight = [recency.weight[min(n - 1 - place, 3)].exp() for place in range(n)]
            means = [sum(weight[p][s] * clicks[row, p] for p in range(n)) / sum(w[s] for w in weight) for s in range(len(SPANS))]
            torch.testing.assert_close(together[row], recency.layer(torch.cat(means)))


@pytest.mark.parametrize("kind", ["pooled", "dcn"])
def test_at_the_start_a_history_is_its_mean_and_its_order_says_nothing(kind, assembly, signature):
    torch.manual_seed(1)
    model = STUDENTS[kind](signature, StudentConfig(kind=kind, width=8)).eval()
    torch.manual_seed(1)
    bag = STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, recency=False)).eval()
    bag.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("recency.")})
    batch = make_batch(assembly.samples("test"), np.arange(20))
    with torch.no_grad():
        torch.testing.assert_close(model(*batch), bag(*batch))


@pytest.mark.parametrize("kind", ["pooled", "dcn", *TEACHERS])
def test_once_it_is_trained_the_order_of_clicks_counts(kind, assembly, signature):
    samples = assembly.samples("test")
    long = np.flatnonzero(samples.a.end - samples.a.start >= 2)[:1]
    batch = make_batch(samples, long)
    n = int(batch.segment_a_length[0])
    turned = batch.segment_a.clone()
    turned[0, :n] = batch.segment_a[0, :n].flip(0)
    assert not torch.equal(turned, batch.segment_a)
    model = where_order_counts(build(kind, assembly, signature))
    with torch.no_grad():
        if kind in TEACHERS:  # whose encoder knows the order by itself
            own = model.token(turned)
            assert not torch.equal(model.recency(own, batch.segment_a_length), model.recency(own.flip(1), batch.segment_a_length))
        else:
            assert not torch.equal(model(*batch), model(*batch._replace(segment_a=turned)))


def test_texts_and_whoever_wants_none_have_none(tmp_path, assembly, signature):
    texts = TextAssembly(write_texts(tmp_path, pair=True), "student").signature()
    assert STUDENTS["pooled"](texts, StudentConfig()).recency is None
    assert STUDENTS["pooled"](signature, StudentConfig(recency=False)).recency is None
    assert build("teacher", assembly, signature).recency is not None
    assert FinetuneConfig().recency


def test_a_class_on_top_that_encodes_otherwise_has_none(signature):
    class Last(Pooled):
        def encode(self, tokens, length):
            return self.token(tokens)[:, 0]

    assert Last(signature, StudentConfig()).recency is None
    assert DCN(signature, StudentConfig(kind="dcn")).recency is not None


def test_its_gradient_is_the_same_whatever_the_threads_do():
    """The gradient of square brackets is not, of so many places."""
    recency, length = where_order_counts(Recency(length=50, width=8)), torch.full((1024,), 50)
    clicks, threads = torch.randn(1024, 50, 8), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        gradients = [torch.autograd.grad(recency(clicks, length).square().sum(), recency.weight)[0] for _ in range(8)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], one) for one in gradients)
