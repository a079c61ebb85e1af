"""One training loop for every stage: pure functions of (seed, step), so that a killed run continues exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctr_kd.batching import Batch, batch_plan, make_batch
from ctr_kd.checkpoint import load_checkpoint, save_checkpoint
from ctr_kd.config import TrainingConfig
from ctr_kd.samples import Samples


class TrainingError(Exception):
    """Training cannot go on; the message says where, and what was kept."""


@dataclass
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes
    ----------
    parameters : list of Parameter
    rate : float
        Multiple of the configured learning rate.
    starts_at : float
        Share of the steps before which the group stays as it is.
    """

    parameters: list[nn.Parameter]
    rate: float = 1.0
    starts_at: float = 0.0


@dataclass
class Curve:
    """What a training loop measured: one entry per validation."""

    points: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_score: float = -math.inf
    steps: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "points": self.points,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "steps": self.steps,
            "seconds": self.seconds,
        }


def fit(
    model: nn.Module,
    groups: Sequence[ParameterGroup],
    plan: Callable[[np.random.Generator], list[Any]],
    loss: Callable[[Any, np.random.Generator], Tensor],
    validate: Callable[[], dict[str, float]],
    config: TrainingConfig,
    seed: int,
    identity: str,
    checkpoint: Path,
    report: Callable[[str], None] = lambda text: None,
) -> Curve:
    """Train a model and leave it with the weights that validation preferred.

    Batches, masks and dropout of a step depend on the seed and the step alone. So a run that continues from its last
    checkpoint equals the uninterrupted one, bit for bit on a CPU.

    Parameters
    ----------
    model : Module
    groups : sequence of ParameterGroup
    plan : callable
        Batches of one epoch, from a generator seeded by the epoch.
    loss : callable
        Loss of one batch, from a generator seeded by the step.
    validate : callable
        Named figures with the model in eval mode; ``"score"`` chooses the checkpoint, higher is better.
    config : TrainingConfig
    seed : int
    identity : str
        Fingerprint of everything that shapes the training; a checkpoint of another identity is refused.
    checkpoint : Path
        File of the last checkpoint.
    report : callable
        Receives one line per validation.

    Returns
    -------
    Curve

    Raises
    ------
    TrainingError
        When the loss is not finite, or the checkpoint belongs to another training.
    """
    first_epoch = plan(np.random.default_rng([seed, 0]))
    steps = max(1, round(config.epochs * len(first_epoch)))
    if not first_epoch:
        raise TrainingError("there is nothing to train on: the training split has no rows")
    optimizer = torch.optim.AdamW(_optimizer_groups(model, groups, config), lr=config.learning_rate, fused=True)
    validate_at = {math.ceil(steps * (i + 1) / config.validations) for i in range(config.validations)}
    curve, best = Curve(steps=steps), {name: value.clone() for name, value in model.state_dict().items()}
    step, running, window = 0, 0.0, 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, identity)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        curve, best, step = Curve(**state["curve"]), state["best"], state["step"]
        running, window = state["running"], state["window"]
        report(f"continuing at step {step:,} of {steps:,}")
    epoch, batches = 0, first_epoch
    started, saved = time.monotonic() - curve.seconds, time.monotonic()
    model.train()
    while step < steps:
        if step // len(first_epoch) != epoch:
            epoch = step // len(first_epoch)
            batches = plan(np.random.default_rng([seed, epoch]))
        rng = np.random.default_rng([seed, step, 1])
        torch.manual_seed(int(rng.integers(2**62)))
        _set_rates(optimizer, step, steps, config)
        optimizer.zero_grad(set_to_none=True)
        # An epoch's plan may differ by a batch from the first one's; the modulus keeps every step inside it.
        value = loss(batches[step % len(first_epoch) % len(batches)], rng)
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        if not (math.isfinite(value.item()) and math.isfinite(norm.item())):
            model.load_state_dict(best)
            raise TrainingError(
                f"the loss is not finite at step {step:,} of {steps:,} (loss {value.item()}, gradient norm {norm.item()}): "
                f"lower training.learning_rate; the last good checkpoint stays in {checkpoint.parent}"
            )
        optimizer.step()
        step, running, window = step + 1, running + value.item(), window + 1
        if step in validate_at:
            model.eval()
            with torch.no_grad():
                figures = validate()
            model.train()
            curve.points.append({"step": step, "train_loss": running / window, **figures})
            running, window = 0.0, 0
            if figures["score"] > curve.best_score:
                curve.best_score, curve.best_step = figures["score"], step
                best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            shown = ", ".join(
                f"{name.replace('_', ' ')} {figure:.4f}" for name, figure in curve.points[-1].items() if name not in ("step", "score")
            )
            report(f"step {step:,} of {steps:,}: {shown}")
        if time.monotonic() - saved > config.checkpoint_seconds or (step in validate_at and step < steps):
            curve.seconds = time.monotonic() - started
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best, "curve": curve.to_dict()}
            save_checkpoint(checkpoint, {**state, "step": step, "running": running, "window": window}, identity)
            saved = time.monotonic()
    curve.seconds = time.monotonic() - started
    model.load_state_dict(best)
    model.eval()
    return curve


def _optimizer_groups(model: nn.Module, groups: Sequence[ParameterGroup], config: TrainingConfig) -> list[dict[str, Any]]:
    """Split each group into embeddings, matrices and vectors, which decay differently."""
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    made = []
    for group in groups:
        kinds: dict[float, list[nn.Parameter]] = {}
        for parameter in group.parameters:
            decay = config.embedding_decay if id(parameter) in embeddings else config.weight_decay if parameter.ndim > 1 else 0.0
            kinds.setdefault(decay, []).append(parameter)
        made += [{"params": p, "weight_decay": decay, "rate": group.rate, "starts_at": group.starts_at} for decay, p in kinds.items()]
    return made


def _set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int, config: TrainingConfig) -> None:
    """Linear warm-up, then a cosine to zero; a group that starts later follows the same schedule over its own steps."""
    for group in optimizer.param_groups:
        begin = group["starts_at"] * steps
        done, total = step + 1 - begin, max(steps - begin, 1)
        warmup = max(1.0, config.warmup * total)
        if done <= 0:
            factor = 0.0
        elif done < warmup:
            factor = done / warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(total - warmup, 1)))
        group["lr"] = config.learning_rate * group["rate"] * factor


def row_plan(samples: Samples, batch_size: int) -> Callable[[np.random.Generator], list[np.ndarray]]:
    """Plan of an epoch over labelled rows: whole requests, shuffled, of similar history length per batch."""
    length = samples.a.end - samples.a.start
    return lambda rng: batch_plan(length, samples.group, batch_size, rng)


def training_batch(samples: Samples, rows: np.ndarray, rng: np.random.Generator, config: TrainingConfig) -> Batch:
    """One training batch, with the configured shares of ids, statistics, attributes and categories hidden."""
    return make_batch(samples, rows, rng, config.unknown_rate, config.statistics_rate, config.attribute_rate)


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, batch_size: int = 4096) -> np.ndarray:
    """Logits of all rows, in their order.

    Returns
    -------
    float32 array (rows, outputs)
        Independent of the batch size up to rounding.
    """
    was_training = model.training
    model.eval()
    logits: np.ndarray | None = None
    for rows in batch_plan(samples.a.end - samples.a.start, samples.group, batch_size, None):
        out = model(*make_batch(samples, rows)).float().numpy()
        if logits is None:
            logits = np.empty((len(samples), out.shape[1]), np.float32)
        logits[rows] = out
    model.train(was_training)
    return logits if logits is not None else np.zeros((0, 1), np.float32)
