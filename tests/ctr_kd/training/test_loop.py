import copy
import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctr_kd.config import DistillConfig, EncoderConfig, FinetuneConfig, PretrainConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.samples import Assembly, Segment
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.training.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from ctr_kd.training.distill import align_logits, train_student
from ctr_kd.training.distributed import Processes
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.finetune import finetune, parameter_groups, rate_offset
from ctr_kd.training.loop import fit, predict
from ctr_kd.training.pretrain import masked_item_accuracy, pretrain, split_sequences
from feature_store.tables.contracts import DataError
from tests.ctr_kd.trainings import Killed, job_at, killed_at, rows_of
from tests.ctr_kd.worlds import write_assembly

pytestmark = pytest.mark.slow

FAST = TrainingConfig(
    epochs=6, batch_size=32, learning_rate=5e-3, validations=3, unknown_rate=0.1, statistics_rate=0.1, checkpoint_seconds=1e-9
)


def student_run(assembly, path, kill_at=None, seed=3, **training):
    """Train a student; optionally stop it dead right after the checkpoint of a step."""
    rows = rows_of(assembly)
    config = DistillConfig(student=StudentConfig(width=8, hidden=8), training=FAST.model_copy(update=training))
    teacher = np.random.default_rng(0).normal(size=(len(rows.train), 1)).astype(np.float32)

    return train_student(rows, config, job_at(path, seed, report=killed_at(kill_at)), teacher=teacher)


@pytest.mark.parametrize("training", [{}, {"average": 0.5, "lazy_ids": True}, {"patience": 1, "validations": 8}])
def test_a_killed_and_resumed_run_equals_the_uninterrupted_one(training, assembly, tmp_path):
    whole, whole_curve = student_run(assembly, tmp_path / "whole.pt", **training)
    second_validation = whole_curve.points[1]["step"]
    with pytest.raises(Killed):
        student_run(assembly, tmp_path / "killed.pt", kill_at=second_validation, **training)
    resumed, resumed_curve = student_run(assembly, tmp_path / "killed.pt", **training)
    assert resumed_curve.points == whole_curve.points
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_run_repeats_bit_for_bit_and_the_seed_matters(assembly, tmp_path):
    one, two, other = (student_run(assembly, tmp_path / f"{i}.pt", seed=s)[0] for i, s in enumerate((3, 3, 4)))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(one.head.layers[0].weight, other.head.layers[0].weight)


def test_a_checkpoint_of_another_configuration_is_refused(assembly, tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"step": 1}, "other")
    with pytest.raises(CheckpointError, match="another configuration"):
        student_run(assembly, tmp_path / "c.pt")
    (tmp_path / "c.pt").write_bytes(b"no checkpoint at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "c.pt", "x")


def test_a_pickle_with_code_in_it_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"identity": "x", "model": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match=r"hostile\.pt cannot be read \(it would call print\): remove it"):
        load_checkpoint(tmp_path / "hostile.pt", "x")
    (tmp_path / "plain.pt").write_bytes(b"no checkpoint at all")
    with pytest.raises(CheckpointError, match=r"plain\.pt cannot be read \(it is no file of tensors and plain values\)"):
        load_checkpoint(tmp_path / "plain.pt", "x")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (torch.nn.Linear(3, 2), r"weight is \(2, 3\), and here \(2, 2\)"),
        (torch.nn.Linear(2, 2, bias=False), r"bias is not there, and here \(2,\)"),
        (torch.nn.Sequential(torch.nn.Linear(2, 2)), r"0\.bias is \(2,\), and here not there"),
    ],
)
def test_weights_of_another_model_are_refused_in_one_line(other, said, tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"model": other.state_dict()}, "i")
    with pytest.raises(CheckpointError, match=f"c\\.pt holds the weights of another model \\({said}\\): remove it") as error:
        load_weights(torch.nn.Linear(2, 2), tmp_path / "c.pt", "i")
    assert "\n" not in str(error.value)
    save_checkpoint(tmp_path / "c.pt", {"model": (own := torch.nn.Linear(2, 2)).state_dict(), "step": 3}, "i")
    assert load_weights(model := torch.nn.Linear(2, 2), tmp_path / "c.pt", "i")["step"] == 3
    assert torch.equal(model.weight, own.weight)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_best_weights(tmp_path):
    model = torch.nn.Linear(1, 1)
    best = copy.deepcopy(model.state_dict())

    def loss(batch, rng, progress):
        return lambda part: model(torch.ones(1, 1)).sum() * (torch.nan if batch == [2] else 1.0)

    config = TrainingConfig(epochs=1, validations=1, learning_rate=0.1)
    with pytest.raises(TrainingError, match=r"not finite at step 2 of 4 .*; there was no checkpoint yet"):
        fit(model, config, job_at(tmp_path / "c.pt"), plan=lambda rng: [[0], [1], [2], [3]], loss=loss, validate=lambda: {"score": 0.0})
    assert torch.equal(model.weight, best["weight"])


