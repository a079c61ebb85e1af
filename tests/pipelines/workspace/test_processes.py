"""The real program under torchrun, two processes on one machine: one result, one voice, and one end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ctr_kd.training.distributed import Processes
from pipelines.config.run import RunConfig, with_changes
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.processes import run_shared_stages
from tests.programs import HANGS, ROOT, run_program, run_together

pytestmark = pytest.mark.slow

TINY = """
source: {reader: simulated, simulator: {users: 60, items: 40, requests: 500, days: 4, candidates: 4}}
split: {fractions: [0.7, 0.15, 0.15]}
pretrain: {encoder: {width: 16, layers: 1, dropout: 0}, training: {epochs: 2, batch_size: 16, checkpoint_seconds: 0.01}}
finetune: {members: 1, head_dropout: 0, hard_negatives: {amount: 0.3}, training: {epochs: 1, batch_size: 64}}
distill:
  teachers: [{name: bert}]
  transfer: {amount: 0.5}
  student: {width: 8, hidden: 8, dropout: 0}
  training: {epochs: 1, batch_size: 64, checkpoint_seconds: 0.01}
"""
STAGES = ("pretrain", "finetune", "distill")


class Workspace:
    def __init__(self, folder: Path, database: Path) -> None:
        self.path, self.conf = folder / "workspace", folder / "tiny.yaml"
        self.conf.write_text(TINY)
        self.path.mkdir()
        shutil.copyfile(database, self.path / "mlflow.db")

    @property
    def command(self) -> tuple[str, ...]:
        return "distill", str(self.conf), "--workspace", str(self.path)

    def curves(self) -> list[dict[str, float]]:
        """What the trainings of encoder, teacher, student and student alone measured."""
        facts = {stage: json.loads(next(self.path.glob(f"artifacts/{stage}/*/training.json")).read_text()) for stage in STAGES}
        trained = [facts["pretrain"], facts["finetune"], facts["distill"]["student"], facts["distill"]["student_alone"]]
        return [point for one in trained for point in one["curve"]["points"]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("processes"), mlflow_database)
    ended = run_program(*workspace.command)
    assert ended.code == 0, ended.err
    return workspace


@pytest.fixture
def ingested(alone: Workspace, tmp_path: Path, mlflow_database: Path) -> Workspace:
    """A workspace in which only the trainings are missing."""
    workspace = Workspace(tmp_path, mlflow_database)
    shutil.copytree(alone.path, workspace.path, dirs_exist_ok=True)
    for stage in STAGES:
        shutil.rmtree(workspace.path / "artifacts" / stage)
    return workspace


def test_two_processes_make_what_one_makes_and_find_it_standing(alone: Workspace, ingested: Workspace) -> None:
    """The first time under the real launcher."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "pipelines"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *ingested.command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("made pretrain, finetune, distill in") == 1
    assert done.stderr.count("pretrain: begins") == 1, "the others are silent"
    for one, two in zip(alone.curves(), ingested.curves(), strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    first, second = run_together(2, *ingested.command)
    assert (first.code, second.code) == (0, 0), first.err
    assert first.out.startswith("nothing to do: ingest, pretrain, finetune, distill are up to date")
    assert second.out == ""


@pytest.mark.parametrize(("rank", "code"), [(0, 3), (1, 1)])
def test_the_failure_of_one_ends_all_and_is_said_once(rank: int, code: int, ingested: Workspace) -> None:
    ended = run_together(2, *ingested.command, module="tests.pipelines.failing_program", environment={"FAILS_IN": str(rank)})
    assert ended[rank].code == code and ended[1 - rank].code != 0
    said = [line for one in ended for line in one.err.splitlines() if line.startswith("ctr-kd:")]
    assert len(said) == 1 and f"process {rank} broke" in said[0], ended
    assert not list(ingested.path.glob("artifacts/pretrain/*/_manifest.json"))


class Broadcast(Processes):
    """What the first process tells the others, kept in order."""

    said: ClassVar[list[Any]] = []

    def tell(self, value: Any = None) -> Any:
        if value is None:
            return self.said.pop(0) if self.said else None
        self.said.append(value)
        return value


def test_a_helper_takes_the_configuration_of_the_stage_that_is_announced(config: RunConfig, tmp_path: Path) -> None:
    """A proof trains teachers of several seeds and arms, of which the helpers' own configuration knows the first."""
    seen: list[RunConfig] = []
    stage = Stage("finetune", lambda context: seen.append(context.config), keys=("seed", "finetune"))
    helping = RunContext(config, tmp_path, processes=Broadcast())
    other = config.model_copy(update={"seed": config.seed + 2})
    arm = with_changes(config, {"finetune.training.epochs": 7, "embeddings.refresh": "2h"}, "arm")
    for leading in (config, other, arm):
        StageContext(replace(helping, config=leading), stage.name, stage.keys, {}, tmp_path / "output").announce()
    run_shared_stages(helping, [stage])
    assert seen == [config, other, arm] and seen[2].finetune.training.epochs == 7 and helping.config is config


def test_a_student_that_compares_the_rows_of_a_batch_is_trained_by_the_first_process(alone: Workspace, ingested: Workspace) -> None:
    ended = run_together(2, *ingested.command, "--set", "distill.listwise=0.5", "--set", "distill.transfer.amount=0")
    assert [one.code for one in ended] == [0, 0], ended[0].err
    facts = json.loads(next(ingested.path.glob("artifacts/distill/*/training.json")).read_text())
    assert facts["student"]["curve"]["points"] and not list(ingested.path.glob("artifacts/distill/*/teachers.npy"))


def test_the_students_of_a_proof_are_trained_together(ingested: Workspace) -> None:
    ended = run_together(2, "prove", *ingested.command[1:], "--seeds", "2", "--set", "prove.ablation=[]", "--set", "prove.amounts=[]")
    assert [one.code for one in ended] == [0, 0], ended[0].err
    assert len(list(ingested.path.glob("artifacts/student/*/_manifest.json"))) >= 2
