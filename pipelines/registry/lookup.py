"""Small questions to a registry, answered by SQL on MLflow's tables where they are in a file.

By hand, because a command with nothing to do asks these and no more, and importing MLflow takes seconds. A test holds the tables and
columns against the pinned MLflow; one that has others is asked through its client.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from pipelines.registry.alias_history import Change, changes_in
from pipelines.registry.registry import Registry
from pipelines.tracking.client import connect, sqlite_file


def alias_version(uri: str, name: str, alias: str) -> str | None:
    """Version that an alias names."""
    query = "select version from registered_model_aliases where name = ? and alias = ?"
    try:
        found = _ask_sqlite(uri, query, (name, alias))
    except _NotAnswered:
        return Registry(uri, name).alias(alias)
    return str(found[0][0]) if found else None


def has_version(uri: str, name: str, version: str) -> bool:
    """Whether the registry knows a version."""
    query = "select version from model_versions where name = ? and version = ?"
    try:
        return bool(_ask_sqlite(uri, query, (name, int(version))))
    except _NotAnswered:
        found = connect(uri).search_model_versions(f"name = '{name}'")
        return any(str(one.version) == version for one in found)


def tags_of_version(uri: str, name: str, version: str) -> dict[str, str]:
    """Tags of a version."""
    try:
        return dict(_ask_sqlite(uri, "select key, value from model_version_tags where name = ? and version = ?", (name, int(version))))
    except _NotAnswered:
        return Registry(uri, name).tags_of(version)


def champion_changes(uri: str, name: str) -> list[Change]:
    """Who replaced whom as champion, oldest first."""
    try:
        return changes_in(dict(_ask_sqlite(uri, "select key, value from registered_model_tags where name = ?", (name,))))
    except _NotAnswered:
        return Registry(uri, name).changes()


class _NotAnswered(Exception):
    """The registry is no SQLite file of this MLflow's making."""


def _ask_sqlite(uri: str, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    path = sqlite_file(uri)
    if path is None:
        raise _NotAnswered
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error:  # another MLflow has other tables
        raise _NotAnswered from None
