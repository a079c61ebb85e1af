"""Warm starts: the weights of an earlier model put into one whose vocabularies have grown since."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ctr_kd.training.checkpoint import CheckpointError, load_checkpoint
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.contracts import DataError


class AnotherShape(DataError):
    """An earlier model has other inputs or another size, so that its weights mean nothing in this one."""


def earlier_weights(path: Path, fingerprint: str) -> dict[str, Tensor]:
    """Weights of a checkpoint by name; of a calibrated student those of the student, whose calibration is fitted anew.

    Raises
    ------
    CheckpointError
        When the file is damaged, or belongs to another model.
    """
    weights = load_checkpoint(path, fingerprint).get("model")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds no model: remove it and run again")
    if any(name.startswith("calibration.") for name in weights):
        return {name.removeprefix("student."): value for name, value in weights.items() if name.startswith("student.")}
    return weights


@dataclass(frozen=True)
class EarlierModel:
    """A trained model that a training continues with.

    Attributes
    ----------
    weights : mapping of str to Tensor
        By the names of its parameters and buffers.
    growth : collection of (int, int)
        Sizes of each vocabulary, special tokens included, before and now.
    """

    weights: Mapping[str, Tensor]
    growth: Collection[tuple[int, int]]

    def member(self, number: int) -> EarlierModel:
        """One member of an :class:`ctr_kd.models.ensemble.Ensemble`."""
        prefix = f"members.{number}."
        own = {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}
        return replace(self, weights=own)

    def put_into(self, model: nn.Module, keep: str | None = None) -> None:
        """Give its weights to a model of the same shape, whose vocabularies may be longer.

        A vocabulary grows at its end. What is new in it begins as the trained unknown token, which stood for it so far; its bias, which no
        training moves for a token that is never asked for, as the median of the others.

        Parameters
        ----------
        model : Module
        keep : str, optional
            What begins with it stays as the model has it.

        Raises
        ------
        AnotherShape
            When a weight is missing, or has other sizes for another reason than a vocabulary that has grown.
        """
        own = model.state_dict()
        names, known = ({name for name in one if keep is None or not name.startswith(keep)} for one in (own, self.weights))
        if names != known:
            raise AnotherShape(f"the earlier model has another shape: {min(names ^ known)} is in one of the two alone")
        model.load_state_dict({name: self._grown(name, value) if name in names else value for name, value in own.items()})

    def _grown(self, name: str, now: Tensor) -> Tensor:
        before = self.weights[name]
        if before.shape == now.shape:
            return before
        longer = before.ndim > 0 and before.shape[1:] == now.shape[1:] and (len(before), len(now)) in self.growth
        if not longer:
            raise AnotherShape(f"the earlier model has another shape: {name} is {tuple(before.shape)}, and here {tuple(now.shape)}")
        rows = len(now) - len(before)
        new = before[UNKNOWN].expand(rows, *before.shape[1:]) if before.ndim > 1 else before.median().expand(rows)
        return torch.cat([before, new])
