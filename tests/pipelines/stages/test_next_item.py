"""The command next-item through the real stages on a tiny set of sequences."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ctr_kd.retrieval.next_items import NextItemRetriever
from pipelines.cli import main as cli
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.artifacts import point

CONF = """
source: {reader: s3rec, name: Toys}
split: {leave_one_out: true}
candidates: {window: 30d}
vocabulary: {min_count: 1}
history: {max_length: 6}
pretrain: {clicks: all, encoder: {width: 16, layers: 1}, training: {epochs: 2, batch_size: 16}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    rng = random.Random(0)  # noqa: S311
    lines = [f"u{user} {' '.join(str(rng.randrange(1, 15)) for _ in range(rng.randrange(3, 9)))}" for user in range(40)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Toys.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "data" / "Toys_item2attributes.json").write_text(json.dumps({str(item): [item % 3, 9] for item in range(1, 15)}))
    (tmp_path / "toys.yaml").write_text(CONF)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([arguments[0], str(tmp_path / "toys.yaml"), "--workspace", str(tmp_path / "workspace"), *arguments[1:]])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


def latest(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "workspace" / "reports" / "latest" / "next_item.json").read_text())


def test_it_runs_what_it_needs_prints_the_table_and_writes_the_figures(run: Run, tmp_path: Path) -> None:
    code, out, err = run("next-item", "--data", str(tmp_path / "data"))
    assert code == 0, err
    assert out.startswith("made ingest, pretrain, next-item in")
    assert out.splitlines()[2].split() == ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20", "MRR", "users"]
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["validation", "test"]
    assert out.strip().endswith("reports/latest/next_item.json")
    figures = latest(tmp_path)
    names = {f"{name}@{k}" for name in ("hr", "ndcg") for k in (5, 10, 20)} | {"mrr", "users", "items", "unknown_targets"}
    assert names <= figures.keys() and names <= figures["validation"].keys()
    assert (figures["users"], figures["validation"]["users"], figures["exclude_history"]) == (40, 40, True)
    # 14 items: among the first 20 is every target that is known and was not clicked before
    missed = figures["unknown_targets"] + figures["excluded_targets"]
    assert figures["hr@20"] == pytest.approx(1 - missed / 40)
    assert figures["excluded_targets"] and f"{figures['excluded_targets']} of 40 test targets were clicked before" in out
    assert 0 < figures["ndcg@5"] <= figures["hr@5"] <= figures["hr@10"]
    assert f"{figures['hr@10']:.4f}" in out
    folder = (tmp_path / "workspace" / "reports" / "latest").readlink()
    assert str(folder) == figures["fingerprint"]
    assert (tmp_path / "workspace" / "reports" / folder / "_manifest.json").exists()

    assert run("next-item")[1].startswith("nothing to do: ingest, pretrain, next-item are up to date")
    again = run("next-item", "--set", "next_item.exclude_history=false")[1]
    assert again.startswith("made next-item in") and "history included" in again
    assert latest(tmp_path)["excluded_targets"] == 0 and "clicked before" not in again


def test_a_report_that_stands_keeps_its_place_and_its_files(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "workspace" / "reports" / "before"
    report.mkdir(parents=True)
    (report / "report.html").write_text("a report")
    (report / "metrics.json").write_text("{}")
    point(report.parent / "latest", "before")
    assert run("next-item", "--data", str(tmp_path / "data"))[0] == 0
    assert str((report.parent / "latest").readlink()) == "before"
    assert sorted(path.name for path in report.iterdir()) == ["metrics.json", "next_item.json", "report.html"]
    assert (report / "report.html").read_text() == "a report"
    assert latest(tmp_path)["users"] == 40


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--until", "finetune"), 2, "there is no stage 'finetune'; the stages are ingest, pretrain, next-item"),
        (("--set", "next_item.exclude=1"), 2, "next_item.exclude: unknown key; did you mean 'exclude_history'?"),
        (("--set", "source.name=null"), 2, "reader s3rec needs `name`"),
        (("--set", "source.name=Toy"), 3, "no Toy.txt and no Toy/Toy.txt"),
        (("--set", "split.fractions=[0.8, 0.1, 0.1]"), 2, "name the split in one way"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, expected: str) -> None:
    found, _, err = run("next-item", "--data", str(tmp_path / "data"), *arguments)
    assert found == code
    assert expected in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_a_light_student_is_made_beside_it_and_ranks_by_its_own_files(run: Run, tmp_path: Path) -> None:
    settings = ("--set", "next_item.student={hidden: 8, training: {epochs: 2, batch_size: 16}}")
    code, out, err = run("next-item", "--student", "--data", str(tmp_path / "data"), *settings)
    assert code == 0, err
    assert out.startswith("made ingest, pretrain, next-item, next-item-student in")
    teacher = latest(tmp_path)
    student = json.loads((tmp_path / "workspace" / "reports" / "latest" / "next_item_student.json").read_text())
    assert (student["users"], student["items"], student["teacher_hr@10"]) == (40, teacher["items"], teacher["hr@10"])
    assert student["unknown_targets"] == teacher["unknown_targets"] and student["validation"]["users"] == 40
    assert student["histories_per_second"]["student"] > student["histories_per_second"]["teacher"] > 0
    assert f"student: HR@10 {student['hr@10']:.4f}" in out and "of the encoder's HR@10" in out
    # 14 items, of which what is known and was not clicked before is among the first 20
    missed = student["unknown_targets"] + student["excluded_targets"]
    assert student["hr@20"] == pytest.approx(1 - missed / 40)

    (folder,) = (tmp_path / "workspace" / "artifacts" / "next-item-student").glob("*/student")
    found = NextItemRetriever(folder).find(pa.array([["3", "5"], []], pa.list_(pa.string())), 4)
    assert [len(items) for items in found.item.to_pylist()] == [4, 4] and not {"3", "5"} & set(found.item.to_pylist()[0])

    assert run("next-item", "--student", *settings)[1].startswith("nothing to do: ingest, pretrain, next-item, next-item-student are")
    again = run("next-item", "--student", "--set", "next_item.student={hidden: 9, training: {epochs: 1, batch_size: 16}}")[1]
    assert again.startswith("made next-item-student in")
