"""The command sweep through the real stages on a tiny log: the grid, what is found again, and what is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.experiments.ablations import changed
from pipelines.experiments.sweep import grid, read_points
from pipelines.stages import student

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

    ingest = next((tmp_path / "workspace" / "artifacts" / "ingest").glob("*/_manifest.json")).parent.name
    points = tmp_path / "points.json"
    din = {"name": "<DIN>", "auc": {"value": 0.9, "low": 0.8, "high": 0.95}, "rows_per_second": 1e4, "bytes": 400_000}
    points.write_text(json.dumps({"rows": ingest, "points": [din, {"name": "FM", "auc": {"value": 0.55}}], "seeds": 3}))
    code, drawn, err = experiment("sweep", "--set", f"sweep.points={points}")
    assert code == 0, err
    assert {tuple(line.split()[:4]) for line in drawn.splitlines()} >= {("<DIN>", "0.9000", "–", "10,000"), ("FM", "0.5500", "–", "–")}
    page = (folder / "sweep.html").read_text()
    assert "&lt;DIN&gt;" in page and "<DIN>" not in page and "models of others" in page
    assert latest(tmp_path)["students"][0]["auc"] == result["students"][0]["auc"]
    points.write_text(json.dumps({"rows": "another", "points": [din]}))
    code, _, err = experiment("sweep", "--set", f"sweep.points={points}")
    assert code == 2 and f"was measured on the rows of another, and these are of {ingest}" in err
    assert latest(tmp_path)["others"], "what stood before stays"
    assert experiment("sweep")[1] == out

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


def test_a_combiner_stays_with_the_kinds_that_have_one(config: RunConfig) -> None:
    students, impossible = grid(
        changed(config, {"distill.student.combiner": "sqrtn", "sweep.kinds": ["pooled", "din"], "sweep.widths": [8]})
    )
    assert {name: one.distill.student.combiner for name, one in students.items()} == {"pooled 8": "sqrtn", "din 8": "mean"}
    assert not impossible


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "sweep.kinds=[pool]"), "sweep.kinds.0"),
        (("--set", "sweep.widths=[]"), "sweep.widths"),
        (("--set", "sweep.widths=[0]"), "no student of the grid goes with the rest of the configuration"),
        (("--set", "sweep.points=none.json"), "sweep.points: none.json cannot be read: No such file"),
        (("--until", "finetune"), "leave out --from and --until"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(experiment: Run, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = experiment("sweep", *arguments)
    assert code == 2
    assert expected in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "Invalid JSON"),
        ('{"points": []}', "rows: Field required"),
        ('{"rows": "a", "points": [{"name": "x", "auc": {"low": 0.5}}]}', "points.0: auc holds value"),
        ('{"rows": "a", "points": [{"name": "x", "auc": {"value": 0.5}, "bytes": 0}]}', "points.0.bytes: Input should be greater than 0"),
    ],
)
def test_a_file_without_points_is_refused_before_anything_is_trained(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "points.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        read_points(file)
