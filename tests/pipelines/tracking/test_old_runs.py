"""Runs of artifacts that are gone leave MLflow, those of registered versions do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.tracking.client import TrackingError, connect, sqlite_uri
from pipelines.tracking.old_runs import remove_runs


def test_runs_go_with_their_artifacts(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.entities import ViewType

    monkeypatch.setattr("pipelines.tracking.old_runs._PAGE", 2)
    shutil.copyfile(mlflow_database, tmp_path / "mlflow.db")
    uri = sqlite_uri(tmp_path / "mlflow.db")
    client = connect(uri)
    experiment = client.create_experiment("news", artifact_location=str(tmp_path / "mlartifacts"))

    def run(name: str, parent: str | None = None, status: str = "FINISHED", **tags: str) -> str:
        of = {} if parent is None else {"mlflow.parentRunId": parent}
        created = client.create_run(experiment, run_name=name, tags={**tags, **of}).info.run_id
        client.log_text(created, "text", "file.txt")
        if status != "RUNNING":
            client.set_terminated(created, status)
        return str(created)

    old, new = run("old night"), run("new night")
    gone = {run("pretrain", old, fingerprint="a"), run("register", old, fingerprint="b"), run("pretrain", new, fingerprint="a")}
    gone.add(run("killed", old, "RUNNING", fingerprint="a"))
    stays = {run("evaluate", new, fingerprint="c"), run("by hand"), new}
    registered = run("register", new, fingerprint="b")
    client.create_registered_model("news")
    client.create_model_version("news", str(tmp_path / "mlartifacts"), run_id=registered)
    client.delete_run(sorted(gone)[0])  # as a removal leaves it that was killed
    trash = client.create_experiment("trash", artifact_location=str(tmp_path / "trash"))
    thrown = client.create_run(trash).info.run_id
    client.log_text(thrown, "text", "file.txt")
    client.delete_experiment(trash)

    assert remove_runs(uri, ["unknown"]) == 0
    assert remove_runs(uri, ["a", "b"]) == 5  # with the pipeline of which no stage is left
    left = {one.info.run_id for one in client.search_runs([experiment], run_view_type=ViewType.ALL)}
    assert left == stays | {registered}
    assert {path.parent.parent.name for path in (tmp_path / "mlartifacts").glob("*/artifacts/file.txt")} == left
    client.restore_experiment(trash)  # somebody else's trash is not ours to empty
    assert [one.info.run_id for one in client.search_runs([trash], run_view_type=ViewType.ALL)] == [thrown]
    assert list((tmp_path / "trash").glob("*/artifacts/file.txt"))


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        remove_runs(sqlite_uri(tmp_path / "mlflow.db"), ["a"])
