"""The pipeline from Python: what the command prints is in the result, and what it exits with is raised."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctr_kd import load_student
from feature_store import DataError, open_store
from feature_store.tables.parquet_files import read_parquet
from pipelines import ArtifactError, ConfigError, GateRefused, Result, WorkspaceLocked, run
from pipelines.workspace.lock import workspace_lock
from tests.pipelines.tiny_workspace import Workspace

STAGES = ["ingest", "pretrain", "finetune", "distill", "evaluate", "register", "score"]


@pytest.fixture
def workspace_of_command(whole_pipeline: Workspace, tmp_path: Path) -> Workspace:
    """A copy of what the command line made."""
    return whole_pipeline.copy(tmp_path / "workspace")


def test_a_result_has_what_the_command_made(workspace_of_command: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of_command
    result = run(workspace.conf, workspace=workspace.path)
    assert capfd.readouterr() == ("", "")  # nothing is printed
    assert isinstance(result, Result) and list(result.stages.index) == STAGES and not result.stages["made"].any()
    said = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text(encoding="utf-8"))
    assert result.verdict == said["verdict"] and result.verdict in str(result) and result.verdict in repr(result)
    auc = said["models"]["student"]["auc"]
    assert result.metrics.loc["student", ["auc", "auc_low", "auc_high"]].tolist() == [auc["value"], auc["low"], auc["high"]]
    assert set(result.metrics.index) == set(said["models"])
    gain = said["comparisons"]["student-student_alone"]["auc"]
    assert result.comparisons.loc[("student-student_alone", "auc")].tolist() == [
        gain[end] for end in ("difference", "low", "high", "p_value")
    ]
    assert result.passed is True and result.gate is not None and result.gate["passed"].all() and "parity" in result.gate.index
    assert result.report is not None and result.report.samefile(workspace.path / "reports" / "latest" / "report.html")
    assert set(result.artifacts) == set(STAGES)


def test_curves_and_report_are_shown_inline(workspace_of_command: Workspace) -> None:
    result = run(workspace_of_command.conf, workspace=workspace_of_command.path, last="evaluate")
    plots = json.loads((result.artifacts["evaluate"] / "report.json").read_text(encoding="utf-8"))
    learning, roc, reliability = (result.curves(kind) for kind in ("learning", "roc", "reliability"))  # type: ignore[arg-type]
    points = plots["learning"]["distill/student"]["points"]
    assert learning[learning["training"] == "distill/student"]["auc"].tolist() == [point["auc"] for point in points]
    assert roc[roc["model"] == "teacher"]["true_positive_rate"].tolist() == [y for _, y in plots["roc"]["teacher"]]
    assert {"model", "predicted", "observed", "low", "high", "rows"} <= set(reliability)
    page = result._repr_html_()
    assert page.startswith("<iframe srcdoc=") and page.count('"') == 6 and "&lt;svg" in page  # what is in the page stays in its frame
    charts = result.charts()._repr_html_()
    assert charts.count("&lt;svg") >= 3 and "Learning curves" in charts and len(charts) < len(page)
    assert result.gate is None and result.passed is None


def test_the_student_scores_as_the_command_line_does(workspace_of_command: Workspace, tmp_path: Path) -> None:
    workspace = workspace_of_command
    day = next((workspace.path / "store" / "events").glob("date=2024-01-04")) / "events.parquet"
    rows = read_parquet(day).to_pandas()[["user_id", "item_id", "timestamp", "device"]].sample(200, random_state=0)
    rows.to_parquet(tmp_path / "rows.parquet")
    workspace.run("score", "--input", str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "scored.parquet"))
    scored = read_parquet(tmp_path / "scored.parquet")["score"].to_numpy()

    student = load_student("models:/tiny@champion", registry=workspace.path)
    features = open_store(workspace.path / "store", **student.made_with).features(rows)
    np.testing.assert_array_equal(student.predict(features)["score"], scored)  # bit for bit
    result = run(workspace.conf, workspace=workspace.path)
    for other in (
        result.student,
        load_student(f"models:/tiny/{student.version}", registry=f"sqlite:///{workspace.path}/mlflow.db"),
        load_student(result.artifacts["register"] / "model"),
        load_student(result.artifacts["distill"] / "export"),
    ):
        np.testing.assert_array_equal(other.predict(features)["score"], scored)


def test_a_student_whose_bytes_changed_is_not_loaded(workspace_of_command: Workspace) -> None:
    run(workspace_of_command.conf, workspace=workspace_of_command.path)  # so that the registry of the copy names the copy
    for file in workspace_of_command.path.rglob("student.onnx"):
        with open(file, "ab") as stream:
            stream.write(b"more")
    with pytest.raises(ArtifactError, match=r"student\.onnx does not match its digest"):
        load_student("models:/tiny@champion", registry=workspace_of_command.path)


def test_which_registry_is_asked(workspace_of_command: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mlflow, "is_tracking_uri_set", lambda: False)
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(ConfigError, match="no registry is named; say registry="):
        load_student("models:/tiny@champion")
    with pytest.raises(ConfigError, match="neither the folder of a workspace"):
        load_student("models:/tiny@champion", registry=tmp_path / "none")
    monkeypatch.chdir(tmp_path)  # whose folder `workspace` is one
    assert load_student("models:/tiny@champion").version == "1"
    with pytest.raises(ConfigError, match="tiny has no alias best; its aliases are"):
        load_student("models:/tiny@best")
    monkeypatch.setattr(mlflow, "is_tracking_uri_set", lambda: True)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{workspace_of_command.path}/mlflow.db")
    assert load_student("models:/tiny@champion").version == "1"


def test_a_refusal_is_raised_with_the_result(workspace_of_command: Workspace) -> None:
    with pytest.raises(GateRefused) as refused:
        run(workspace_of_command.conf, workspace=workspace_of_command.path, overrides={"register.auc_min": 0.99})
    result = refused.value.result
    assert isinstance(result, Result) and result.passed is False and result.verdict is not None
    assert not result.gate.loc["auc", "passed"] and refused.value.failed == ("auc",)
    assert list(result.stages[result.stages["made"]].index) == ["register"]
    assert result.student.version is not None  # registered, and no champion


def test_what_is_wrong_is_raised(workspace_of_command: Workspace, tmp_path: Path) -> None:
    conf, path = workspace_of_command.conf, workspace_of_command.path
    with pytest.raises(ConfigError, match=r"distill\.alfa"):
        run(conf, workspace=path, overrides={"distill.alfa": 0.3})
    with pytest.raises(ConfigError, match="no such file"):
        run(tmp_path / "none.yaml", workspace=path)
    with pytest.raises(ConfigError, match="there is no stage 'train'"):
        run(conf, workspace=path, last="train")
    with workspace_lock(path, "somebody"), pytest.raises(WorkspaceLocked):
        run(conf, workspace=path)
    shutil.rmtree(path / "reports")
    early = run(conf, workspace=path, last="finetune")
    for ask in (lambda: early.metrics, lambda: early.student, early.curves):
        with pytest.raises(DataError, match="run the stages up to evaluate"):
            ask()
    assert "finetune" in repr(early) and "finetune" in early._repr_html_()


def test_lines_go_to_a_logger_unless_they_are_asked_for(
    workspace_of_command: Workspace, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    conf, path = workspace_of_command.conf, workspace_of_command.path
    with caplog.at_level(logging.INFO):  # of the root logger, as logging.basicConfig sets it
        run(conf, workspace=path, first="score", force=True)
    lines = [(record.name, record.getMessage()) for record in caplog.records if record.name == "ctr_kd"]
    assert ("ctr_kd", "score: 964 candidates of 2024-01-04 scored") in lines
    assert capfd.readouterr().out == ""
    caplog.clear()
    run(conf, workspace=path, first="score", force=True, progress=True)
    assert "score: 964 candidates of 2024-01-04 scored" in capfd.readouterr().err
    assert not [record for record in caplog.records if record.name == "ctr_kd"]


def test_values_of_overrides_are_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_pipeline: Workspace) -> None:
    from pipelines.library import runs

    said: list[str] = []

    def load(conf: Path, overrides: list[str]) -> None:
        said.extend(overrides)
        raise ConfigError("enough")

    monkeypatch.setattr(runs, "load", load)
    with pytest.raises(ConfigError, match="enough"):
        run(
            "any.yaml",
            overrides={"distill.alpha": 0.3, "name": "a: b", "split": {"train": pd.Timedelta("2D"), "none": None}, "list": ["x", 1]},
        )
    assert said == ["distill.alpha=0.3", "name='a: b'", "split={train: 2d, none: null}", "list: [x, 1]".replace(": ", "=", 1)]
