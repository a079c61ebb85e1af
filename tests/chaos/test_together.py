"""Two or more of everything at once: on one tracking store, one registry, one workspace."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.registry.registry import CHAMPION, Registry
from pipelines.tracking.client import sqlite_uri
from pipelines.workspace.lock import LOCK
from tests.pipelines.served import CONFIGURATION, IN_PARTS, ITEMS, Served, probability
from tests.pipelines.tiny_workspace import Workspace
from tests.programs import FORKS, Program

pytestmark = pytest.mark.chaos
ROUNDS = 3
DATES = ("2024-01-01", "2024-01-02", "2024-01-03")


def new_workspace(path: Path) -> Workspace:
    path.mkdir(parents=True)
    return Workspace(path)


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("names", [("one", "two"), ("one", "one")], ids=["two models", "one model"])
def test_two_first_runs_on_one_new_tracking_store(names: tuple[str, str], round_: int, tmp_path: Path, whole_pipeline: Workspace) -> None:
    """Both finish with the students of a run alone, and the registry has its champion."""
    uri = sqlite_uri(tmp_path / "shared" / "mlflow.db")
    workspaces = [new_workspace(tmp_path / f"first{number}" / "workspace") for number in range(2)]
    programs = [
        Program(*workspace.command("run"), "--set", f"tracking.uri={uri}", "--set", f"name={name}")
        for workspace, name in zip(workspaces, names, strict=True)
    ]
    for ended in [program.end() for program in programs]:
        assert ended.code == 0, ended.err
    for workspace in workspaces:
        assert students(workspace) == students(whole_pipeline)
    for name in set(names):
        check_history(Registry(uri, name))


def students(workspace: Workspace) -> set[str]:
    """Digests of the exported students."""
    return {digest for name, digest in workspace.tables().items() if name.endswith("student.onnx")}


def check_history(registry: Registry) -> None:
    """The champion is one that the history names."""
    assert registry.alias(CHAMPION) in {change.after for change in registry.changes()}


def promote_often(uri: str, seed: int, noted: Path) -> None:
    """Promote one version after the other; which moves that were is written into a file."""
    draw, registry = np.random.default_rng(seed), Registry(uri, "demo")
    moves = [registry.promote(str(draw.choice(["1", "2"])), why=f"process {seed}, move {number}") for number in range(10)]
    noted.write_text(json.dumps([move for move in moves if move.before != move.after]), encoding="utf-8")


def test_promotions_of_several_processes_lose_no_change(served: Served, tmp_path: Path) -> None:
    uri, files = sqlite_uri(served.workspace / "mlflow.db"), [tmp_path / f"moves{number}.json" for number in range(4)]
    processes = [FORKS.Process(target=promote_often, args=(uri, number, file)) for number, file in enumerate(files)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    made = sorted(tuple(move) for file in files for move in json.loads(file.read_text(encoding="utf-8")))
    by_hand = [change for change in served.registry().changes() if change.why.startswith("process")]
    assert sorted((change.before, change.after) for change in by_hand) == made
    check_history(served.registry())


def configured(served: Served, tmp_path: Path) -> Path:
    """The configuration of a workspace in production as a file; every workspace that uses it shares the registry."""
    conf = tmp_path / "demo.yaml"
    uri = sqlite_uri(served.workspace / "mlflow.db")
    conf.write_text(yaml.safe_dump({**CONFIGURATION, "score": {"workers": 1, **IN_PARTS}, "tracking": {"uri": uri}}), encoding="utf-8")
    return conf


def test_scores_of_each_process_are_of_one_version_while_promotions_happen(
    served: Served, tmp_path: Path, chance: np.random.Generator
) -> None:
    """Eight processes score files on the workspace of the champion while it changes again and again."""
    conf, count = configured(served, tmp_path), 400
    source = tmp_path / "in.parquet"
    items = chance.choice(ITEMS, count).tolist()
    table = {"history": [[10]] * count, "item_id": items, "timestamp": ["2024-01-03T12:00:00"] * count, "device": ["phone"] * count}
    pq.write_table(pa.table(table), source)
    targets = [tmp_path / f"out{number}.parquet" for number in range(8)]
    programs = [
        Program(
            *("score", str(conf), "--workspace", str(tmp_path / f"scoring{number}"), "--data", str(served.data)),
            *("--input", str(source), "--output", str(target)),
        )
        for number, target in enumerate(targets)
    ]
    registry, over = served.registry(), threading.Event()

    def promote() -> None:
        while not over.is_set():
            registry.promote(str(chance.choice(["1", "2"])))

    promoting = threading.Thread(target=promote)
    promoting.start()
    ends = [program.end() for program in programs]
    over.set()
    promoting.join()
    for ended in ends:
        assert ended.code == 0, ended.err
    for target in targets:
        scored = pq.read_table(target, partitioning=None)
        (version,) = set(scored["model_version"].to_pylist())
        expected = [probability(item, int(version)) for item in items]
        np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=1e-5)
        assert json.loads(target.with_name(f"{target.stem}.scoring.json").read_text(encoding="utf-8"))["model_version"] == version
    check_history(registry)


def test_a_monitor_during_a_backfill_sees_whole_dates_only(served: Served, tmp_path: Path) -> None:
    """It is told that the workspace is held, or measures what stands; it never fails, and in the end it says what a monitor alone says."""
    conf = configured(served, tmp_path)
    place = [str(conf), "--workspace", str(served.workspace), "--data", str(served.data)]
    backfill = Program("backfill", *place, "--start", DATES[0], "--end", DATES[-1], "--mode", "all")
    lock, looks = served.workspace / LOCK, 0
    while backfill.process.exitcode is None and not (lock.exists() and "backfill" in lock.read_text(encoding="utf-8")):
        time.sleep(0.01)  # a monitor that came first would send the backfill away
    while backfill.process.exitcode is None:
        ended = Program("monitor", *place).end()
        assert ended.code in {0, 3, 4, 5}, ended.err
        if ended.code == 3:
            assert "no scores" in ended.err or "backfill" in ended.err, ended.err
        looks += 1
    ended = backfill.end()
    assert ended.code == 0, ended.err
    assert looks > 0
    last = Program("monitor", *place).end()
    assert last.code in {0, 4}, last.err
    assert sorted(served.scores()) == list(DATES)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_of_two_runs_on_one_workspace_one_is_told_to_wait(round_: int, tmp_path: Path, whole_pipeline: Workspace) -> None:
    workspace = new_workspace(tmp_path / "held" / "workspace")
    ends = [program.end() for program in [Program(*workspace.command("run")) for _ in range(2)]]
    assert sorted(ended.code for ended in ends) in ([0, 5], [0, 0]), [
        ended.err for ended in ends
    ]  # both, where the second came after the end
    assert workspace.tables() == whole_pipeline.tables()
