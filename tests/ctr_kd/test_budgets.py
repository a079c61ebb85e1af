import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_kd.budgets import CLICKS, PRETRAINING, TEXTS, settled_distillation, settled_finetuning, settled_pretraining, settled_training
from ctr_kd.config import DistillConfig, FinetuneConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from feature_store.config_types import AUTO, is_auto, settings_of

EVERYTHING = TrainingConfig(epochs=AUTO, batch_size=AUTO, learning_rate=AUTO, unknown_rate=AUTO, validations=AUTO, patience=AUTO)


def test_what_is_given_stays_and_numbers_are_not_settled_again() -> None:
    given = TrainingConfig(epochs=7, batch_size=33, learning_rate=0.5, unknown_rate=0.3, validations=9)
    assert settled_training(given, CLICKS, 1000) is given
    mixed = settled_training(EVERYTHING.model_copy(update={"epochs": 7.0}), CLICKS, 1000)
    assert (mixed.epochs, mixed.patience, mixed.validations) == (7.0, None, 4)  # epochs as they are, along a cosine
    assert settled_training(mixed, CLICKS, 10**6) == mixed


@given(examples=st.integers(1, 10**9), budget=st.sampled_from([PRETRAINING, CLICKS, TEXTS]))
def test_budgets_have_a_floor_and_a_ceiling_whatever_the_log(examples: int, budget) -> None:
    training = settled_training(EVERYTHING, budget, examples)
    assert not any(is_auto(value) for value in training.model_dump(exclude={"device"}).values())
    least, most = budget.batches
    assert least <= training.batch_size <= most and training.batch_size & (training.batch_size - 1) == 0
    few, many = budget.epochs
    steps = training.epochs * max(1, -(-examples // training.batch_size))
    assert few <= training.epochs <= many and (steps <= budget.steps * 1.001 or training.epochs == few)
    assert 0 < training.learning_rate <= budget.rate and training.validations >= 4 and training.patience
    TrainingConfig.model_validate(training.model_dump())


def test_more_to_learn_from_is_a_larger_batch_a_higher_rate_and_fewer_epochs() -> None:
    small, large = (settled_training(EVERYTHING, CLICKS, rows) for rows in (20_000, 20_000_000))
    assert (small.batch_size, large.batch_size) == (256, 1024) and large.learning_rate == pytest.approx(2 * small.learning_rate)
    assert (small.epochs, large.epochs) == (12, 2)
    assert small.validations == 24 and large.validations == 4  # every half epoch


@pytest.mark.parametrize(("new_items", "rate"), [(0.0, 0.2), (0.236, 0.24), (0.62, 0.5), (1.0, 0.5)])
def test_ids_are_hidden_as_often_as_items_are_new(new_items: float, rate: float) -> None:
    finetune = settled_finetuning(FinetuneConfig(), 1000, 1000, new_items=new_items)
    distill = settled_distillation(DistillConfig(), 1000, new_items=new_items)
    assert finetune.training.unknown_rate == distill.training.unknown_rate == rate
    given = settings_of(DistillConfig, {"training": {"unknown_rate": 0.0}})
    assert settled_distillation(given, 1000, new_items=new_items).training.unknown_rate == 0
    assert settled_distillation(DistillConfig(), 1000, TEXTS, new_items).training.unknown_rate == 0.2


@pytest.mark.parametrize(("rows", "epochs", "batch"), [(1000, 8, 16), (4944, 600 / 155, 32), (100_000, 3, 32)])
def test_a_released_bert_is_read_a_few_times_along_a_cosine_with_nothing_hidden(rows: int, epochs: float, batch: int) -> None:
    training = settled_finetuning(FinetuneConfig(), rows, None, TEXTS, new_items=0.4).training
    assert training.epochs == pytest.approx(epochs) and training.batch_size == batch
    assert (training.patience, training.unknown_rate, training.validations) == (None, 0.0, 4)
    fresh = settled_finetuning(settings_of(FinetuneConfig, {"strategy": "from_scratch"}), rows, None, TEXTS).training
    assert fresh.patience == 3 and fresh.unknown_rate == 0.2  # it has none of what was released


@pytest.mark.parametrize(("rows", "epochs"), [(4944, 24), (100_000, 4000 / 391)])
def test_a_student_of_made_up_texts_is_given_more_patience(rows: int, epochs: float) -> None:
    made_up = {"transfer": {"augmentation": {"amount": 16}}}
    taught = settled_distillation(settings_of(DistillConfig, {**made_up, "student": {"kind": "bilstm"}}), rows, TEXTS).training
    assert (taught.patience, taught.learning_rate, taught.unknown_rate) == (10, 2e-3, 0.2)
    assert taught.epochs == pytest.approx(epochs)
    linear = settled_distillation(settings_of(DistillConfig, {**made_up, "student": {"kind": "pooled", "hidden": 0}}), rows, TEXTS)
    without = settled_distillation(settings_of(DistillConfig, {"student": {"kind": "bilstm"}}), rows, TEXTS)
    clicks = settled_distillation(settings_of(DistillConfig, {"transfer": {"amount": 1}}), rows)
    assert linear.training.patience == without.training.patience == clicks.training.patience == 3


def test_ids_of_clicks_decay_unless_they_are_lazy_or_said_not_to() -> None:
    assert settled_finetuning(FinetuneConfig(), 1000, 1000).training.embedding_decay == 1
    assert settled_distillation(DistillConfig(), 1000, TEXTS).training.embedding_decay == 0
    assert settled_pretraining(PretrainConfig(), 1000).training.embedding_decay == 0
    for said in ({"lazy_ids": True}, {"embedding_decay": 0.0}):
        assert settled_distillation(settings_of(DistillConfig, {"training": said}), 1000).training.embedding_decay == 0
    high = settled_distillation(settings_of(DistillConfig, {"training": {"learning_rate": 1.4e-2, "batch_size": 1024}}), 1000).training
    assert high.embedding_decay == pytest.approx(0.1)  # as much a step as at its own rate
    with pytest.raises(ValueError, match="set one of the two"):
        settings_of(DistillConfig, {"training": {"lazy_ids": True, "embedding_decay": 1.0}})


def test_a_wider_encoder_has_a_lower_rate() -> None:
    rates = [
        settled_pretraining(settings_of(PretrainConfig, {"encoder": {"width": width}}), 10_000).training.learning_rate
        for width in (32, 64, 128)
    ]
    assert rates == [pytest.approx(2e-3), pytest.approx(2e-3), pytest.approx(1e-3)]
    two = settings_of(PretrainConfig, {"more_encoders": [{"width": 256}]})
    assert settled_pretraining(two, 10_000).training.learning_rate == pytest.approx(5e-4)


def test_the_last_weights_are_kept_without_patience() -> None:
    last = settings_of(PretrainConfig, {"training": {"keep": "last"}})
    assert settled_pretraining(last, 10_000).training.patience is None


def test_what_changes_course_at_a_share_of_the_steps_has_to_know_its_end() -> None:
    thawed = settled_finetuning(settings_of(FinetuneConfig, {"strategy": "freeze_then_unfreeze"}), 1000, 1000)
    warmed = settled_distillation(settings_of(DistillConfig, {"schedule": {"weight": "warmup"}}), 1000)
    assert thawed.training.patience is warmed.training.patience is None
    plain = settled_finetuning(FinetuneConfig(), 1000, 10**6)
    assert plain.training.patience and plain.rate_ratio == 0.1


def test_a_released_bert_moves_as_slowly_as_berts_do() -> None:
    pretrain = settled_pretraining(settings_of(PretrainConfig, {"checkpoint": "bert"}), 1000)
    finetune = settled_finetuning(FinetuneConfig(), 1000, None)
    assert pretrain.training.learning_rate * finetune.rate_ratio == pytest.approx(3e-5)


def test_a_rate_of_the_encoder_that_is_given_stays() -> None:
    found = settled_finetuning(FinetuneConfig(encoder_learning_rate=2e-5), 1000, None)
    assert found.encoder_learning_rate == 2e-5 and is_auto(found.rate_ratio)
    with pytest.raises(ValueError, match="encoder_learning_rate and rate_ratio both say how fast the encoder moves: remove one"):
        FinetuneConfig(encoder_learning_rate=2e-5, rate_ratio=0.1)


def test_a_linear_student_of_texts_learns_faster_and_slower_in_small_batches() -> None:
    linear, deep = (settings_of(DistillConfig, {"student": {"hidden": hidden}}) for hidden in (0, 64))
    rates = [settled_distillation(one, rows, TEXTS).training.learning_rate for rows in (2700, 50_000) for one in (linear, deep)]
    assert rates == pytest.approx([0.005, 0.001, 0.01, 0.002])
    assert settled_distillation(linear, 50_000).training.learning_rate < 0.002  # of clicks as any


def test_the_members_of_a_teacher_share_the_rows_and_what_trains_nothing_has_one() -> None:
    assert settled_finetuning(FinetuneConfig(), 60_000, 1000).members == 3
    assert settled_finetuning(FinetuneConfig(members=7), 60_000, 1000).members == 7
    assert settled_finetuning(FinetuneConfig(), 60_000, 1000, TEXTS).members == 1
    assert settled_finetuning(FinetuneConfig(strategy="next_segment"), 60_000, 1000).members == 1


def test_auto_is_read_and_written_as_a_number_is() -> None:
    config = TrainingConfig.model_validate({"epochs": "auto", "patience": "auto", "batch_size": 8})
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config
    for key, value in {"epochs": 0, "batch_size": 0, "patience": 0, "unknown_rate": 1, "learning_rate": "fast"}.items():
        with pytest.raises(ValueError, match=key):
            TrainingConfig.model_validate({key: value})
