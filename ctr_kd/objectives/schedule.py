"""How much labels and teacher weigh, and at what temperature, as a distillation goes on."""

from __future__ import annotations

from typing import NamedTuple

from ctr_kd.config import DistillConfig


class Emphasis(NamedTuple):
    """Weights of the labels' and of the teacher's terms, and the temperature of the latter."""

    labels: float
    teacher: float
    temperature: float


LABELS_ALONE = Emphasis(1.0, 0.0, 1.0)


def emphasis(config: DistillConfig, progress: float) -> Emphasis:
    """Weights and temperature at some point of a distillation.

    ``annealed`` moves the weights from the configured ones to the labels alone (teacher annealing, Clark et al. 2019,
    arXiv:1907.04829, section 3.2), and the temperature to 1 (Jafari et al. 2021, arXiv:2104.07163, section 3). ``warmup`` moves the
    weights from the teacher alone to the configured ones. All move linearly over ``schedule.share`` of the steps, and stay then.

    Parameters
    ----------
    config : DistillConfig
    progress : float
        Share of the steps that are done.

    Examples
    --------
    >>> emphasis(DistillConfig(alpha=0.25, temperature=3, schedule={"weight": "annealed", "temperature": "annealed"}), 0.5)
    Emphasis(labels=0.625, teacher=0.375, temperature=2.0)
    """
    labels, teacher = config.weights
    if not teacher:
        return Emphasis(labels, teacher, config.temperature)
    moved = min(progress / config.schedule.share, 1.0)
    temperature = config.temperature + (1.0 - config.temperature) * (moved if config.schedule.temperature == "annealed" else 0.0)
    if config.schedule.weight == "annealed":
        return Emphasis(labels + (1.0 - labels) * moved, teacher * (1.0 - moved), temperature)
    if config.schedule.weight == "warmup":
        return Emphasis(labels * moved, 1.0 + (teacher - 1.0) * moved, temperature)
    return Emphasis(labels, teacher, temperature)
