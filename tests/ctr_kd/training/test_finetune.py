"""Several fine-tunings, of one encoder or of several, as one teacher; see test_training.py for the strategies of a single one."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.models.teachers import build_teacher
from ctr_kd.training import devices
from ctr_kd.training import finetune as finetuning
from ctr_kd.training.finetune import finetune, finetune_members, member_seed, rate_offset
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder
from tests.ctr_kd.trainings import job_at, rows_of
from tests.ctr_kd.worlds import with_label

TRAINING = TrainingConfig(epochs=2, batch_size=64, learning_rate=5e-3, validations=2)
CONFIG = FinetuneConfig(head_width=16, members=3, training=TRAINING)


@pytest.fixture
def encoder(assembly, signature):
    torch.manual_seed(0)
    return build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=1))


@pytest.fixture
def rows(assembly):
    return rows_of(assembly)


def tuned(encoders, rows, folder, config=CONFIG):
    return finetune_members(encoders, rows, config, job_at(folder / "training.pt", seed=4), pretraining_rate=5e-3)


def test_the_mean_of_its_members_is_the_teachers_logit(rows, assembly, encoder, tmp_path):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    ensemble, curves = tuned([encoder], rows, tmp_path)
    test = assembly.samples("test")
    members = [predict(member, test) for member in ensemble.members]
    assert len(members) == len(curves) == 3
    np.testing.assert_allclose(predict(ensemble, test), np.mean(members, axis=0), atol=1e-6)
    assert all(not np.array_equal(members[0], other) for other in members[1:])
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert ensemble.pretrained is ensemble.members[0].pretrained and not ensemble.training


def test_a_single_member_is_the_plain_fine_tuning(rows, assembly, encoder, signature, tmp_path):
    alone = CONFIG.model_copy(update={"members": 1})
    one, curves = tuned([encoder], rows, tmp_path / "members", alone)
    plain, curve = finetune(encoder, rows, alone, job_at(tmp_path / "plain.pt", seed=4), pretraining_rate=5e-3)
    assert np.array_equal(predict(one, assembly.samples("test")), predict(plain, assembly.samples("test")))
    assert curves[0].points == curve.points
    again = build_teacher([encoder], signature, alone)
    again.load_state_dict(one.state_dict())
    assert np.array_equal(predict(again, assembly.samples("test")), predict(one, assembly.samples("test")))


def test_another_number_of_threads_moves_a_short_training_by_rounding_alone(rows, assembly, encoder, tmp_path):
    training = TRAINING.model_copy(update={"epochs": 8, "learning_rate": 1e-2, "average": 0.2})
    config, logits = CONFIG.model_copy(update={"members": 1, "head_width": 256, "training": training}), []
    for count in (2, 1):  # one is what every other test computes with
        torch.set_num_threads(count)
        model, _ = finetune(copy.deepcopy(encoder), rows, config, job_at(tmp_path / f"{count}.pt", seed=4), pretraining_rate=5e-3)
        logits.append(predict(model, assembly.samples("test")))
    assert np.abs(logits[0]).max() > 1  # it has learned
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)


def test_encoders_of_several_sizes_are_one_teacher(rows, assembly, encoder, signature, tmp_path):
    torch.manual_seed(1)
    larger = build_encoder(assembly, signature, EncoderConfig(width=24, heads=2, layers=2))
    two = CONFIG.model_copy(update={"members": 2})
    ensemble, curves = tuned([encoder, larger], rows, tmp_path, two)
    assert [member.pretrained.bert.config.width for member in ensemble.members] == [16, 16, 24, 24] and len(curves) == 4
    test = assembly.samples("test")
    members = [predict(member, test) for member in ensemble.members]
    np.testing.assert_allclose(predict(ensemble, test), np.mean(members, axis=0), atol=1e-6)
    assert all(not np.array_equal(one, other) for one, other in itertools.combinations(members, 2))
    again = build_teacher([encoder, larger], signature, two)
    again.load_state_dict(ensemble.state_dict())
    assert np.array_equal(predict(again, test), predict(ensemble, test))


def test_ids_of_head_and_encoder_step_lazily(rows, encoder, tmp_path):
    lazy = CONFIG.model_copy(update={"members": 1, "training": TRAINING.model_copy(update={"lazy_ids": True})})
    plain, lazily = (
        finetune(copy.deepcopy(encoder), rows, config, job_at(tmp_path / f"{number}.pt", seed=4), pretraining_rate=5e-3)[0]
        for number, config in enumerate((CONFIG, lazy))
    )
    for one, other in ((plain.token, lazily.token), (plain.pretrained.bert.token, lazily.pretrained.bert.token)):
        assert not torch.equal(one.embeddings()[0].weight, other.embeddings()[0].weight)
        assert other.embeddings()[0].sparse and not one.embeddings()[0].sparse


def test_two_threads_train_what_one_thread_trains_up_to_rounding(rows, encoder, tmp_path):
    """Sums are rounded otherwise by more threads. At a high rate for all weights, that moves no logit by more than a hundred-thousandth."""
    training = TRAINING.model_copy(update={"learning_rate": 1e-2, "epochs": 1, "validations": 1})
    config = FinetuneConfig(head_width=16, rate_ratio=1.0, training=training)
    logits, figures = [], []
    for threads in (1, 2):
        torch.set_num_threads(threads)  # the fixture of every test sets one thread again
        assert torch.get_num_threads() == threads
        job = job_at(tmp_path / f"{threads}.pt", seed=4)
        model, curve = finetune(copy.deepcopy(encoder), rows, config, job, pretraining_rate=1e-2)
        logits.append(predict(model, rows.validation))
        figures.append(curve.kept_figure[1])
    assert logits[0].std() > 0.02, "it learned something"
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=1e-5)
    assert figures[1] == pytest.approx(figures[0], abs=0.002)


def test_a_killed_run_repeats_no_finished_member(rows, assembly, encoder, tmp_path, monkeypatch):
    whole, curves = tuned([encoder], rows, tmp_path / "whole")
    seeds = []

    def stops_in_the_third(pretrained, rows, config, job, **named):
        seeds.append(job.seed)
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return finetune(pretrained, rows, config, job, **named)

    monkeypatch.setattr(finetuning, "finetune", stops_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        tuned([encoder], rows, tmp_path / "cut")
    resumed, again = tuned([encoder], rows, tmp_path / "cut")
    assert seeds == [member_seed(4, number) for number in (0, 1, 2, 2)]
    assert np.array_equal(predict(resumed, assembly.samples("test")), predict(whole, assembly.samples("test")))
    assert [curve.points for curve in again] == [curve.points for curve in curves]


def test_rows_teach_by_their_weights(rows, encoder, tmp_path):
    """Ones are no weights, and what weighs nothing teaches nothing; the offset after hard negatives brings back the weighted rate."""
    config, count = CONFIG.model_copy(update={"members": 1}), len(rows.train)
    half = np.where(np.random.default_rng(0).random(count) < 0.5, 0.0, 2.0).astype(np.float32)
    other = np.where(half == 0, 1 - rows.train.label, rows.train.label)
    models = {}
    for name, weight, label in (
        ("none", None, rows.train.label),
        ("ones", np.ones(count, np.float32), rows.train.label),
        ("half", half, rows.train.label),
        ("lie", half, other),
    ):
        given = replace(rows, train=replace(rows.train, weight=weight, label=label))
        models[name], _ = finetune(copy.deepcopy(encoder), given, config, job_at(tmp_path / f"{name}.pt", seed=4), pretraining_rate=5e-3)
    logits = {name: predict(model, rows.validation) for name, model in models.items()}
    assert np.array_equal(logits["none"], logits["ones"]) and np.array_equal(logits["half"], logits["lie"])
    assert not np.array_equal(logits["none"], logits["half"])
    offset = rate_offset(logits["half"][:, 0], rows.validation.label, np.where(rows.validation.label == 1, 1.0, 5.0))
    moved = 1 / (1 + np.exp(-(logits["half"][:, 0] + offset)))
    weight = np.where(rows.validation.label == 1, 1.0, 5.0)
    assert np.average(moved, weights=weight) == pytest.approx(np.average(rows.validation.label, weights=weight))


@pytest.mark.parametrize("chain", [False, True])
def test_a_teacher_has_a_logit_of_each_label(chain, directory, encoder, tmp_path):
    clicked = pq.read_table(directory / "rows.parquet")["label"].to_numpy()
    several = Assembly(with_label(directory, tmp_path / "several", clicked * (np.arange(len(clicked)) % 2)), 5, chain=chain)
    config = CONFIG.model_copy(update={"cross_layers": 1, "members": 2})
    rows = rows_of(several)
    model, curves = tuned([encoder], rows, tmp_path / "run", config)
    logit = predict(model, rows.validation)
    assert logit.shape == (len(rows.validation), 2)
    assert not chain or (logit[:, 1] <= logit[:, 0]).all()
    assert {"auc", "log_loss", "score"} <= curves[0].points[0].keys()
    rate = 1 / (1 + np.exp(-logit.astype(np.float64)))
    assert rate[:, 1].mean() == pytest.approx(rate[:, 0].mean() / 2, abs=0.12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_rate_is_moved_by_logits_in_the_precision_of_the_training(precision, encoder, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_computes_bfloat16", lambda: True)
    half = []
    monkeypatch.setattr(finetuning, "predict", lambda *a, **k: (half.append(torch.is_autocast_enabled("cpu")), predict(*a, **k))[1])
    config = CONFIG.model_copy(update={"training": TRAINING.model_copy(update={"precision": precision})})
    negatives = replace(rows.train, row_id=rows.train.row_id + 10**6, further=None)
    finetune(encoder, rows, config, job_at(tmp_path / "c.pt"), pretraining_rate=5e-3, negatives=negatives)
    assert half == [False, False, precision == "bfloat16"]  # validations come first


def test_hard_negatives_move_the_rate_of_clicks_alone(directory, encoder, tmp_path):
    clicked = pq.read_table(directory / "rows.parquet")["label"].to_numpy()
    rows = rows_of(Assembly(with_label(directory, tmp_path / "several", clicked * (np.arange(len(clicked)) % 2)), 5))
    negatives = replace(rows.train, row_id=rows.train.row_id + 10**6, further=None)
    config = CONFIG.model_copy(update={"members": 1})
    model, _ = finetune(copy.deepcopy(encoder), rows, config, job_at(tmp_path / "c.pt", seed=4), pretraining_rate=5e-3, negatives=negatives)
    rate = (1 / (1 + np.exp(-predict(model, rows.train).astype(np.float64)))).mean(0)
    assert rate[0] == pytest.approx(rows.train.label.mean(), abs=1e-3)
    assert rate[1] == pytest.approx(rows.train.further.mean(), abs=0.1)
