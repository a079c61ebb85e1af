"""The teacher that reads both segments at once, and the students where segment B is a sequence or none."""

import numpy as np
import pytest
import torch
from torch import nn

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.texts import TextAssembly
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.models.cross_encoder import CrossEncoder
from ctr_kd.models.students import STUDENTS
from ctr_kd.models.teachers import build_member
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder
from tests.ctr_kd.text_worlds import write_texts

KINDS = ["teacher", *STUDENTS]


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def texts(request, tmp_path_factory):
    return TextAssembly(write_texts(tmp_path_factory.mktemp("texts"), pair=request.param), "teacher")


def build(kind, texts):
    torch.manual_seed(1)
    signature = texts.signature()
    if kind == "teacher":
        encoder = build_encoder(texts, signature, EncoderConfig(width=16, heads=2, layers=2))
        return build_member(encoder, signature, FinetuneConfig(head_width=16)).eval()
    return STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, hidden=12)).eval()


def test_a_single_token_is_a_candidate_and_shares_its_history(texts, assembly, signature):
    assert isinstance(build("teacher", texts), CrossEncoder)
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2))
    assert isinstance(build_member(encoder, signature, FinetuneConfig()), ClickBert)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_neighbours_change_no_output(kind, texts):
    model, samples = build(kind, texts), texts.samples("test")
    together = predict(model, samples, batch_size=16)
    assert together.shape == (len(samples), 3)
    with torch.no_grad():
        for row in (0, 7, len(samples) - 1):
            batch = make_batch(samples, np.array([row]))
            wider = batch._replace(**{name: nn.functional.pad(getattr(batch, name), (0, 0, 0, 5)) for name in ("segment_a", "segment_b")})
            for inputs in (batch, wider):
                np.testing.assert_allclose(model(*inputs)[0].numpy(), together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_segment_that_is_there_matters(kind, texts):
    model, batch = build(kind, texts), make_batch(texts.samples("test"), np.arange(6))
    with torch.no_grad():
        base = model(*batch)
        assert not torch.equal(base, model(*batch._replace(segment_a=batch.segment_a.flip(0))))
        if texts.signature().max_length_b:
            assert not torch.equal(base, model(*batch._replace(segment_b=batch.segment_b.flip(0))))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_texts_are_scored(kind, texts):
    model, batch = build(kind, texts), make_batch(texts.samples("test"), np.arange(2))
    empty = batch._replace(
        segment_a=torch.zeros(2, 1, 1, dtype=torch.int32),
        segment_a_length=torch.zeros(2, dtype=torch.long),
        segment_b=torch.zeros(2, 1, 1, dtype=torch.int32),
    )
    with torch.no_grad():
        assert torch.isfinite(model(*empty)).all()


def test_pretrained_parameters_are_told_from_new_ones(texts):
    model = build("teacher", texts)
    new = {id(p) for p in model.new_parameters()}
    known = {id(p) for p in model.pretrained.parameters()}
    assert not new & known and new | known == {id(p) for p in model.parameters()}
