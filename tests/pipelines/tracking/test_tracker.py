"""What MLflow is told: one run per pipeline, a nested run per stage that worked, and no more when nothing is done."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from feature_store.tables.files import UnsafeFile
from pipelines.config.run import RunConfig
from pipelines.tracking.calls import LogMetrics, OpenRun, RunKey, flatten
from pipelines.tracking.client import artifact_location, connect, prepare, tracking_uri
from pipelines.tracking.offline_queue import SPOOL, OfflineQueue
from pipelines.tracking.tracker import OpenPipelineRun, Tracker
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext, TrialFacts
from pipelines.workspace.runner import Runner


def work(context: StageContext) -> None:
    for step in range(3):
        context.metric("loss", 1.0 / (step + 1), step)
    (context.output / "metrics.json").write_text("{}")
    context.record({"auc": 0.7, "kind": "pooled", "rows": {"train": 10}})


def fail(context: StageContext) -> None:
    raise RuntimeError("the lights went out")


def killed(context: StageContext) -> None:
    raise GeneratorExit  # leaves without any cleaning up, as a kill would


def pipeline(last: Any = work) -> list[Stage]:
    store = {"store": "d" * 64}
    return [Stage("ingest", work, keys=("seed",), outside=lambda run: store), Stage("distill", last, ("ingest",), ("distill", "seed"))]


def go(config: RunConfig, workspace: Path, stages: list[Stage], uri: str | None = None) -> tuple[Runner, Tracker, list[str]]:
    lines: list[str] = []
    context = RunContext(config, workspace, console=Console(io.StringIO()))
    context.tracker = tracker = Tracker(uri or tracking_uri(config, workspace), workspace, lines.append)
    return Runner(context, stages), tracker, lines


def runs(config: RunConfig, workspace: Path) -> list[Any]:
    client = connect(tracking_uri(config, workspace))
    experiment = client.get_experiment_by_name(config.name)
    return [] if experiment is None else client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def test_a_pipeline_is_a_run_with_a_nested_run_per_stage(config: RunConfig, workspace: Path) -> None:
    runner, tracker, _ = go(config, workspace, pipeline())
    runner.run()
    tracker.finish()
    parent, *children = runs(config, workspace)
    assert [child.info.run_name for child in children] == ["ingest", "distill"]
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    distill = children[1]
    assert distill.data.params["distill.student.kind"] == "pooled"
    assert "score.candidates" not in distill.data.params  # a stage logs the keys that it reads
    assert parent.data.params["score.candidates"] == "log"
    assert distill.data.metrics["auc"] == 0.7
    assert distill.data.metrics["rows.train"] == 10
    assert {run.data.tags["data.digest"] for run in (parent, *children)} == {"d" * 64}
    client = connect(tracking_uri(config, workspace))
    assert client.get_experiment(parent.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert [(m.step, m.value) for m in client.get_metric_history(distill.info.run_id, "loss")] == [
        (0, 1.0),
        (1, 0.5),
        (2, pytest.approx(1 / 3)),
    ]
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["configuration.yaml"]
    assert [file.path for file in client.list_artifacts(distill.info.run_id)] == ["metrics.json"]
    assert Path(parent.info.artifact_uri.removeprefix("file://")).is_relative_to(workspace / "mlartifacts")

    runner, tracker, _ = go(config, workspace, pipeline())
    runner.run()
    tracker.finish()
    assert len(runs(config, workspace)) == 3  # skipped stages are not logged again, and MLflow was not even imported for them
    assert tracker._queue._client is None


def test_a_trial_is_a_nested_run_with_its_values(config: RunConfig, workspace: Path) -> None:
    runner, tracker, _ = go(config, workspace, pipeline())
    began, ended = (datetime(2024, 1, 1, 12, minute, tzinfo=UTC) for minute in (0, 5))
    parameters = {"seed": 0, "distill.alpha": 0.3, "distill.hints": {"hidden": 0.5}}
    for name, worked in (("trial 1", True), ("trial 2", False)):
        metrics = {"validation_auc": 0.71} if worked else {}
        facts = TrialFacts(name, parameters, metrics, {125: 0.6, 200: 0.7}, {"trial": "trained"}, began, ended, worked)
        tracker.trial(runner.context, facts)
    tracker.finish()
    found = {run.info.run_name: run for run in runs(config, workspace)}
    parent = next(run for name, run in found.items() if not name.startswith("trial"))
    one, other = found["trial 1"], found["trial 2"]
    assert one.data.tags["mlflow.parentRunId"] == parent.info.run_id and one.data.tags["trial"] == "trained"
    assert one.data.params == {"seed": "0", "distill.alpha": "0.3", "distill.hints.hidden": "0.5"}
    assert one.data.metrics == {"validation_auc": 0.71, "validation": 0.7} and one.info.end_time - one.info.start_time == 300_000
    assert [run.info.status for run in (one, other, parent)] == ["FINISHED", "FAILED", "FINISHED"]


def test_a_failure_is_logged_as_one(config: RunConfig, workspace: Path) -> None:
    runner, tracker, _ = go(config, workspace, pipeline(fail))
    with pytest.raises(RuntimeError) as error:
        runner.run()
    tracker.finish(error.value)
    assert [run.info.status for run in runs(config, workspace)] == ["FAILED", "FINISHED", "FAILED"]
    assert not (workspace / OpenPipelineRun.FILE).exists()


def test_a_killed_pipeline_goes_on_under_its_run(config: RunConfig, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, tracker, _ = go(config, workspace, pipeline(killed))
    monkeypatch.setattr(tracker, "end", lambda context, error: None)
    with pytest.raises(GeneratorExit):
        runner.run()
    assert (workspace / OpenPipelineRun.FILE).exists()
    runner, tracker, _ = go(config, workspace, pipeline())
    runner.run()
    tracker.finish()
    found = runs(config, workspace)
    assert [(run.info.run_name.split()[0], run.info.status) for run in found[1:]] == [
        ("ingest", "KILLED"),
        ("distill", "KILLED"),
        ("distill", "FINISHED"),
    ]
    assert found[0].info.status == "FINISHED"

    other = RunConfig.model_validate(config.model_dump(by_alias=True) | {"seed": 5})
    runner, tracker, _ = go(other, workspace, pipeline())
    runner.run()
    assert len(runs(config, workspace)) == 7  # another configuration is another pipeline


def test_a_damaged_note_of_an_open_run_is_ignored(config: RunConfig, workspace: Path) -> None:
    (workspace / OpenPipelineRun.FILE).write_text("{")
    runner, tracker, _ = go(config, workspace, pipeline())
    tracker.finish()
    runner.run()
    tracker.finish()
    assert len(runs(config, workspace)) == 3


def test_a_killed_pipeline_with_nothing_left_to_do_is_closed(config: RunConfig, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, tracker, _ = go(config, workspace, pipeline())
    runner.run()  # killed before it could say that it was done
    runner, tracker, _ = go(config, workspace, pipeline())
    assert runner.run().made == ()
    tracker.finish()
    assert [run.info.status for run in runs(config, workspace)] == ["KILLED", "FINISHED", "FINISHED"]
    runner, tracker, _ = go(config, workspace, pipeline())
    monkeypatch.setattr(tracker, "_send", lambda work: pytest.fail("closed already"))
    tracker.finish()

    runner, tracker, _ = go(config, workspace, pipeline())
    runner.run(first="distill", force=True)
    tracker.finish()
    found = runs(config, workspace)
    assert [run.info.status for run in found] == ["FINISHED"] * 4  # the pipeline went on under its run
    assert found[-1].data.tags["mlflow.parentRunId"] == found[0].info.run_id


def test_a_server_that_does_not_answer_costs_the_log_and_not_the_work(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    runner, tracker, lines = go(config, tmp_path, pipeline(), uri="http://127.0.0.1:9")
    assert runner.run().made == ("ingest", "distill")
    tracker.finish()
    assert len(lines) == 1
    assert lines[0].startswith("warning: MLflow at http://127.0.0.1:9 cannot be used")
    assert str(tmp_path / SPOOL) in lines[0]
    assert tracker.stage is None


def test_a_call_that_the_server_will_never_take_holds_up_no_other(config: RunConfig, workspace: Path) -> None:
    lines: list[str] = []
    queue = OfflineQueue(tracking_uri(config, workspace), workspace, lines.append)
    known = {"experiment": "demo", "key": "k"}
    queue.send(OpenRun(**known, name="run", parameters={"a": 1}, time=1))
    queue.send(LogMetrics(experiment="demo", key="nobody", metrics=[]))
    queue.send(OpenRun(**known, name="run", parameters={"a": 2}, time=1))  # a parameter never changes
    queue.send(LogMetrics(**known, metrics=[("loss", 0.5, 1, 0)]))
    assert len(queue) == 0
    assert len(lines) == 2
    assert all(line.startswith("warning: MLflow at sqlite:///") for line in lines)
    assert [run.data.metrics for run in runs(config, workspace)] == [{"loss": 0.5}]


def test_what_is_sent_while_mlflow_is_prepared_arrives_in_its_order(
    config: RunConfig, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, uri = threading.Event(), tracking_uri(config, workspace)

    def slowly(uri: str) -> None:
        prepared.wait(60)
        prepare(uri)

    monkeypatch.setattr("pipelines.tracking.offline_queue.is_prepared", lambda uri: False)
    monkeypatch.setattr("pipelines.tracking.offline_queue.prepare", slowly)
    queue, known = OfflineQueue(uri, workspace, lambda line: pytest.fail(line)), {"experiment": "demo", "key": "k"}
    queue.prepare()
    queue.send(OpenRun(**known, name="run", time=1))
    queue.send(LogMetrics(**known, metrics=[("loss", 0.5, 1, 0)]))
    queue.deliver()
    assert len(queue) == 2  # nobody waited
    prepared.set()
    assert queue.id_of(RunKey("demo", "k")) is not None
    queue.send(LogMetrics(**known, metrics=[("loss", 0.25, 2, 1)]))
    assert len(queue) == 0
    assert [run.data.metrics for run in runs(config, workspace)] == [{"loss": 0.25}]


def test_what_keeps_mlflow_from_being_prepared_is_said_once(config: RunConfig, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(uri: str) -> None:
        raise PermissionError("no folder for a database")

    monkeypatch.setattr("pipelines.tracking.offline_queue.is_prepared", lambda uri: False)
    for module in ("offline_queue", "client"):
        monkeypatch.setattr(f"pipelines.tracking.{module}.prepare", fail)
    runner, tracker, lines = go(config, workspace, pipeline())
    assert runner.run().made == ("ingest", "distill")
    tracker.finish()
    assert len(lines) == 1 and "no folder for a database" in lines[0] and str(workspace / SPOOL) in lines[0]
    monkeypatch.undo()
    OfflineQueue(tracking_uri(config, workspace), workspace, lines.append).deliver()
    assert [run.info.status for run in runs(config, workspace)] == ["FINISHED"] * 3


def test_what_an_earlier_run_left_is_sent_as_far_as_it_can_be_read(config: RunConfig, workspace: Path) -> None:
    """Lines as release 0.1 wrote them, one of no known kind, and one that a kill cut short."""
    known = {"experiment": "demo", "key": "k"}
    opened = {
        "call": "open",
        **known,
        "location": None,
        "parent": None,
        "name": "run",
        "tags": {"a": "b"},
        "parameters": {"c": 1},
        "time": 1,
    }
    left = [opened, {"call": "fly", **known}, {"call": "metrics", **known, "metrics": [["loss", 0.5, 1, 0]]}]
    left += [{"call": "datasets", **known, "datasets": [{"name": "rows", "digest": "d" * 64, "source": "store/events", "profile": {}}]}]
    left += [
        {"call": "files", **known, "files": ["artifacts/distill/gone/metrics.json"]},
        {"call": "end", **known, "status": "FINISHED", "time": 2},
    ]
    (workspace / SPOOL).write_text("".join(f"{json.dumps(one)}\n" for one in left) + '{"call": "tags", "exp')
    lines: list[str] = []
    queue = OfflineQueue(tracking_uri(config, workspace), workspace, lines.append)
    assert len(queue) == 5
    queue.deliver()
    assert "does not take a line of" in lines[0] and "took 5 calls" in lines[1]
    (run,) = runs(config, workspace)
    assert (run.data.metrics, run.data.params, run.data.tags["a"], run.info.status) == ({"loss": 0.5}, {"c": "1"}, "b", "FINISHED")
    assert not (workspace / SPOOL).exists()


def test_a_pipeline_that_release_0_1_left_open_goes_on(config: RunConfig, workspace: Path) -> None:
    runner, tracker, _ = go(config, workspace, pipeline(killed))
    with pytest.raises(GeneratorExit):
        runner.run()
    note = workspace / OpenPipelineRun.FILE
    note.write_text(note.read_text().replace('"pipeline"', '"road"'))
    runner, tracker, _ = go(config, workspace, pipeline())
    runner.run()
    tracker.finish()
    assert sum("mlflow.parentRunId" not in run.data.tags for run in runs(config, workspace)) == 1


def test_system_metrics_without_psutil_are_one_line(config: RunConfig, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    asked = RunConfig.model_validate(config.model_dump(by_alias=True) | {"tracking": {"system_metrics": True}})
    runner, tracker, lines = go(asked, workspace, pipeline())
    runner.run()
    tracker.finish()
    assert lines == ["warning: no system metrics: the package psutil is missing"]


def test_system_metrics_are_those_of_the_stage(config: RunConfig, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil", reason="needs psutil, which is optional")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    asked = RunConfig.model_validate(config.model_dump(by_alias=True) | {"tracking": {"system_metrics": True}})

    def until_sampled(context: StageContext) -> None:
        while "system/cpu_utilization_percentage" not in runs(asked, workspace)[-1].data.metrics:
            time.sleep(0.05)

    runner, tracker, lines = go(asked, workspace, pipeline(until_sampled))
    runner.run()
    tracker.finish()
    assert lines == []


def test_a_database_is_complete_or_not_there(mlflow_database: Path) -> None:
    """The one that all tests copy was made beside the remains of one whose making was killed."""
    assert {path.name for path in mlflow_database.parent.iterdir()} <= {"mlflow.db", ".mlflow.db.lock"}
    with closing(sqlite3.connect(mlflow_database)) as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master")}
    assert {"runs", "metrics", "model_versions", "registered_model_aliases", "alembic_version"} <= tables


def test_flat_names_can_be_searched() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [1, 2]}) == {"a.b.c": 1, "d": [1, 2]}
    assert json.dumps(flatten({})) == "{}"


def spooled(workspace: Path, *calls: dict[str, Any]) -> None:
    """A queue that came with a workspace from elsewhere, which opens the run ``k``."""
    opened = {"call": "open", "experiment": "demo", "key": "k", "parent": None, "name": "run", "tags": {}, "parameters": {}, "time": 1}
    lines = [{**opened, **calls[0]}, *({"experiment": "demo", "key": "k", **call} for call in calls[1:])]
    (workspace / SPOOL).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../secret", "artifacts/../../secret", "artifacts/distill/../../secret.json", "conf.yaml", "mlflow.db"),
        *("artifacts/distill/abc/student.onnx", "artifacts/distill/abc/linked/metrics.json", "artifacts/distill/link/metrics.json"),
        *("artifacts/distill/abc/report.html", "artifacts/distill/pipe/metrics.json"),
    ],
)
def test_a_queue_sends_no_file_but_those_that_runs_show(config: RunConfig, workspace: Path, name: str) -> None:
    folder = workspace / "artifacts" / "distill" / "abc"
    folder.mkdir(parents=True)
    (workspace / "secret").write_text("secret")
    (workspace / "secret-folder").mkdir()
    (workspace / "secret-folder" / "metrics.json").write_text("secret")
    (folder / "metrics.json").write_text("{}")
    (folder / "student.onnx").write_text("secret")
    (folder / "report.html").symlink_to(workspace / "secret")
    (folder.parent / "link").symlink_to(workspace / "secret-folder")
    (folder.parent / "pipe").mkdir()
    os.mkfifo(folder.parent / "pipe" / "metrics.json")
    spooled(workspace, {}, {"call": "files", "files": [name]}, {"call": "files", "files": ["artifacts/distill/abc/metrics.json"]})
    lines: list[str] = []
    OfflineQueue(tracking_uri(config, workspace), workspace, lines.append).deliver()
    assert "does not take the files of k" in lines[0] and len(lines) == 2
    (run,) = runs(config, workspace)
    sent = [path.name for path in Path(run.info.artifact_uri.removeprefix("file://")).rglob("*") if path.is_file()]
    assert sent == ["metrics.json"]


def test_a_queue_does_not_say_where_to(config: RunConfig, workspace: Path, tmp_path: Path) -> None:
    spooled(workspace, {"location": (tmp_path / "elsewhere").as_uri(), "texts": {"configuration.yaml": "seed: 0"}})
    OfflineQueue(tracking_uri(config, workspace), workspace, print).deliver()
    (run,) = runs(config, workspace)
    assert run.info.artifact_uri.startswith(artifact_location(workspace)) and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("place", ["http://203.0.113.1/collect", "dbfs:/collect"])
def test_a_database_in_the_workspace_sends_nothing_to_another_machine(config: RunConfig, workspace: Path, place: str) -> None:
    """It may come from elsewhere with its workspace, as the queue may."""
    connect(tracking_uri(config, workspace)).create_experiment("demo", artifact_location=place)
    spooled(workspace, {"texts": {"configuration.yaml": "seed: 0"}}, {"call": "files", "files": ["artifacts/distill/abc/metrics.json"]})
    lines: list[str] = []
    OfflineQueue(tracking_uri(config, workspace), workspace, lines.append).deliver()
    assert [f"at {place}" in line for line in lines[:2]] == [True, True]


@pytest.mark.parametrize(
    "change",
    [{"key": "k' or '1'='1"}, {"parent": "x' or ''='"}, {"texts": {"../../configuration.yaml": "x"}}, {"texts": {"model.py": "x"}}],
)
def test_what_a_queue_says_is_of_a_closed_set(config: RunConfig, workspace: Path, change: dict[str, Any]) -> None:
    spooled(workspace, change)
    lines: list[str] = []
    OfflineQueue(tracking_uri(config, workspace), workspace, lines.append).deliver()
    assert "does not take" in lines[0] and runs(config, workspace) == []


def test_a_link_in_the_place_of_a_queue_is_named(config: RunConfig, workspace: Path) -> None:
    (workspace / SPOOL).symlink_to("/etc/passwd")
    with pytest.raises(UnsafeFile, match=rf"{SPOOL} is a link"):
        OfflineQueue(tracking_uri(config, workspace), workspace, print)
