"""Training a student under a teacher: what moves, what does not, and what stays when it is done."""

import copy
import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config import DistillConfig, EncoderConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from ctr_kd.objectives.classification import hard_cross_entropy
from ctr_kd.objectives.distillation import soft_targets
from ctr_kd.training import distill as distilling
from ctr_kd.training.calibration import calibrate
from ctr_kd.training.checkpoint import load_checkpoint
from ctr_kd.training.distill import combine_logits, train_student, without_effect
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder
from ctr_kd.training.warm_start import EarlierModel
from feature_store.features.summary import ClickSummary
from feature_store.tables.json_files import load_json
from tests.ctr_kd.trainings import Killed, job_at, killed_at, rows_of
from tests.ctr_kd.worlds import raw_frame, with_label

FAST = TrainingConfig(epochs=2, batch_size=32, learning_rate=5e-3, validations=2, checkpoint_seconds=1e-9)
HINTS = {"hidden": 1.0, "relation": 1.0}


@pytest.fixture(scope="module")
def encoder(assembly, signature):
    torch.manual_seed(5)
    return build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=1, dropout=0.5))


@pytest.fixture(scope="module")
def teacher(assembly):
    return np.random.default_rng(0).normal(size=(len(assembly.samples("train")), 1)).astype(np.float32)


def settings(kind="pooled", **keys):
    return DistillConfig(**{"training": FAST, "student": StudentConfig(kind=kind, width=8, hidden=8), **keys})


def train(assembly, path, teacher, config, encoder=None, seed=0):
    said = []
    job = job_at(path, seed, report=said.append)
    model, curve = train_student(rows_of(assembly), config, job, teacher=teacher, encoder=encoder)
    return model, curve, [line for line in said if line.startswith("warning")]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("kind", STUDENTS)
def test_every_student_under_everything_trains_and_scores_the_same_when_exported(
    kind, assembly, signature, directory, teacher, encoder, tmp_path
):
    hints = {} if kind == "din" else HINTS
    config = settings(kind, listwise=0.3, gate="label", hints=hints, embeddings="teacher", schedule={"weight": "warmup", "share": 0.5})
    model, curve, said = train(assembly, tmp_path / "c.pt", teacher, config, encoder)
    assert math.isfinite(curve.points[-1]["train_loss"]) and said == []
    assert set(model.state_dict()) == set(STUDENTS[kind](signature, config.student).state_dict())  # neither teacher nor projection
    export_student(model, signature, assembly, tmp_path / "export")
    expected = 1 / (1 + np.exp(-predict(model, assembly.samples("test"))[:, 0].astype(np.float64)))
    np.testing.assert_allclose(ClickScorer(tmp_path / "export").score(raw_frame(directory, "test")), expected, atol=1e-6)


def test_the_teacher_stays_as_it_is(assembly, teacher, encoder, tmp_path):
    """Frozen, in eval mode: no gradient, no change of a weight, no dropout, and no draw that another number would follow."""
    mine, before = copy.deepcopy(encoder).train(), copy.deepcopy(teacher)
    random = []
    for module in mine.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda module, *_: random.append(module.training))
    train(assembly, tmp_path / "c.pt", teacher, settings(hints=HINTS), mine)
    assert random and not any(random) and not mine.training
    assert same(mine, encoder) and np.array_equal(before, teacher)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in mine.parameters())


def test_hints_move_the_student_and_their_projection_is_thrown_away(assembly, teacher, encoder, tmp_path):
    path = tmp_path / "hinted.pt"
    hinted, *_ = train(assembly, path, teacher, settings(hints=HINTS), encoder)
    plain, *_ = train(assembly, tmp_path / "plain.pt", teacher, settings())
    assert not same(hinted, plain)
    last = load_checkpoint(path, "i")["model"]
    assert last["projection.weight"].shape == (16, 8) and not any("projection" in name for name in hinted.state_dict())


