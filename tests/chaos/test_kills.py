"""Kill -9 at random moments of two nights, a hundred times: in the end all is as if nothing had been."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_store.tables.json_files import load_json
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.tracking.client import sqlite_uri
from pipelines.workspace.manifest import MANIFEST
from tests.pipelines.tiny_workspace import Workspace
from tests.programs import Program

pytestmark = pytest.mark.chaos
KILLS = int(os.environ.get("CTR_KD_KILLS", "100"))
NIGHTS = ("2024-01-04", "2024-01-05")
NAME = "tiny"


def registry_of(workspace: Workspace) -> Registry:
    return Registry(sqlite_uri(workspace.path / "mlflow.db"), NAME)


def champions(workspace: Workspace) -> list[tuple[str, str | None, str]]:
    """Every change of the champion, oldest first."""
    return [(change.how, change.before, change.after) for change in registry_of(workspace).changes()]


def start(workspace: Workspace, night: str) -> Program:
    return Program(*workspace.command("run"), "--as-of", night)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[tuple[Workspace, float]]:
    """Both nights without a fault, and the seconds that the longer one took."""
    workspace = Workspace.new(tmp_path_factory.mktemp("undisturbed") / "workspace", mlflow_database)
    seconds = []
    for night in NIGHTS:
        began = time.monotonic()
        ended = start(workspace, night).end()
        assert ended.code == 0, ended.err
        seconds.append(time.monotonic() - began)
    yield workspace, max(seconds)


def check_what_stands(workspace: Workspace) -> None:
    """At any moment the champion is one that the history names and its files are whole, and so is whatever has a manifest."""
    registry = registry_of(workspace)
    champion = registry.alias(CHAMPION)
    if champion is not None:
        registry.download(f"models:/{NAME}@{CHAMPION}")
        assert champion in {after for _, _, after in champions(workspace)}
    for manifest in workspace.path.glob(f"scores/date=*/{MANIFEST}"):
        stands = load_json(manifest)
        assert isinstance(stands, dict)
        assert pq.ParquetFile(manifest.with_name("scores.parquet")).metadata.num_rows == stands["rows"]
    latest = workspace.path / "reports" / "latest"
    assert not latest.is_symlink() or (latest / "report.html").exists()


def test_nights_that_are_killed_at_random_moments_end_as_undisturbed_ones(
    undisturbed: tuple[Workspace, float], mlflow_database: Path, tmp_path: Path, chance: np.random.Generator
) -> None:
    whole, longest = undisturbed
    killed, rounds = 0, 0
    while killed < KILLS:
        (tmp_path / f"round{rounds}").mkdir()
        workspace = Workspace.new(tmp_path / f"round{rounds}" / "workspace", mlflow_database)
        rounds += 1
        for night in NIGHTS:
            while True:
                program = start(workspace, night)
                program.process.join(chance.exponential(longest / 4))
                program.process.kill()  # of one that has ended: nothing
                ended = program.end()
                if ended.code != -signal.SIGKILL:
                    break
                killed += 1
                check_what_stands(workspace)
            assert ended.code == 0, ended.err
        assert workspace.tables() == whole.tables()
        assert workspace.metrics() == whole.metrics()
        assert champions(workspace) == champions(whole)
        assert registry_of(workspace).alias(CHAMPION) == registry_of(whole).alias(CHAMPION)
        assert workspace_files(workspace) == workspace_files(whole)
        print(f"round {rounds}: {killed} kills so far")


def workspace_files(workspace: Workspace) -> set[str]:
    """What lies in the workspace at the end, MLflow's own numbered folders left out: nothing half-finished stays."""
    parts = ("artifacts", "store", "scores", "reports")
    return {str(path.relative_to(workspace.path)) for part in parts for path in (workspace.path / part).rglob("*")}
