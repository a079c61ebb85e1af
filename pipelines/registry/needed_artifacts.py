"""Which artifacts of a workspace registered students come from that are in use, or may be again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.registry.alias_history import line_of_champions
from pipelines.registry.lookup import alias_version, champion_changes, has_version
from pipelines.registry.registration import Registration
from pipelines.registry.registry import CHALLENGER, CHAMPION, MADE_OF, Registry
from pipelines.workspace.artifacts import read_json_as


def needed_artifacts(uri: str, name: str, workspace: Path) -> Iterator[tuple[str, str]]:
    """Stages and fingerprints that the champions, the challengers and all to which a rollback leads were made of.

    Those of every model that the workspace registered, under whatever name: configurations may share a workspace. Of a version that this
    registry does not know nobody can say whether it is in use: what it was made of is needed.

    Parameters
    ----------
    uri : str
        Registry.
    name : str
        Registered model of the configuration.
    workspace : Path

    Raises
    ------
    TrackingError
        When the registry does not answer: what it needs is unknown then.
    """
    files = workspace.glob(f"artifacts/register/*/{Registration.FILE}")
    registered = {file.parent.name: found for file in files if (found := read_json_as(file, Registration)) is not None}
    for model in sorted({name, *(one.name for one in registered.values())}):
        champion = alias_version(uri, model, CHAMPION)
        used = {alias_version(uri, model, CHALLENGER), *line_of_champions(champion_changes(uri, model), champion)}
        versions = {one for one in used if one is not None and has_version(uri, model, one)}
        for version in sorted(versions):
            tags = Registry(uri, model).tags_of(version)
            yield from ((tag.removeprefix(MADE_OF), value) for tag, value in tags.items() if tag.startswith(MADE_OF))
        for fingerprint, one in registered.items():
            if one.name == model and (one.version in versions or not has_version(uri, model, one.version)):
                yield "register", fingerprint
