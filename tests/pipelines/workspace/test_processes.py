"""The real program under torchrun, two processes on one machine: one result, one voice, and one end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TINY = """
source: {reader: simulated, simulator: {users: 60, items: 40, requests: 500, days: 4, candidates: 4}}
split: {fractions: [0.7, 0.15, 0.15]}
pretrain: {encoder: {width: 16, layers: 1, dropout: 0}, training: {epochs: 2, batch_size: 16, checkpoint_seconds: 0.01}}
finetune: {head_dropout: 0, hard_negatives: {amount: 0.3}, training: {epochs: 1, batch_size: 64}}
"""
# The program in which a step of one process fails: FAILS_IN names the process.
FAILING = """
import os
from torch.optim.optimizer import register_optimizer_step_pre_hook
from feature_store.tables.contracts import DataError
from pipelines.cli.main import main

steps = iter(range(100))

def fail(optimizer, arguments, more):
    if next(steps) == 1 and os.environ["RANK"] == os.environ["FAILS_IN"]:
        raise DataError("process 0 broke") if os.environ["RANK"] == "0" else OSError("process 1 broke")

register_optimizer_step_pre_hook(fail)
main()
"""


class Workspace:
    def __init__(self, folder: Path, database: Path) -> None:
        self.path, self.conf = folder / "workspace", folder / "tiny.yaml"
        self.conf.write_text(TINY)
        self.path.mkdir()
        shutil.copyfile(database, self.path / "mlflow.db")

    def run(self, processes: int, *program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
        command = [sys.executable, *torchrun, *(program or ("-m", "pipelines")), "finetune", str(self.conf), "--workspace", str(self.path)]
        more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, timeout=120)

    def curves(self) -> list[dict[str, float]]:
        """What pretraining and fine-tuning measured."""
        files = [next(self.path.glob(f"artifacts/{stage}/*/training.json")) for stage in ("pretrain", "finetune")]
        return [point for file in files for point in json.loads(file.read_text())["curve"]["points"]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("processes"), mlflow_database)
    done = workspace.run(1)
    assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture
def ingested(alone: Workspace, tmp_path: Path, mlflow_database: Path) -> Workspace:
    """A workspace in which only the trainings are missing."""
    workspace = Workspace(tmp_path, mlflow_database)
    shutil.copytree(alone.path, workspace.path, dirs_exist_ok=True)
    for stage in ("pretrain", "finetune"):
        shutil.rmtree(workspace.path / "artifacts" / stage)
    return workspace


def test_two_processes_make_what_one_makes_and_find_it_standing(alone: Workspace, ingested: Workspace) -> None:
    done = ingested.run(2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("made pretrain, finetune in") == 1
    assert done.stderr.count("pretrain: begins") == 1, "the others are silent"
    for one, two in zip(alone.curves(), ingested.curves(), strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    done = ingested.run(2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nothing to do: ingest, pretrain, finetune are up to date")


@pytest.mark.parametrize(("rank", "code"), [(0, 3), (1, 1)])
def test_the_failure_of_one_ends_all_and_is_said_once(rank: int, code: int, ingested: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    done = ingested.run(2, str(script), FAILS_IN=str(rank))
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("ctr-kd:")]
    assert len(said) == 1 and f"process {rank} broke" in said[0], done.stderr
    assert f"exitcode  : {code} " in done.stderr, "as torchrun shows it"
    assert not list(ingested.path.glob("artifacts/pretrain/*/_manifest.json"))
