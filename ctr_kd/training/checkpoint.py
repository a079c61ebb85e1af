"""Weights and training states on disk: atomic, identified, and read without executing anything from the file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from feature_store.tables.contracts import DataError
from feature_store.tables.files import open_regular


class CheckpointError(DataError):
    """A checkpoint cannot be used; the message names the file and what to do."""


def save_checkpoint(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Write a state so that the file is either the old one or the new one, whole.

    Parameters
    ----------
    path : Path
    state : dict
        Tensors, numbers, strings, and containers of them.
    fingerprint : str
        Of what the state belongs to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save({"identity": fingerprint, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any]:
    """Read a state that :func:`save_checkpoint` wrote.

    Parameters
    ----------
    path : Path
    fingerprint : str
        Of what the state must belong to.

    Raises
    ------
    CheckpointError
        When the file is damaged, holds anything but plain data, or belongs to another configuration.
    """
    try:
        with open_regular(path) as file:
            state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise CheckpointError(
            f"{path} cannot be read ({unreadable_because(error)}): remove it and run again; training then starts over"
        ) from error
    found = state.pop("identity", None) if isinstance(state, dict) else None
    if found != fingerprint:
        raise CheckpointError(
            f"{path} belongs to another configuration ({found}, wanted {fingerprint}): remove it or use another workspace"
        )
    return state


def load_weights(model: nn.Module, path: Path, fingerprint: str) -> dict[str, Any]:
    """Read a state and put its weights, ``model``, into a model.

    Parameters
    ----------
    model : Module
    path : Path
    fingerprint : str
        Of what the state must belong to.

    Returns
    -------
    dict
        The state.

    Raises
    ------
    CheckpointError
        As :func:`load_checkpoint`, and when the weights are those of a model of another shape or vocabulary.
    """
    state = load_checkpoint(path, fingerprint)
    wanted, found = ({name: tuple(value.shape) for name, value in weights.items()} for weights in (model.state_dict(), state["model"]))
    different = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if different:
        name, unknown = different[0], "not there"
        raise CheckpointError(
            f"{path} holds the weights of another model ({name} is {found.get(name, unknown)}, and here {wanted.get(name, unknown)}): "
            "remove it and run again"
        )
    model.load_state_dict(state["model"])
    return state


def unreadable_because(error: Exception) -> str:
    """Why torch or safetensors could not read a file, in a few words: torch's begin with advice to load it without protection."""
    said = str(error).strip()
    call = re.search(r"GLOBAL (\S+)", said)
    if call:
        return f"it would call {call[1]}"
    if said.startswith("Weights only load failed"):
        return "it is no file of tensors and plain values"
    return said.splitlines()[0][:120] if said else type(error).__name__
