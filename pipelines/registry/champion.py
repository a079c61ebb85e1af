"""The registered student that scores: which one it is, and where its folder lies."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.registry.loaded_model import LoadedModel, load_model_folder
from pipelines.registry.lookup import alias_version
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.tracking.client import TrackingError, tracking_uri
from pipelines.workspace.context import RunContext


class ChosenModel(NamedTuple):
    """The registered model that scores.

    Attributes
    ----------
    uri : str
        As it was named, mostly by an alias.
    version : str
        The version of the registry behind it.
    loaded : LoadedModel
        The files of that version.
    """

    uri: str
    version: str
    loaded: LoadedModel


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


def uri_of_version(uri: str, version: str) -> str:
    """A model's URI with the version in the place of an alias, which may move to another one in any moment.

    Examples
    --------
    >>> uri_of_version("models:/news@champion", "3"), uri_of_version("models:/news/2", "2"), uri_of_version("models/a@b", "models/a@b")
    ('models:/news/3', 'models:/news/2', 'models/a@b')
    """
    name, at, _ = uri.partition("@")
    return f"{name}/{version}" if at and uri.startswith("models:/") else uri


def load_chosen_model(run: RunContext, version: str | None = None) -> ChosenModel:
    """The registered model, after its digests were checked.

    An alias is looked up once: what is loaded is the version that is told.

    Parameters
    ----------
    run : RunContext
    version : str, optional
        The version behind the model's URI, where it was looked up already.
    """
    uri = model_uri(run)
    version = version or model_version(run)
    registry = Registry(tracking_uri(run.config, run.workspace), run.config.name)
    return ChosenModel(uri, version, load_model_folder(registry.download(uri_of_version(uri, version))))
