"""What a teacher's state of a user tells a model: numbers of a vector, which mean something together, in the space of what is compared."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ctr_kd.data.samples import Signature
from feature_store.features.statistics import TEACHER_STATE

LARGEST = 6.0  # of a number of a state, whose standard deviation is about 1: what a caller sends may be anything


def state_places(dense: Iterable[str]) -> list[int]:
    """Which dense inputs are the numbers of a state.

    Examples
    --------
    >>> state_places(["item_age", "teacher_state_0", "teacher_state_1", "teacher_state_of_mine"])
    [1, 2]
    """
    return [place for place, name in enumerate(dense) if re.fullmatch(rf"{TEACHER_STATE}_\d+", name)]


def state_numbers(dense: Tensor, places: Tensor) -> Tensor:
    """The numbers of states (rows, places) of dense inputs, and whether there is none (rows, 1): (rows, places + 1)."""
    state = dense.index_select(1, places)
    unknown = torch.isnan(state)
    numbers = torch.where(unknown, torch.zeros_like(state), state).clamp(-LARGEST, LARGEST)
    return torch.cat([numbers, unknown[:, :1].to(dense.dtype)], dim=1)


class UserState(nn.Module):
    """Brings states to the width at which a model compares history and candidate, to be added to the history; zeros without states.

    Who has no state has a trained vector in its place.

    Parameters
    ----------
    signature : Signature
    width : int
    """

    places: Tensor

    def __init__(self, signature: Signature, width: int) -> None:
        super().__init__()
        places = state_places(signature.dense)
        self.project = nn.Linear(len(places) + 1, width, bias=False) if places else None
        self.register_buffer("places", torch.tensor(places, dtype=torch.int64), persistent=False)

    def forward(self, history: Tensor, dense: Tensor) -> Tensor:
        """Histories (rows, width) with what the states among the dense inputs (rows, inputs) say."""
        return history if self.project is None else history + self.project(state_numbers(dense, self.places))
