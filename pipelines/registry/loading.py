"""Loading a registered student for :func:`ctr_kd.load_student`: the entry points ``ctr_kd.student_loaders`` lead here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctr_kd.frames.student import Student
from pipelines.errors import ConfigError
from pipelines.registry.champion import uri_of_version
from pipelines.registry.loaded_model import LoadedModel, load_model_folder
from pipelines.registry.lookup import alias_version
from pipelines.registry.model_package import verify_model
from pipelines.registry.registry import Registry
from pipelines.tracking.client import DATABASE, quieten_mlflow, sqlite_uri

_WORKSPACE = Path("workspace")  # where commands keep everything unless they are told another place
_MADE_WITH = ("history", "statistics")


def load_registered(place: str, registry: str | Path | None = None) -> Student:
    """A student that MLflow keeps, after its digests were checked.

    Parameters
    ----------
    place : str
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``runs:/RUN/PATH``, or a folder that MLflow wrote.
    registry : str or Path, optional
        See :func:`ctr_kd.load_student`.

    Raises
    ------
    ConfigError
        When no registry is named, or it knows no such model.
    ArtifactError
        When the model's files are lost or damaged.
    TrackingError
        When the registry does not answer.
    """
    if Path(place).is_dir():
        verify_model(Path(place), None)  # no registry vouches for its code
        return _student(load_model_folder(Path(place)), place, None)
    uri, version, looked_up = registry_uri(registry, place), None, place
    if place.startswith("models:/"):
        name, at, alias = place.removeprefix("models:/").partition("@")
        version = alias_version(uri, name, alias) if at else name.rpartition("/")[2]
        looked_up = place if version is None else uri_of_version(place, version)  # an alias may move to another version in any moment
    return _student(load_model_folder(Registry(uri, "").download(looked_up)), place, version)


def _student(model: LoadedModel, place: str, version: str | None) -> Student:
    made_with: dict[str, Any] = {name: model.read_in_training[name] for name in _MADE_WITH if name in model.read_in_training}
    return Student(model.scorer, place, version, made_with)


def registry_uri(given: str | Path | None, place: str) -> str:
    """MLflow's URI of a registry that was named in one of several ways, or in none."""
    if given is not None:
        folder = Path(given)
        if (folder / DATABASE).is_file():
            return sqlite_uri(folder / DATABASE)
        if "://" in str(given) or ":/" in str(given):
            return str(given)
        raise ConfigError(f"{given} is neither the folder of a workspace, which holds {DATABASE}, nor a URI of MLflow")
    quieten_mlflow()
    import mlflow

    if mlflow.is_tracking_uri_set():
        return str(mlflow.get_tracking_uri())
    if (_WORKSPACE / DATABASE).is_file():
        return sqlite_uri(_WORKSPACE / DATABASE)
    raise ConfigError(
        f"{place}: no registry is named; say registry='path/to/workspace' or a URI of MLflow, or call mlflow.set_tracking_uri"
    )
