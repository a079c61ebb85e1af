"""Trainings side by side: the same models as one after the other, whatever becomes of the other process."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ctr_kd.config_training import TrainingConfig
from ctr_kd.training.checkpoint import load_checkpoint
from ctr_kd.training.errors import TrainingError
from pipelines.config.run import RunConfig
from pipelines.errors import FailedElsewhere
from pipelines.training import side_by_side
from pipelines.training.side_by_side import train_side_by_side
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, StageContext
from tests.programs import Program, read_or_empty, run_program, wait_until

SETTINGS, MANY = TrainingConfig(epochs=2.0), side_by_side.LEAST_WORK
NAMES = ("first", "second", "third")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Training:
    """Trainings that write who did them."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self.said = io.StringIO()
        self.context = StageContext(RunContext(config, folder, console=Console(self.said)), "distill", (), {}, folder / "artifact")
        self.context.checkpoint.mkdir(parents=True)

    def here(self, name: str) -> str:
        return train(self.context, name)

    def by_whom(self, elsewhere: side_by_side.Train, names: tuple[str, ...] = NAMES, **changes: Any) -> list[str]:
        given: dict[str, Any] = {"settings": SETTINGS, "rows": MANY} | changes
        done = train_side_by_side(self.context, names, self.here, elsewhere, **given)
        return ["here" if done[name] == str(os.getpid()) else "elsewhere" for name in names]


def train(context: StageContext, name: str) -> str:
    file = context.checkpoint / name
    if not file.exists():
        context.report(f"{name} by {torch.get_num_threads()} thread")
        file.write_text(str(os.getpid()))
    return file.read_text()


def fail(context: StageContext, name: str) -> None:
    raise TrainingError(f"the loss of {name} is not finite")


def be_killed(context: StageContext, name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def find_no_memory(context: StageContext, name: str) -> None:
    raise MemoryError


@pytest.fixture
def training(config: RunConfig, tmp_path: Path) -> Training:
    return Training(config, tmp_path)


@pytest.mark.usefixtures("two_threads")
def test_the_trainings_are_dealt_out_to_as_many_processes_as_there_are_threads(training: Training) -> None:
    assert training.by_whom(train) == ["here", "elsewhere", "here"]
    assert sorted(line[9:] for line in training.said.getvalue().splitlines()) == sorted(f"distill: {name} by 1 thread" for name in NAMES)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("changes", [{"rows": 10}, {"rows": 10**8}, {"large_steps": True}, {"names": ("only",)}])
def test_what_is_too_little_too_much_or_large_by_itself_is_trained_in_turn_by_all_threads(
    training: Training, changes: dict[str, Any]
) -> None:
    assert set(training.by_whom(train, **changes)) == {"here"}
    assert "by 2 thread" in training.said.getvalue()


def test_one_thread_trains_in_turn(training: Training) -> None:
    torch.set_num_threads(1)
    assert set(training.by_whom(train)) == {"here"}


@pytest.mark.usefixtures("two_threads")
def test_where_the_cores_are_taken_the_shares_stay_as_they_are(training: Training, tmp_path: Path) -> None:
    training.context.run.making = tmp_path
    assert set(training.by_whom(train)) == {"here"}
    assert "by 2 thread" not in training.said.getvalue()


@pytest.mark.usefixtures("two_threads")
def test_the_failure_of_another_process_is_one_line_with_its_code(training: Training) -> None:
    with pytest.raises(FailedElsewhere, match=r"^the loss of second is not finite$") as failure:
        training.by_whom(fail)
    assert failure.value.code == 2 and torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("elsewhere", "how"), [(be_killed, "was killed by SIGKILL, as systems do with what runs out of memory"), (find_no_memory, "ended")]
)
def test_what_another_process_did_not_finish_is_trained_here(training: Training, elsewhere: side_by_side.Train, how: str) -> None:
    assert set(training.by_whom(elsewhere)) == {"here"}
    assert f"warning: the process that trained second {how}" in training.said.getvalue()
    assert "second by 1 thread" in training.said.getvalue()


