"""What every model promises: padding, neighbours and batch size change no output."""

import numpy as np
import pytest
import torch
from torch import nn

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.texts import TextAssembly
from ctr_kd.models.bilstm import BiLSTM
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.models.din import DIN
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.pretrain import build_encoder
from ctr_kd.training.student_checks import check_answers, check_student
from tests.ctr_kd.drawn_weights import where_order_counts
from tests.ctr_kd.text_worlds import write_texts

TEACHERS = {"teacher": FinetuneConfig(head_width=16), "crossing teacher": FinetuneConfig(head_width=16, cross_layers=2)}


def build(kind, assembly, signature):
    torch.manual_seed(1)
    if kind in TEACHERS:
        encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=2))
        return ClickBert(encoder, signature, TEACHERS[kind]).eval()
    kind, _, how = kind.partition(" ")
    combiner, hidden = "sqrtn" if how == "sqrtn" else "mean", 0 if how == "linear" else 12
    return STUDENTS[kind](signature, StudentConfig(kind=kind, combiner=combiner, width=8, hidden=hidden)).eval()


KINDS = [*TEACHERS, *STUDENTS, "pooled sqrtn", "dcn sqrtn", "pooled linear"]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_neighbours_and_shared_histories_change_no_output(kind, assembly, signature):
    check = check_answers if kind in TEACHERS else check_student  # no gradient reaches the heads of a teacher's pretraining
    check(where_order_counts(build(kind, assembly, signature)), signature, assembly.samples("test"))


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("kind", STUDENTS)
def test_nor_do_they_of_texts(kind, pair, tmp_path):
    texts = TextAssembly(write_texts(tmp_path, pair=pair), "student")
    if pair or kind != "din":  # which weighs clicks by a candidate
        check_student(build(kind, texts, texts.signature()), texts.signature(), texts.samples("test"))


@pytest.mark.parametrize("kind", ["pooled", "dcn"])
def test_a_combiner_reaches_both_segments(kind, assembly, signature):
    mean, scaled = (build(f"{kind} {combiner}", assembly, signature) for combiner in ("mean", "sqrtn"))  # of equal weights
    batch = make_batch(assembly.samples("test"), np.arange(20))
    length = batch.segment_a_length
    assert length.max() > 1
    root = length.clamp(min=1).sqrt().unsqueeze(1)
    with torch.no_grad():
        torch.testing.assert_close(scaled.encode(batch.segment_a, length), mean.encode(batch.segment_a, length) * root)
        torch.testing.assert_close(scaled.candidate(batch.segment_a), mean.candidate(batch.segment_a) * root)


@pytest.mark.parametrize("kind", KINDS)
def test_history_candidate_context_and_statistics_all_matter(kind, assembly, signature):
    model, samples = build(kind, assembly, signature), assembly.samples("test")
    long = np.flatnonzero(samples.a.end - samples.a.start >= 2)[:1]
    batch = make_batch(samples, long)
    with torch.no_grad():
        base = model(*batch)
        swapped = batch.segment_a.clone()
        swapped[:, :, 0] = 6
        for field, value in {
            "segment_a": swapped,
            "segment_b": torch.full_like(batch.segment_b, 6).clamp(max=6),
            "categorical": torch.full_like(batch.categorical, 6),
            "dense": batch.dense + 100,
        }.items():
            assert not torch.equal(base, model(*batch._replace(**{field: value}))), field


def test_bilstm_equals_packed_sequences(assembly, signature):
    """The reversed-within-length trick against PyTorch's own bidirectional LSTM over packed sequences."""
    torch.manual_seed(0)
    model: BiLSTM = build("bilstm", assembly, signature)
    reference = nn.LSTM(8, 8, batch_first=True, bidirectional=True)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        getattr(reference, name).data.copy_(getattr(model.forward_lstm, name))
        getattr(reference, name + "_reverse").data.copy_(getattr(model.backward_lstm, name))
    tokens = torch.randint(5, 7, (4, 6, len(signature.tokens)), dtype=torch.int32)
    length = torch.tensor([6, 1, 3, 4])
    for row, n in enumerate(length):
        tokens[row, n:] = 0
    packed = nn.utils.rnn.pack_padded_sequence(model.token(tokens), length, batch_first=True, enforce_sorted=False)
    _, (state, _) = reference(packed)
    expected = model.project(torch.cat([state[0], state[1]], dim=1))
    torch.testing.assert_close(model.encode(tokens, length), expected, rtol=1e-5, atol=1e-6)


def parameters_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def test_a_pair_is_read_by_one_lstm(assembly, signature):
    """Segment B as a sequence: padding behind it changes nothing, and a segment has one vector on either side."""
    model = build("bilstm_pair", assembly, signature)
    tokens = torch.randint(5, 7, (3, 4, len(signature.tokens)), dtype=torch.int32)
    length = torch.tensor([4, 2, 0])
    for row, n in enumerate(length):
        tokens[row, n:] = 0
    with torch.no_grad():
        torch.testing.assert_close(model.candidate(nn.functional.pad(tokens, (0, 0, 0, 3))), model.encode(tokens, length))


def test_target_attention_equals_numpy(assembly, signature):
    """Zhou et al., section 4.3, with the concatenated inputs written out: click, candidate, product."""
    model: DIN = build("din", assembly, signature)
    rng = np.random.default_rng(0)
    clicks, candidate, segment_of_row = rng.normal(size=(2, 3, 8)), rng.normal(size=(4, 8)), np.array([0, 0, 1, 1])
    clicks[1, 2] = 0.0  # padding
    p = parameters_of(model)
    layer = np.concatenate([p["from_click.weight"], p["from_candidate.weight"], p["from_product.weight"]], axis=1)
    expected = np.zeros((4, 8))
    for row, segment in enumerate(segment_of_row):
        for click in clicks[segment]:
            hidden = layer @ np.concatenate([click, candidate[row], click * candidate[row]]) + p["from_click.bias"]
            hidden = np.where(hidden > 0, hidden, p["weight.0.weight"] * hidden)
            expected[row] += (p["weight.1.weight"] @ hidden + p["weight.1.bias"]) * click
    got = model.double().attend(torch.from_numpy(clicks), torch.from_numpy(segment_of_row), torch.from_numpy(candidate))
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", STUDENTS)
def test_the_width_is_a_knob(kind, signature):
    sizes = [sum(p.numel() for p in STUDENTS[kind](signature, StudentConfig(kind=kind, width=w)).parameters()) for w in (4, 8, 16)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("kind", [kind for kind in STUDENTS if kind != "din"])
def test_histories_are_encoded_once_and_scored_per_row(kind, assembly, signature):
    model, batch = build(kind, assembly, signature), make_batch(assembly.samples("test"), np.arange(20))
    with torch.no_grad():
        history = model.encode(batch.segment_a, batch.segment_a_length)
        assert history.shape == (len(batch.segment_a), 8)
        torch.testing.assert_close(model.score(history, *batch[2:]), model(*batch))
