"""Rising functions of a student's logits that make them probabilities, as part of its graph; ``ctr_kd.training.calibration`` fits them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """``logit * scale + bias``: a temperature 1 / scale, and a bias because click rates move as a whole (Platt 1999)."""

    scale: Tensor
    bias: Tensor

    def __init__(self, scale: float, bias: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float32))

    def forward(self, logit: Tensor) -> Tensor:
        """Calibrated logits, in the shape of ``logit``."""
        return logit * self.scale + self.bias


class MonotoneLines(nn.Module):
    """Straight lines between rising knots, with the slope 1 beyond the outermost two.

    Every term rises with the logit, in float arithmetic too, so the order of two rows is kept and at most becomes a tie.

    Parameters
    ----------
    x, y : float arrays (knots,)
        Both strictly rising.
    """

    x: Tensor
    step: Tensor
    slope: Tensor
    first: Tensor

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("x", torch.tensor(x, dtype=torch.float32))
        self.register_buffer("step", self.x.diff())
        self.register_buffer("slope", torch.tensor(np.diff(y) / np.diff(x), dtype=torch.float32))
        self.register_buffer("first", torch.tensor(y[0], dtype=torch.float32))

    def forward(self, logit: Tensor) -> Tensor:
        """Calibrated logits of ``logit`` (rows, 1)."""
        from_knot = logit.unsqueeze(-1) - self.x  # (rows, 1, knots)
        below, above = from_knot[..., 0].clamp(max=0), from_knot[..., -1].clamp(min=0)
        within = (torch.minimum(from_knot[..., :-1].clamp(min=0), self.step) * self.slope).sum(-1)
        return self.first + below + within + above  # (rows, 1)


class EachLabel(nn.Module):
    """Of several labels each by its own calibration; one that could not be fitted keeps its logits."""

    def __init__(self, calibrations: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.calibrations = nn.ModuleList([nn.Identity() if one is None else one for one in calibrations])

    def forward(self, logit: Tensor) -> Tensor:
        """Calibrated logits of ``logit`` (rows, labels)."""
        return torch.cat([one(logit[:, place : place + 1]) for place, one in enumerate(self.calibrations)], dim=1)


class Calibrated(nn.Module):
    """A student and what makes its logits probabilities, as one model with one graph."""

    def __init__(self, student: nn.Module, calibration: nn.Module) -> None:
        super().__init__()
        self.student, self.calibration = student, calibration
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Calibrated logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`."""
        return self.calibration(self.student(*inputs))