@pytest.mark.usefixtures("two_threads")
def test_a_failure_here_ends_the_other_process(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = [], side_by_side._Child
    monkeypatch.setattr(side_by_side, "_Child", lambda *given: begun.append(begin(*given)) or begun[-1])
    monkeypatch.setattr(training, "here", lambda name: fail(training.context, name))
    with pytest.raises(TrainingError, match="the loss of first"):
        training.by_whom(train)
    (child,) = begun
    assert child.process.exitcode is not None


TINY = """
source: {reader: simulated, simulator: {users: 60, items: 40, requests: 500, days: 4, candidates: 4}}
split: {fractions: [0.7, 0.15, 0.15]}
statistics: {auto: false}
pretrain: {encoder: {width: 16, layers: 1}, training: {epochs: 2, batch_size: 16}}
finetune: {members: 2, training: {epochs: 2, batch_size: 64, checkpoint_seconds: 0.01}}
distill:
  teachers: [{name: bert}]
  student: {width: 8, hidden: 8}
  training: {epochs: 8, batch_size: 16, checkpoint_seconds: 0.01}
"""
FILES = ("finetune/*/teacher.pt", "distill/*/student.pt", "distill/*/student_alone.pt")
MODULE = "tests.pipelines.training.side_by_side_program"


class Workspace:
    """The real program, which shares its cores among however few rows."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.path, self.conf = folder / "workspace", folder / "tiny.yaml"
        self.path.mkdir(parents=True)
        self.conf.write_text(TINY)
        shutil.copyfile(database, self.path / "mlflow.db")

    def command(self, threads: int) -> tuple[str, ...]:
        return str(threads), "distill", str(self.conf), "--workspace", str(self.path)

    def file(self, pattern: str) -> Path | None:
        return next(self.path.glob(f"artifacts/{pattern}"), None)

    def weights(self) -> list[dict[str, torch.Tensor]]:
        files = [next(self.path.glob(f"artifacts/{pattern}")) for pattern in FILES]
        return [load_checkpoint(file, file.parent.name)["model"] for file in files]

    def children(self, pid: int) -> list[int]:
        return [int(one) for one in read_or_empty(f"/proc/{pid}/task/{pid}/children").split()]


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("in_turn"), mlflow_database)
    ended = run_program(*workspace.command(threads=1), module=MODULE)
    assert ended.code == 0 and "began a process" not in ended.err, ended.err
    return workspace


@pytest.fixture
def pretrained(in_turn: Workspace, tmp_path: Path, mlflow_database: Path) -> Workspace:
    """A workspace in which only teacher and students are missing."""
    workspace = Workspace(tmp_path, mlflow_database)
    shutil.copytree(in_turn.path, workspace.path, dirs_exist_ok=True)
    for stage in ("finetune", "distill"):
        shutil.rmtree(workspace.path / "artifacts" / stage)
    return workspace


def same(one: Workspace, other: Workspace) -> bool:
    return all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in zip(one.weights(), other.weights(), strict=True)
    )


@pytest.mark.slow
def test_two_processes_train_the_models_of_one_bit_for_bit(in_turn: Workspace, pretrained: Workspace) -> None:
    ended = run_program(*pretrained.command(threads=2), module=MODULE)
    assert ended.code == 0, ended.err
    assert ended.err.count("began a process") == 2, "one for the second member of the teacher, one for the student alone"
    assert "finetune: fine-tuning 2 of 2: step " in ended.err and "distill: student alone: step " in ended.err
    assert same(in_turn, pretrained)


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_along_and_continues_exactly(in_turn: Workspace, pretrained: Workspace) -> None:
    program = Program(*pretrained.command(threads=2), module=MODULE)
    pid = program.process.pid
    assert pid is not None
    wait_until(lambda: pretrained.file("distill/*/checkpoint/student_alone.pt") is not None, "the student alone was not trained")
    others = pretrained.children(pid)
    os.kill(pid, signal.SIGKILL)
    assert program.end().code == -signal.SIGKILL
    wait_until(lambda: not any(Path(f"/proc/{other}").exists() for other in others), "a process outlived the run")
    ended = run_program(*pretrained.command(threads=2), module=MODULE)
    assert ended.code == 0, ended.err
    assert "distill: student alone: continuing at step" in ended.err
    assert same(in_turn, pretrained)
