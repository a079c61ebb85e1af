"""Distil a frozen teacher, known by its stored logits alone, into a light student; and train the same student alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ctr_kd.batching import part_of
from ctr_kd.config import DistillConfig
from ctr_kd.devices import device_of, move
from ctr_kd.finetuning import validation_figures
from ctr_kd.models import STUDENTS
from ctr_kd.objectives.classification import labelled_share
from ctr_kd.objectives.distillation import distillation_loss
from ctr_kd.samples import Samples, Signature
from ctr_kd.training import Curve, ParameterGroup, TrainingError, fit, row_plan, training_batch


def align_logits(row_id: np.ndarray, logit: np.ndarray, samples: Samples) -> np.ndarray:
    """Teacher logits in the order of the samples, joined by row id, never by position.

    Parameters
    ----------
    row_id : int64 array (stored,)
    logit : float array (stored, outputs)
    samples : Samples

    Returns
    -------
    float32 array (rows, outputs)

    Raises
    ------
    TrainingError
        When a row has no logit, or a logit is not finite.
    """
    order = np.argsort(row_id, kind="stable")
    at = np.searchsorted(row_id[order], samples.row_id).clip(max=max(len(row_id) - 1, 0))
    missing = samples.row_id[row_id[order][at] != samples.row_id] if len(row_id) else samples.row_id
    if len(missing):
        raise TrainingError(
            f"the teacher's stored logits miss {len(missing):,} of {len(samples):,} rows (first: row {missing[0]}): "
            "they belong to another row set; run finetune again"
        )
    aligned = logit[order][at].astype(np.float32)
    broken = ~np.isfinite(aligned).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the teacher's logit of row {samples.row_id[broken][0]} is not finite ({broken.sum():,} such rows): retrain the teacher"
        )
    return aligned


def combine_logits(teachers: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Weighted mean of several teachers' logits: the geometric mean of their odds.

    Parameters
    ----------
    teachers : mapping of str to float32 array (rows, outputs)
    weights : mapping of str to float
        One for each teacher; they add up to 1.

    Raises
    ------
    ValueError
        When the teachers differ in shape.

    Examples
    --------
    >>> combine_logits({"a": np.array([[1.0]]), "b": np.array([[3.0]])}, {"a": 0.5, "b": 0.5}).tolist()
    [[2.0]]
    """
    shapes = {name: logits.shape for name, logits in teachers.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"teachers differ in the shape of their logits: {shapes}")
    return np.asarray(sum(weights[name] * logits for name, logits in teachers.items()), np.float32)


def train_student(
    signature: Signature,
    train: Samples,
    validation: Samples,
    teacher: np.ndarray | None,
    config: DistillConfig,
    seed: int,
    identity: str,
    checkpoint: Path,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[nn.Module, Curve]:
    """Train one student; without a teacher it learns from the labels alone, with the same seed, batches and budget.

    Parameters
    ----------
    signature : Signature
    train, validation : Samples
    teacher : float32 array (rows, outputs) or None
        The teacher's logits of the training rows, in their order.
    config : DistillConfig
    seed : int
    identity : str
    checkpoint : Path
    report : callable

    Returns
    -------
    model : Module
        With the weights of the lowest validation loss, in eval mode.
    curve : Curve
    """
    torch.manual_seed(seed)
    model = STUDENTS[config.student.kind](signature, config.student)
    label = torch.from_numpy(train.label)
    target = None if teacher is None else torch.from_numpy(teacher)
    alpha = 1.0 if target is None else config.alpha

    def loss(rows: np.ndarray, rng: np.random.Generator) -> Callable[[slice], Tensor]:
        batch, labels = training_batch(train, rows, rng, config.training), label[rows]
        targets = None if target is None else target[rows]

        def share_of(part: slice) -> Tensor:
            device = device_of(model)
            logits = model(*move(part_of(batch, part), device))
            soft = None if targets is None else targets[part].to(device)
            shares = labelled_share(labels[part], labels), (part.stop - part.start) / len(rows)
            return distillation_loss(logits, soft, labels[part].to(device), alpha, config.soft, config.temperature, *shares)

        return share_of

    groups = [ParameterGroup(list(model.parameters()))]
    plan = row_plan(train, config.training.batch_size)
    return model, fit(
        model, groups, plan, loss, lambda: validation_figures(model, validation), config.training, seed, identity, checkpoint, report
    )
