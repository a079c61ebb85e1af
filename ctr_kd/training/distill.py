"""Distil a frozen teacher, known by its stored logits and where asked by its encoder, into a light student; and the student alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctr_kd.budgets import settled_distillation
from ctr_kd.config import DistillConfig, HintsConfig
from ctr_kd.data.batching import Batch, make_batch, part_of
from ctr_kd.data.row_ids import places_of
from ctr_kd.data.samples import Samples
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.layers import Head, TokenEmbedding
from ctr_kd.models.students import student_class
from ctr_kd.objectives.classification import base_logits, cross_entropy_share
from ctr_kd.objectives.distillation import class_shares, logits_loss
from ctr_kd.objectives.hints import hints_loss
from ctr_kd.objectives.schedule import LABELS_ALONE, emphasis
from ctr_kd.training.devices import choose_device, device_of, to_device
from ctr_kd.training.embedding_init import begin_with_teacher, begin_with_vectors
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.finetune import validation_figures
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit, row_plan, training_batch
from ctr_kd.training.warm_start import EarlierModel


def align_logits(row_id: np.ndarray, logit: np.ndarray, samples: Samples, *, partial: bool = False) -> np.ndarray:
    """Teacher logits in the order of the samples, joined by row id, never by position.

    Parameters
    ----------
    row_id : int64 array (stored,)
    logit : float array (stored, outputs)
    samples : Samples
    partial : bool
        NaN is allowed, of a row of which the teacher says nothing.

    Returns
    -------
    float32 array (rows, outputs)

    Raises
    ------
    TrainingError
        When a row has no logit, or a logit is not finite.
    """
    (aligned,) = align_pieces([(row_id, logit, samples)], partial=partial)
    return aligned


def align_pieces(pieces: Iterable[tuple[np.ndarray, np.ndarray, Samples]], *, partial: bool = False) -> Iterator[np.ndarray]:
    """:func:`align_logits` of many rows, a piece at a time; what is wrong is counted over all pieces, and said behind the last one.

    Parameters
    ----------
    pieces : iterable of (row_id, logit, samples)
    partial : bool

    Yields
    ------
    float32 array (rows of the piece, outputs)
        Of no piece that follows one with a fault.
    """
    rows, missing, broken = 0, np.zeros(0, np.int64), np.zeros(0, np.int64)  # the latter two are row ids
    for row_id, logit, samples in pieces:
        rows += len(samples)
        places, absent = places_of(samples.row_id, row_id)
        missing = np.append(missing, absent)
        if len(missing):
            continue
        aligned = logit[places].astype(np.float32)
        finite = (np.isfinite(aligned) | (np.isnan(aligned) if partial else False)).all(axis=1)
        broken = np.append(broken, samples.row_id[~finite])
        if not len(broken):
            yield aligned
    if len(missing):
        raise TrainingError(
            f"the teacher's stored logits miss {len(missing):,} of {rows:,} rows (first: row {missing[0]}): "
            "they belong to another row set; run finetune again"
        )
    if len(broken):
        raise TrainingError(f"the teacher's logit of row {broken[0]} is not finite ({len(broken):,} such rows): retrain the teacher")


def combine_logits(teachers: Mapping[str, np.ndarray], weights: Mapping[str, float | np.ndarray]) -> np.ndarray:
    """Weighted mean of several teachers' logits: the geometric mean of their odds.

    Of a row it is the mean of those that say something of it, by their own weights; NaN where none does.

    Parameters
    ----------
    teachers : mapping of str to float32 array (rows, outputs)
        NaN where a teacher says nothing.
    weights : mapping of str to float or float array (rows, 1)
        One for each teacher, or one for each of its rows; they add up to 1.

    Raises
    ------
    TrainingError
        When the teachers differ in shape.

    Examples
    --------
    >>> combine_logits({"a": np.array([[1.0]]), "b": np.array([[3.0]])}, {"a": 0.5, "b": 0.5}).tolist()
    [[2.0]]
    """
    shapes = {name: logits.shape for name, logits in teachers.items()}
    if len(set(shapes.values())) > 1:
        raise TrainingError(f"the teachers differ in the shape of their logits: {shapes}")
    if not any(np.isnan(logits).any() for logits in teachers.values()):
        return np.asarray(sum(weights[name] * logits for name, logits in teachers.items()), np.float32)
    said = {name: ~np.isnan(logits) for name, logits in teachers.items()}
    total = np.asarray(sum(weights[name] * np.nan_to_num(logits) for name, logits in teachers.items()))
    whole = np.asarray(sum(weights[name] * known for name, known in said.items()))
    return np.where(whole > 0, total / np.where(whole > 0, whole, 1), np.nan).astype(np.float32)


def without_effect(config: DistillConfig) -> list[str]:
    """Which of the configured keys do nothing beside the others, one line each.

    Examples
    --------
    >>> without_effect(DistillConfig(alpha=1, temperature=0))
    ['warning: temperature has no effect: alpha is 1, so the student learns from the labels alone']
    """
    changed = {name for name, field in DistillConfig.model_fields.items() if getattr(config, name) != field.default}
    changed |= {"schedule.temperature"} if config.schedule.temperature != "constant" else set()
    idle: list[tuple[set[str], str]] = []
    if config.weighting != "learned":
        idle.append(({"held_out"}, f"weighting is {config.weighting}"))
    if config.alpha == 1:
        terms = {"preset", "teacher_weight", "soft", "temperature", "listwise", "hints", "gate", "schedule", "transfer"}
        idle.append((terms, "alpha is 1, so the student learns from the labels alone"))
    else:
        if config.preset == "hinton":
            idle.append(({"alpha"}, "preset hinton weighs the labels by 1"))
        else:
            idle.append(({"teacher_weight"}, "it is of preset hinton"))
        if config.schedule.weight == config.schedule.temperature == "constant":
            idle.append(({"schedule"}, "its weight and temperature are constant"))
        if config.listwise == 1:
            idle.append(({"soft", "gate"}, "listwise takes all of the weight of soft"))
        elif config.soft not in ("soft_targets", "kl") and not config.listwise:
            idle.append(({"temperature", "schedule.temperature"}, f"soft is {config.soft}, which has none"))
    if config.soft == "none":
        changed.discard("soft")
    return [f"warning: {name} has no effect: {reason}" for names, reason in idle for name in sorted(names & changed)]


def train_student(
    rows: TrainingRows,
    config: DistillConfig,
    job: TrainingJob,
    *,
    teacher: np.ndarray | None = None,
    encoder: MaskedItemModel | None = None,
    vectors: np.ndarray | None = None,
    earlier: EarlierModel | None = None,
) -> tuple[nn.Module, LearningCurve]:
    """Train one student; without a teacher it learns from the labels alone, with the same seed, batches and budget.

    Parameters
    ----------
    rows : TrainingRows
        Training rows without a label (:func:`ctr_kd.retrieval.unlabelled_pairs.join_rows`) have no term but the teacher's.
        ``training.batch_size`` counts labelled rows, so that they add no step.
    config : DistillConfig
    job : TrainingJob
    teacher : float32 array (rows, outputs), optional
        The teacher's logits of the training rows, in their order. A row with NaN learns from its label alone, as much as any other row.
    encoder : MaskedItemModel, optional
        The teacher's BERT, for hints and embeddings; it is frozen, in eval mode, and computes a batch's states when they are asked
        for: an epoch of it is cheaper than one of fine-tuning, and states of all histories may not fit the memory.
    vectors : float32 array (indices, dimensions), optional
        From which the tokens' embeddings begin, with a teacher and without; NaN where a token has none.
    earlier : EarlierModel, optional
        What the training continues with; embeddings then begin with nothing else.

    Returns
    -------
    model : Module
        With the weights of the lowest validation loss, in eval mode; nothing of the teacher or of the hints' projection in it.
    curve : LearningCurve

    Raises
    ------
    TrainingError
        When teacher and student differ in their number of outputs, or a state of the teacher is not finite.
    ValueError
        When the configuration asks for an encoder and there is none.
    """
    signature, train = rows.signature, rows.train
    config = settled_distillation(config, int((train.label >= 0).sum()), new_items=rows.validation.new_item_share)
    torch.manual_seed(job.seed)
    model: Any = student_class(config.student.kind)(signature, config.student)
    if vectors is not None:
        begin_with_vectors(_token_of(model, "tokens.student.vectors"), torch.from_numpy(vectors))
    if config.training.lazy_ids:
        _token_of(model, "distill.training.lazy_ids").step_by_rows()
    trained = nn.ModuleDict({"student": model})  # and what serves training alone
    label, weight_of_row = torch.from_numpy(train.labels), None if train.weight is None else torch.from_numpy(train.weight)
    if isinstance(getattr(model, "head", None), Head):  # a plug-in may have none
        model.head.begin_at(base_logits(label, signature.outputs, weight_of_row, chain=signature.chain))
    if earlier is not None:
        earlier.put_into(model)
    base = class_shares(label, signature.outputs, weight_of_row)
    rows_per_labelled = len(label) / max(int((train.label >= 0).sum()), 1)
    target = None if teacher is None else torch.from_numpy(teacher)
    taught_row = None if target is None or bool(target.isfinite().all()) else target.isfinite().all(dim=1)  # None: all are
    hinted = target is not None and config.weights[1] > 0 and config.hints != HintsConfig()
    if target is not None:
        if target.shape[1] != signature.outputs:
            raise TrainingError(f"the teacher has {target.shape[1]} outputs and the student {signature.outputs}: both must score the same")
        for line in without_effect(config):
            job.report(line)
        if config.listwise and (np.diff(train.group) != 0).all():
            job.report("warning: listwise has no effect: every request has one candidate")
    if target is not None and config.needs_encoder:
        if encoder is None:
            raise ValueError("hints and embeddings: teacher need the teacher's encoder")
        encoder.requires_grad_(False).eval()
        if config.embeddings == "teacher" and earlier is None:
            begin_with_teacher(_token_of(model, "distill.embeddings: teacher"), encoder.bert.token, encoder.vocabulary)
        if hinted:
            trained["projection"] = nn.Linear(config.student.width, encoder.bert.config.width)
        encoder.to(choose_device(config.training, job.processes.local_rank))

    def loss(chosen: np.ndarray, rng: np.random.Generator, progress: float) -> Callable[[slice], Tensor]:
        batch, labels = training_batch(train, chosen, rng, config.training), label[chosen]
        visible = make_batch(train, chosen) if hinted else batch  # the teacher sees what is hidden from the student
        weight = LABELS_ALONE if target is None else emphasis(config, progress)

        def share_of(part: slice) -> Tensor:
            device = device_of(model)
            inputs, own = to_device(part_of(batch, part), device), labels[part].to(device)
            history = model.encode(inputs.segment_a, inputs.segment_a_length) if hinted else None
            logits = model(*inputs) if history is None else model.score(history, *inputs[2:])
            counts = of_all = None if weight_of_row is None else weight_of_row[chosen[part]].to(device)
            value = weight.labels * cross_entropy_share(logits, own, labels, counts)
            if target is None or not weight.teacher:
                return value
            said, request = target[chosen[part]].to(device), torch.from_numpy(train.group[chosen[part]]).to(device)
            if taught_row is not None:
                known = taught_row[chosen[part]].to(device)
                rest = (~known).to(logits.dtype) if counts is None else counts * ~known
                value = value + max(0.0, LABELS_ALONE.labels - weight.labels) * cross_entropy_share(logits, own, labels, rest)
                logits, said, own, request = logits[known], said[known], own[known], request[known]
                counts = None if counts is None else counts[known]
            taught = logits.new_zeros(())
            if len(said):
                taught = logits_loss(
                    logits,
                    said,
                    config,
                    temperature=weight.temperature,
                    label=own,
                    request=request,
                    base=base.to(device),
                    weight=counts,
                )
                taught = taught * (len(said) / (part.stop - part.start))
            if history is not None and encoder is not None:
                state = _state(encoder, to_device(part_of(visible, part), device))
                taught = taught + hints_loss(history, state, inputs.segment_of_row, trained["projection"], config.hints, weight=of_all)
            return value + weight.teacher * taught * ((part.stop - part.start) / len(chosen))

        return share_of

    curve = fit(
        trained,
        config.training,
        job,
        plan=row_plan(train, round(config.training.batch_size * rows_per_labelled)),
        loss=loss,
        validate=lambda: validation_figures(model, rows.validation),
        to_compile=model,
        trained_before=earlier is not None,
    )
    return model, curve


def _token_of(model: nn.Module, key: str) -> TokenEmbedding:
    """The embeddings of a student, which a plug-in may have made in another way."""
    token = getattr(model, "token", None)
    if not isinstance(token, TokenEmbedding):
        raise TrainingError(f"{key} needs a student whose embeddings are a TokenEmbedding called token, and this one has none")
    return token


@torch.no_grad()
def _state(encoder: MaskedItemModel, batch: Batch) -> Tensor:
    """The teacher's states (segments, width) of a batch's histories."""
    state = encoder.history_state(batch.segment_a, batch.segment_a_length)
    if not torch.isfinite(state).all():
        raise TrainingError("a hidden state of the teacher is not finite: retrain the teacher")
    return state
