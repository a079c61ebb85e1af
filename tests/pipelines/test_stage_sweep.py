"""The command sweep through the real stages on a tiny log: the grid, what is found again, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import RunConfig
from pipelines.stages import student
from pipelines.stages.sweep import grid
from pipelines.variants import changed

Run = Callable[..., tuple[int, str, str]]


def latest(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "workspace" / "reports" / "latest" / "sweep.json").read_text())


def test_it_trains_the_grid_and_shares_students_with_a_proof(experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = experiment("sweep")
    assert code == 0, err
    result = latest(tmp_path)
    names = ["pooled 4", "pooled 8", "din 4", "din 8"]
    assert [one["name"] for one in result["students"]] == names and result["not_possible"] == {}
    for one in result["students"]:
        assert one["auc"]["low"] <= one["auc"]["value"] <= one["auc"]["high"]
        assert one["rows_per_second"] > 0 and one["bytes"] > 0 and 0 < one["validation_auc"] < 1
    assert result["students"][1]["parameters"] > result["students"][0]["parameters"]
    for cost in ("rows_per_second", "bytes"):
        assert any(one["on_frontier"][cost] for one in result["students"])
    assert result["teacher"]["rows_per_second"] > 0
    assert {line.split()[0] for line in out.splitlines()[1:6]} == {"teacher", "pooled", "din"}
    folder = tmp_path / "workspace" / "reports" / "latest"
    assert out.strip().endswith("reports/latest/sweep.html") and "The frontier" in (folder / "sweep.html").read_text()

    trained: list[str] = []
    real = student.keep_student
    monkeypatch.setattr(student, "keep_student", lambda context, *rest: (trained.append(context.fingerprint), real(context, *rest))[1])
    assert experiment("sweep")[1] == out and trained == []
    assert experiment("sweep", "--set", "sweep.widths=[4, 8, 16]")[0] == 0 and len(trained) == 2
    assert experiment("prove", "--seeds", "1", "--set", "prove.ablation=[]")[0] == 0
    assert len(trained) == 3  # student alone: the configured student is one of the grid


def test_the_grid_leaves_out_what_cannot_be(config: RunConfig) -> None:
    wide = changed(config, {"distill.embeddings": "teacher", "sweep.widths": [64, 8, 8, 128], "sweep.kinds": ["pooled"]})
    students, impossible = grid(wide)
    assert list(students) == ["pooled 8", "pooled 64"]
    assert "needs a distill.student.width (128) up to pretrain.encoder.width (64)" in impossible["pooled 128"]
    assert students["pooled 8"].distill.student.width == 8 and students["pooled 8"].distill.embeddings == "teacher"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "sweep.kinds=[pool]"), "sweep.kinds.0"),
        (("--set", "sweep.widths=[]"), "sweep.widths"),
        (("--set", "sweep.widths=[0]"), "no student of the grid goes with the rest of the configuration"),
        (("--until", "finetune"), "leave out --from and --until"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(experiment: Run, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = experiment("sweep", *arguments)
    assert code == 2
    assert expected in err.strip().splitlines()[-1]
