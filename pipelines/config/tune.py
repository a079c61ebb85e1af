"""Typed settings of the search for better values of the configuration's own keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from feature_store.config_types import Config


class Dimension(Config):
    """Values of one key that are tried: a range of numbers, or choices."""

    low: int | float | None = Field(None, description="least value of a range; where both ends are whole, so are the values")
    high: int | float | None = Field(None, description="greatest value of a range")
    log: bool = Field(False, description="values are drawn by their order of magnitude, as learning rates are")
    step: int | float | None = Field(None, gt=0, description="distance of the values of a range from each other; null: any value")
    choices: list[Any] | None = Field(None, description="values, in place of a range: numbers, words, or whole blocks of keys")

    @property
    def whole(self) -> bool:
        """Whether the values of the range are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, 1 if self.step is None else self.step))

    def problem(self) -> str | None:
        """Why nothing can be drawn from it; None where something can.

        Examples
        --------
        >>> Dimension(low=2, high=1).problem()
        'the range is empty: low (2) must be below high (1)'
        >>> Dimension(choices=["bilstm"]).problem()
        'choices holds one value, and there is nothing to choose: name two or more'
        """
        if self.choices is not None:
            if any(value is not None for value in (self.low, self.high, self.step)) or self.log:
                return "choices stand in place of low, high, log and step: remove one of the two"
            if len(self.choices) < 2:
                held = "one value" if self.choices else "no value"
                return f"choices holds {held}, and there is nothing to choose: name two or more"
            twice = next((value for place, value in enumerate(self.choices) if value in self.choices[:place]), None)
            return None if twice is None else f"choices holds {twice!r} twice"
        if self.low is None or self.high is None:
            return "write low and high, or choices"
        if self.low >= self.high:
            return f"the range is empty: low ({self.low:g}) must be below high ({self.high:g})"
        if self.log and self.low <= 0:
            return f"log needs a range above 0, and low is {self.low:g}"
        if self.log and self.step is not None:
            return "log and step go together in no range: remove one of them"
        if self.step is not None and self.step > self.high - self.low:
            return f"the range holds one value: step ({self.step:g}) is longer than it"
        return None


class TuneConfig(Config):
    """What `tune` tries, and how it judges."""

    space: dict[str, Dimension] = Field(
        {},
        description="values that are tried, by dotted key, such as {distill.alpha: {low: 0.1, high: 0.9}, distill.student.kind: {choices: "
        "[pooled, din]}}; {}: some twenty keys of pretraining, fine-tuning, distillation and student about their configured values",
    )
    sampler: Literal["tpe", "cmaes"] = Field(
        "tpe",
        description="how the next values are drawn. tpe: where good trials were denser than others (Bergstra et al. 2011); cmaes: from a "
        "normal distribution that follows the good ones (Hansen and Ostermeier 2001), which draws choices at random",
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median",
        description="which trainings are stopped early, by validation so far. median: those below the median of earlier trials at that "
        "point; hyperband: all but the best third, at several points (Li et al. 2018); none: no training",
    )
    objective: Literal["auc"] = Field("auc", description="AUC of the student on validation, of classes accuracy; the bounds below go first")
    rows_per_second_min: float | None = Field(
        None, gt=0, description="least rows per second of a student on one thread of this machine; a slower one loses by the share it lacks"
    )
    bytes_max: int | None = Field(
        None, gt=0, description="largest size of an exported student; a larger one loses by the share that it is over"
    )
    trials: int | None = Field(
        None, ge=1, description="trials at the most, the configuration as it is among them; null: those that fit the budget"
    )
    finalists: int = Field(
        3, ge=1, le=20, description="best trials that are trained again with other seeds, beside the configuration as it is"
    )
    seeds: int = Field(3, ge=1, le=20, description="seeds of the finalists, each from pretraining on, that no trial of the search had")

    @field_validator("space")
    @classmethod
    def _something_can_be_drawn(cls, space: Mapping[str, Dimension]) -> Mapping[str, Dimension]:
        problems = [f"{key}: {problem}" for key, one in space.items() if (problem := one.problem()) is not None]
        if problems:
            raise ValueError("; ".join(problems))
        return space
