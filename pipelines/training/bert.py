"""The BERT out of the artifacts of its stages: as it begins, pretrained, and fine-tuned into a teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctr_kd.data.samples import Samples
from ctr_kd.data.texts import AnyAssembly
from feature_store.features.event_log import microseconds
from pipelines.tasks import task_of
from pipelines.training.facts import PretrainingFacts
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.models.ensemble import Ensemble
    from pipelines.config.run import RunConfig

TEACHER = "teacher.pt"  # in an artifact of ``finetune``


def load_teacher(finetune: Path, assembly: AnyAssembly, config: RunConfig) -> Ensemble:
    """The fine-tuned BERTs with their heads, in eval mode, from an artifact of ``finetune``; the assembly is the teacher's."""
    from ctr_kd.models.teachers import build_teacher
    from ctr_kd.training.checkpoint import load_weights

    model = build_teacher(untrained_encoders(assembly, config), assembly.signature(), config.finetune)
    load_weights(model, finetune / TEACHER, finetune.name)
    return model.eval()


def untrained_encoders(assembly: AnyAssembly, config: RunConfig) -> list[MaskedItemModel]:
    """The configured encoders, each with the weights that its pretraining begins with."""
    import torch

    from ctr_kd.training.pretrain import build_encoder

    encoders = []
    for settings in config.pretrain.of_each_encoder:
        torch.manual_seed(config.seed)
        encoders.append(build_encoder(assembly, assembly.signature(), settings.encoder))
    return encoders


def load_encoders(pretrain: Path, assembly: AnyAssembly, config: RunConfig) -> list[MaskedItemModel]:
    """What fine-tuning begins with: the pretrained encoders, or for ``from_scratch`` what they were before pretraining."""
    from ctr_kd.training.checkpoint import load_weights

    encoders = untrained_encoders(assembly, config)
    if config.finetune.strategy != "from_scratch":
        for number, encoder in enumerate(encoders):
            load_weights(encoder, pretrained_weights(pretrain, number), pretrain.name)
    return encoders


def pretrained_weights(pretrain: Path, number: int = 0) -> Path:
    """File of one pretrained encoder in an artifact of ``pretrain``: of the first, or of ``pretrain.more_encoders`` counted from 1."""
    return pretrain / (f"pretrained_{number}.pt" if number else "pretrained.pt")


def pretraining_until(pretrain: Path) -> int | None:
    """Time (microseconds UTC) before which the clicks were known that a pretraining saw, by its artifact; None for what has no times."""

    until = PretrainingFacts.read(pretrain).until
    return None if until is None else microseconds(until)


def bert_logits(
    finetune: Path, assembly: AnyAssembly, config: RunConfig, rows: Samples, report: Callable[[int], object] = lambda done: None
) -> np.ndarray:
    """Logits (rows, outputs) of the fine-tuned BERT for rows that its own stage did not see; ``report`` takes how many are done."""
    from ctr_kd.training.devices import choose_device
    from ctr_kd.training.loop import predict

    return predict(load_teacher(finetune, assembly, config).to(choose_device(config.finetune.training)), rows, report=report)


def teacher_encoder(context: StageContext, student: AnyAssembly) -> MaskedItemModel:
    """The fine-tuned BERT without its head, from which hints and embeddings are taken.

    Raises
    ------
    TrainingError
        When teacher and student have tokens of their own, or tokens with other features, so that neither can read what the other reads.
    """
    from ctr_kd.training.errors import TrainingError

    own = task_of(context.config).assembly(context.inputs["ingest"], "teacher")
    if own.vocabulary != student.vocabulary:
        raise TrainingError("hints and embeddings: teacher need one tokenizer for both: let tokens.student be as tokens.teacher")
    more = [name for name in own.signature().tokens if name not in student.signature().tokens]
    if more:
        raise TrainingError(
            f"hints and embeddings: teacher need tokens of the same features for both, and {more[0]} is the teacher's alone: "
            "leave it out of teacher_only, or do without them"
        )
    return load_teacher(context.inputs["finetune"], own, context.config).pretrained
