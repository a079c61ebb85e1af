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
    stays = {run("evaluate", new, fingerprint="c"), run("live", old, "RUNNING", fingerprint="a"), run("by hand"), old, new}
    registered = run("register", old, fingerprint="b")
    client.create_registered_model("news")
    client.create_model_version("news", str(tmp_path / "mlartifacts"), run_id=registered)
    client.delete_run(sorted(gone)[0])  # as a removal leaves it that was killed

    assert remove_runs(uri, "another experiment", lambda fingerprint: True) == 0
    assert remove_runs(uri, "news", lambda fingerprint: fingerprint in ("a", "b")) == 3
    left = {one.info.run_id for one in client.search_runs([experiment], run_view_type=ViewType.ALL)}
    assert left == stays | {registered}
    files = {path.parent.parent.name for path in (tmp_path / "mlartifacts").glob("*/artifacts/file.txt")}
    assert files == left

    lonely = run("third night")
    run("pretrain", lonely, fingerprint="a")
    assert remove_runs(uri, "news", lambda fingerprint: fingerprint == "a") == 2  # and its pipeline, of which no stage is left


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        remove_runs(sqlite_uri(tmp_path / "mlflow.db"), "news", lambda fingerprint: True)
