"""Budgets that fit the log: what ``auto`` comes to, from how much there is to learn from. Nothing here looks at a label or a test row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from ctr_kd.config import DistillConfig, FinetuneConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from feature_store.config_types import is_auto

PATIENCE = 3  # validations
MOST_MEMBERS = 3
RATE_WIDTH = 64  # of an encoder, for which the rates of pretraining below are


@dataclass(frozen=True)
class Budget:
    """How a kind of training grows with what it learns from.

    Attributes
    ----------
    batches : tuple of int
        Smallest and largest batch; between them it grows so that an epoch has about ``epoch_steps`` steps.
    epoch_steps : int
    rate : float
        Learning rate of a batch of ``rate_batch``. With Adam it goes with the root of the batch (Malladi et al. 2022, arXiv:2205.10287),
        but never above this: rates that a large batch would bear are not needed where there are many steps.
    rate_batch : int
    epochs : tuple of float
        Fewest and most; validation ends a training earlier.
    steps : int
        No more than so many, once the fewest epochs are done.
    validate_every : float
        Epochs between two validations.
    least_interval : int
        Fewest steps between two validations.
    unknown_rates : tuple of float
        Smallest and largest rate at which ids are hidden.
    embedding_decay : float
        Of embedding tables, at the ``rate`` above: ids have few rows each, and what little those say is weighed against nothing at all.
    member_rows : int
        So many rows are shared among the members of a teacher, :data:`MOST_MEMBERS` at most: where there are few, what a seed moves is
        large, and another member costs little.
    patience : int, optional
        Validations without a better one that end a training; None: it ends after its epochs, along a cosine.
    linear_rate : float, optional
        In place of ``rate`` for a student whose head is linear: its rare n-grams are read in few steps.
    """

    batches: tuple[int, int]
    epoch_steps: int
    rate: float
    rate_batch: int
    epochs: tuple[float, float]
    steps: int
    validate_every: float
    least_interval: int
    unknown_rates: tuple[float, float]
    embedding_decay: float = 0.0
    member_rows: int = 0
    patience: int | None = PATIENCE
    linear_rate: float | None = None


PRETRAINING = Budget(
    batches=(32, 256),
    epoch_steps=48,
    rate=2e-3,
    rate_batch=128,
    epochs=(2, 60),
    steps=3000,
    validate_every=1,
    least_interval=50,
    unknown_rates=(0.1, 0.1),
)
CLICKS = Budget(
    batches=(256, 1024),
    epoch_steps=200,
    rate=1.4e-3,
    rate_batch=1024,
    epochs=(2, 12),
    steps=4000,
    validate_every=0.5,
    least_interval=25,
    unknown_rates=(0.2, 0.5),
    embedding_decay=1.0,
    member_rows=300_000,
)
"""Of teacher and student: they learn from the same rows."""

TEXTS = replace(
    CLICKS,
    batches=(32, 256),
    rate=2e-3,
    rate_batch=128,
    epochs=(3, 16),
    unknown_rates=(0.2, 0.2),
    embedding_decay=0.0,
    member_rows=0,
    linear_rate=1e-2,
)
"""The same of texts: each has a sequence of its own, and there are fewer of them than of clicks."""

MADE_UP = replace(TEXTS, epochs=(3, 24), rate_batch=32, patience=10)
"""Of a student that is no linear one where a teacher judges made-up texts too: a step reads those beside its batch, and bears the full
rate. It still learns what its teacher says when a few hundred validation rows do not show it for a while. The student alone has the same
patience, and does not learn by heart to the end. (Test accuracy, one seed: TREC .918 for .892 with a patience of 3, CR .816 for .795.)"""

RELEASED = replace(TEXTS, batches=(16, 32), epochs=(3, 8), steps=600, unknown_rates=(0.0, 0.0), patience=None)
"""Of a BERT that others pretrained, as the field fine-tunes them: three epochs or a few more of few rows (Mosbach et al. 2021,
arXiv:2006.04884), and all that it reads is in its vocabulary."""

RELEASED_RATE, RELEASED_RATIO = 1e-3, 0.03
"""Its rate: 3e-5 together, as BERTs of words are fine-tuned (Devlin et al. 2019, arXiv:1810.04805, A.3)."""

SHARES = {"pretrain": 0.25, "finetune": 0.4, "distill": 0.2}
"""Of a run's time. The rest is for rows, trees, evaluation and export."""


