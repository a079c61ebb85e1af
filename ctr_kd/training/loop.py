"""One training loop for every stage: pure functions of (seed, step), so that a killed run continues exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.batching import Batch, make_batch
from ctr_kd.data.row_batches import answers_of, row_batches
from ctr_kd.data.samples import Samples
from ctr_kd.training.checkpoint import load_weights, save_checkpoint
from ctr_kd.training.devices import autocast, choose_device, compiled, device_of, report_what_has_no_effect, to_device
from ctr_kd.training.distributed import Processes
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.optimizer import Optimizer, ParameterGroup, clip_gradients
from ctr_kd.training.rate_schedule import StepClock, schedule_of
from ctr_kd.training.weight_average import WeightAverage


def fit(
    model: nn.Module,
    config: TrainingConfig,
    job: TrainingJob,
    *,
    plan: Callable[[np.random.Generator], Sequence[Any]],
    loss: Callable[[Any, np.random.Generator, float], Callable[[slice], Tensor]],
    validate: Callable[[], dict[str, float]],
    groups: Sequence[ParameterGroup] | None = None,
    to_compile: nn.Module | None = None,
    trained_before: bool = False,
) -> LearningCurve:
    """Train a model and leave it, on the CPU, with the weights that validation preferred, or with the last (``config.keep``).

    With ``config.average``, validation measures the running mean of the weights, and that is kept.

    Batches, masks and dropout of a step depend on the seed and the step alone. So a run that continues from its last
    checkpoint equals the uninterrupted one, bit for bit on a CPU.

    A step's batch is computed in ``max(config.accumulate, job.processes.count)`` parts, dealt out to the processes in turn. All
    that is drawn for a batch is drawn for the whole of it, and the parts' losses add up to its loss. So the number of parts
    changes a step by rounding alone, but for dropout, which is drawn part by part; and for a given number of parts the number of
    processes changes nothing at all but rounding.

    Parameters
    ----------
    model : Module
    config : TrainingConfig
    job : TrainingJob
    plan : callable
        Batches of one epoch, from a generator seeded by the epoch.
    loss : callable
        Of one batch, a generator seeded by the step, and the share of the steps that are done: draws all that is random, and
        returns the function that gives a slice of the batch's rows its share of the batch's loss. Shares of all slices add
        up to the loss: a mean over a part counts by the part's share of the elements that the mean is over.
    validate : callable
        Named figures with the model in eval mode; ``"score"`` chooses the checkpoint, higher is better. The first process
        alone computes them, so no row counts twice.
    groups : sequence of ParameterGroup, optional
        What is trained and how fast; by default all parameters of the model at the configured rate.
    to_compile : Module, optional
        The module whose forward ``config.compile`` compiles; by default the model.
    trained_before : bool
        Whether the model was trained already: then its weights as they are may be those that validation prefers.

    Returns
    -------
    LearningCurve
        Equal in all processes, seconds excepted.

    Raises
    ------
    TrainingError
        When the loss is not finite, or the checkpoint belongs to another training.
    """
    processes = job.processes

    @lru_cache(1)
    def batches_of(epoch: int) -> Sequence[Any]:
        return plan(np.random.default_rng([job.seed, epoch]))

    steps_per_epoch = len(batches_of(0))
    steps = max(1, round(config.epochs * steps_per_epoch))
    if not steps_per_epoch:
        raise TrainingError("there is nothing to train on: the training split has no rows")
    device = choose_device(config, processes.local_rank)
    report_what_has_no_effect(config, device, job.report)
    if processes.count > 1:
        job.report(f"{processes.count} processes share every batch of {config.batch_size:,}")
    model.to(device)
    groups = [ParameterGroup(list(model.parameters()))] if groups is None else groups
    optimizer = Optimizer(model, groups, config)
    average = WeightAverage(model, config.average * steps) if config.average else None
    schedule = schedule_of(config, steps)
    curve, kept = LearningCurve(steps=steps), _weights(model)
    step, running, window, measured = 0, 0.0, 0, False
    if job.checkpoint.exists():
        state = load_weights(model, job.checkpoint, job.fingerprint)
        optimizer.load_state_dict(state["optimizer"])
        if average:
            average.load_state_dict(state["average"])
        schedule.load_state_dict(state["schedule"])
        measured = state["measured"]
        curve, kept, step = LearningCurve.from_dict(state["curve"]), state["kept"], state["step"]
        running, window = state["running"], state["window"]
        job.report(f"continuing at step {step:,} of {schedule.shown_end}")

    def must_be_finite(what: str, figures: dict[str, float]) -> None:
        """Stop a training that has lost its way, and leave the model with the weights kept so far."""
        if all(math.isfinite(figure) for figure in figures.values()):
            return
        model.load_state_dict(kept)
        shown = ", ".join(f"{name} {figure}" for name, figure in figures.items())
        left = f"the last good checkpoint stays in {job.folder}" if job.checkpoint.exists() else "there was no checkpoint yet"
        raise TrainingError(
            f"the {what} is not finite at step {step:,} of {schedule.shown_end} ({shown}): lower training.learning_rate; {left}"
        )

    @lru_cache(1)  # it is made ahead of its step, and once more only where the end of the training moves in between
    def batch_of(step: int, end: int) -> tuple[int, int, Callable[[slice], Tensor]]:
        """How many rows a step has, the seed of its dropout, and what gives a part of its loss; whenever it is made, the same."""
        epoch, place = divmod(step, steps_per_epoch)
        batches, rng = batches_of(epoch), np.random.default_rng([job.seed, step, 1])
        dropout_seed = int(rng.integers(2**62))
        # An epoch's plan may differ by a batch from the first one's; the modulus keeps every step inside it.
        rows = batches[place % len(batches)]
        return len(rows), dropout_seed, loss(rows, rng, step / end)

    if trained_before and step == 0:
        figures = processes.tell(_validated(model, validate) if processes.leads else None)
        must_be_finite("validation", {"score": figures["score"]})
        curve.points.append({"step": 0, **figures})
        curve.kept_score = figures["score"]
    clock = StepClock(config.minutes, step, measured)
    started, saved = time.monotonic() - curve.seconds, time.monotonic()
    model.train()
    with compiled(to_compile or model, config):
        while step < schedule.end:
            optimizer.set_rates(step, schedule)
            optimizer.zero_grad()
            rows, dropout_seed, share_of = batch_of(step, schedule.end)
            value = _gradients(model, rows, share_of, config=config, processes=processes, dropout_seed=dropout_seed)
            if step + 1 < schedule.end:  # while a GPU still computes this one: all that follows waits for it
                batch_of(step + 1, schedule.end)
            value = processes.add_gradients(model.parameters(), value)
            norm = clip_gradients(model.parameters(), config.clip)
            value, norm = torch.stack([value, norm]).tolist()
            must_be_finite("loss", {"loss": value, "gradient norm": norm})
            optimizer.step()
            step, running, window = step + 1, running + value, window + 1
            if config.minutes is not None and (most := processes.tell(clock.fitting(step))) is not None and most < schedule.end:
                schedule.limit(most)
            if average:
                average.update(step)
            if schedule.validates(step):
                with average.in_place() if average else nullcontext():
                    figures = processes.tell(_validated(model, validate) if processes.leads else None)
                    weights = _weights(model)
                must_be_finite("validation", {"score": figures["score"]})
                curve.points.append({"step": step, "train_loss": running / window, **figures})
                running, window = 0.0, 0
                if config.keep == "last" or figures["score"] > curve.kept_score:
                    curve.kept_score, curve.kept_step, kept = figures["score"], step, weights
                shown = ", ".join(
                    f"{name.replace('_', ' ')} {figure:.4f}" for name, figure in curve.points[-1].items() if name not in ("step", "score")
                )
                job.report(f"step {step:,} of {schedule.shown_end}: {shown}")
                if (best := curve.fallen_from) is not None:
                    job.report(
                        f"warning: AUC fell from {best:.4f} to chance, as after steps that are too large: lower training.learning_rate"
                    )
                if schedule.begins_to_fall(curve):
                    model.load_state_dict(kept)
                    job.report(f"validation was best at step {curve.kept_step:,}: the rate falls from there, to step {schedule.end:,}")
                job.measured(step / schedule.end, curve.points[-1])
            if processes.leads and (
                time.monotonic() - saved > config.checkpoint_seconds or (schedule.validates(step) and step < schedule.end)
            ):
                # Weights that a step has just broken show in the next step's loss; they must not replace the last good checkpoint.
                # Python's max passes over what is not a number; torch's does not.
                largest = torch.stack([parameter.detach().abs().max() for parameter in model.parameters()]).max().item()
                must_be_finite("model", {"largest weight": largest})
                curve.seconds = time.monotonic() - started
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "kept": kept, "curve": curve.to_dict()}
                state |= {"schedule": schedule.state_dict(), "measured": clock.measured}
                if average:
                    state["average"] = average.state_dict()
                save_checkpoint(job.checkpoint, {**state, "step": step, "running": running, "window": window}, job.fingerprint)
                saved = time.monotonic()
    curve.seconds, curve.steps = time.monotonic() - started, step
    model.load_state_dict(kept)
    model.cpu().eval()
    return curve


def _gradients(
    model: nn.Module,
    rows: int,
    share_of: Callable[[slice], Tensor],
    *,
    config: TrainingConfig,
    processes: Processes,
    dropout_seed: int,
) -> Tensor:
    """Leave the gradient of one batch in the parameters, computed part by part; returns its loss, a tensor without a graph.

    Of several processes it is this one's share of either.
    """
    device = device_of(model)
    parts = max(config.accumulate, processes.count)
    cuts = np.linspace(0, rows, parts + 1).round().astype(int).tolist()
    total = torch.zeros((), device=device)
    for i in range(processes.rank, parts, processes.count):
        if cuts[i] == cuts[i + 1]:  # fewer rows than parts
            continue
        torch.manual_seed(dropout_seed + i)
        with autocast(config, device):
            value = share_of(slice(cuts[i], cuts[i + 1])).float()
        value.backward()
        total += value.detach()
    return total


@torch.no_grad()
def _validated(model: nn.Module, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
    model.eval()
    figures = validate()
    model.train()
    return figures


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that a model holds, by name."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def row_plan(samples: Samples, batch_size: int) -> Callable[[np.random.Generator], Sequence[np.ndarray]]:
    """Plan of an epoch over rows: whole requests, shuffled, of similar history length per batch.

    Parameters
    ----------
    samples : Samples
    batch_size : int

    Returns
    -------
    callable
        From the generator of an epoch to its batches, int64 arrays (rows,) of positions in the samples.
    """
    return lambda rng: row_batches(samples, batch_size, rng)


def training_batch(samples: Samples, rows: np.ndarray, rng: np.random.Generator, config: TrainingConfig) -> Batch:
    """One training batch, with the configured shares of ids, statistics, attributes and categories hidden.

    Parameters
    ----------
    samples : Samples
    rows : int64 array (rows,)
        Positions in the samples.
    rng : numpy Generator
    config : TrainingConfig
    """
    return make_batch(
        samples,
        rows,
        rng,
        unknown_rate=config.unknown_rate,
        hidden_rate=config.statistics_rate,
        attribute_rate=config.attribute_rate,
    )


@torch.no_grad()
def predict(
    model: nn.Module,
    samples: Samples,
    batch_size: int = 4096,
    report: Callable[[int], object] = lambda done: None,
    folder: Path | None = None,
) -> np.ndarray:
    """Logits of all rows, in their order, computed where the model lies.

    Parameters
    ----------
    model : Module
        It is in the mode that it was in when this returns.
    samples : Samples
    batch_size : int
    report : callable
        Takes how many rows are done, after every batch.
    folder : Path, optional
        On its disk the logits lie where they are many; None: in memory.

    Returns
    -------
    float32 array (rows, outputs)
        Independent of the batch size up to rounding.
    """
    was_training, device = model.training, device_of(model)
    model.eval()
    logits = answers_of(samples, batch_size, lambda batch: model(*to_device(batch, device)).float().cpu().numpy(), report, folder)
    model.train(was_training)
    return logits
