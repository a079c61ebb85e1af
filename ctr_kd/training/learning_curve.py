"""What was measured of a model while it was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

_CHANCE = 0.001  # an AUC so near to 0.5 says nothing


@dataclass
class LearningCurve:
    """Figures of a training, and the step whose weights were kept.

    Attributes
    ----------
    points : list of dict of str to float
        One per validation: its ``step``, ``train_loss`` (mean since the point before), ``score`` (higher is better) and named figures.
    kept_step : int
        0 where no validation was finite.
    kept_score : float
    steps : int
        Of the whole training.
    seconds : float
    """

    points: list[dict[str, float]] = field(default_factory=list)
    kept_step: int = 0
    kept_score: float = -math.inf
    steps: int = 0
    seconds: float = 0.0

    @property
    def kept_point(self) -> dict[str, float]:
        """What was measured of the weights that were kept; empty where none were.

        Examples
        --------
        >>> LearningCurve([{"step": 5, "auc": 0.7}, {"step": 9, "auc": 0.6}], kept_step=5).kept_point["auc"]
        0.7
        """
        return next((point for point in self.points if point["step"] == self.kept_step), {})

    @property
    def fallen_from(self) -> float | None:
        """The best AUC measured before, where the last one is chance and that was not: too large steps end so; else None.

        Examples
        --------
        >>> LearningCurve([{"step": 5, "auc": 0.7}, {"step": 9, "auc": 0.5}]).fallen_from
        0.7
        >>> LearningCurve([{"step": 5, "auc": 0.7}, {"step": 9, "auc": 0.6}]).fallen_from is None
        True
        """
        aucs = [point["auc"] for point in self.points if "auc" in point]
        best = max(aucs, default=0.0)
        return best if best > 0.5 + 20 * _CHANCE and abs(aucs[-1] - 0.5) < _CHANCE else None

    @property
    def kept_figure(self) -> tuple[str, float | None]:
        """What one looks at first of the weights that were kept, name and value: accuracy where there are classes, else AUC.

        Examples
        --------
        >>> LearningCurve([{"step": 5, "accuracy": 0.7}], kept_step=5).kept_figure
        ('accuracy', 0.7)
        """
        point = self.kept_point
        name = "accuracy" if "accuracy" in point else "auc"
        return name, point.get(name)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as training.json and checkpoints have them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave."""
        return cls(**values)