def settled_training(
    training: TrainingConfig, budget: Budget, examples: int, width: int = RATE_WIDTH, new_items: float = 0.0
) -> TrainingConfig:
    """A training loop whose ``auto`` are numbers; what was given stays.

    Parameters
    ----------
    training : TrainingConfig
    budget : Budget
    examples : int
        Rows or sequences that it learns from.
    width : int
        Of a network of many layers, whose rate falls with it as Adam's should (Yang et al. 2022, arXiv:2203.03466, table 3).
    new_items : float
        Share of the validation rows whose item has no id. As many are hidden in training, so that it learns from what it will meet, but
        never most: histories hold ids, too.

    Examples
    --------
    >>> training = settled_training(TrainingConfig(epochs="auto", batch_size="auto", learning_rate=1e-3, patience="auto"), CLICKS, 73_000)
    >>> training.batch_size, training.epochs, training.patience, training.learning_rate
    (512, 12.0, 3, 0.001)
    """
    found: dict[str, Any] = {}
    if is_auto(training.batch_size):
        found["batch_size"] = _power_of_two(examples / budget.epoch_steps, *budget.batches)
    batch = found.get("batch_size", training.batch_size)
    epoch = max(1, math.ceil(examples / batch))
    own_rate = budget.rate * min(1.0, math.sqrt(batch / budget.rate_batch)) * min(1.0, RATE_WIDTH / width)
    if is_auto(training.learning_rate):
        found["learning_rate"] = own_rate
    if is_auto(training.embedding_decay):  # a step shrinks by the rate times the decay: no more at a higher rate that is given
        decay = 0.0 if training.lazy_ids else budget.embedding_decay
        found["embedding_decay"] = decay * min(1.0, own_rate / found.get("learning_rate", training.learning_rate))
    if is_auto(training.unknown_rate):
        least, largest = budget.unknown_rates
        found["unknown_rate"] = round(min(largest, max(least, new_items)), 2)
    if is_auto(training.epochs):
        few, most = budget.epochs
        found["epochs"] = float(max(few, min(most, budget.steps / epoch)))
    if is_auto(training.patience):
        heeded = training.keep == "best" and not training.average  # a mean of weights takes the place of a fall
        found["patience"] = budget.patience if is_auto(training.epochs) and heeded else None
    if is_auto(training.validations):
        steps = found.get("epochs", training.epochs) * epoch
        every = max(budget.least_interval, budget.validate_every * epoch)
        plateau = found.get("patience", training.patience) is not None
        found["validations"] = max(4, round(steps / every)) if plateau else 4
    return training.model_copy(update=found) if found else training


def settled_pretraining(config: PretrainConfig, sequences: int, budget: Budget = PRETRAINING) -> PretrainConfig:
    """Pretraining whose ``auto`` are numbers, for so many sequences."""
    if config.checkpoint is not None and is_auto(config.training.learning_rate):  # of the training, that alone is read
        config = config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": RELEASED_RATE})})
    width = max((one.width for one in (config.encoder, *config.more_encoders) if not is_auto(one.width)), default=RATE_WIDTH)
    return config.model_copy(update={"training": settled_training(config.training, budget, sequences, width)})


def rate_ratio(tokens: int | None) -> float:
    """How fast a pretrained encoder moves while it is fine-tuned, over its pretraining rate.

    A hundredth lets what it learned survive, which is right where it learned from many clicks. From few it learned little that labels do
    not say better.

    Parameters
    ----------
    tokens : int or None
        Clicks, or words, that it was pretrained on; None of a BERT that others pretrained.

    Examples
    --------
    >>> rate_ratio(50_000), rate_ratio(1_000_000), rate_ratio(100_000_000)
    (0.3, 0.1, 0.01)
    """
    return RELEASED_RATIO if tokens is None else min(0.3, max(0.01, 1e5 / max(tokens, 1)))


def members(rows: int, budget: Budget = CLICKS) -> int:
    """How many fine-tunings of an encoder are a teacher.

    Examples
    --------
    >>> members(60_000), members(140_000), members(1_000_000), members(5_000, TEXTS)
    (3, 2, 1, 1)
    """
    return min(MOST_MEMBERS, max(1, budget.member_rows // max(rows, 1)))


def settled_finetuning(
    config: FinetuneConfig, rows: int, tokens: int | None, budget: Budget = CLICKS, new_items: float = 0.0
) -> FinetuneConfig:
    """Fine-tuning whose ``auto`` are numbers, for so many rows with a label, of an encoder that learned from so many tokens.

    A strategy that changes course at a share of the steps has to know its end: it takes the epochs as they are. One that others pretrained
    (``tokens`` is None) has a budget of its own, :data:`RELEASED`.
    """
    training = config.training
    budget = RELEASED if tokens is None and config.strategy != "from_scratch" else budget
    if config.strategy == "freeze_then_unfreeze" and is_auto(training.patience):
        training = training.model_copy(update={"patience": None})
    found: dict[str, Any] = {"training": settled_training(training, budget, rows, new_items=new_items)}
    if is_auto(config.rate_ratio) and config.encoder_learning_rate is None:
        found["rate_ratio"] = rate_ratio(tokens)
    if is_auto(config.members):
        found["members"] = 1 if config.strategy == "next_segment" else members(rows, budget)
    return config.model_copy(update=found)


def settled_distillation(config: DistillConfig, rows: int, budget: Budget = CLICKS, new_items: float = 0.0) -> DistillConfig:
    """Distillation whose ``auto`` are numbers, for so many rows with a label; a schedule of weights has to know its end, as above."""
    if budget.linear_rate is not None and getattr(config.student, "hidden", None) == 0:
        budget = replace(budget, rate=budget.linear_rate)
    elif budget.linear_rate is not None and config.transfers:
        budget = replace(MADE_UP, unknown_rates=budget.unknown_rates)
    return config.model_copy(update={"training": settled_training(with_an_end(config), budget, rows, new_items=new_items)})


def with_an_end(config: DistillConfig) -> TrainingConfig:
    """The training loop of the student, and of the student alone beside it: with a known end where a schedule asks for one."""
    training = config.training
    return training.model_copy(update={"patience": None}) if config.changes_course and is_auto(training.patience) else training


def minutes_of(budget: timedelta, stage: str, trainings: int) -> float:
    """Minutes of each of so many trainings of a stage, where a run has a budget of time.

    Examples
    --------
    >>> minutes_of(timedelta(minutes=20), "distill", 2)
    2.0
    """
    return SHARES[stage] * budget.total_seconds() / 60 / trainings


def _power_of_two(wanted: float, least: int, most: int) -> int:
    """The nearest power of two within bounds.

    >>> _power_of_two(40, 32, 256), _power_of_two(3, 32, 256), _power_of_two(150, 32, 256)
    (32, 32, 128)
    """
    return int(min(most, max(least, 2 ** round(math.log2(max(wanted, 1))))))
