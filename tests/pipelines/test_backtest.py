"""ctr-kd backtest: nights that knew nothing of what they are measured on, whatever was there when the command was given."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.test_pipeline_embeddings import CONF, EMBEDDINGS, write_log
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
SPLIT = "split: {train: 40h, validation: 10h, test: 10h}"
NIGHTS = ("--start", "2024-01-03T10:00", "--end", "2024-01-04T06:00", "--step", "10h")


@pytest.fixture
def workspace(tmp_path: Path, mlflow_database: Path) -> Workspace:
    made = Workspace.new(tmp_path / "workspace", mlflow_database)
    made.conf.write_text(CONF.replace("EMBEDDINGS", EMBEDDINGS).replace("split: {fractions: [0.6, 0.2, 0.2]}", SPLIT))
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data" / "events-0.parquet", range(800))
    return made


def result(workspace: Workspace) -> dict[str, Any]:
    return json.loads((workspace.path / "reports" / "backtest" / "backtest.json").read_text())


def test_nights_one_after_the_other(tmp_path: Path, workspace: Workspace) -> None:
    data = ("--data", str(tmp_path / "data"))
    ended = workspace.start("backtest", *data, *NIGHTS)
    assert ended.code == 0, ended.err
    first = result(workspace)
    assert [night["train_until"][:16] for night in first["nights"]] == ["2024-01-03T00:00", "2024-01-03T10:00"]
    assert [night["validate_until"][:16] for night in first["nights"]] == ["2024-01-03T10:00", "2024-01-03T20:00"]
    assert set(first["mean"]) == set(first["nights"][0]["models"]) >= {"student", "student_alone", "teacher", "popularity"}
    assert {"difference", "low", "high", "p_value"} <= set(first["nights"][0]["comparisons"]["student-student_alone"]["auc"])
    assert [night["rows"] for night in first["nights"]] == [200, 200]
    assert first["nights"][1]["gate"]["champion_before"] == first["nights"][0]["gate"]["champion_after"]
    assert any(check["name"] == "auc_against_champion_low" for check in first["nights"][1]["gate"]["checks"])
    assert set(first["comparisons"]) == {"student-student_alone", "student-teacher", "student-popularity"}
    gain = first["comparisons"]["student-teacher"]["auc"]
    assert gain["difference"] == pytest.approx(sum(gain["nights"]) / 2) and gain["low"] <= gain["difference"] <= gain["high"]
    assert "Over 2 nights, every 10h, the student" in ended.out and "mean" in ended.out
    assert "promot" in (workspace.path / "reports" / "backtest" / "backtest.html").read_text()
    with closing(sqlite3.connect(workspace.path / "mlflow.db")) as database:
        of_nights = "select count(*) from runs where run_uuid not in (select run_uuid from tags where key = 'mlflow.parentRunId')"
        assert database.execute(of_nights).fetchone()[0] == 3  # one for each night, and one for their comparison
        assert database.execute("select count(*) from runs where status != 'FINISHED'").fetchone()[0] == 0

    # a longer one makes only what is new, and what comes to the log afterwards changes no night
    write_log(tmp_path / "data" / "events-1.parquet", range(800, 900))
    ended = workspace.start("backtest", *data, *NIGHTS[:3], "2024-01-04T16:00", *NIGHTS[4:])
    assert ended.code == 0, ended.err
    longer = result(workspace)
    assert len(longer["nights"]) == 3 and longer["nights"][0] == first["nights"][0]
    assert longer["nights"][1]["models"] == first["nights"][1]["models"]  # of a date whose partition has later events now
    assert ended.err.count("finetune: up to date") == 1


def test_warm_nights_beside_cold_ones(tmp_path: Path, workspace: Workspace) -> None:
    # few rows are new in a night: too few for a transfer set, and vectors play no part here
    plain = ("--data", str(tmp_path / "data"), *NIGHTS, "--set", "embeddings=null", "--set", "distill.transfer.amount=0")
    cold = workspace.start("backtest", *plain)
    assert cold.code == 0, cold.err
    nights = result(workspace)["nights"]
    warm = workspace.start("backtest", *plain, "--warm")
    assert warm.code == 0, warm.err
    found = result(workspace)
    assert found["nights"][0]["models"] == nights[0]["models"] and "warm" not in found["nights"][0]  # nothing came before the first night
    second = found["nights"][1]
    assert second["warm"] == {"continues": "the night of 2024-01-03T10:00", "nights": 1}
    assert second["cold"]["models"] == nights[1]["models"] and second["models"] != nights[1]["models"]
    gap = second["models"]["student"]["auc"]["value"] - nights[1]["models"]["student"]["auc"]["value"]
    assert found["warm-cold"]["auc"]["nights"] == [pytest.approx(gap)]
    assert found["warm_cost"]["share"] == pytest.approx(second["seconds"] / nights[1]["seconds"])
    assert "Warm less cold over 1 night: " in warm.out
    page = (workspace.path / "reports" / "backtest" / "backtest.html").read_text()
    assert "Warm less cold over 1 night: " in page and "Begun cold" in page
    again = workspace.start("backtest", *plain, "--warm")
    assert again.code == 0 and "begins (" not in again.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--start", "2023-06-01", "--end", "2023-06-02", "--step", "10h"), 3, "holds no click as of 2023-06-01T10:00"),
        (
            ("--start", "2024-01-03", "--end", "2024-01-03T01:00", "--step", "10h"),
            2,
            "--end must be at least one --step (10h) after --start",
        ),
        (("--start", "2024-01-03", "--end", "2024-01-04", "--step", "often"), 2, "is not a duration"),
        ((*NIGHTS, "--as-of", "2024-01-03"), 2, "leave out --from, --until and --as-of"),
    ],
)
def test_a_backtest_that_cannot_be_is_one_line(
    tmp_path: Path, workspace: Workspace, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended = workspace.start("backtest", "--data", str(tmp_path / "data"), *arguments)
    assert ended.code == code and said in ended.err
    assert not (workspace.path / "reports" / "backtest").exists()
