"""The benchmark of next items on a run that is not made: what it keeps of the files of a run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import bench_next_item


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were given; a run of seed s hits s + 1 of 10 users, its student one of 20 fewer."""
    given: list[list[str]] = []

    def run(command: list[str], **how: object) -> None:
        given.append(command)
        hit = 0.1 * len(given)
        reports = Path(command[command.index("--workspace") + 1]) / "reports" / "latest"
        reports.mkdir(parents=True, exist_ok=True)
        validation = {"hr@10": hit + 0.2, "ndcg@10": hit}
        figures = {"hr@10": hit, "ndcg@10": hit / 2, "users": 10, "items": 7, "training_seconds": 5.0, "validation": validation}
        (reports / "next_item.json").write_text(json.dumps(figures))
        speed = {"teacher": 3.0, "student": 600.0}
        student = {**figures, "hr@10": hit - 0.05, "histories_per_second": speed}
        (reports / "next_item_student.json").write_text(json.dumps(student))

    monkeypatch.setattr(subprocess, "run", run)
    return given


def test_means_over_seeds_beside_published_figures(runs: list[list[str]], tmp_path: Path) -> None:
    first, second = bench_next_item.measure("LastFM", tmp_path, 2, 2, tmp_path / "work", ["pretrain.overlap=0"])
    assert (first["mean"], second["mean"]) == ({"hr@10": 0.1, "ndcg@10": 0.05}, {"hr@10": 0.15, "ndcg@10": 0.075})
    assert second["student"]["hr@10"] == 0.1 and second["standard_error_of_hr@10_over_users"] == 0.1129
    assert second["published"]["WEARec (AAAI 2026)"] == {"hr@10": 0.0899, "ndcg@10": 0.0465}
    assert [run["student"]["times_as_many_histories"] for run in second["seeds"]] == [200.0, 200.0]
    assert second["seeds"][1]["validation_hr@10"] == 0.4
    assert [(run["seconds"], run["student"]["seconds"]) for run in second["seeds"]] == [(5.0, 5.0)] * 2
    assert "pretrain.overlap=0" in runs[0] and "seed=1" in runs[1] and "--student" in runs[1]
    said = bench_next_item.table(second)
    assert "ctr_kd (mean of 2)" in said and "its light student (mean of 2)" in said


def test_students_of_the_first_seeds_alone(runs: list[list[str]], tmp_path: Path) -> None:
    *_, last = bench_next_item.measure("LastFM", tmp_path, 2, 1, tmp_path / "work", [])
    assert ["--student" in command for command in runs] == [True, False]
    assert last["student"] == {"hr@10": 0.05, "ndcg@10": 0.05} and "student" not in last["seeds"][1]
    assert "ctr_kd (mean of 2)" in bench_next_item.table(last) and "its light student (mean of 1)" in bench_next_item.table(last)
    *_, without = bench_next_item.measure("LastFM", tmp_path, 1, 0, tmp_path / "work", [])
    assert without["student"] == {} and "light student" not in bench_next_item.table(without)


def test_what_is_known_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "FOLDER", "--seeds", "1"])
    bench_next_item.write({"LastFM": {"set": "LastFM"}}, tmp_path / "results" / "out.json")
    found = json.loads((tmp_path / "results" / "out.json").read_text())
    assert found == {"command": "python benchmarks/bench_next_item.py FOLDER --seeds 1", "sets": [{"set": "LastFM"}]}
