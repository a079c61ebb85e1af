"""The DAG in Airflow itself: parsed, and one date run on SQLite. `make test-airflow` runs this in an environment that has Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tests.programs import HANGS

pytest.importorskip("airflow.sdk", reason="Airflow is not installed: make test-airflow")

ROOT = Path(__file__).parents[2]
CTR_KD = ROOT / ".venv" / "bin" / "ctr-kd"
CONF = """
source: {reader: simulated, simulator: {users: 40, items: 30, requests: 300, days: 4, candidates: 4}}
split: {fractions: [0.6, 0.2, 0.2]}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16}}
finetune: {members: 1, training: {epochs: 1, batch_size: 128}}
distill: {student: {width: 4, hidden: 8}, training: {epochs: 1, batch_size: 128}}
evaluate: {bootstrap: 20}
register: {auc_min: 0.0, calibration_error_max: 1.0}
monitor: {auc_min: null, calibration_ratio_min: null, calibration_ratio_max: null, calibration_error_max: null, psi_max: null}
schedule: {cron: "30 2 * * *", retries: 1, retry_delay: 1s, scored_days_back: 1}
"""
DAG_FILE = """
import json, sys
from datetime import datetime, UTC
from pipelines.airflow_dag import pipeline_dag

dag = pipeline_dag({conf!r}, {workspace!r}, program={program!r})
if __name__ == "__main__":
    run = dag.test(logical_date=datetime(2024, 1, 5, 2, 30, tzinfo=UTC))
    states = {{task.task_id: [str(task.state), task.try_number] for task in run.get_task_instances()}}
    print("STATES " + json.dumps(states))
"""
STEPS = ["ingest", "pretrain", "finetune", "distill", "evaluate", "register", "score", "monitor"]
# The code of a step is the content of the file of its name, if there is one.
PROGRAM = """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> calls
echo "$1 says why it ends"
test -f "$1" && exit "$(cat "$1")"
exit 0
"""


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow whose SQLite database is made."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return home


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def run_one_date(home: Path, folder: Path, program: Path) -> tuple[dict[str, list[str | int]], str]:
    """State and number of tries of every task after Airflow's own test run of one date, and what was logged."""
    (folder / "night.yaml").write_text(CONF)
    names = {"conf": str(folder / "night.yaml"), "workspace": str(folder / "workspace"), "program": str(program)}
    file = home / "dags" / "night.py"
    file.write_text(DAG_FILE.format(**names))
    done = subprocess.run([sys.executable, str(file)], env=environment(home), capture_output=True, text=True, check=False, timeout=HANGS)
    said = done.stdout + done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("STATES ")]
    assert found, said[-4000:]
    return json.loads(found[0].removeprefix("STATES ")), said


def stand_in(folder: Path, codes: Mapping[str, int]) -> Path:
    """A program in place of ctr-kd that notes how it was called and ends with the named codes."""
    program = folder / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    for step, code in codes.items():
        (folder / step).write_text(str(code))
    return program


def calls(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "calls").read_text().splitlines()]


def test_the_dag_is_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    from pipelines.airflow_dag import pipeline_dag

    (tmp_path / "night.yaml").write_text(CONF)
    dag = pipeline_dag(tmp_path / "night.yaml", tmp_path / "workspace")
    assert [task.task_id for task in dag.topological_sort()] == STEPS
    assert [task.downstream_task_ids for task in dag.topological_sort()] == [{step} for step in STEPS[1:]] + [set()]
    assert all((task.retries, task.retry_delay) == (1, timedelta(seconds=1)) for task in dag.tasks)
    assert dag.timetable.expression == "30 2 * * *"
    assert (dag.dag_id, dag.catchup, dag.max_active_runs, dag.start_date.year) == ("ctr_kd_night", False, 1, 2024)
    monkeypatch.chdir(tmp_path)
    shipped = pipeline_dag("simulated", "workspace").tasks[0].pipeline.conf
    assert shipped.is_absolute() and shipped.is_file()  # where a task runs, the name alone may mean another file


def test_one_date_runs_from_the_raw_log_to_scores(airflow_home: Path, tmp_path: Path) -> None:
    if not CTR_KD.exists():
        pytest.skip(f"{CTR_KD} is not there: make setup")
    states, said = run_one_date(airflow_home, tmp_path, CTR_KD)
    assert states == {step: ["success", 1] for step in STEPS}, said[-4000:]
    manifest = json.loads((tmp_path / "workspace" / "scores" / "date=2024-01-04" / "_manifest.json").read_text())
    assert manifest["rows"] > 0
    assert (tmp_path / "workspace" / "reports" / "monitor" / "monitor.html").exists()


def test_every_step_is_told_the_logical_date(airflow_home: Path, tmp_path: Path) -> None:
    states, _ = run_one_date(airflow_home, tmp_path, stand_in(tmp_path, {}))
    assert {state for state, _ in states.values()} == {"success"}
    words = ["--workspace", str(tmp_path / "workspace"), "--as-of", "2024-01-05T02:30:00+00:00"]
    expected = [[step, str(tmp_path / "night.yaml"), *words] for step in STEPS]
    expected[STEPS.index("score")] += ["--date", "2024-01-04"]
    assert calls(tmp_path) == expected


def test_a_refusal_is_not_tried_again_and_another_failure_is(airflow_home: Path, tmp_path: Path) -> None:
    refused, failed = tmp_path / "refused", tmp_path / "failed"
    for folder in (refused, failed):
        folder.mkdir()
    states, said = run_one_date(airflow_home, refused, stand_in(refused, {"register": 4}))
    assert states["register"] == ["failed", 1] and [states[step][0] for step in ("score", "monitor")] == ["upstream_failed"] * 2
    assert [words[0] for words in calls(refused)] == STEPS[:6]
    assert "exit code 4, which another try would not change: register says why it ends" in said
    states, _ = run_one_date(airflow_home, failed, stand_in(failed, {"distill": 3}))
    assert states["distill"] == ["failed", 2]
    assert [words[0] for words in calls(failed)] == [*STEPS[:4], "distill"]
