"""Weights and training states on disk: atomic, identified, and read without executing anything from the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message names the file and what to do."""


def save_checkpoint(path: Path, state: dict[str, Any], identity: str) -> None:
    """Write a state so that the file is either the old one or the new one, whole.

    Parameters
    ----------
    path : Path
    state : dict
        Tensors, numbers, strings, and containers of them.
    identity : str
        Fingerprint of what the state belongs to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save({"identity": identity, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """Read a state that :func:`save_checkpoint` wrote.

    Raises
    ------
    CheckpointError
        When the file is damaged, holds anything but plain data, or belongs to another configuration.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises half a dozen types for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read ({reason[:120]}): remove it and run again; training then starts over") from error
    found = state.pop("identity", None) if isinstance(state, dict) else None
    if found != identity:
        raise CheckpointError(f"{path} belongs to another configuration ({found}, wanted {identity}): remove it or use another workspace")
    return state
