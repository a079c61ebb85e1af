"""The default store of a workspace that was moved names its new place, in every table that keeps one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.config.run import RunConfig
from pipelines.exit_codes import exit_code
from pipelines.tracking.client import TrackingError, artifact_location, connect, sqlite_uri, tracking_uri
from pipelines.tracking.relocate import _PLACES, _has_column, follow_workspace


def places(workspace: Path) -> set[str]:
    """Every absolute place that the database names, whichever column holds it."""
    found = set()
    with closing(sqlite3.connect(workspace / "mlflow.db")) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            for row in database.execute(f"select * from {table}"):
                found |= {value for value in row if isinstance(value, str) and "mlartifacts" in value}
    return found


def test_a_workspace_that_was_moved_names_its_new_place(config: RunConfig, workspace: Path) -> None:
    client = connect(tracking_uri(config, workspace))
    experiment = client.create_experiment("demo", artifact_location=artifact_location(workspace))
    run = client.create_run(experiment).info
    client.log_text(run.run_id, "{}", "metrics.json")
    client.create_registered_model("demo")
    client.create_model_version("demo", f"{run.artifact_uri}/model", run_id=run.run_id)
    client.create_logged_model(run.experiment_id, "logged")
    own = [f"{workspace.as_uri()}/somewhere_else", "s3://bucket/mlartifacts", f"{workspace.as_uri()}/mlartifacts2"]
    for name, place in zip("abc", own, strict=True):
        client.create_experiment(name, artifact_location=place)
    before = places(workspace)
    follow_workspace(workspace)
    assert places(workspace) == before
    moved = workspace.rename(workspace.with_name("moved here'100%"))
    for _ in range(2):
        follow_workspace(moved)
        assert places(moved) == {
            place if place in own else place.replace(workspace.as_uri() + "/", moved.as_uri() + "/") for place in before
        }
    assert [file.path for file in connect(tracking_uri(config, moved)).list_artifacts(run.run_id)] == ["metrics.json"]


def test_only_a_database_of_mlflow_follows_its_workspace(tmp_path: Path) -> None:
    follow_workspace(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mlflow.db").write_bytes(b"")
    follow_workspace(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    for look in (lambda: follow_workspace(tmp_path), lambda: connect(sqlite_uri(tmp_path / "mlflow.db"))):
        with pytest.raises(TrackingError, match=r"mlflow.db cannot be used: file is not a database; restore") as damaged:
            look()
        assert exit_code(damaged.value) == 3


def test_the_pinned_mlflow_keeps_places_where_they_are_looked_for(mlflow_database: Path) -> None:
    with closing(sqlite3.connect(mlflow_database)) as database:
        assert all(_has_column(database, table, column) for table, column in _PLACES)
