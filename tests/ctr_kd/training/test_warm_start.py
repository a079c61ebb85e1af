"""Weights of an earlier model in one whose vocabularies have grown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.models.calibrated import Calibrated, Temperature
from ctr_kd.models.students import STUDENTS
from ctr_kd.models.teachers import build_teacher
from ctr_kd.training.checkpoint import CheckpointError, save_checkpoint
from ctr_kd.training.warm_start import AnotherShape, EarlierModel, earlier_weights
from feature_store.special_tokens import UNKNOWN

BEFORE = Signature({"item": 9, "category": 7, "gap": 24}, {"device": 8}, {"clicks": [0.0, 1.0, 4.0]}, outputs=1, max_length=6)
NOW = replace(BEFORE, tokens={"item": 12, "category": 7, "gap": 24}, categorical={"device": 10})
GROWTH = {(9, 12), (7, 7), (8, 10)}
ENCODER = EncoderConfig(width=8, layers=1, dropout=0)


def encoder(signature: Signature, seed: int) -> MaskedItemModel:
    torch.manual_seed(seed)
    items = signature.tokens["item"]
    model = MaskedItemModel(Bert(signature.tokens, 14, ENCODER), torch.zeros(items, 3, dtype=torch.int32))
    nn.init.normal_(model.bias)
    return model.eval()


def batch(items: list[int]) -> tuple[torch.Tensor, ...]:
    """Two requests of histories and candidates among some items."""
    token = torch.tensor([[i, 5, 1] for i in items], dtype=torch.int32)
    history = token[:4].reshape(2, 2, 3)
    return (
        history,
        torch.tensor([2, 1]),
        torch.tensor([0, 1]),
        token[4:6].unsqueeze(1),
        torch.tensor([[5], [6]]),
        torch.tensor([[0.5], [torch.nan]]),
    )


@pytest.mark.parametrize("kind", ["pooled", "dcn", "din", "bilstm"])
def test_a_student_says_the_same_of_what_it_knew(kind: str) -> None:
    config = StudentConfig(kind=kind, width=4, hidden=8, dropout=0)
    before, now = (STUDENTS[kind](signature, config).eval() for signature in (BEFORE, NOW))
    EarlierModel(before.state_dict(), GROWTH).put_into(now)
    known = batch([5, 6, 7, 8, 6, 7])
    assert torch.equal(before(*known), now(*known))
    # and of what is new what it said when that was unknown
    new, unknown = batch([5, 9, 7, 10, 11, 9]), batch([5, UNKNOWN, 7, UNKNOWN, UNKNOWN, UNKNOWN])
    assert torch.equal(now(*new), now(*unknown))


def test_a_teacher_takes_the_encoder_of_this_night_and_the_head_of_the_last() -> None:
    config = FinetuneConfig(members=2, cross_layers=1)
    before, now = (build_teacher([encoder(signature, seed)], signature, config) for seed, signature in enumerate((BEFORE, NOW)))
    own = {name: value.clone() for name, value in now.state_dict().items()}
    for number, member in enumerate(now.members):
        EarlierModel(before.state_dict(), GROWTH).member(number).put_into(member, keep="pretrained.")
    for name, value in now.state_dict().items():
        if ".pretrained." in name:
            assert torch.equal(value, own[name]), name
        else:
            earlier = before.state_dict()[name]
            assert torch.equal(value[: len(earlier)] if value.ndim else value, earlier), name


def test_a_new_item_is_as_likely_as_the_median(tmp_path: Path) -> None:
    before, now = encoder(BEFORE, 0), encoder(NOW, 1)
    EarlierModel(before.state_dict(), GROWTH).put_into(now)
    assert torch.equal(now.bias[:9], before.bias) and torch.equal(now.bias[9:], before.bias.median().expand(3))
    table = now.bert.token.embeddings()[0].weight
    assert torch.equal(table[9:], before.bert.token.embeddings()[0].weight[UNKNOWN].expand(3, -1))


@pytest.mark.parametrize(
    ("other", "growth", "said"),
    [
        (StudentConfig(kind="pooled", width=6, hidden=8), GROWTH, "is (9, 4), and here (12, 6)"),
        (StudentConfig(kind="pooled", width=4, hidden=8), {(9, 11)}, "is (9, 4), and here (12, 4)"),
        (StudentConfig(kind="dcn", width=4, hidden=8), GROWTH, "is in one of the two alone"),
    ],
)
def test_another_shape_is_refused(other: StudentConfig, growth: set[tuple[int, int]], said: str) -> None:
    before = STUDENTS["pooled"](BEFORE, StudentConfig(kind="pooled", width=4, hidden=8))
    now = STUDENTS[other.kind](NOW, other)
    own = {name: value.clone() for name, value in now.state_dict().items()}
    with pytest.raises(AnotherShape, match="the earlier model has another shape") as refused:
        EarlierModel(before.state_dict(), growth).put_into(now)
    assert said in str(refused.value)
    assert all(torch.equal(value, own[name]) for name, value in now.state_dict().items())  # nothing of it was taken


def test_calibration_is_left_behind(tmp_path: Path) -> None:
    student = STUDENTS["pooled"](BEFORE, StudentConfig(kind="pooled", width=4, hidden=8))
    for name, model in (("plain", student), ("calibrated", Calibrated(student, Temperature(2.0, 0.5)))):
        save_checkpoint(tmp_path / f"{name}.pt", {"model": model.state_dict()}, "made")
        found = earlier_weights(tmp_path / f"{name}.pt", "made")
        assert found.keys() == student.state_dict().keys()
        assert all(torch.equal(value, student.state_dict()[key]) for key, value in found.items())


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "one.pt", {"step": 3}, "made")
    with pytest.raises(CheckpointError, match="holds no model"):
        earlier_weights(tmp_path / "one.pt", "made")
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        earlier_weights(tmp_path / "one.pt", "other")
