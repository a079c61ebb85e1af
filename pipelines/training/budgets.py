"""What the log decides of a configuration (``auto``), once its rows are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctr_kd.budgets import (
    CLICKS,
    PRETRAINING,
    TEXTS,
    minutes_of,
    settled_distillation,
    settled_finetuning,
    settled_pretraining,
    settled_training,
)
from ctr_kd.config import DistillConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from feature_store.config_types import is_auto
from pipelines.config.run import RunConfig
from pipelines.tasks import task_of
from pipelines.tasks.log_size import LogSize
from pipelines.workspace.parent import Parent, parent_of


def settled(config: RunConfig, ingest: Path) -> RunConfig:
    """The configuration with numbers in place of every ``auto``, and a share of ``budget`` for each training.

    Of what is given nothing changes, so that it comes to the same however often it is settled. Stages behind ``ingest`` read numbers
    alone, and those are in their fingerprints.

    Parameters
    ----------
    config : RunConfig
    ingest : Path
        Artifact of stage ``ingest``.
    """
    return with_numbers(config, task_of(config).size(ingest), parent_of(ingest))


def with_numbers(config: RunConfig, size: LogSize, parent: Parent | None = None) -> RunConfig:
    """The same, by how much there is to learn from, and by the run that is continued."""
    if parent is not None and is_auto(config.finetune.members):  # a teacher is continued in its shape
        config = config.model_copy(update={"finetune": config.finetune.model_copy(update={"members": parent.members})})
    tokens = size.tokens if config.pretrain.checkpoint is None else None
    pretrain = settled_pretraining(in_shape(config.pretrain, size.encoder), size.sequences)
    budget = TEXTS if config.task == "texts" else CLICKS
    finetune = settled_finetuning(config.finetune, size.rows, tokens, budget, size.new_items)
    if config.task == "texts" and not config.tokens.student.keep_unknown:
        budget = replace(budget, unknown_rates=(0.0, 0.0))  # such a student meets nothing unknown
    distill = settled_distillation(config.distill, size.rows, budget, size.new_items)
    light = config.next_item.student
    light = light.model_copy(update={"training": settled_training(light.training, PRETRAINING, size.sequences)})
    config = config.model_copy(update={"next_item": config.next_item.model_copy(update={"student": light})})
    if config.budget is not None:
        encoders = (1 + len(config.pretrain.more_encoders)) * _times(config.distill)
        trainings = {"pretrain": encoders, "finetune": encoders * finetune.members, "distill": 2}
        minutes = {name: minutes_of(config.budget, name, count) for name, count in trainings.items()}
        pretrain = pretrain.model_copy(update={"training": _within(pretrain.training, minutes["pretrain"])})
        finetune = finetune.model_copy(update={"training": _within(finetune.training, minutes["finetune"])})
        distill = distill.model_copy(update={"training": _within(distill.training, minutes["distill"])})
    return config.model_copy(update={"pretrain": pretrain, "finetune": finetune, "distill": distill})


def in_shape(config: PretrainConfig, shape: Mapping[str, Any] | None) -> PretrainConfig:
    """The settings with the shape of a released BERT where none is written; one that is written stays, and is refused if it is another."""
    if shape is None:
        return config
    found = {key: value for key, value in shape.items() if is_auto(getattr(config.encoder, key))}
    return config.model_copy(update={"encoder": config.encoder.model_copy(update=found)})


def _times(distill: DistillConfig) -> int:
    """How often the BERT is made: once more for each fold that others judge, and for weights that are learned from what it did not see."""
    folds = sum(teacher.folds - 1 for teacher in distill.teachers if teacher.name == "bert" and teacher.out_of_fold)
    return 1 + folds + (distill.weighting == "learned")


def _within(training: TrainingConfig, minutes: float) -> TrainingConfig:
    return training if training.minutes is not None else training.model_copy(update={"minutes": minutes})
