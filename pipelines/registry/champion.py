"""The registered student that scores: which one it is, and where its folder lies."""

from __future__ import annotations

from pipelines.registry.loaded_model import LoadedModel, load_model_folder
from pipelines.registry.lookup import alias_version
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.tracking.client import TrackingError, tracking_uri
from pipelines.workspace.context import RunContext


def model_uri(run: RunContext) -> str:
    """The model to score with: the one that was named, or the champion."""
    return run.options.get("model") or f"models:/{run.config.name}@{CHAMPION}"


def model_version(run: RunContext) -> str:
    """Version behind the model's URI, as far as it has one.

    Raises
    ------
    TrackingError
        When there is no champion.
    ConfigError
        When a model was named whose alias names no version.
    """
    uri = model_uri(run)
    if not uri.startswith("models:/"):
        return uri
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        return name.rpartition("/")[2]
    version = alias_version(tracking_uri(run.config, run.workspace), name, alias)
    if version is None and run.options.get("model"):
        raise Registry(tracking_uri(run.config, run.workspace), name).absent(uri)
    if version is None:
        raise TrackingError(f"{name} has no {alias}: no student has passed the gate yet; run `ctr-kd register` or `ctr-kd promote`")
    return version


def load_chosen_model(run: RunContext) -> LoadedModel:
    """The registered model, after its digests were checked."""
    return load_model_folder(Registry(tracking_uri(run.config, run.workspace), run.config.name).download(model_uri(run)))
