"""ctr-kd prune on a whole workspace: what goes, what stays, and that all that stays still works."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow


def fingerprints(workspace: Workspace, stage: str) -> set[str]:
    return {path.name for path in (workspace.path / "artifacts" / stage).iterdir() if not path.name.startswith(".")}


def runs(workspace: Workspace) -> set[str]:
    """Fingerprints of the stages that MLflow has runs of."""
    with closing(sqlite3.connect(workspace.path / "mlflow.db")) as database:
        return {value for (value,) in database.execute("select value from tags where key = 'fingerprint'")}


def test_old_artifacts_and_their_runs_go_and_the_champion_stays(whole_pipeline: Workspace, tmp_path: Path) -> None:
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    first = {stage: fingerprints(workspace, stage) for stage in ("ingest", "pretrain", "distill", "register", "score")}
    before = runs(workspace)
    for width in (8, 24):
        workspace.run("run", "--until", "pretrain", "--set", f"pretrain.encoder.width={width}", "--set", "pretrain.encoder.heads=1")
    (middle, newest) = sorted(
        fingerprints(workspace, "pretrain") - first["pretrain"],
        key=lambda name: (workspace.path / "artifacts" / "pretrain" / name).stat().st_mtime,
    )
    tables = workspace.tables()

    out, _ = workspace.run("prune", "--keep", "1", "--days", "0", "--dry-run")
    assert out.startswith(f"artifact artifacts/pretrain/{middle}: ") and "\nwould remove 1 artifact: " in out
    assert workspace.tables() == tables
    assert workspace.run("prune", "--keep", "2", "--days", "0")[0] == "nothing to remove\n"
    assert workspace.run("prune", "--keep", "1")[0] == "nothing to remove\n"  # what is younger than thirty days stays

    out, _ = workspace.run("prune", "--keep", "1", "--days", "0")
    assert out.startswith("removed 1 artifact, 2 runs in MLflow: ")  # of the stage, and of the pipeline that had no other
    assert fingerprints(workspace, "pretrain") == first["pretrain"] | {newest}
    assert {stage: fingerprints(workspace, stage) for stage in first if stage != "pretrain"} == {
        stage: names for stage, names in first.items() if stage != "pretrain"
    }
    assert before <= runs(workspace) and middle not in runs(workspace) and newest in runs(workspace)

    # with another configuration nothing of the champion is up to date, and it stays all the same
    workspace.run("prune", "--keep", "1", "--days", "0", "--set", "history.max_length=3")
    assert first["distill"] <= fingerprints(workspace, "distill")
    assert workspace.run("run")[0].startswith("nothing to do")
    assert "version 1 of tiny" in workspace.run("status")[0]
    assert "disk: store " in workspace.run("status")[0]


def test_a_run_may_end_with_it(whole_pipeline: Workspace, tmp_path: Path) -> None:
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    killed = workspace.path / "artifacts" / "finetune" / "0123456789abcdef"
    killed.mkdir()
    os.utime(killed, (0, 0))
    out, _ = workspace.run("run", "--set", "retention.after_run=true", "--set", "retention.age=1s", "--set", "retention.keep=1")
    assert out.splitlines()[-1].startswith("removed 1 unfinished artifact") and not killed.exists()
    assert workspace.run("run")[0].startswith("nothing to do")


def test_what_is_asked_must_make_sense(whole_pipeline: Workspace, tmp_path: Path) -> None:
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    for arguments in (("--keep", "0"), ("--days", "-1")):
        ended = workspace.start("prune", *arguments)
        assert ended.code == 2 and "is not in the range" in ended.err
    (workspace.path / "mlflow.db").unlink()  # what the champion needs is unknown
    ended = workspace.start("prune", "--keep", "1", "--days", "0")
    assert ended.code == 3 and "champion" in ended.err and len(ended.err.strip().splitlines()) == 1
