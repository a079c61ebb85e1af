"""What every model promises: padding, neighbours and batch size change no output."""

import numpy as np
import pytest
import torch
from torch import nn

from ctr_kd.batching import Batch, make_batch
from ctr_kd.config import EncoderConfig, StudentConfig
from ctr_kd.models import STUDENTS
from ctr_kd.models.bilstm import BiLSTM
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.pretraining import build_encoder
from ctr_kd.training import predict


def build(kind, assembly, signature):
    torch.manual_seed(1)
    if kind == "teacher":
        return ClickBert(build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=2)), signature, 16, 0.1).eval()
    return STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, hidden=12)).eval()


KINDS = ["teacher", *STUDENTS]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_output(kind, assembly, signature):
    model = build(kind, assembly, signature)
    batch = make_batch(assembly.samples("test"), np.arange(20))
    wider = batch._replace(segment_a=nn.functional.pad(batch.segment_a, (0, 0, 0, 7)))
    with torch.no_grad():
        torch.testing.assert_close(model(*batch), model(*wider), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_equals_many(kind, assembly, signature):
    model, samples = build(kind, assembly, signature), assembly.samples("test")
    together = predict(model, samples, batch_size=16)
    for row in (0, 7, len(samples) - 1):
        with torch.no_grad():
            alone = model(*make_batch(samples, np.array([row]))).numpy()
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("kind", KINDS)
def test_empty_history_and_null_statistics_are_scored(kind, assembly, signature):
    width = len(signature.tokens)
    empty = Batch(
        torch.zeros(1, 1, width, dtype=torch.int32),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
        torch.ones(2, 1, width, dtype=torch.int32),
        torch.zeros(2, len(signature.categorical), dtype=torch.int32),
        torch.full((2, len(signature.dense)), torch.nan),
    )
    with torch.no_grad():
        out = build(kind, assembly, signature)(*empty)
    assert out.shape == (2, 1) and torch.isfinite(out).all()


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