@pytest.mark.parametrize(("broken", "value"), [("weight", "inf"), ("bias", "nan")])
def test_weights_that_a_step_broke_replace_no_checkpoint(broken, value, tmp_path):
    path, steps = tmp_path / "c.pt", []

    def loss(batch, rng, progress):
        return lambda part: model(torch.ones(1, 1)).sum() * batch[0]

    def validate():
        steps.append(1)
        if len(steps) == 2:
            model.get_parameter(broken).data.fill_(float(value))  # as a step does whose rate is far too high
        return {"score": 0.0 if len(steps) < 3 else torch.nan}

    config = TrainingConfig(epochs=1, validations=4)
    model, course = torch.nn.Linear(1, 1), {"plan": lambda rng: [[1], [2], [3], [4]], "loss": loss, "validate": validate}
    with pytest.raises(
        TrainingError, match=rf"model is not finite at step 2 of 4 \(largest weight {value}\): .*; the last good checkpoint stays in"
    ):
        fit(model, config, job_at(path), **course)
    state = load_checkpoint(path, "i")
    assert state["step"] == 1 and state["model"]["weight"].isfinite().all()
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match=r"validation is not finite at step 1 of 4 \(score nan\)"):
        fit(model, config, job_at(tmp_path / "other.pt"), **course)


