"""Faults in every stage of the real pipeline: killed, out of disk, fed a damaged artifact; the next run ends as if nothing had been."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.config.run import load
from pipelines.stages import PIPELINE
from pipelines.workspace.artifacts import ArtifactError, files_of
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.manifest import MANIFEST
from pipelines.workspace.runner import Runner
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow

STAGES = [stage.name for stage in PIPELINE]
ARTIFACTS = [(stage.name, upstream) for stage in PIPELINE for upstream in stage.upstream]


@pytest.fixture(scope="module")
def whole(whole_pipeline: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A pipeline that was gone without a fault."""
    return whole_pipeline.copy(tmp_path_factory.mktemp("faults") / "whole")


def before(whole: Workspace, stage: str, path: Path) -> Workspace:
    """A copy of a finished workspace in which a stage, and all after it, are still to come."""
    copied = whole.copy(path)
    for later in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(path / "artifacts" / later, ignore_errors=True)
        if later == "ingest":
            shutil.rmtree(path / "store")
        if later == "score":
            shutil.rmtree(path / "scores")
    return copied


def test_a_kill_in_every_stage_changes_nothing(whole: Workspace, mlflow_database: Path) -> None:
    """One run after the other is killed, each in another stage, a little after it began."""
    workspace = Workspace.new(whole.path.with_name("killed"), mlflow_database)
    for stage in STAGES:
        workspace.kill_at(f"{stage}: begins", operations=20)
    workspace.run("run")
    assert workspace.tables() == whole.tables()
    assert workspace.metrics() == whole.metrics()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of its own, of the size that is asked for; asked again it is another size, and what lies there stays."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = False

    def of_size(size: int) -> Path:
        nonlocal mounted
        kind = ["-o", f"remount,size={size}"] if mounted else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        if shutil.which("mount") is None or subprocess.run(["mount", *kind, str(path)], capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small tmpfs is not permitted here")
        mounted = True
        return path

    yield of_size
    if mounted:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_in_any_stage_is_one_line_and_the_next_run_goes_on(
    whole: Workspace, stage: str, disk: Callable[[int], Path], tmp_path: Path
) -> None:
    workspace = before(whole, stage, disk(1 << 30) / "workspace")
    disk(used(workspace.path) + 8192)
    code, _, said = workspace.start("run")
    assert code == 1, said
    assert "space" in said.splitlines()[-1] or "disk is full" in said.splitlines()[-1], said
    assert "Traceback" not in said
    assert not list(workspace.path.glob(f"artifacts/{stage}/*/{MANIFEST}"))
    disk(1 << 30)
    workspace.run("run", "--until", stage)
    assert list(workspace.path.glob(f"artifacts/{stage}/*/{MANIFEST}"))
    assert workspace.tables().items() <= whole.tables().items()


def used(path: Path) -> int:
    """Bytes that a tmpfs holds for a folder: whole pages."""
    return shutil.disk_usage(path).used


@pytest.mark.parametrize(("stage", "upstream"), ARTIFACTS)
def test_a_byte_that_changed_in_an_artifact_stops_whoever_reads_it(whole: Workspace, stage: str, upstream: str, tmp_path: Path) -> None:
    """Each of its files in turn, before the stage does any work."""
    workspace = before(whole, stage, tmp_path / "workspace")
    artifact = next(path.parent for path in workspace.path.glob(f"artifacts/{upstream}/*/{MANIFEST}"))
    for name in list(files_of(artifact)):
        held = flip(artifact / name)
        runner = Runner(RunContext(load(workspace.conf), workspace.path, console=Console(io.StringIO())), PIPELINE)
        with pytest.raises(ArtifactError, match=re.escape(name)) as error:
            runner.run(stage, stage)
        assert "\n" not in str(error.value)
        assert not list(workspace.path.glob(f"artifacts/{stage}/*/{MANIFEST}"))
        (artifact / name).write_bytes(held)


def flip(file: Path) -> bytes:
    """Change a byte in the middle of a file; what it held."""
    held = file.read_bytes()
    middle = len(held) // 2
    file.write_bytes(held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :])
    return held
