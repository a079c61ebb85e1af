"""The whole pipeline through the real program on a tiny simulated log: uninterrupted, killed twice, and run once more."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = """
source: {reader: simulated, simulator: {users: 80, items: 60, requests: 900, days: 4, candidates: 4}}
split: {fractions: [0.7, 0.15, 0.15]}
pretrain: {encoder: {width: 16, layers: 1}, training: {epochs: 2, batch_size: 16, checkpoint_seconds: 0.01}}
finetune: {training: {epochs: 2, batch_size: 128, checkpoint_seconds: 0.01}}
distill: {training: {epochs: 1, batch_size: 128, checkpoint_seconds: 0.01}}
evaluate: {bootstrap: 20, boosted_trees: false}
register: {auc_min: 0, calibration_error_max: 1, champion_margin: 1}
"""


class Workspace:
    """One workspace and the commands on it."""

    def __init__(self, path: Path) -> None:
        self.path, self.conf = path, path.with_name("tiny.yaml")
        self.conf.write_text(TINY)

    @classmethod
    def new(cls, path: Path, database: Path) -> Workspace:
        path.mkdir()
        shutil.copyfile(database, path / "mlflow.db")
        return cls(path)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines", *arguments, str(self.conf), "--workspace", str(self.path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)

    def run(self, *arguments: str) -> tuple[str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out, err

    def kill_at(self, sign: str) -> None:
        """Start a run and kill it as soon as it says this."""
        process = self.start("run")
        assert process.stderr is not None
        for line in process.stderr:
            if sign in line:
                process.kill()
                break
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, f"the run never said {sign!r}"

    def metrics(self) -> dict[str, Any]:
        """metrics.json without what time alone decides."""
        metrics = json.loads((self.path / "reports" / "latest" / "metrics.json").read_text())
        for model in metrics["models"].values():
            model.pop("rows_per_second", None)
            model.pop("rows_per_second_alone", None)
        if metrics.get("gate"):
            metrics["gate"]["checks"] = [check for check in metrics["gate"]["checks"] if not check["name"].startswith("latency")]
        return {name: value for name, value in metrics.items() if name != "run"}

    def tables(self) -> dict[str, str]:
        """Digests of every table that the run made: rows, logits, vocabularies, scores."""
        files = [
            *self.path.glob("artifacts/*/*/**/*.parquet"),
            *self.path.glob("scores/*/*.parquet"),
            *self.path.glob("artifacts/**/student.onnx"),
        ]
        return {str(file.relative_to(self.path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workspace:
    workspace = Workspace.new(tmp_path_factory.mktemp("pipeline") / "whole", mlflow_database)
    workspace.out, workspace.err = workspace.run("run")  # type: ignore[attr-defined]
    return workspace


def test_the_pipeline_ends_with_a_champion_and_scores(whole: Any) -> None:
    assert whole.out.startswith("made ingest, pretrain, finetune, distill, evaluate, register, score in")
    assert "Student alone" in whole.out
    assert "reports/" in whole.out.strip().splitlines()[-1]
    assert whole.metrics()["gate"]["champion_after"] == "1"
    assert len(list(whole.path.glob("scores/date=*/scores.parquet"))) == 1
    assert "Traceback" not in whole.err


def test_a_second_run_does_nothing_and_says_so_quickly(whole: Any) -> None:
    before = whole.tables()
    began = time.monotonic()
    out, _ = whole.run("run")
    assert time.monotonic() - began < 10
    assert out.startswith("nothing to do: ingest, pretrain, finetune, distill, evaluate, register, score are up to date")
    assert whole.tables() == before


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(whole: Any, mlflow_database: Path) -> None:
    workspace = Workspace.new(whole.path.with_name("killed"), mlflow_database)
    workspace.kill_at("finetune: step")
    workspace.kill_at("distill: student alone")
    _, err = workspace.run("run")
    assert "finetune: up to date" in err
    assert workspace.tables() == whole.tables()
    assert workspace.metrics() == whole.metrics()


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_copied_workspace_leaves_the_original_alone_and_a_moved_one_finds_its_models(whole: Any) -> None:
    before = files(whole.path)
    copied = Workspace(shutil.copytree(whole.path, whole.path.with_name("copied"), symlinks=True))
    copied.run("register", "--set", "distill.alpha=0.9")
    assert copied.metrics()["gate"]["champion_before"] == "1"
    assert files(whole.path) == before
    moved = Workspace(copied.path.rename(whole.path.with_name("moved")))
    moved.run("run", "--set", "distill.alpha=0.8")  # scores, and compares with a champion that was registered elsewhere
    assert moved.metrics()["gate"]["challenger"] == "3"
    assert "auc_against_champion_low" in {check["name"] for check in moved.metrics()["gate"]["checks"]}
    assert not copied.path.exists()
    assert files(whole.path) == before
