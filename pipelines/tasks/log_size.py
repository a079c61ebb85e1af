"""How much there is to learn from."""

from __future__ import annotations

from typing import Any, NamedTuple


class LogSize(NamedTuple):
    """Training rows with a label, and sequences to pretrain on and their tokens; about, which is what a budget asks.

    Attributes
    ----------
    rows, sequences, tokens : int
    new_items : float
        Share of the validation rows whose item training has no id of: how often a model will meet what it does not know.
    encoder : dict, optional
        Shape of the BERT that ``pretrain.checkpoint`` names, by the keys of ``pretrain.encoder``.
    """

    rows: int
    sequences: int
    tokens: int
    new_items: float = 0.0
    encoder: dict[str, Any] | None = None
