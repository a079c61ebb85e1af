"""What a workspace remembers of its champion: a registry that was lost must not be taken for one that is yet to begin."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from feature_store.tables.json_models import JsonFile
from pipelines.config.run import RunConfig
from pipelines.registry.lookup import alias_version, champion_changes
from pipelines.registry.registration import Registration
from pipelines.registry.registry import CHAMPION
from pipelines.tracking.client import tracking_uri, without_password
from pipelines.workspace.artifacts import ArtifactError, read_json, read_json_as
from pipelines.workspace.manifest import MANIFEST


class RegistryLost(ArtifactError):
    """A registry that had a champion has none, and no history of any."""


class ChampionRecord(JsonFile):
    """That a model had a champion.

    Attributes
    ----------
    name, version : str
        Registered model, and the version that was champion last, as far as this workspace knows.
    registry : str or None
        Where it was; None for the workspace's own database, which moves with it.
    """

    FILE: ClassVar[str] = ".champion.json"

    name: str
    version: str
    registry: str | None = None


def remember_champion(workspace: Path, config: RunConfig, version: str) -> None:
    """Note which version is champion now."""
    ChampionRecord(name=config.name, version=version, registry=_place(config)).write(workspace)


def lost_champion(workspace: Path, config: RunConfig) -> str | None:
    """What tells of a champion that the registry knows nothing of, in words; None where it knows one, or nothing tells of any.

    A registry that has a champion, or ever had one, was not lost.
    """
    uri = tracking_uri(config, workspace)
    if alias_version(uri, config.name, CHAMPION) is not None or champion_changes(uri, config.name):
        return None
    record = read_json_as(workspace / ChampionRecord.FILE, ChampionRecord)
    if record is not None and (record.name, record.registry) == (config.name, _place(config)):
        return f"{workspace / ChampionRecord.FILE} tells of version {record.version}"
    if config.tracking.uri is not None:  # another registry may be a new one, and nothing in the workspace says which it had before
        return None
    for file in sorted(workspace.glob(f"artifacts/register/*/{Registration.FILE}")):
        registration = read_json_as(file, Registration)
        if registration is not None and registration.name == config.name and registration.gate.passed:
            return f"{file} tells of version {registration.version}"
    for file in sorted(workspace.glob(f"scores/date=*/{MANIFEST}")):
        scores = read_json(file) or {}
        if scores.get("model") == config.name:
            return f"{file} tells of version {scores.get('model_version')}"
    return None


def registry_lost(workspace: Path, config: RunConfig, evidence: str) -> RegistryLost:
    """The one line that says so."""
    where = without_password(tracking_uri(config, workspace))
    return RegistryLost(
        f"MLflow at {where} has no champion of {config.name} and no history of any, but {evidence}: it is missing or was emptied; "
        "restore it from a backup, or begin anew with `ctr-kd promote` or `ctr-kd register --force`"
    )


def _place(config: RunConfig) -> str | None:
    return None if config.tracking.uri is None else without_password(config.tracking.uri)