def test_a_hinted_student_comes_near_the_teachers_states(assembly, teacher, encoder, tmp_path):
    training = FAST.model_copy(update={"epochs": 40, "unknown_rate": 0.0, "attribute_rate": 0.0})
    config = settings(alpha=0, soft="none", hints={"hidden": 1.0}, training=training)
    _, curve, _ = train(assembly, tmp_path / "c.pt", teacher, config, encoder)
    assert curve.points[-1]["train_loss"] < 0.7 * curve.points[0]["train_loss"]


def test_a_killed_run_with_hints_and_a_schedule_continues_exactly(assembly, teacher, encoder, tmp_path):
    config = settings(hints=HINTS, schedule={"weight": "annealed", "temperature": "annealed"}, embeddings="teacher")
    whole, curve, _ = train(assembly, tmp_path / "whole.pt", teacher, config, encoder)

    killed = job_at(tmp_path / "killed.pt", report=killed_at(curve.points[0]["step"]))
    with pytest.raises(Killed):
        train_student(rows_of(assembly), config, killed, teacher=teacher, encoder=encoder)
    # Of a kill between a validation and its checkpoint: the run begins anew, or where the last checkpoint was.
    resumed, again, _ = train(assembly, tmp_path / "killed.pt", teacher, config, encoder)
    assert again.points == curve.points and same(whole, resumed)


@pytest.mark.parametrize("temperature", [0, 4])
def test_alpha_one_is_the_student_alone_and_says_what_it_ignores(assembly, teacher, temperature, tmp_path):
    config = settings(alpha=1, temperature=temperature)
    taught, _, said = train(assembly, tmp_path / "taught.pt", teacher, config)
    alone, _, silent = train(assembly, tmp_path / "alone.pt", None, config)
    assert same(taught, alone)
    assert said == ["warning: temperature has no effect: alpha is 1, so the student learns from the labels alone"] and silent == []


def test_an_annealed_teacher_matters_while_it_has_weight(assembly, teacher, tmp_path):
    config = settings(schedule={"weight": "annealed", "share": 1e-6})
    only_first_step, *_ = train(assembly, tmp_path / "one.pt", teacher, config)
    alone, *_ = train(assembly, tmp_path / "two.pt", None, config)
    assert not same(only_first_step, alone)


@pytest.mark.parametrize("kind", STUDENTS)
def test_lazily_stepped_ids_are_not_carried_on_by_momentum(kind, assembly, signature, teacher, tmp_path):
    torch.manual_seed(0)
    before = STUDENTS[kind](signature, settings(kind).student).token.embeddings()[0].weight  # as train_student begins
    moved = {}
    for lazy in (False, True):
        config = settings(kind, training=FAST.model_copy(update={"lazy_ids": lazy, "warmup": 0.0, "unknown_rate": 0.0}))
        model, _, said = train(assembly, tmp_path / f"{lazy}.pt", teacher, config)
        assert said == []
        moved[lazy] = (model.token.embeddings()[0].weight - before).detach().abs().sum().item()
    assert 0 < moved[True] < moved[False]


def test_the_student_alone_has_nothing_of_the_teacher(assembly, teacher, encoder, tmp_path):
    config = settings(embeddings="teacher", hints=HINTS)
    alone, *_ = train(assembly, tmp_path / "one.pt", None, config, encoder)
    plain, *_ = train(assembly, tmp_path / "two.pt", None, settings())
    assert same(alone, plain)


