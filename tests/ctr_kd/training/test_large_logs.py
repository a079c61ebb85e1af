"""Training on a log that memory does not hold: the same rows from disk, and an order of sections that continues exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctr_kd.config import DistillConfig, EncoderConfig, FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data import disk_arrays, row_batches
from ctr_kd.data.row_batches import SectionBatches
from ctr_kd.training.distill import align_logits, train_student
from ctr_kd.training.finetune import finetune, rate_offset
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder
from tests.ctr_kd.trainings import Killed, job_at, killed_at, rows_of

FAST = TrainingConfig(epochs=2, batch_size=32, learning_rate=5e-3, validations=2, checkpoint_seconds=1e-9)


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
    monkeypatch.setattr(disk_arrays, "PIECE", 50)


@pytest.fixture
def in_sections(on_disk, monkeypatch):
    monkeypatch.setattr(row_batches, "MOST_SHUFFLED", 80)
    monkeypatch.setattr(row_batches, "BLOCK", 10)


def teacher_of(assembly):
    return np.random.default_rng(0).normal(size=(len(assembly.samples("train")), 1)).astype(np.float32)


def student(assembly, file, report=lambda text: None):
    config = DistillConfig(training=FAST, student=StudentConfig(kind="pooled", width=8, hidden=8))
    return train_student(rows_of(assembly), config, job_at(file, report=report), teacher=teacher_of(assembly))


def bert(assembly, signature, file, negatives=None):
    torch.manual_seed(5)
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=1, dropout=0.1))
    config = FinetuneConfig(training=FAST)
    return finetune(encoder, rows_of(assembly), config, job_at(file), pretraining_rate=1e-3, negatives=negatives)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_rows_on_disk_train_the_same_student_and_the_same_bert(assembly, signature, tmp_path, monkeypatch):
    models = {}
    for where in ("memory", "disk"):
        if where == "disk":
            monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
            assert isinstance(assembly.samples("train").dense, np.memmap)
        models[where] = [student(assembly, tmp_path / f"{where}.pt"), bert(assembly, signature, tmp_path / f"{where}_bert.pt")]
    for (one, curve), (two, other) in zip(models["memory"], models["disk"], strict=True):
        assert same(one, two) and curve.points == other.points


def test_hard_negatives_join_the_rows_on_disk_and_the_bert_is_the_same(assembly, signature, tmp_path, monkeypatch):
    train = assembly.samples("train")
    negatives = replace(train.take(slice(0, None, 3)), row_id=train.row_id[::3] + 100_000)
    in_memory, _ = bert(assembly, signature, tmp_path / "memory.pt", negatives)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
    on_disk, _ = bert(assembly, signature, tmp_path / "folder that nobody made" / "disk.pt", negatives)
    assert same(in_memory, on_disk)


def test_what_a_model_says_of_many_rows_lies_on_disk_where_a_folder_is_named(assembly, tmp_path, on_disk):
    train, (model, _) = assembly.samples("train"), student(assembly, tmp_path / "c.pt")
    found, kept = predict(model, train), predict(model, train, folder=tmp_path)
    assert isinstance(kept, np.memmap) and not isinstance(found, np.memmap) and np.array_equal(kept, found)


def test_a_rate_is_met_a_piece_at_a_time(on_disk):
    rng = np.random.default_rng(0)
    logit, label, weight = rng.normal(size=333), rng.random(333) < 0.2, rng.random(333).astype(np.float32)
    for counted in (None, weight):
        probability = 1 / (1 + np.exp(-(logit + rate_offset(logit, label, counted))))
        assert np.average(probability, weights=counted) == pytest.approx(np.average(label, weights=counted))


def test_sections_train_as_well_and_are_scored_alike(assembly, tmp_path, in_sections):
    train = assembly.samples("train")
    assert isinstance(row_batches.row_batches(train, 32, None), SectionBatches)
    model, curve = student(assembly, tmp_path / "c.pt")
    assert curve.points[-1]["train_loss"] < curve.points[0]["train_loss"]
    found = predict(model, train)
    row_batches.MOST_SHUFFLED = 1 << 22  # the fixture puts it back
    np.testing.assert_allclose(predict(model, train), found, atol=1e-6)


def test_a_killed_training_in_sections_continues_exactly(assembly, tmp_path, in_sections):
    whole, curve = student(assembly, tmp_path / "whole.pt")

    with pytest.raises(Killed):
        student(assembly, tmp_path / "killed.pt", killed_at(curve.points[1]["step"]))
    resumed, again = student(assembly, tmp_path / "killed.pt")
    assert again.points == curve.points and same(whole, resumed)


def test_logits_in_the_order_of_the_rows_are_taken_without_one(assembly, on_disk, monkeypatch):
    train, logit = assembly.samples("train"), teacher_of(assembly)
    order = np.random.default_rng(1).permutation(len(train))
    shuffled = align_logits(train.row_id[order], logit[order], train)
    monkeypatch.setattr(np, "argsort", None)
    assert np.array_equal(align_logits(np.array(train.row_id), logit.astype(np.float16), train), logit.astype(np.float16))
    assert np.array_equal(shuffled, logit)
