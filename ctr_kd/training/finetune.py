"""Fine-tune the pretrained encoder for clicks or classes: what was learned trains slowly, or not at all, new layers at their full rate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ctr_kd.budgets import settled_finetuning
from ctr_kd.config import FinetuneConfig
from ctr_kd.data.batching import part_of
from ctr_kd.data.disk_arrays import pieces_of
from ctr_kd.data.samples import Samples
from ctr_kd.metrics import accuracy_score, auc_score
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.ensemble import Ensemble
from ctr_kd.models.next_segment import NextSegment
from ctr_kd.models.teachers import Member, build_member, members_of
from ctr_kd.objectives.classification import base_logits, cross_entropy_share, hard_cross_entropy
from ctr_kd.retrieval.unlabelled_pairs import join_rows
from ctr_kd.training.calibration import fit_class_scale
from ctr_kd.training.checkpoint import load_weights, save_checkpoint
from ctr_kd.training.devices import autocast, choose_device, device_of, to_device
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit, predict, row_plan, training_batch
from ctr_kd.training.optimizer import ParameterGroup
from ctr_kd.training.warm_start import EarlierModel


def validation_figures(model: torch.nn.Module, samples: Samples) -> dict[str, float]:
    """AUC (or accuracy, of several classes) and log loss of the validation rows; the checkpoint with the lowest log loss is kept.

    Of several labels the AUC is that of the click, and the loss the mean over all of them.

    Of classes it is the loss at the best temperature: a model of texts grows too sure of itself long before its accuracy ends to rise, and
    calibration mends the one and not the other.

    Parameters
    ----------
    model : Module
    samples : Samples
        Labelled, both labels or all classes among them.

    Returns
    -------
    dict
        ``auc`` or ``accuracy``, ``log_loss``, and ``score``, which is higher for a better checkpoint.
    """
    return figures_of(predict(model, samples), samples)


def figures_of(said: np.ndarray, samples: Samples) -> dict[str, float]:
    """What :func:`validation_figures` says of a model by its logits (rows, outputs) of the rows."""
    logits, labels = torch.from_numpy(said), torch.from_numpy(samples.labels)
    weight = None if samples.weight is None else torch.from_numpy(samples.weight)
    loss = cross_entropy_share(logits, labels, labels, weight).item()
    if logits.shape[1] == 1 or samples.further is not None:
        return {"auc": float(auc_score(samples.label, logits[:, 0].numpy(), samples.weight)), "log_loss": loss, "score": -loss}
    label = samples.label.astype(np.int64)
    scaled = logits * fit_class_scale(logits.numpy(), label)
    best = hard_cross_entropy(scaled, torch.from_numpy(samples.label)).item()
    return {"accuracy": accuracy_score(label, logits.argmax(1).numpy()), "log_loss": loss, "score": -best}


def parameter_groups(model: Member, config: FinetuneConfig, pretraining_rate: float) -> list[ParameterGroup]:
    """New layers at the full rate; pretrained ones by the strategy, lower layers more slowly where ``layer_decay`` says so.

    What lies lower is more general, and its rate is lower (discriminative fine-tuning, Howard and Ruder 2018, arXiv:1801.06146,
    section 3.2).

    Parameters
    ----------
    model : ClickBert or CrossEncoder
    config : FinetuneConfig
    pretraining_rate : float
        ``rate_ratio`` is relative to it.
    """
    if config.strategy == "from_scratch":
        return [ParameterGroup(list(model.parameters()))]
    new = ParameterGroup(model.new_parameters())
    if config.strategy == "freeze":
        for parameter in model.pretrained.parameters():
            parameter.requires_grad_(False)
        return [new]
    ratio = encoder_ratio(config, pretraining_rate) * pretraining_rate / config.training.learning_rate
    starts_at = config.frozen_share if config.strategy == "freeze_then_unfreeze" else 0.0
    groups: dict[int, list[torch.nn.Parameter]] = {}
    for name, parameter in model.pretrained.named_parameters():
        groups.setdefault(_depth(name, len(model.pretrained.bert.layers)), []).append(parameter)
    return [new, *(ParameterGroup(groups[depth], ratio * config.layer_decay**depth, starts_at) for depth in sorted(groups))]


def encoder_ratio(config: FinetuneConfig, pretraining_rate: float) -> float:
    """Rate of the pretrained parameters over that of the pretraining; the configuration has the ratio, or the rate."""
    return config.rate_ratio if config.encoder_learning_rate is None else config.encoder_learning_rate / pretraining_rate


def _depth(name: str, layers: int) -> int:
    """Layers above a pretrained parameter: 0 for the heads and the top layer, ``layers`` for the embeddings.

    Examples
    --------
    >>> [_depth(name, 2) for name in ("bias", "bert.layers.1.expand.bias", "bert.layers.0.expand.bias", "bert.position.weight")]
    [0, 0, 1, 2]
    """
    if not name.startswith("bert."):
        return 0
    parts = name.split(".")
    return layers - 1 - int(parts[2]) if parts[1] == "layers" else layers


def rate_offset(logit: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> float:
    """What to add to the logits so that their mean probability is the rate of the labels.

    Parameters
    ----------
    logit : float array (rows,)
    label : array (rows,)
        0 or 1, both of them.
    weight : float array (rows,), optional
        Of each row in both means.

    Examples
    --------
    >>> round(rate_offset(np.array([2.0, 2.0]), np.array([0, 1])), 6)
    -2.0
    """
    low, high, rate = -50.0, 50.0, float(np.average(label, weights=weight))
    weight_of_all = len(logit) if weight is None else weight.sum(dtype=np.float64)

    def mean_with(offset: float) -> float:
        total = 0.0
        for here in pieces_of(len(logit)):
            probability = 1 / (1 + np.exp(-(logit[here].astype(np.float64) + offset)))
            total += (probability if weight is None else probability * weight[here]).sum()
        return total / weight_of_all

    for _ in range(60):  # the mean rises with the offset
        middle = (low + high) / 2
        low, high = (middle, high) if mean_with(middle) < rate else (low, middle)
    return (low + high) / 2


def finetune(
    pretrained: MaskedItemModel,
    rows: TrainingRows,
    config: FinetuneConfig,
    job: TrainingJob,
    *,
    pretraining_rate: float,
    negatives: Samples | None = None,
    earlier: EarlierModel | None = None,
) -> tuple[Member, LearningCurve]:
    """Train the head and, by strategy, the encoder under it.

    Hard negatives join the training rows with a label of 0, and with the later clicks of their requests where those have any. They shift
    the rate of clicks, so at the end the last bias is moved until the mean probability of the training rows without them is their rate
    again; validation has no part in it. Where the negatives lie, near to what users click, the teacher stays lower than it would be.

    Parameters
    ----------
    pretrained : MaskedItemModel
        Becomes part of the model, and is trained with it.
    rows : TrainingRows
    config : FinetuneConfig
    job : TrainingJob
    pretraining_rate : float
        Learning rate of the pretraining; ``config.rate_ratio`` is relative to it.
    negatives : Samples, optional
        Rows of users and items that never met, over the same pool of clicks; their label is not read.
    earlier : EarlierModel, optional
        What the training continues with. By default new layers begin anew.

    Returns
    -------
    model : ClickBert, CrossEncoder or NextSegment
        With the weights of the lowest validation loss, in eval mode.
    curve : LearningCurve

    Raises
    ------
    TrainingError
        When there is nothing to train on, the loss is not finite, or the next-segment head, a yes or no of pairs, is asked for more.
    """
    torch.manual_seed(job.seed)
    signature, train = rows.signature, rows.train
    config = settled_finetuning(config, len(train), tokens=len(train), new_items=rows.validation.new_item_share)
    model = build_member(pretrained, signature, config)
    if isinstance(model, NextSegment):  # nothing of it is new
        if signature.outputs > 2 or not signature.max_length_b:
            found = f"{signature.outputs} classes of {'pairs' if signature.max_length_b else 'single texts'}"
            raise TrainingError(f"finetune.strategy: next_segment says yes or no of pairs, not {found}: choose another strategy")
        figures = validation_figures(model.eval(), rows.validation)
        job.report(", ".join(f"{name.replace('_', ' ')} {figure:.4f}" for name, figure in figures.items() if name != "score"))
        return model, LearningCurve(points=[{"step": 0, **figures}], kept_score=figures["score"])
    if config.training.lazy_ids:
        for token in (model.token, model.pretrained.bert.token):
            token.step_by_rows()
    if negatives is not None:
        # further labels stay unknown there: they are learned from the log alone, and so their rates do not shift
        job.folder.mkdir(parents=True, exist_ok=True)  # many rows lie there, before there is a checkpoint
        train = join_rows(train, replace(negatives, label=np.zeros(len(negatives), np.float32)), job.folder)
    label, weight = torch.from_numpy(train.labels), None if train.weight is None else torch.from_numpy(train.weight)
    model.head.begin_at(base_logits(label, signature.outputs, weight, chain=signature.chain))
    if earlier is not None:  # what pretraining knows is of this night, unless nothing is taken from it
        earlier.put_into(model, keep=None if config.strategy == "from_scratch" else "pretrained.")

    def loss(chosen: np.ndarray, rng: np.random.Generator, progress: float) -> Callable[[slice], torch.Tensor]:
        batch, labels = training_batch(train, chosen, rng, config.training), label[chosen]

        def share_of(part: slice) -> torch.Tensor:
            device = device_of(model)
            counts = None if weight is None else weight[chosen[part]].to(device)
            return cross_entropy_share(model(*to_device(part_of(batch, part), device)), labels[part].to(device), labels, counts)

        return share_of

    curve = fit(
        model,
        config.training,
        job,
        plan=row_plan(train, config.training.batch_size),
        loss=loss,
        validate=lambda: validation_figures(model, rows.validation),
        groups=parameter_groups(model, config, pretraining_rate),
        trained_before=earlier is not None,
    )
    if negatives is not None and job.processes.leads:
        device = choose_device(config.training)
        with autocast(config.training, device):
            logit = predict(model.to(device), rows.train, folder=job.folder)[:, 0]
        with torch.no_grad():
            model.cpu().head.layers[-1].get_parameter("bias")[0].add_(rate_offset(logit, rows.train.label, rows.train.weight))
    return model, curve


def member_seed(seed: int, number: int) -> int:
    """Seed of one member; the first has the run's, and those of runs with neighbouring seeds do not meet.

    Examples
    --------
    >>> member_seed(3, 0), member_seed(3, 1) != member_seed(4, 0)
    (3, True)
    """
    return seed if number == 0 else int(np.random.default_rng([seed, number]).integers(2**31))


def finetune_members(
    encoders: Sequence[MaskedItemModel],
    rows: TrainingRows,
    config: FinetuneConfig,
    job: TrainingJob,
    *,
    pretraining_rate: float,
    negatives: Samples | None = None,
    earlier: EarlierModel | None = None,
) -> tuple[Ensemble, list[LearningCurve]]:
    """Fine-tune ``config.members`` copies of each encoder (:func:`finetune`), with a seed each; the encoders stay as they are.

    What is ``auto`` in the trainings these rows decide; ``members: auto`` is one.

    Parameters
    ----------
    encoders : sequence of MaskedItemModel
        One at least; they may differ in size.
    rows : TrainingRows
    config : FinetuneConfig
    job : TrainingJob
        Of all members: each has a seed and a checkpoint of its own, and one that was finished before the run was killed is read from the
        folder.
    pretraining_rate, negatives, earlier
        As for :func:`finetune`; the earlier teacher has as many members.

    Returns
    -------
    model : Ensemble
        In eval mode.
    curves : list of LearningCurve
    """
    trained = [
        finetune_member(encoders, number, rows, config, job, pretraining_rate=pretraining_rate, negatives=negatives, earlier=earlier)
        for number in range(member_count(encoders, config))
    ]
    return Ensemble([model for model, _ in trained]).eval(), [curve for _, curve in trained]


def member_count(encoders: Sequence[MaskedItemModel], config: FinetuneConfig) -> int:
    """Members of the teacher that fine-tuning makes of these encoders."""
    return len(encoders) * members_of(config)


def finetune_member(
    encoders: Sequence[MaskedItemModel],
    number: int,
    rows: TrainingRows,
    config: FinetuneConfig,
    job: TrainingJob,
    *,
    pretraining_rate: float,
    negatives: Samples | None = None,
    earlier: EarlierModel | None = None,
) -> tuple[Member, LearningCurve]:
    """Fine-tune one member of :func:`finetune_members`, or read it where it is finished; none waits for another.

    Parameters
    ----------
    number : int
        Of the member, from 0 to :func:`member_count`.
    encoders, rows, config, job, pretraining_rate, negatives, earlier
        As for all members together.

    Returns
    -------
    model : ClickBert, CrossEncoder or NextSegment
        On the CPU.
    curve : LearningCurve
    """
    count = member_count(encoders, config)
    pretrained = copy.deepcopy(encoders[number // members_of(config)])
    finished = job.folder / f"member_{number}.pt"
    if finished.exists():
        model = build_member(pretrained, rows.signature, config)
        return model, LearningCurve.from_dict(load_weights(model, finished, job.fingerprint)["curve"])
    own = replace(job, seed=member_seed(job.seed, number), name=f"{job.name}_{number}")
    if count > 1:
        title = f"fine-tuning {number + 1} of {count}"
        job.report(title)
        own = replace(own, report=lambda line: job.report(f"{title}: {line}"))
    begun = None if earlier is None else earlier.member(number)
    model, curve = finetune(pretrained, rows, config, own, pretraining_rate=pretraining_rate, negatives=negatives, earlier=begun)
    if job.processes.leads and count > 1:
        save_checkpoint(finished, {"model": model.state_dict(), "curve": curve.to_dict()}, job.fingerprint)
    return model.cpu(), curve
