"""The whole pipeline through the real program on a tiny simulated log: uninterrupted, killed twice, and run once more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.tiny_workspace import Workspace
from tests.programs import HANGS, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(whole_pipeline: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return whole_pipeline.copy(tmp_path_factory.mktemp("pipeline") / "whole")


def test_the_pipeline_ends_with_a_champion_and_scores(whole: Workspace, whole_pipeline: Workspace) -> None:
    out, err = (whole_pipeline.path.with_name(f"{name}.txt").read_text() for name in ("out", "err"))
    assert out.startswith("made ingest, pretrain, finetune, distill, evaluate, register, score in")
    assert "Student alone" in out
    place, verdict, *more = out[out.index("\nreport: ") :].strip().splitlines()
    assert "reports/" in place
    assert verdict.startswith("Distillation ") and " ships: " in verdict and verdict.endswith(".")
    assert [line.split(":")[0] for line in more] == ([] if verdict.startswith("Distillation gave") else ["why", "try"])
    assert whole.metrics()["gate"]["champion_after"] == "1"
    assert len(list(whole.path.glob("scores/date=*/scores.parquet"))) == 1
    assert "Traceback" not in err


def test_a_second_run_does_nothing_and_says_so_quickly(whole: Workspace) -> None:
    """What takes seconds to load is not loaded."""
    before = whole.tables()
    command = [sys.executable, "-m", "tests.pipelines.loading_program", *whole.command("run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=HANGS)
    out = done.stdout
    assert done.stderr.splitlines()[-1] == "loaded of torch, mlflow, onnxruntime, sklearn: none"
    assert out.startswith("nothing to do: ingest, pretrain, finetune, distill, evaluate, register, score are up to date")
    assert whole.tables() == before


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(whole: Workspace, mlflow_database: Path) -> None:
    workspace = Workspace.new(whole.path.with_name("killed"), mlflow_database)
    workspace.kill_at("finetune: step")
    workspace.kill_at("distill: student alone")
    _, err = workspace.run("run")
    assert "finetune: up to date" in err
    assert workspace.tables() == whole.tables()
    assert workspace.metrics() == whole.metrics()


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_copied_workspace_leaves_the_original_alone_and_a_moved_one_finds_its_models(whole: Workspace) -> None:
    before = files(whole.path)
    copied = whole.copy(whole.path.with_name("copied"))
    copied.run("register", "--set", "distill.alpha=0.9")
    assert copied.metrics()["gate"]["champion_before"] == "1"
    assert files(whole.path) == before
    moved = Workspace(copied.path.rename(whole.path.with_name("moved")))
    moved.run("run", "--set", "distill.alpha=0.8")  # scores, and compares with a champion that was registered elsewhere
    assert moved.metrics()["gate"]["challenger"] == "3"
    assert "auc_against_champion_low" in {check["name"] for check in moved.metrics()["gate"]["checks"]}
    assert not copied.path.exists()
    assert files(whole.path) == before
