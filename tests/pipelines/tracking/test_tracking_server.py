"""Real servers on loopback, MLflow's own and PostgreSQL: a pipeline arrives there, also when the server dies in the middle."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.run import RunConfig
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.tracking.client import TrackingError, connect
from pipelines.tracking.offline_queue import SPOOL
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from tests.servers import Database, Server, postgresql, tracking_server

pytestmark = pytest.mark.slow

STEPS = 5
AnyServer = Server | Database


@pytest.fixture(scope="module", params=["mlflow server", "postgresql"])
def one_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[AnyServer]:
    if request.param == "mlflow server":
        found: AnyServer = tracking_server(tmp_path_factory.mktemp("server"), mlflow_database)
        yield found
        found.kill()
        return
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'ctr-kd[postgresql]'")
    programs = postgresql()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which no other user may enter
        found = Database(programs, Path(folder))
        yield found
        found.kill()


@pytest.fixture
def server(one_server: AnyServer, monkeypatch: pytest.MonkeyPatch) -> AnyServer:
    """It takes long to start, so all tests share it; each has an experiment of its own."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("pipelines.tracking.tracker._SECONDS_BETWEEN_FLUSHES", 0.0)  # every number is sent at once
    if not one_server.answers():
        one_server.start()
    return one_server


class SmallPipeline:
    """A stage that trains, another after it, and a server that something happens to at some step of the training."""

    def __init__(self, config: RunConfig, workspace: Path, uri: str) -> None:
        self.config = RunConfig.model_validate(
            config.model_dump(by_alias=True) | {"tracking": {"uri": uri, "experiment": workspace.parent.name}}
        )
        self.workspace, self.lines = workspace, []  # type: ignore[var-annotated]
        self.at: dict[int, Any] = {}

    def train(self, context: StageContext) -> None:
        for step in range(STEPS):
            self.at.pop(step, lambda: None)()
            context.metric("loss", 1.0 / (step + 1), step)
        (context.output / "metrics.json").write_text("{}")
        (context.output / "report.html").write_text("<html>")
        context.record({"auc": 0.7})

    def run(self, seed: int = 0) -> None:
        config = self.config.model_copy(update={"seed": seed})
        context = RunContext(config, self.workspace, console=Console(io.StringIO()))
        context.tracker = Tracker(self.config.tracking.uri or "", self.workspace, self.lines.append)
        stages = [
            Stage("ingest", self.train, keys=("seed",), outside=lambda run: {"store": "d" * 64}),
            Stage("distill", self.train, ("ingest",), ("seed",)),
        ]
        Runner(context, stages).run()
        context.tracker.finish()

    def runs(self) -> list[Any]:
        client = connect(self.config.tracking.uri or "")
        experiment = client.get_experiment_by_name(self.config.tracking.experiment or "")
        return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])

    def losses(self, run: Any) -> list[tuple[int, float]]:
        history = connect(self.config.tracking.uri or "").get_metric_history(run.info.run_id, "loss")
        return sorted((point.step, point.value) for point in history)


WHOLE = [(step, pytest.approx(1 / (step + 1))) for step in range(STEPS)]


def check_whole(pipeline: SmallPipeline, pipelines: int = 1) -> None:
    found = pipeline.runs()
    assert len(found) == 3 * pipelines
    assert {run.info.status for run in found} == {"FINISHED"}
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    for parent in parents:
        children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert [child.info.run_name for child in children] == ["ingest", "distill"]
        for child in children:
            assert pipeline.losses(child) == WHOLE
            assert child.data.metrics["auc"] == 0.7
        assert parent.data.metrics["distill.auc"] == 0.7
        assert [one.dataset.name for one in children[1].inputs.dataset_inputs] == ["demo events", "demo rows"]
        files = connect(pipeline.config.tracking.uri or "").list_artifacts(parent.info.run_id)
        assert {file.path for file in files} == {"configuration.yaml", "metrics.json", "report.html"}


def test_a_pipeline_arrives_at_a_server(server: AnyServer, config: RunConfig, tmp_path: Path) -> None:
    pipeline = SmallPipeline(config, tmp_path / "workspace", server.uri)
    pipeline.run()
    check_whole(pipeline)
    assert pipeline.lines == []
    beside = pipeline.runs()[0].info.artifact_uri.startswith((pipeline.workspace / "mlartifacts").as_uri())
    assert beside == isinstance(server, Database)  # which has no place of its own for files


def test_a_server_that_dies_in_mid_training_and_returns_in_the_same_run_gets_all(
    server: AnyServer, config: RunConfig, tmp_path: Path
) -> None:
    pipeline = SmallPipeline(config, tmp_path / "workspace", server.uri)
    pipeline.at = {2: server.kill}
    original = pipeline.train

    def train(context: StageContext) -> None:
        if context.stage == "distill":
            server.start()
        original(context)

    pipeline.train = train  # type: ignore[method-assign]
    pipeline.run()
    check_whole(pipeline)
    assert [line.split(":")[0] for line in pipeline.lines] == ["warning", f"MLflow at {server.uri.split(':')[0]}"]
    assert not (pipeline.workspace / SPOOL).exists()


def test_what_a_dead_server_did_not_get_is_sent_by_the_next_run(server: AnyServer, config: RunConfig, tmp_path: Path) -> None:
    pipeline = SmallPipeline(config, tmp_path / "workspace", server.uri)
    pipeline.at = {2: server.kill}
    pipeline.run()  # the training is done, and so is the stage after it
    assert [line.split(":")[0] for line in pipeline.lines] == ["warning"]
    assert SPOOL in pipeline.lines[0]
    server.start()
    assert {run.info.status for run in pipeline.runs()} == {"RUNNING"}
    pipeline.run()  # has nothing to do
    check_whole(pipeline)
    assert "took" in pipeline.lines[-1]
    assert not (pipeline.workspace / SPOOL).exists()


def test_a_server_that_comes_after_two_pipelines_gets_both(server: AnyServer, config: RunConfig, tmp_path: Path) -> None:
    server.kill()
    pipeline = SmallPipeline(config, tmp_path / "workspace", server.uri)
    pipeline.run()
    pipeline.run(seed=1)
    with open(pipeline.workspace / SPOOL, "a", encoding="utf-8") as file:
        file.write('{"call": "met')  # a kill cut it short
    server.start()
    pipeline.run(seed=1)
    check_whole(pipeline, pipelines=2)


def test_a_registry_that_is_down_at_promotion_is_one_line_and_changes_nothing(server: AnyServer) -> None:
    registry = Registry(server.uri, "demo")
    registry.client.create_registered_model("demo")
    for number in (1, 2):
        run = registry.client.create_run("0").info
        registry.client.create_model_version("demo", f"{run.artifact_uri}/{number}", run_id=run.run_id)
    registry.promote("1")
    server.kill()
    for move in (lambda: registry.promote("2"), registry.rollback, lambda: Registry(server.uri, "demo")):
        with pytest.raises(TrackingError, match=rf"^MLflow at {server.uri} cannot be used: .*$"):
            move()
    server.start()
    assert Registry(server.uri, "demo").alias(CHAMPION) == "1"
    assert [change.after for change in registry.changes()] == ["1"]