def test_the_next_batch_is_made_before_a_loss_is_waited_for_and_is_what_it_would_be_after(tmp_path):
    """Where validation moves the last step, what depends on the share of the steps that are done is made anew."""
    events, model = [], torch.nn.Linear(1, 1)
    scores = iter([1.0, 3.0, 2.0, 2.0, 1.0])

    class Waits(Processes):
        def add_gradients(self, parameters, loss):
            events.append(("waited", None))
            return super().add_gradients(parameters, loss)

    def plan(rng):
        return [[int(rng.integers(1000))], [1000]]

    def loss(batch, rng, progress):
        what = (*batch, progress, rng.random())
        events.append(("made", what))

        def share_of(part):
            events.append(("computed", what))
            return model(torch.ones(1, 1)).sum()

        return share_of

    config = TrainingConfig(epochs=10, validations=10, patience=2, learning_rate=0.1)
    job = job_at(tmp_path / "c.pt", processes=Waits())
    curve = fit(model, config, job, plan=plan, loss=loss, validate=lambda: {"score": next(scores)})
    assert curve.steps == 10 and curve.kept_step == 4

    def step_of(step, end):
        epoch, rng = np.random.default_rng([job.seed, step // 2]), np.random.default_rng([job.seed, step, 1])
        rng.integers(2**62)  # the seed of the dropout
        return 1000 if step % 2 else epoch.integers(1000), step / end, rng.random()

    steps = [step_of(step, 20 if step < 8 else 10) for step in range(10)]
    assert [what for kind, what in events if kind == "computed"] == steps
    ahead = [*steps[:8], step_of(8, 20), *steps[8:]]  # one is made for an end that then moves
    assert [what for kind, what in events if kind == "made"] == ahead
    kinds = "".join(kind[0] for kind, _ in events)
    assert kinds == "m" + "cmw" * 8 + "m" + "cmw" + "cw"


@pytest.mark.parametrize(("keep", "point"), [("best", 1), ("last", 2)])
def test_the_weights_that_validation_prefers_are_kept_or_the_last(keep, point, tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    seen, scores = [], iter([1.0, 3.0, 2.0])

    def validate():
        seen.append(model.weight.item())
        return {"score": next(scores)}

    config = TrainingConfig(epochs=3, validations=3, learning_rate=0.1, keep=keep)

    def loss(batch, rng, progress):
        return lambda part: model(torch.ones(1, 1)).sum()

    curve = fit(model, config, job_at(tmp_path / "c.pt"), plan=lambda rng: [[0], [1]], loss=loss, validate=validate)
    assert model.weight.item() == seen[point] and curve.kept_step == curve.points[point]["step"]


def test_a_model_that_falls_to_chance_is_said_to_have(tmp_path):
    model, said, aucs = torch.nn.Linear(1, 1), [], iter([0.5, 0.7, 0.5, 0.6])
    job = dataclasses.replace(job_at(tmp_path / "c.pt"), report=said.append)

    def validate():
        auc = next(aucs)
        return {"score": auc, "auc": auc}

    def loss(batch, rng, progress):
        return lambda part: model(torch.ones(1, 1)).sum()

    fit(model, TrainingConfig(epochs=4, validations=4), job, plan=lambda rng: [[0]], loss=loss, validate=validate)
    warned = "warning: AUC fell from 0.7000 to chance, as after steps that are too large: lower training.learning_rate"
    assert [line for line in said if "warning" in line] == [warned] and said[-2] == warned


def test_who_is_told_what_validation_measured_may_end_the_training(tmp_path):
    model, told = torch.nn.Linear(1, 1), []

    def measured(share, figures):
        told.append((share, figures["score"]))
        if len(told) == 3:
            raise Killed

    job = dataclasses.replace(job_at(tmp_path / "c.pt"), measured=measured)
    scores = iter([0.1, 0.3, 0.2, 0.4])
    with pytest.raises(Killed):
        fit(
            model,
            TrainingConfig(epochs=4, validations=4),
            job,
            plan=lambda rng: [[0]],
            loss=lambda batch, rng, progress: lambda part: model(torch.ones(1, 1)).sum(),
            validate=lambda: {"score": next(scores)},
        )
    assert told == [(0.25, 0.1), (0.5, 0.3), (0.75, 0.2)]


def test_the_average_of_the_weights_is_measured_and_kept_and_moves_no_step(tmp_path):
    """Of a gradient that is always 1, plain steps go down by the rate; a memory of half of the six steps is three."""

    def trained(**settings):
        model, measured, stepped = torch.nn.Linear(1, 1, bias=False), [], []
        model.weight.data.fill_(1.0)

        def loss(batch, rng, progress):
            def share_of(part):
                stepped.append(model.weight.item())
                return model(torch.ones(1, 1)).sum()

            return share_of

        def validate():
            measured.append(model.weight.item())
            return {"score": float(len(measured))}

        config = TrainingConfig(epochs=3, validations=3, learning_rate=0.1, weight_decay=0, **settings)
        fit(model, config, job_at(tmp_path / f"{settings}.pt"), plan=lambda rng: [[0], [1]], loss=loss, validate=validate)
        return model.weight.item(), measured, stepped

    plain, measured, stepped = trained()
    after = [*stepped[1:], plain]  # the weight after each step
    third = after[0] + after[1] + after[2]
    assert (plain, measured) == (after[5], after[1::2])
    kept, averages, same_steps = trained(average=0.5)
    fourth = third / 3 + (after[3] - third / 3) / 3
    fifth = fourth + (after[4] - fourth) / 3
    assert same_steps == stepped
    assert averages == pytest.approx([(after[0] + after[1]) / 2, fourth, fifth + (after[5] - fifth) / 3], abs=1e-6)
    assert kept == averages[-1] > plain
    assert trained(average=0.1) == (plain, measured, stepped)  # a memory of less than a step: the weights themselves


def test_without_validation_to_prefer_it_the_last_average_is_kept(assembly, tmp_path):
    """Averages leave what is frozen or padding as it is."""
    model, curve = student_run(assembly, tmp_path / "c.pt", average=0.5, keep="last")
    assert curve.kept_step == curve.steps
    assert all(not table.weight[0].any() for table in model.modules() if isinstance(table, torch.nn.Embedding))


def test_a_training_in_parts_is_the_undivided_one(assembly, tmp_path):
    """For click rows and students, unlabelled rows included; the encoder is compared in test_distributed.py."""
    rows = rows_of(assembly)
    rows.train.label[::7] = -1
    teacher = np.random.default_rng(0).normal(size=(len(rows.train), 1)).astype(np.float32)
    losses = []
    for parts in (1, 3, 50):
        training = FAST.model_copy(update={"accumulate": parts, "checkpoint_seconds": 60.0})
        config = DistillConfig(student=StudentConfig(width=8, hidden=8, dropout=0), training=training)
        _, curve = train_student(rows, config, job_at(tmp_path / f"{parts}.pt"), teacher=teacher)
        losses.append([[point["train_loss"], point["log_loss"]] for point in curve.points])
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)


@pytest.fixture(scope="module")
def pretrained(assembly, tmp_path_factory):
    config = PretrainConfig(encoder=EncoderConfig(width=16, heads=2, layers=1), training=FAST, next_segment=0.3, validation_share=0.2)
    return config, *pretrain(assembly, config, job_at(tmp_path_factory.mktemp("pretrain") / "c.pt"))


def test_pretraining_learns(pretrained):
    _, _, curve, facts = pretrained
    assert curve.points[-1]["train_loss"] < curve.points[0]["train_loss"]
    assert facts["sequences"] > 0 and 0 <= facts["masked_item_accuracy"] <= 1


@pytest.mark.parametrize("items", ["softmax", "sampled", "gbce"])
def test_items_step_by_rows_where_the_loss_reads_a_sample_of_them(items, assembly, tmp_path):
    config = PretrainConfig(
        encoder=EncoderConfig(width=16, heads=2, layers=1), training=FAST, items=items, negatives=5, validation_share=0.2
    )
    model, curve, _ = pretrain(assembly, config, job_at(tmp_path / "c.pt"))
    assert model.bert.token.embeddings()[0].sparse == (items != "softmax")
    assert curve.points[-1]["train_loss"] < curve.points[0]["train_loss"]


def test_one_user_is_not_enough():
    for count in (0, 1, 3):
        pieces = Segment(np.zeros((6, 1), np.int32), np.arange(count) * 2, np.arange(count) * 2 + 2)
        with pytest.raises(DataError, match=f"of at least 2 users, and found {min(count, 1)}"):
            split_sequences(pieces, np.full(count, 7), 0.1, 0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.49])
def test_a_user_lies_on_one_side_of_the_split(share):
    """A share of users, not of pieces: long sequences are cut, and their pieces stay together."""
    user = np.repeat(np.arange(40), np.arange(40) % 7 + 1)
    start = np.arange(len(user)) * 2
    parts = split_sequences(Segment(np.zeros((2 * len(user), 1), np.int32), start, start + 2), user, share, 0)
    training, validation = (set(user[part.start // 2]) for part in parts)
    assert not training & validation and training | validation == set(range(40))
    assert len(validation) == max(1, round(40 * share))
    assert sorted(np.concatenate([part.start for part in parts])) == start.tolist()


def test_held_out_users_have_few_enough_sequences(monkeypatch):
    monkeypatch.setattr("ctr_kd.training.pretrain.VALIDATION_SEQUENCES", 10)
    user = np.repeat(np.arange(20), 4)
    start = np.arange(len(user)) * 2
    _, validation = split_sequences(Segment(np.zeros((2 * len(user), 1), np.int32), start, start + 2), user, 0.4, 0)
    assert len(validation.start) == 8  # two users of four pieces; a third would be too many


def test_one_item_alone_is_learnt_and_none_is_an_error(tmp_path):
    config = PretrainConfig(encoder=EncoderConfig(width=16, heads=2, layers=1), training=FAST, validation_share=0.4)
    for known in (1, 0):
        directory = write_assembly(tmp_path / str(known), items=4 + known)
        assembly = Assembly(directory, 5)
        if known:
            _, curve, _ = pretrain(assembly, config, job_at(tmp_path / "c.pt"))
            assert curve.points[-1]["masked_item_loss"] < curve.points[0]["masked_item_loss"]
        else:
            with pytest.raises(DataError, match="vocabulary holds no item"):
                pretrain(assembly, config, job_at(tmp_path / "d.pt"))


@pytest.mark.parametrize("strategy", ["low_lr", "freeze", "freeze_then_unfreeze", "from_scratch"])
def test_strategies_move_what_they_should(strategy, pretrained, assembly, tmp_path):
    _, model, *_ = pretrained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = FinetuneConfig(strategy=strategy, training=FAST, head_width=16)
    finetune(copy.deepcopy(model), rows_of(assembly), settings, job_at(tmp_path / "c.pt"), pretraining_rate=5e-3)
    last = torch.load(tmp_path / "c.pt", weights_only=True)["model"]
    moved = max((last[f"pretrained.{name}"] - value).abs().max().item() for name, value in before.items() if "tables" not in name)
    assert (moved == 0) == (strategy == "freeze")
    assert (last["head.layers.0.weight"].abs().sum()) > 0


@pytest.mark.parametrize("said", [{"rate_ratio": 0.01}, {"encoder_learning_rate": 1e-5}], ids=str)
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_low_rate_is_relative_to_pretraining_or_as_it_is_given_and_falls_with_depth(pretrained, signature, layer_decay, said):
    _, model, *_ = pretrained
    teacher = ClickBert(copy.deepcopy(model), signature, FinetuneConfig(head_width=16, head_dropout=0))
    config = FinetuneConfig(**said, layer_decay=layer_decay, training=TrainingConfig(learning_rate=2e-3))
    new, *old = parameter_groups(teacher, config, pretraining_rate=1e-3)
    assert new.rate == 1.0
    rate = {id(p): group.rate * 2e-3 for group in old for p in group.parameters}
    bert = teacher.pretrained.bert
    depths = [teacher.pretrained.bias, *reversed([layer.expand.weight for layer in bert.layers]), bert.position.weight]
    expected = [0.01 * 1e-3, *(0.01 * 1e-3 * layer_decay**depth for depth in range(len(bert.layers) + 1))]
    assert [rate[id(parameter)] for parameter in depths] == pytest.approx(expected)
    every = [id(p) for group in (new, *old) for p in group.parameters]
    assert len(every) == len(set(every)) and set(every) == {id(p) for p in teacher.parameters()}


def test_masked_item_accuracy_is_a_fixed_measurement(pretrained, assembly):
    _, model, *_ = pretrained
    whole = assembly.sequences(None)
    assert masked_item_accuracy(model, whole) == pytest.approx(masked_item_accuracy(model, whole, batch_size=7), abs=1e-5)


def test_logits_are_joined_by_row_id_never_by_position(assembly):
    train = assembly.samples("train")
    logit = train.row_id[:, None].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(train))
    assert np.array_equal(align_logits(train.row_id[order], logit[order], train), logit)
    with pytest.raises(TrainingError, match="miss 1 of"):
        align_logits(train.row_id[1:], logit[1:], train)
    with pytest.raises(TrainingError, match="miss"):
        align_logits(np.zeros(0, np.int64), np.zeros((0, 1), np.float32), train)
    broken = logit.copy()
    broken[4] = np.nan
    with pytest.raises(TrainingError, match=f"row {train.row_id[4]} is not finite"):
        align_logits(train.row_id, broken, train)


def test_the_student_follows_its_teacher(assembly, tmp_path):
    """With soft targets alone the student comes to rank as its teacher does, whatever the labels say."""
    rows = rows_of(assembly)
    train = rows.train
    item = train.b.pool[train.b.start, 0]
    teacher = (item[:, None] % 5).astype(np.float32) - 2
    config = DistillConfig(
        student=StudentConfig(width=16, hidden=32, dropout=0), alpha=0, training=FAST.model_copy(update={"epochs": 40, "unknown_rate": 0.0})
    )
    model, _ = train_student(rows, config, job_at(tmp_path / "c.pt"), teacher=teacher)
    known = item > 4
    assert np.corrcoef(predict(model, train)[known, 0], teacher[known, 0])[0, 1] > 0.8


def test_from_scratch_everything_trains_at_the_full_rate(pretrained, signature):
    _, model, *_ = pretrained
    teacher = ClickBert(copy.deepcopy(model), signature, FinetuneConfig(head_width=16, head_dropout=0))
    (group,) = parameter_groups(teacher, FinetuneConfig(strategy="from_scratch", rate_ratio=0.01, layer_decay=0.5), pretraining_rate=1e-3)
    assert (group.rate, group.starts_at) == (1.0, 0.0)
    assert [id(p) for p in group.parameters] == [id(p) for p in teacher.parameters()]


STILL = TrainingConfig(epochs=1, batch_size=1000, learning_rate=1e-9, validations=1, unknown_rate=0)


def test_training_begins_at_the_rate_of_the_labels(pretrained, assembly, tmp_path):
    """A click head, and a student's, that have learnt nothing yet answer about the average rate: there is nothing to unlearn."""
    rows = rows_of(assembly)
    label = (np.arange(len(rows.train)) % 50 == 0).astype(np.float32)
    rare = dataclasses.replace(rows, train=dataclasses.replace(rows.train, label=label))
    average = np.log(label.mean() / (1 - label.mean()))
    student, _ = train_student(rare, DistillConfig(training=STILL), job_at(tmp_path / "s.pt"))
    _, model, *_ = pretrained
    settings = FinetuneConfig(training=STILL, head_width=16)
    teacher, _ = finetune(copy.deepcopy(model), rare, settings, job_at(tmp_path / "t.pt"), pretraining_rate=5e-3)
    for trained in (student, teacher):
        assert abs(predict(trained, rows.validation).mean() - average) < 0.6


def test_hard_negatives_are_learnt_from_and_leave_the_rate_as_it_is(pretrained, assembly, tmp_path):
    """Rows that are no click join the training rows, whatever label they carry; the mean probability of the others is their rate."""
    rows = rows_of(assembly)
    train = rows.train
    half = np.arange(0, len(train), 2)
    own = assembly.samples_of(pq.read_table(assembly.directory / "rows.parquet", filters=[("split", "=", "train")]).take(half))
    _, model, *_ = pretrained
    logits = []
    for label in (-1.0, 1.0):
        negatives = dataclasses.replace(own, label=np.full(len(own), label, np.float32))
        config, job = FinetuneConfig(training=FAST, head_width=16), job_at(tmp_path / f"{label}.pt")
        taught, curve = finetune(copy.deepcopy(model), rows, config, job, pretraining_rate=5e-3, negatives=negatives)
        done: list[int] = []
        logits.append(predict(taught, train, 64, done.append)[:, 0])
        assert done == sorted(done) and done[-1] == len(train) and len(done) > 1
        assert curve.steps > 6 * len(train) / 32  # more rows, more steps
    assert np.array_equal(*logits)
    assert abs((1 / (1 + np.exp(-logits[0].astype(np.float64)))).mean() - train.label.mean()) < 1e-5


@given(st.lists(st.tuples(st.floats(-20, 20), st.integers(0, 1)), min_size=1, max_size=30))
def test_the_offset_restores_the_rate(rows):
    logit, label = np.array([0.0, 0.0, *(row[0] for row in rows)]), np.array([0, 1, *(row[1] for row in rows)])
    assert abs((1 / (1 + np.exp(-(logit + rate_offset(logit, label))))).mean() - label.mean()) < 1e-9


@pytest.mark.parametrize("layers", [0, 2])
def test_cross_layers_are_new_parameters_with_a_gradient(layers, pretrained, assembly, signature):
    _, model, *_ = pretrained
    config = FinetuneConfig(head_width=16, cross_layers=layers)
    teacher = ClickBert(copy.deepcopy(model), signature, config)
    teacher(*make_batch(assembly.samples("train"), np.arange(20))).sum().backward()
    crossing = [p for name, p in teacher.named_parameters() if name.startswith("cross")]
    assert bool(crossing) == bool(layers)
    assert {id(p) for p in crossing} <= {id(p) for p in teacher.new_parameters()}
    assert all(p.grad.abs().sum() > 0 for p in crossing)
