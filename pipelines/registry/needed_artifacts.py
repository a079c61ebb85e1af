"""Which artifacts of a workspace registered students come from that are in use, or may be again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.registry.alias_history import line_of_champions
from pipelines.registry.registration import Registration
from pipelines.registry.registry import CHALLENGER, CHAMPION, Registry
from pipelines.workspace.artifacts import read_json_as

_DIGEST = "digest."  # begins the tags of a version that name what it was made of


def needed_artifacts(uri: str, name: str, workspace: Path) -> Iterator[tuple[str, str]]:
    """Stages and fingerprints that the champions, the challengers and all to which a rollback leads were made of.

    Those of every model that the workspace registered, under whatever name: configurations may share a workspace.

    Raises
    ------
    TrackingError
        When the registry does not answer: what it needs is unknown then.
    """
    registered = {
        path.parent.name: read_json_as(path, Registration) for path in workspace.glob(f"artifacts/register/*/{Registration.FILE}")
    }
    names = {name, *(one.name for one in registered.values() if one is not None)}
    for model in sorted(names):
        registry = Registry(uri, model)
        versions = {registry.alias(CHALLENGER), *line_of_champions(registry.changes(), registry.alias(CHAMPION))} - {None}
        for version in sorted(one for one in versions if one is not None):
            yield from ((tag.removeprefix(_DIGEST), value) for tag, value in registry.tags_of(version).items() if tag.startswith(_DIGEST))
        for fingerprint, one in registered.items():
            if one is not None and one.name == model and one.version in versions:
                yield "register", fingerprint
