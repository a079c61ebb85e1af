"""From a distilled student to champion, or to a refusal; with a student of one embedding and real MLflow."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr_kd.metrics import auc_score
from feature_store.tables.json_files import digest_of, write_json
from pipelines.cli.status import status
from pipelines.config.run import RunConfig
from pipelines.errors import GateRefused
from pipelines.exit_codes import exit_code
from pipelines.metrics import Metrics, Shipping
from pipelines.registry.champion_record import ChampionRecord, RegistryLost, lost_champion
from pipelines.registry.lineage import Lineage
from pipelines.registry.lookup import alias_version
from pipelines.registry.registry import CHALLENGER, CHAMPION, FilesUnreachable, Registry
from pipelines.stages import register
from pipelines.tasks.click_rows import ClickRows, newest_requests
from pipelines.tasks.logits import write_predictions
from pipelines.tracking.client import TrackingError, tracking_uri, unreachable
from pipelines.tracking.relocate import follow_workspace
from pipelines.tracking.tracker import Tracker
from pipelines.training.students import EXPORTS
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from tests.pipelines.conftest import MINIMAL
from tests.pipelines.measured import metrics_of
from tests.pipelines.training_facts import DISTILLED, PRETRAINED

pytestmark = pytest.mark.slow

GAIN, LOSS = ({"difference": gain, "low": gain - 0.01, "high": gain + 0.01, "p_value": 0.01} for gain in (0.03, -0.03))
ALONE = [1.5, 1.0, 0.0, -1.5]  # logits of the student alone
GOOD, FAIR, POOR = [2.0, 1.0, 0.0, -2.0], [2.0, 1.0, 0.0, -1.0], [-2.0, 0.0, 1.0, 2.0]


class SmallPipeline:
    """The stages before ``register``, played by files; ``logits`` are those of the student."""

    def __init__(self, workspace: Path, make_assembly: Callable[[Path], None], make_export: Callable[[Path, list[float]], None]) -> None:
        self.workspace, self.make_assembly, self.make_export = workspace, make_assembly, make_export
        self.logits, self.parity = GOOD, 0.0
        self.shipping = Shipping(ship="better", shipped="student", metric="auc", validation=GAIN, sentence="the student ships")

    def ingest(self, context: StageContext) -> None:
        self.make_assembly(context.output)

    def pretrain(self, context: StageContext) -> None:
        PRETRAINED.write(context.output)

    def finetune(self, context: StageContext) -> None:
        (context.output / "teacher.pt").write_bytes(b"teacher")

    def distill(self, context: StageContext) -> None:
        DISTILLED.write(context.output)
        for name, logits in {"student": self.logits, "student_alone": ALONE}.items():
            self.make_export(context.output / EXPORTS[name], logits)
            for split in ("validation", "test"):
                rows = ClickRows(context.inputs["ingest"]).read(split)
                logit = np.array([*logits, -1.0])[rows["item"].to_numpy()] + self.parity
                file = context.output / f"predictions_{name}_{split}.parquet"
                write_predictions(file, rows["row_id"].to_numpy(), logit[:, None], context.fingerprint)

    def evaluate(self, context: StageContext) -> None:
        rows = ClickRows(context.inputs["ingest"]).read("test")
        models = {}
        for name in EXPORTS:
            logit = pq.read_table(context.inputs["distill"] / f"predictions_{name}_test.parquet")["logit_0"].to_numpy()
            auc = float(auc_score(rows["label"].to_numpy(), logit))
            models[name] = {"auc": {"value": auc, "low": auc, "high": auc}, "log_loss": {"value": 0.6}, "calibration_error": 0.05}
        said = {"shipped": self.shipping.shipped, "shipping": self.shipping, "verdict": f"Distillation; {self.shipping.sentence}."}
        metrics_of(models, **said).write(context.output)
        (context.output / "report.json").write_text("{}")

    def run(self, config: RunConfig, logits: list[float], **options: Any) -> Runner:
        """Bring the pipeline up to date with a student of these logits."""
        self.logits = logits
        context = RunContext(config, self.workspace, console=Console(io.StringIO()))
        context.tracker = Tracker(tracking_uri(config, self.workspace), self.workspace, lambda line: None)
        outside = {"ingest": {"store": "d" * 64}, "distill": {"logits": str(logits), "parity": str(self.parity)}}
        runner = Runner(
            context,
            [
                Stage("ingest", self.ingest, keys=("split",), outside=lambda run: outside["ingest"]),
                Stage("pretrain", self.pretrain, ("ingest",)),
                Stage("finetune", self.finetune, ("ingest", "pretrain")),
                Stage("distill", self.distill, ("ingest", "finetune"), outside=lambda run: outside["distill"]),
                Stage(
                    "evaluate", self.evaluate, ("ingest", "distill"), outside=lambda run: {"shipping": digest_of(self.shipping.to_json())}
                ),
                register.STAGE,
            ],
        )
        try:
            self.summary = runner.run(**options)
        finally:
            context.tracker.finish()
        return runner


@pytest.fixture
def pipeline(workspace: Path, make_assembly: Callable[[Path], None], make_export: Callable[[Path, list[float]], None]) -> SmallPipeline:
    return SmallPipeline(workspace, make_assembly, make_export)


@pytest.fixture(scope="module")
def bounded() -> RunConfig:
    bounds = {"auc_min": 0.2, "champion_margin": 0.02, "bootstrap": 50, "calibration_error_max": 1, "latency_requests": 20}
    return RunConfig.model_validate(MINIMAL | {"register": bounds})


@pytest.fixture(scope="module")
def fair_champion(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Path,
    make_assembly: Callable[[Path], None],
    make_export: Callable[[Path, list[float]], None],
    bounded: RunConfig,
) -> Path:
    """A workspace whose pipeline was run once with a fair student, to be copied."""
    workspace = tmp_path_factory.mktemp("champion")
    shutil.copyfile(mlflow_database, workspace / "mlflow.db")
    SmallPipeline(workspace, make_assembly, make_export).run(bounded, FAIR)
    return workspace


@pytest.fixture
def with_champion(fair_champion: Path, pipeline: SmallPipeline) -> SmallPipeline:
    """A pipeline whose fair student is champion, as version 1."""
    shutil.copytree(fair_champion, pipeline.workspace, symlinks=True, dirs_exist_ok=True)
    follow_workspace(pipeline.workspace)
    return pipeline


def aliases(config: RunConfig, workspace: Path) -> tuple[str | None, str | None]:
    uri = tracking_uri(config, workspace)
    return alias_version(uri, config.name, CHAMPION), alias_version(uri, config.name, CHALLENGER)


def report(workspace: Path) -> dict[str, Any]:
    return json.loads((workspace / "reports" / "latest" / "metrics.json").read_text())


def test_a_pipeline_of_champions(pipeline: SmallPipeline, bounded: RunConfig) -> None:
    """First champion, a refusal, a better one, a rollback: the story that an operator sees."""
    first = pipeline.run(bounded, FAIR)
    assert aliases(bounded, pipeline.workspace) == ("1", "1")
    gate = report(pipeline.workspace)["gate"]
    assert (gate["passed"], gate["champion_before"], gate["champion_after"]) == (True, None, "1")
    assert {check["name"] for check in gate["checks"]} == {
        "auc",
        "calibration_error",
        "calibration_ratio",
        "log_loss",
        "distillation_gain",
        "unseen_share",
        "bytes",
        "latency_p99_ms",
        "parity",
        "smoke_prediction",
        "foreign_parameters",
    }
    assert "<html" in (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert set(report(pipeline.workspace)["run"]["seconds"]) == {"ingest", "pretrain", "finetune", "distill", "evaluate", "register"}
    assert report(pipeline.workspace)["run"]["fingerprint"] == first.context.artifacts["register"].path.name

    with pytest.raises(GateRefused) as refused:
        pipeline.run(bounded, POOR)
    assert aliases(bounded, pipeline.workspace) == ("1", "2")
    failed = list(refused.value.failed)
    assert failed == ["auc_against_champion_low", "log_loss_against_champion_high"]
    assert "champion" in refused.value.table.splitlines()[0]
    assert "version 1 stays champion" in str(refused.value)
    assert report(pipeline.workspace)["gate"]["passed"] is False

    with pytest.raises(GateRefused):  # the same challenger is refused again, without being registered again
        pipeline.run(bounded, POOR)
    assert aliases(bounded, pipeline.workspace) == ("1", "2")

    pipeline.run(bounded, GOOD)
    assert aliases(bounded, pipeline.workspace) == ("3", "3")
    assert report(pipeline.workspace)["gate"]["champion_before"] == "1"
    assert Registry(tracking_uri(bounded, pipeline.workspace), bounded.name).rollback() == ("3", "1")
    pipeline.run(bounded, GOOD)
    assert pipeline.summary.made == ()  # a rollback is not undone by the next run
    assert aliases(bounded, pipeline.workspace) == ("1", "3")


def test_the_registered_model_knows_where_it_comes_from_and_its_card_how_it_is_loaded(
    pipeline: SmallPipeline, bounded: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = pipeline.run(bounded, GOOD)
    registry = Registry(tracking_uri(bounded, pipeline.workspace), bounded.name)
    path = registry.download(f"models:/{bounded.name}@{CHAMPION}")
    lineage = json.loads((path / "data" / "student" / "lineage.json").read_text())
    assert lineage["data"]["digest"] == "d" * 64
    assert lineage["teacher"]["fingerprint"] == runner.context.artifacts["finetune"].path.name
    assert "code_revision" in lineage
    assert sum(lineage["validation_scores"]["rows"]) == 300
    version = registry.client.get_model_version(bounded.name, "1")
    assert version.tags["student_digest"] == lineage["student"]["digest"]
    assert float(version.tags["parity"]) < 1e-6
    assert 0.6 < float(version.tags["auc.value"]) < 0.8
    assert version.tags["auc.low"] == version.tags["auc.high"]  # as the metrics of this pipeline say
    assert version.tags["gate"].startswith("passed: auc")
    assert version.tags["digest.distill"] == runner.context.artifacts["distill"].path.name
    card = (path / "model_card.md").read_text()
    assert version.description in card
    assert lineage["configuration"]["digest"] in card
    code = card.split("```python\n")[1].split("```")[0]
    before = mlflow.get_tracking_uri()
    try:
        exec(code, {})  # noqa: S102 (what the card prints is what a reader runs)
    finally:
        mlflow.set_tracking_uri(before)
    assert "score" in capsys.readouterr().out


def test_the_student_alone_is_registered_where_it_ships(pipeline: SmallPipeline, bounded: RunConfig) -> None:
    """It is the exported one that the gate asks, and everything that speaks of the version says which it is, and why."""
    why = "the student alone ships: a loss beyond chance"
    pipeline.shipping = Shipping(ship="better", shipped="student_alone", metric="auc", validation=LOSS, sentence=why)
    runner = pipeline.run(bounded, POOR)
    registry = Registry(tracking_uri(bounded, pipeline.workspace), bounded.name)
    path = registry.download(f"models:/{bounded.name}@{CHAMPION}")
    distilled = runner.context.artifacts["distill"].path
    assert (path / "data" / "student" / "student.onnx").read_bytes() == (distilled / "export_alone" / "student.onnx").read_bytes()
    checks = {check["name"]: check for check in report(pipeline.workspace)["gate"]["checks"]}
    assert checks["parity"]["value"] < 1e-6 and checks["auc"]["value"] > 0.6
    assert checks["distillation_gain"]["value"] == 0
    tags = registry.tags_of("1")
    assert (tags["shipped"], tags["verdict"]) == ("student_alone", f"Distillation; {why}.")
    assert float(tags["auc.value"]) > 0.6
    lineage = Lineage.read(path / "data" / "student")
    assert lineage.shipped == "student_alone" and lineage.shipping is not None and lineage.shipping.validation == LOSS
    assert lineage.validation_scores == register.validation_scores(distilled, Metrics.read(runner.context.artifacts["evaluate"].path))
    card = (path / "model_card.md").read_text()
    assert "student, trained without a teacher, of `demo`" in card and "The student alone ships: a loss beyond chance." in card
    assert why in status(runner.context, tracking_uri(bounded, pipeline.workspace)).splitlines()


def test_a_student_that_is_worse_than_alone_is_refused_where_it_was_forced(pipeline: SmallPipeline, bounded: RunConfig) -> None:
    pipeline.shipping = Shipping(ship="student", shipped="student", metric="auc", validation=LOSS, sentence="the student ships")
    with pytest.raises(GateRefused, match=r"distillation_gain \(-0.02, must be >= 0; upper end of student minus student alone on valid"):
        pipeline.run(bounded, GOOD)
    values = bounded.model_dump(by_alias=True)
    for bound in (None, -0.05):
        pipeline.run(RunConfig.model_validate(values | {"register": values["register"] | {"distillation_gain_min": bound}}), GOOD)
    assert aliases(bounded, pipeline.workspace) == ("1", "1")


def test_who_replaced_whom_and_why_is_kept_and_shown(with_champion: SmallPipeline, bounded: RunConfig) -> None:
    runner = with_champion.run(bounded, GOOD)
    Registry(tracking_uri(bounded, with_champion.workspace), bounded.name).rollback("clicks fell")
    shown = status(runner.context, tracking_uri(bounded, with_champion.workspace)).splitlines()
    lines = [line.split(maxsplit=7) for line in shown[shown.index("champions so far") + 2 :]]
    assert [" ".join(line[2:5]) for line in lines] == ["none -> 1", "1 -> 2", "2 -> 1"]
    assert [line[5] for line in lines] == ["gate", "gate", "rollback"]
    assert lines[1][7].startswith("passed: auc_against_champion_low")
    assert lines[2][7] == "clicks fell"


@pytest.mark.parametrize(
    ("bound", "failed"),
    [
        ({"auc_min": 0.99}, "auc"),
        ({"calibration_error_max": 1e-9}, "calibration_error"),
        ({"calibration_ratio_min": 1.9}, "calibration_ratio"),
        ({"log_loss_max": 0.01}, "log_loss"),
        ({"unseen_share_max": 0.0}, "unseen_share"),
        ({"bytes_max": 100}, "bytes"),
        ({"latency_p99_ms_max": 1e-6}, "latency_p99_ms"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_bound_refuses_and_leaves_the_champion(
    with_champion: SmallPipeline, bounded: RunConfig, bound: dict[str, float], failed: str
) -> None:
    values = bounded.model_dump(by_alias=True)
    strict = RunConfig.model_validate(values | {"register": values["register"] | bound})
    with pytest.raises(GateRefused) as refused:
        with_champion.run(strict, GOOD)
    assert refused.value.failed == (failed,)
    assert aliases(bounded, with_champion.workspace) == ("1", "2")
    stored = next(check for check in report(with_champion.workspace)["gate"]["checks"] if check["name"] == failed and not check["passed"])
    assert f"{stored['value']:.6g}" in refused.value.table
    tags = Registry(tracking_uri(bounded, with_champion.workspace), bounded.name).tags_of("2")
    assert tags["gate"].startswith(f"refused: {failed}")


def test_a_challenger_that_is_behind_in_a_part_is_refused(pipeline: SmallPipeline, bounded: RunConfig) -> None:
    values = bounded.model_dump(by_alias=True)
    sliced = {"slices": ["item", "device"], "slice_rows": 50, "champion_margin": 1, "log_loss_margin": 9}
    strict = RunConfig.model_validate(values | {"register": values["register"] | sliced})
    pipeline.run(strict, GOOD)
    assert not any(check["name"].startswith("slice_") for check in report(pipeline.workspace)["gate"]["checks"])  # there was no champion
    with pytest.raises(GateRefused, match=r"slice_item \(-0\.\d+, must be >= -0\.02; worst of 2 parts: seen -0\.\d+ "):
        pipeline.run(strict, POOR)
    checks = {check["name"]: check for check in report(pipeline.workspace)["gate"]["checks"]}
    assert checks["auc_against_champion_low"]["passed"] and not checks["slice_device"]["passed"]
    tags = Registry(tracking_uri(bounded, pipeline.workspace), bounded.name).tags_of("2")
    assert float(tags["slice_item"]) == pytest.approx(checks["slice_item"]["value"], rel=1e-4)


def test_a_challenger_of_an_older_window_replaces_no_champion(with_champion: SmallPipeline, bounded: RunConfig) -> None:
    """As after a clock that jumped back, or when an old date is run again."""
    registry = Registry(tracking_uri(bounded, with_champion.workspace), bounded.name)
    assert registry.tags_of("1")["test_until"] == "2023-11-16T02:05:00+00:00"
    registry.add_tags("1", {"test_until": "2023-11-17T14:05:00+00:00"})
    with pytest.raises(GateRefused, match=r"refused version 2: window_hours_back \(36, must be <= 0\); version 1 stays champion"):
        with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace) == ("1", "2")
    values = bounded.model_dump(by_alias=True)
    with_champion.run(RunConfig.model_validate(values | {"register": values["register"] | {"window_hours_back_max": None}}), GOOD)
    assert aliases(bounded, with_champion.workspace) == ("2", "2")


def test_an_export_that_differs_from_the_trained_student_is_refused(pipeline: SmallPipeline, bounded: RunConfig) -> None:
    pipeline.parity = 0.01
    with pytest.raises(GateRefused, match="parity"):
        pipeline.run(bounded, GOOD)
    assert aliases(bounded, pipeline.workspace) == (None, "1")


def test_a_run_killed_after_the_promotion_ends_as_if_it_were_not(
    with_champion: SmallPipeline, bounded: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "write_report", lambda *arguments: (_ for _ in ()).throw(GeneratorExit))
    with pytest.raises(GeneratorExit):
        with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace) == ("2", "2")
    monkeypatch.undo()
    with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace) == ("2", "2")
    gate = report(with_champion.workspace)["gate"]
    assert gate["champion_before"] == "1"
    assert "auc_against_champion_low" in {check["name"] for check in gate["checks"]}
    assert Registry(tracking_uri(bounded, with_champion.workspace), bounded.name).rollback() == ("2", "1")


def test_a_registry_that_goes_down_at_the_promotion_keeps_its_champion_and_the_next_run_promotes(
    with_champion: SmallPipeline, bounded: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        gone = unreachable("http://registry", ConnectionRefusedError("Connection refused"))
        patch.setattr(Registry, "promote", lambda *arguments: (_ for _ in ()).throw(gone))
        with pytest.raises(TrackingError, match=r"^MLflow at http://registry cannot be used: Connection refused; .*$") as failed:
            with_champion.run(bounded, GOOD)
    assert exit_code(failed.value) == 1
    assert aliases(bounded, with_champion.workspace) == ("1", "2")
    with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace) == ("2", "2")
    changes = Registry(tracking_uri(bounded, with_champion.workspace), bounded.name).changes()
    assert [(change.before, change.after) for change in changes] == [(None, "1"), ("1", "2")]


@pytest.mark.parametrize("evidence", ["record", "registration", "scores"])
def test_a_registry_that_was_lost_is_no_beginning(
    pipeline: SmallPipeline, bounded: RunConfig, mlflow_database: Path, evidence: str
) -> None:
    """Whatever tells of its champion; until somebody promotes the challenger, or says that the loss is meant."""
    pipeline.run(bounded, FAIR)
    assert ChampionRecord.read(pipeline.workspace).version == "1"
    if evidence != "record":  # as an earlier release left it
        (pipeline.workspace / ChampionRecord.FILE).unlink()
    if evidence == "scores":
        shutil.rmtree(pipeline.workspace / "artifacts" / "register")
        (pipeline.workspace / "scores" / "date=2024-01-01").mkdir(parents=True)
        write_json(pipeline.workspace / "scores" / "date=2024-01-01" / "_manifest.json", {"model": bounded.name, "model_version": "1"})
    (pipeline.workspace / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    lost = (
        r"^MLflow at .*mlflow.db has no champion of demo and no history of any, but .* tells of version 1: .* or `ctr-kd register --force`$"
    )
    for _ in range(2):
        with pytest.raises(RegistryLost, match=lost) as failed:
            pipeline.run(bounded, GOOD)
        assert exit_code(failed.value) == 3
        assert aliases(bounded, pipeline.workspace) == (None, "1")
    Registry(tracking_uri(bounded, pipeline.workspace), bounded.name).promote("1")
    pipeline.run(bounded, GOOD)
    assert aliases(bounded, pipeline.workspace) == ("1", "1")


def test_a_lost_registry_begins_anew_where_that_is_meant(pipeline: SmallPipeline, bounded: RunConfig, mlflow_database: Path) -> None:
    pipeline.run(bounded, GOOD)
    (pipeline.workspace / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    pipeline.run(bounded, GOOD, first="register", force=True)
    assert aliases(bounded, pipeline.workspace) == ("1", "1")


def test_another_name_or_registry_has_no_champion_to_lose(pipeline: SmallPipeline, bounded: RunConfig, tmp_path: Path) -> None:
    pipeline.run(bounded, GOOD)
    changes = ({"name": "other"}, {"tracking": {"uri": f"sqlite:///{tmp_path / 'other.db'}"}})
    others = [RunConfig.model_validate(bounded.model_dump(by_alias=True) | change) for change in changes]
    (pipeline.workspace / "mlflow.db").unlink()
    assert [lost_champion(pipeline.workspace, config) is None for config in (*others, bounded)] == [True, True, False]


def damage(workspace: Path, config: RunConfig, version: str, how: str) -> None:
    registry = Registry(tracking_uri(config, workspace), config.name)
    path = registry.download(f"models:/{config.name}/{version}")
    if how == "lost":
        shutil.rmtree(path)
    else:
        (path / "data" / "student" / "student.onnx").write_bytes(b"half")


@pytest.mark.parametrize("how", ["lost", "changed"])
def test_a_damaged_version_is_registered_anew(pipeline: SmallPipeline, bounded: RunConfig, how: str) -> None:
    """Also where it is champion: the gate does not compare the student with its own remains."""
    pipeline.run(bounded, GOOD)
    damage(pipeline.workspace, bounded, "1", how)
    pipeline.run(bounded, GOOD, first="register", force=True)
    assert aliases(bounded, pipeline.workspace) == ("2", "2")
    Registry(tracking_uri(bounded, pipeline.workspace), bounded.name).download(f"models:/{bounded.name}@{CHAMPION}")
    pipeline.run(bounded, GOOD, first="register", force=True)  # whole: known again, under its new version
    assert aliases(bounded, pipeline.workspace) == ("2", "2")


def test_a_version_whose_files_are_not_reached_is_not_registered_anew(
    with_champion: SmallPipeline, bounded: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(*_: Any) -> Path:
        raise FilesUnreachable("the files of models:/demo/1 cannot be read (no answer)")

    monkeypatch.setattr(Registry, "download", no_answer)
    with pytest.raises(FilesUnreachable):
        with_champion.run(bounded, FAIR, first="register", force=True)
    assert aliases(bounded, with_champion.workspace) == ("1", "1")


def test_a_champion_that_cannot_be_read_refuses_until_it_can(with_champion: SmallPipeline, bounded: RunConfig) -> None:
    model = Registry(tracking_uri(bounded, with_champion.workspace), bounded.name).download(f"models:/{bounded.name}/1")
    away = model.rename(with_champion.workspace / "away")
    for _ in range(2):
        with pytest.raises(GateRefused, match=r"champion_readable \(the files of models:/demo/1 cannot be read"):
            with_champion.run(bounded, GOOD)
        assert aliases(bounded, with_champion.workspace) == ("1", "2")
    away.rename(model)
    with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace) == ("2", "2")


def test_a_champion_that_is_not_reached_just_now_refuses_nobody(
    with_champion: SmallPipeline, bounded: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Registry.download

    def no_answer(registry: Registry, uri: str, *more: Any) -> Path:
        if uri.endswith("/1"):
            raise FilesUnreachable("the files of models:/demo/1 cannot be read (no answer)")
        return download(registry, uri, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "download", no_answer)
        with pytest.raises(FilesUnreachable):
            with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace)[0] == "1"
    with_champion.run(bounded, GOOD)
    assert aliases(bounded, with_champion.workspace) == ("2", "2")


@pytest.mark.parametrize(("most", "first"), [(1, 6), (2, 6), (4, 6), (5, 3), (8, 0), (100, 0)])
def test_the_newest_rows_cut_no_request(most: int, first: int) -> None:
    assert newest_requests(np.array([0, 0, 0, 1, 1, 1, 2, 2]), most) == first
