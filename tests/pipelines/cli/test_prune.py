"""ctr-kd prune on a whole workspace: what goes, what stays, and that all that stays still works."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.registry.needed_artifacts import needed_artifacts
from pipelines.workspace.retention import removals
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
        time.sleep(1.1)  # artifacts tell the second in which they were begun
    (middle, newest) = sorted(
        fingerprints(workspace, "pretrain") - first["pretrain"],
        key=lambda name: (workspace.path / "artifacts" / "pretrain" / name).stat().st_mtime,
    )
    tables = workspace.tables()

    files = {path: path.stat().st_mtime_ns for path in workspace.path.rglob("*")}
    out, _ = workspace.run("prune", "--keep", "1", "--days", "0", "--dry-run")
    assert files == {path: path.stat().st_mtime_ns for path in workspace.path.rglob("*")}
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

    assert workspace.run("run")[0].startswith("nothing to do")
    assert "disk: store " in workspace.run("status")[0]


def test_what_champion_challenger_and_rollback_need_stays(whole_pipeline: Workspace, tmp_path: Path) -> None:
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    for seed in ("1", "2"):
        last = "register" if seed == "1" else "distill"
        workspace.start("run", "--until", last, "--set", f"seed={seed}", "--set", "distill.training.epochs=0.5")
    # with other settings nothing registered is up to date; the newest of each stage, but of register, are of the last seed
    other = ("--set", "seed=2", "--set", "distill.training.epochs=0.5", "--set", "history.max_length=3")
    distilled, registered = fingerprints(workspace, "distill"), fingerprints(workspace, "register")
    assert len(distilled) == 3 and len(registered) == 2
    unprotected = {one.path.name for one in removals(workspace.path, (), 1, datetime.now(UTC) + timedelta(days=1))}
    assert len(distilled & unprotected) == 1 and len(registered & unprotected) == 1
    workspace.run("prune", "--keep", "1", "--days", "0", *other)
    assert fingerprints(workspace, "distill") == distilled and fingerprints(workspace, "register") == registered

    # a registry that does not know a version cannot say that nobody uses it
    shutil.copyfile(workspace.path / "mlflow.db", tmp_path / "another.db")
    with closing(sqlite3.connect(tmp_path / "another.db")) as database:
        database.execute("delete from registered_model_aliases")
        database.execute("delete from model_versions")
        database.execute("delete from registered_model_tags")
        database.commit()
    found = set(needed_artifacts(f"sqlite:///{tmp_path / 'another.db'}", "nobody", workspace.path))
    assert {fingerprint for stage, fingerprint in found if stage == "register"} == registered


def test_a_run_may_end_with_it(whole_pipeline: Workspace, tmp_path: Path) -> None:
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    killed = workspace.path / "artifacts" / "finetune" / "0123456789abcdef"
    killed.mkdir()
    os.utime(killed, (0, 0))
    asked = ("--set", "retention.after_run=true", "--set", "retention.age=1s", "--set", "retention.keep=1")
    _, err = workspace.run("run", *asked)
    assert "prune: removed 1 unfinished artifact: 0 B" in err and not killed.exists()
    assert "prune: nothing to remove" in workspace.run("run", *asked)[1]


def test_what_is_asked_must_make_sense(whole_pipeline: Workspace, tmp_path: Path) -> None:
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    for arguments in (("--keep", "0"), ("--days", "-1"), ("--days", "800000")):
        ended = workspace.start("prune", *arguments)
        assert ended.code == 2 and "is not in the range" in ended.err
    nowhere = Workspace(tmp_path / "nowhere").start("prune", "--dry-run")
    assert nowhere.code == 2 and "is no workspace" in nowhere.err and not (tmp_path / "nowhere").exists()
    (workspace.path / "mlflow.db").unlink()  # what the champion needs is unknown
    ended = workspace.start("prune", "--keep", "1", "--days", "0")
    assert ended.code == 3 and "champion" in ended.err and len(ended.err.strip().splitlines()) == 1
