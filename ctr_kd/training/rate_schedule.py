"""How far a training goes and how its rates rise and fall on the way: over a given number of steps, or until validation stops improving."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from ctr_kd.config_training import TrainingConfig
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.learning_curve import LearningCurve

FALL = 0.5  # of the steps up to the best weights: over so many more the rates fall to zero


class CosineSchedule:
    """Linear warm-up, then a cosine to zero at the last step; validation is measured ``config.validations`` times, evenly.

    Parameters
    ----------
    config : TrainingConfig
    steps : int
        Of the whole training.
    """

    def __init__(self, config: TrainingConfig, steps: int) -> None:
        self._warmup, self._validations = config.warmup, config.validations
        self.limit(steps)

    def limit(self, steps: int) -> None:
        """Let the whole training have so many steps."""
        self._validate_at = {math.ceil(steps * (i + 1) / self._validations) for i in range(self._validations)}
        self.end = steps

    def factor(self, step: int, starts_at: float = 0.0) -> float:
        """What the learning rate of a step, counted from 0, is multiplied by.

        Parameters
        ----------
        step : int
        starts_at : float
            Share of the steps before which a group of parameters does not move; it follows the same schedule over its own steps.
        """
        begin = starts_at * self.end
        done, total = step + 1 - begin, max(self.end - begin, 1)
        warmup = max(1.0, self._warmup * total)
        if done <= 0:
            return 0.0
        if done < warmup:
            return done / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(total - warmup, 1)))

    @property
    def shown_end(self) -> str:
        """The last step, for a reader."""
        return f"{self.end:,}"

    def validates(self, step: int) -> bool:
        """Whether validation is measured when so many steps are done."""
        return step in self._validate_at

    def begins_to_fall(self, curve: LearningCurve) -> bool:
        """Never: a cosine falls all the way."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """The last step, which a budget of time may have moved."""
        return {"end": self.end}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""
        self.limit(state["end"])


class PlateauSchedule:
    """Linear warm-up, a constant rate until validation stops improving, then from the best weights a linear fall to zero.

    So the log decides how long a training is. At a constant rate every step may be the last before the fall, which is where most of what
    noise hid appears (the warm-up, stable, decay schedule of Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392); a
    cosine has to know its end. Patience is counted in validations, and the fall takes half as many steps as led to the best weights.

    Parameters
    ----------
    config : TrainingConfig
        With ``patience``.
    steps : int
        Largest number of steps, the fall among them.

    Attributes
    ----------
    end : int
        Last step, as far as it is known.
    """

    def __init__(self, config: TrainingConfig, steps: int) -> None:
        self._patience, self._config = config.patience or 1, config
        self._falls_from: int | None = None
        self.limit(steps)

    def limit(self, steps: int) -> None:
        """Let the whole training have so many steps at most."""
        self._interval = max(1, round(steps / self._config.validations))
        self._warmup = max(1.0, self._config.warmup * steps)
        self._latest = max(1, int(steps / (1 + FALL)))  # the fall begins here at the latest
        self.end = self._most = steps

    def factor(self, step: int, starts_at: float = 0.0) -> float:
        """What the learning rate of a step, counted from 0, is multiplied by; no group of parameters starts later than others."""
        if self._falls_from is not None:
            return max(0.0, (self.end - step) / (self.end - self._falls_from + 1))
        return min(1.0, (step + 1) / self._warmup)

    @property
    def shown_end(self) -> str:
        """The last step, or how far it may be off, for a reader."""
        return f"{self.end:,}" if self._falls_from is not None else f"at most {self.end:,}"

    def validates(self, step: int) -> bool:
        """Whether validation is measured when so many steps are done."""
        return step == self.end or (step == self._latest if self._falls_from is None else False) or step % self._interval == 0

    def begins_to_fall(self, curve: LearningCurve) -> bool:
        """Whether the rates fall from here on, by the validations so far; the training then goes back to the weights that it kept."""
        if self._falls_from is not None:
            return False
        step = int(curve.points[-1]["step"])
        since = sum(point["step"] > curve.kept_step for point in curve.points)
        if since < self._patience and step < self._latest:
            return False
        self._falls_from = step
        self.end = min(max(self._most, step), step + max(self._interval, round(FALL * curve.kept_step)))
        return self.end > step

    def state_dict(self) -> dict[str, Any]:
        """Where the fall began and where it ends, as a checkpoint has it."""
        return {"falls_from": self._falls_from, "end": self.end, "most": self._most}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""
        self.limit(state["most"])
        self._falls_from, self.end = state["falls_from"], state["end"]


def schedule_of(config: TrainingConfig, steps: int) -> CosineSchedule | PlateauSchedule:
    """The schedule of a training of at most so many steps."""
    return CosineSchedule(config, steps) if config.patience is None else PlateauSchedule(config, steps)


class StepClock:
    """Measures once what a step takes, and says how many fit into a training's minutes. Validation comes on top.

    Parameters
    ----------
    minutes : float, optional
        None: as many as there are.
    done : int
        Steps that a checkpoint brought.
    measured : bool
        Whether it was measured before that checkpoint.
    now : callable
        Seconds.
    """

    SKIPPED, MEASURED = 3, 10  # steps: the first ones allocate memory, and compile

    def __init__(self, minutes: float | None, done: int, measured: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._minutes, self.measured = minutes, measured
        self._first, self._since, self._now = done, 0.0, now

    def fitting(self, step: int) -> int | None:
        """How many steps fit, when that has just been found out.

        Raises
        ------
        TrainingError
            When they are over.
        """
        if self._minutes is None or self.measured:
            return None
        if step == self._first + self.SKIPPED:
            self._since = self._now()
        if step != self._first + self.SKIPPED + self.MEASURED:
            return None
        seconds, self.measured = (self._now() - self._since) / self.MEASURED, True
        most = int(60 * self._minutes / seconds)
        if most <= step:
            raise TrainingError(
                f"a step takes {seconds:.2g} s, so {self._minutes:.2g} minutes are {most} steps, too few to learn anything: "
                "raise budget (or training.minutes), or lower training.batch_size"
            )
        return most