def test_embeddings_begin_as_the_teachers(assembly, teacher, encoder, tmp_path):
    """With a rate of next to nothing the student ends where it began: at the teacher's products, as far as its width allows."""
    training = FAST.model_copy(update={"learning_rate": 1e-12})
    student = StudentConfig(width=16, hidden=8)
    model, *_ = train(assembly, tmp_path / "c.pt", teacher, settings(embeddings="teacher", training=training, student=student), encoder)
    with torch.no_grad():
        own, other = model.token(encoder.vocabulary), encoder.bert.token(encoder.vocabulary)
    torch.testing.assert_close(own @ own.T, other @ other.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, []),
        ({"preset": "tang"}, []),
        ({"preset": "hinton", "teacher_weight": 2}, []),
        ({"alpha": 1, "soft": "logit_mse", "temperature": 0, "gate": "label"}, ["gate", "soft", "temperature"]),
        ({"alpha": 1, "soft": "none"}, []),
        ({"preset": "hinton", "alpha": 0.3}, ["alpha"]),
        ({"teacher_weight": 2}, ["teacher_weight"]),
        ({"soft": "logit_mse", "temperature": 5}, ["temperature"]),
        ({"soft": "logit_mse", "temperature": 5, "listwise": 0.5}, []),
        ({"soft": "kl", "listwise": 1}, ["soft"]),
        ({"schedule": {"share": 0.5}}, ["schedule"]),
        ({"soft": "logit_mse", "schedule": {"temperature": "annealed"}}, ["schedule.temperature"]),
        ({"soft": "logit_mse", "schedule": {"temperature": "annealed"}, "listwise": 0.5}, []),
        ({"alpha": 1, "schedule": {"temperature": "annealed"}}, ["schedule"]),
        ({"held_out": 0.3}, ["held_out"]),
    ],
)
def test_keys_without_effect_are_named(keys, expected):
    assert [line.split()[1] for line in without_effect(DistillConfig(**keys))] == expected


def test_a_listwise_term_without_lists_is_named(assembly, teacher, tmp_path):
    rows, said = rows_of(assembly), []
    rows = dataclasses.replace(rows, train=dataclasses.replace(rows.train, group=np.arange(len(rows.train))))
    train_student(rows, settings(listwise=0.5), job_at(tmp_path / "c.pt", report=said.append), teacher=teacher)
    assert "warning: listwise has no effect: every request has one candidate" in said


def test_mistakes_are_named(assembly, teacher, encoder, tmp_path):
    def fails(teacher, config, encoder=None):
        return train(assembly, tmp_path / "c.pt", teacher, config, encoder)

    with pytest.raises(TrainingError, match="the teacher has 3 outputs and the student 1"):
        fails(np.repeat(teacher, 3, axis=1), settings())
    with pytest.raises(TrainingError, match="teachers differ in the shape of their logits"):
        combine_logits({"a": np.zeros((2, 1)), "b": np.zeros((2, 3))}, {"a": 0.5, "b": 0.5})
    with pytest.raises(ValueError, match="need the teacher's encoder"):
        fails(teacher, settings(hints=HINTS))
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        broken.transform[0].weight[0] = torch.nan
    with pytest.raises(TrainingError, match="a hidden state of the teacher is not finite: retrain the teacher"):
        fails(teacher, settings(hints=HINTS), broken)
    with torch.no_grad():
        broken.bert.token.embeddings()[0].weight[6] = torch.nan
    with pytest.raises(TrainingError, match="the teacher's embeddings are not finite"):
        fails(teacher, settings(embeddings="teacher"), broken)


