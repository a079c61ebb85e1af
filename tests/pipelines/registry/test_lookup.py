"""Questions that are put to MLflow's tables directly: the pinned MLflow has what they read, and another one is asked through its client."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipelines.registry import lookup
from pipelines.registry.lookup import alias_version, champion_changes, has_version
from pipelines.registry.registry import CHAMPION, Registry

QUESTIONS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "registered_model_aliases": (lambda uri: alias_version(uri, "demo", CHAMPION), None),
    "model_versions": (lambda uri: has_version(uri, "demo", "1"), False),
    "registered_model_tags": (lambda uri: champion_changes(uri, "demo"), []),
}
COLUMNS = {
    "registered_model_aliases": ("name", "alias", "version"),
    "model_versions": ("name", "version"),
    "registered_model_tags": ("name", "key", "value"),
}


class AskedMlflow(Exception):
    """The tables were not read."""


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: Any) -> None:
        raise AskedMlflow

    monkeypatch.setattr(lookup, "Registry", ask)
    monkeypatch.setattr(lookup, "connect", ask)


@pytest.mark.usefixtures("without_mlflow")
@pytest.mark.parametrize("table", COLUMNS)
def test_the_pinned_mlflow_has_the_tables_and_columns_that_are_read(mlflow_database: Path, tmp_path: Path, table: str) -> None:
    ask, nothing = QUESTIONS[table]
    assert ask(f"sqlite:///{mlflow_database}") == nothing
    for column in COLUMNS[table]:  # each of them is read: without it MLflow is asked
        other = tmp_path / f"{column}.db"
        shutil.copyfile(mlflow_database, other)
        with closing(sqlite3.connect(other)) as database, database:
            database.execute(f"alter table {table} rename column {column} to another")
        with pytest.raises(AskedMlflow):
            ask(f"sqlite:///{other}")


@pytest.mark.usefixtures("without_mlflow")
def test_no_database_is_an_empty_one(tmp_path: Path) -> None:
    for ask, nothing in QUESTIONS.values():
        assert ask(f"sqlite:///{tmp_path / 'absent.db'}") == nothing
    assert list(tmp_path.iterdir()) == []


def test_another_mlflows_tables_are_asked_through_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.db").write_bytes(b"")
    asked: list[str] = []
    monkeypatch.setattr("pipelines.registry.registry.connect", asked.append)
    monkeypatch.setattr(Registry, "alias", lambda self, alias: "7")
    assert alias_version(f"sqlite:///{tmp_path / 'other.db'}", "demo", CHAMPION) == "7"
    assert len(asked) == 1
