"""How much there is to learn from."""

from __future__ import annotations

from typing import NamedTuple


class LogSize(NamedTuple):
    """Training rows with a label, and sequences to pretrain on and their tokens; about, which is what a budget asks."""

    rows: int
    sequences: int
    tokens: int