def test_both_students_begin_with_the_word_vectors_of_their_tokens(assembly, signature, teacher, tmp_path):
    tokens = next(iter(signature.tokens.values()))
    vectors = np.random.default_rng(0).normal(size=(tokens, 8)).astype(np.float32)
    vectors[: tokens // 2] = np.nan
    slow = settings(training=FAST.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0}))
    tables = []
    for name, logits in (("student", teacher), ("alone", None)):
        model, _ = train_student(rows_of(assembly), slow, job_at(tmp_path / f"{name}.pt"), teacher=logits, vectors=vectors)
        tables.append(model.token.embeddings()[0].weight.detach().numpy())
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)
    known, got = vectors[tokens // 2 :], tables[0][tokens // 2 :]
    np.testing.assert_allclose(np.corrcoef((known @ known.T).ravel(), (got @ got.T).ravel())[0, 1], 1, atol=1e-5)


def weighted(assembly, weight, labels=None):
    """The rows of an assembly with weights of those of training, and other labels of those."""
    rows = rows_of(assembly)
    label = rows.train.label if labels is None else labels
    validation = dataclasses.replace(rows.validation, weight=None if weight is None else np.ones(len(rows.validation), np.float32))
    return dataclasses.replace(rows, train=dataclasses.replace(rows.train, weight=weight, label=label), validation=validation)


def test_weights_of_one_are_no_weights(assembly, teacher, encoder, tmp_path):
    config, found = settings(kind="pooled", listwise=0.3, gate="label", hints=HINTS), []
    for name, weight in (("none", None), ("ones", np.ones(len(teacher), np.float32))):
        found.append(train_student(weighted(assembly, weight), config, job_at(tmp_path / f"{name}.pt"), teacher=teacher, encoder=encoder))
    (plain, curve), (ones, other) = found
    assert same(plain, ones)
    assert [{**point, "auc": pytest.approx(point["auc"])} for point in other.points] == curve.points


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_row_that_weighs_nothing_teaches_nothing(alpha, assembly, teacher, tmp_path):
    rng = np.random.default_rng(0)
    weight = np.where(rng.random(len(teacher)) < 0.5, 0.0, 2.0).astype(np.float32)
    label = assembly.samples("train").label
    found = []
    for number, lie in enumerate((False, True)):
        labels = np.where((weight == 0) & lie, 1 - label, label)
        logits = np.where(((weight == 0) & lie)[:, None], teacher + 5, teacher).astype(np.float32)
        job = job_at(tmp_path / f"{number}.pt")
        found.append(train_student(weighted(assembly, weight, labels), settings(alpha=alpha), job, teacher=logits)[0])
    assert same(*found)
    job = job_at(tmp_path / "other.pt")
    assert not same(found[0], train_student(weighted(assembly, None), settings(alpha=alpha), job, teacher=teacher)[0])


def test_the_unit_of_weights_is_no_matter(assembly, directory, tmp_path):
    """Assemblies that differ in it are one to a model."""
    found = []
    for factor in (1.0, 1000.0):
        own = Path(shutil.copytree(directory, tmp_path / f"{factor:g}"))
        rows = pq.read_table(own / "rows.parquet")
        pq.write_table(rows.append_column("row_weight", pa.array((rows["item"].to_numpy() % 3) * factor)), own / "rows.parquet")
        ClickSummary.read(own).model_copy(update={"weighted": True}).write(own)
        found.append(Assembly(own, 5).samples("train").weight)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert found[0].dtype == np.float32 and found[0].mean() == pytest.approx(1, abs=1e-6) and found[0].min() == 0


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("chain", [False, True])
def test_a_student_of_several_labels_trains_and_scores_the_same_when_exported(kind, chain, directory, tmp_path):
    clicked = pq.read_table(directory / "rows.parquet")["label"].to_numpy()
    bought = np.where(np.arange(len(clicked)) % 5 == 0, -1, clicked * (np.arange(len(clicked)) % 2))
    several = Assembly(with_label(directory, tmp_path / "several", bought), 5, chain=chain)
    said = np.random.default_rng(0).normal(size=(len(several.samples("train")), 2)).astype(np.float32)
    model, curve, _ = train(several, tmp_path / "c.pt", said, settings(kind, soft="logit_mse", alpha=0.5))
    assert model.head.layers[-1].out_features == 2 and math.isfinite(curve.kept_score)
    part = several.samples("test")
    calibrated = calibrate(model, several.samples("validation"), "temperature")
    export_student(calibrated, several.signature(), several, tmp_path / "export")
    scorer, probability = ClickScorer(tmp_path / "export"), 1 / (1 + np.exp(-predict(calibrated, part).astype(np.float64)))
    frame = raw_frame(tmp_path / "several", "test")
    np.testing.assert_allclose(scorer.score_labels(frame), probability, atol=1e-6)
    np.testing.assert_allclose(scorer.score(frame), probability[:, 0], atol=1e-6)
    answer = scorer.predict(frame.to_pandas())
    assert answer.columns.to_list() == ["score", "score_bought"]
    np.testing.assert_allclose(answer["score_bought"], probability[:, 1], atol=1e-6)
    if chain:
        logit = predict(model, part)
        assert (logit[:, 1] <= logit[:, 0]).all()


def test_a_label_that_is_the_click_is_learned_as_the_click_is(directory, tmp_path):
    """From equal weights of the last layer on, equal labels keep every pair of logits equal, through training and calibration."""
    torch.manual_seed(0)  # four hidden units: by some seeds none of them is ever above zero
    several = Assembly(with_label(directory, tmp_path / "several"), 5)
    training = TrainingConfig(epochs=3, batch_size=32, learning_rate=1e-2)
    model = STUDENTS["pooled"](several.signature(), StudentConfig(kind="pooled", width=8, hidden=8))
    last = model.head.layers[-1]
    with torch.no_grad():
        last.weight[1], last.bias[1] = last.weight[0], last.bias[0]
    start = EarlierModel(model.state_dict(), ())
    trained, _ = train_student(rows_of(several), settings(training=training), job_at(tmp_path / "c.pt"), earlier=start)
    logit = predict(trained, several.samples("test"))
    np.testing.assert_allclose(logit[:, 0], logit[:, 1], atol=1e-5)
    assert not np.allclose(logit, predict(model.eval(), several.samples("test")))
    scaled = predict(calibrate(trained, several.samples("validation"), "temperature"), several.samples("test"))
    np.testing.assert_allclose(scaled[:, 0], scaled[:, 1], atol=1e-4)


def test_the_export_of_one_label_says_nothing_of_several(assembly, teacher, tmp_path):
    model, *_ = train(assembly, tmp_path / "c.pt", teacher, settings())
    export_student(model, assembly.signature(), assembly, tmp_path / "export")
    said = load_json(tmp_path / "export" / "signature.json")
    assert not {"labels", "chain"} & said.keys() and said["outputs"] == 1 and said["columns"]["answer"] == {"score": "double"}


@pytest.mark.parametrize("keys", [{}, {"soft": "logit_mse", "alpha": 0.1}, {"listwise": 0.4}, {"preset": "hinton"}])
def test_a_teacher_that_says_nothing_of_any_row_leaves_the_labels_alone(keys, assembly, teacher, tmp_path):
    """Each row then counts as much as it does for the student alone, whatever the weight of the labels where somebody teaches."""
    silent, _, _ = train(assembly, tmp_path / "silent", np.full_like(teacher, np.nan), settings(**keys))
    alone, _, _ = train(assembly, tmp_path / "alone", None, settings(**keys))
    for one, two in zip(silent.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_what_a_teacher_says_counts_where_it_says_something_and_nowhere_else(assembly, teacher, tmp_path):
    """The loss of a batch is the sum over its rows: label and teacher where there is a logit, the label in full where there is none."""
    known = np.arange(len(teacher)) % 3 > 0
    partial = np.where(known[:, None], teacher, np.nan).astype(np.float32)
    config = settings(alpha=0.3, temperature=2.0, training=FAST.model_copy(update={"epochs": 1, "validations": 1}))
    losses = []

    def spied(model, training, job, *, plan, loss, **more):
        chosen = np.arange(len(teacher))
        model.eval()
        with torch.no_grad():
            value = loss(chosen, np.random.default_rng(0), 0.0)(slice(0, len(chosen)))
        logits = torch.from_numpy(predict(model["student"], assembly.samples("train")))
        losses.append((float(value), logits))
        raise KeyboardInterrupt

    no_drop = {"unknown_rate": 0.0, "attribute_rate": 0.0, "statistics_rate": 0.0}
    config = config.model_copy(update={"training": config.training.model_copy(update=no_drop)})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(distilling, "fit", spied)
        train(assembly, tmp_path / "loss", partial, config)
    ((value, logits),) = losses
    label = torch.from_numpy(assembly.samples("train").label)
    by_row = torch.stack([hard_cross_entropy(one[None], own[None]) for one, own in zip(logits, label, strict=True)])
    soft = soft_targets(logits, torch.from_numpy(np.nan_to_num(partial)), 2.0)
    there = torch.from_numpy(known)
    expected = torch.where(there, 0.3 * by_row + 0.7 * soft, by_row).mean()
    assert value == pytest.approx(float(expected), rel=1e-5)


def test_teachers_are_weighed_among_those_that_say_something_of_a_row():
    first, second = np.array([[1.0], [np.nan], [np.nan]], np.float32), np.array([[4.0], [2.0], [np.nan]], np.float32)
    combined = combine_logits({"a": first, "b": second}, {"a": 0.75, "b": 0.25})
    np.testing.assert_allclose(combined, [[1.75], [2.0], [np.nan]])
