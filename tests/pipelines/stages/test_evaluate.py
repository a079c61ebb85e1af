"""The stage ``evaluate`` on a small assembly: metrics.json as the contract has it, and a report that is published once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr_kd.baselines import boosted_trees, tree_libraries
from ctr_kd.baselines.tree_libraries import Installed
from feature_store.features.summary import ClickSummary
from feature_store.tables.contracts import DataError
from pipelines.config.run import STUDENT_KEYS, RunConfig
from pipelines.stages import evaluate
from pipelines.tasks import baselines
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import read_predictions, write_predictions
from pipelines.training.students import EXPORTS
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from tests.pipelines.training_facts import DISTILLED, FINETUNED, PRETRAINED


class SmallPipeline:
    """The stages before ``evaluate``, played by files."""

    def __init__(self, workspace: Path, make_assembly: Callable[[Path], None], make_export: Callable[[Path, list[float]], None]) -> None:
        self.workspace, self.make_assembly, self.make_export = workspace, make_assembly, make_export
        self.empty = False
        self.noise = {"teacher": 0.5, "student": 0.2, "student_alone": 1.0}  # that each model adds to the true logits

    def ingest(self, context: StageContext) -> None:
        self.make_assembly(context.output)
        context.record({"quarantined_rows": 3})
        if self.empty:
            import pyarrow.parquet as pq

            pq.write_table(ClickRows(context.output).read("train"), context.output / "rows.parquet")

    def pretrain(self, context: StageContext) -> None:
        PRETRAINED.write(context.output)

    def finetune(self, context: StageContext) -> None:
        FINETUNED.write(context.output)

    def distill(self, context: StageContext) -> None:
        for name in EXPORTS.values():
            self.make_export(context.output / name, [2.0, 1.0, 0.0, -2.0])
        for name, noise in self.noise.items():
            for split in ("validation", "test"):
                self._predict(context, f"predictions_{name}_{split}.parquet", noise)
        for name in context.config.distill.teacher_weights:
            self._predict(context, f"predictions_teacher_{name}_test.parquet", 0.3)
        if context.config.distill.calibration == "isotonic":
            self._predict(context, "predictions_student_uncalibrated_test.parquet", 2.0)
        DISTILLED.write(context.output)

    def _predict(self, context: StageContext, file: str, noise: float) -> None:
        rows = ClickRows(context.inputs["ingest"]).read("validation" if "validation" in file else "test")
        p = rows["click_probability"].to_numpy()
        logit = np.log(p / (1 - p)) + np.random.default_rng(0).normal(0, noise, len(p))
        order = np.random.default_rng(1).permutation(len(p))  # stored by row id, in whatever order
        write_predictions(context.output / file, rows["row_id"].to_numpy()[order], logit[order, None], context.fingerprint)

    def runner(self, config: RunConfig) -> Runner:
        stages = [
            Stage("ingest", self.ingest, keys=("split",), outside=lambda run: {"store": "d" * 64}),
            Stage("pretrain", self.pretrain, ("ingest",), ("pretrain",)),
            Stage("finetune", self.finetune, ("ingest", "pretrain"), ("finetune",)),
            Stage("distill", self.distill, ("ingest", "finetune"), STUDENT_KEYS, outside=lambda run: {"noise": str(self.noise)}),
            evaluate.STAGE,
        ]
        return Runner(RunContext(config, self.workspace, console=Console(io.StringIO())), stages)


@pytest.fixture
def pipeline(
    tmp_path: Path,
    make_assembly: Callable[[Path], None],
    make_export: Callable[[Path, list[float]], None],
) -> SmallPipeline:
    return SmallPipeline(tmp_path / "workspace", make_assembly, make_export)


@pytest.fixture
def quick(config: RunConfig) -> RunConfig:
    given = {"evaluate": {"bootstrap": 20}, "distill": {"teachers": {"bert": 1}}, "pretrain": {"training": {"epochs": 2}}}
    return RunConfig.model_validate(config.model_dump(by_alias=True) | given)


def latest(pipeline: SmallPipeline) -> dict[str, Any]:
    return json.loads((pipeline.workspace / "reports" / "latest" / "metrics.json").read_text())


def test_metrics_are_as_the_contract_has_them(pipeline: SmallPipeline, quick: RunConfig) -> None:
    runner = pipeline.runner(quick)
    runner.run()
    metrics = latest(pipeline)
    tables = {"run", "data", "models", "comparisons", "slices", "gate"}
    decided = {"shipped", "shipping", "verdict", "transfer_ratio", "transfer_ratio_interval", "advice"}
    assert set(metrics) == tables | decided | {"teachers", "pretraining", "other_seeds", "importance", "freshness"}
    assert metrics["gate"] is None
    assert set(metrics["models"]) == {"teacher", "student", "student_alone", "popularity", "boosted_trees", "oracle"}
    student, teacher = metrics["models"]["student"], metrics["models"]["teacher"]
    for name in ("auc", "gauc", "log_loss"):
        assert student[name]["low"] <= student[name]["value"] <= student[name]["high"]
    assert student["normalized_entropy"] < 1
    assert (student["parameters"], student["bytes"]) == (9, 36)
    assert student["rows_per_second"] > 0
    assert (teacher["rows_per_second"], teacher["rows_per_second_alone"]) == (10.0, 5.0)
    assert teacher["masked_item_accuracy"] == {"before": 0.2, "after": 0.1}
    assert metrics["models"]["oracle"]["parameters"] is None
    assert metrics["models"]["oracle"]["auc"]["value"] >= student["auc"]["value"] > metrics["models"]["student_alone"]["auc"]["value"]
    assert {"student-student_alone", "student-teacher"} <= set(metrics["comparisons"])
    assert {"item/seen", "item/unseen", "history_length/0"} <= set(metrics["slices"])
    assert (metrics["data"]["train_rows"], metrics["data"]["test_rows"], metrics["data"]["quarantined_rows"]) == (300, 300, 3)
    recorded = runner.context.artifacts["evaluate"].finished.facts  # what MLflow has as metrics of the run
    for name in metrics["models"]:
        assert (recorded[name]["auc"], recorded[name]["log_loss"]) == tuple(
            metrics["models"][name][key]["value"] for key in ("auc", "log_loss")
        )
    for key in ("auc", "log_loss"):
        assert recorded["gain"][key] == metrics["comparisons"]["student-student_alone"][key]["difference"]
    run = metrics["run"]
    assert set(run["seconds"]) == {"ingest", "pretrain", "finetune", "distill", "evaluate"}
    assert all(seconds > 0 for seconds in run["seconds"].values())
    assert run["peak_memory_bytes"] > 0
    assert run["configuration"]["distill"]["student"]["kind"] == "pooled"
    assert (
        run["fingerprint"] == runner.context.artifacts["evaluate"].path.name == (pipeline.workspace / "reports" / "latest").readlink().name
    )


def test_what_ships_is_decided_on_validation_and_trains_nothing_anew(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.runner(quick).run()
    metrics = latest(pipeline)
    assert metrics["shipped"] == "student" and metrics["shipping"]["validation"]["low"] > 0
    assert metrics["verdict"].startswith("Distillation gave +")
    assert "AUC on validation, a gain beyond chance. " in metrics["verdict"] and "The student beats boosted trees (" in metrics["verdict"]
    auc = {name: metrics["models"][name]["auc"]["value"] for name in ("teacher", "student", "student_alone")}
    expected = (auc["student"] - auc["student_alone"]) / (auc["teacher"] - auc["student_alone"])
    assert metrics["transfer_ratio"] == pytest.approx(expected)
    reached = metrics["transfer_ratio_interval"]
    assert reached["value"] == pytest.approx(expected) and reached["low"] < expected < reached["high"]
    phrase = "of the teacher's lead over the student alone reached the student."
    page = (pipeline.workspace / "reports" / "latest" / "report.html").read_text().partition("</header>")[0].replace("&#39;", "'")
    assert phrase in metrics["verdict"] and phrase in page
    assert metrics["advice"] is None
    forced = RunConfig.model_validate(quick.model_dump(by_alias=True) | {"distill": {"teachers": {"bert": 1}, "ship": "alone"}})
    assert pipeline.runner(forced).run().made == ("evaluate",)
    assert latest(pipeline)["shipped"] == "student_alone"
    assert "the student alone ships, since distill.ship is alone" in latest(pipeline)["verdict"]


def test_a_student_that_is_worse_on_validation_does_not_ship(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.noise = {"teacher": 1.0, "student": 2.0, "student_alone": 0.2}
    pipeline.runner(quick).run()
    metrics = latest(pipeline)
    assert metrics["shipped"] == "student_alone" and metrics["shipping"]["validation"]["high"] < 0
    assert metrics["verdict"].startswith("Distillation cost 0.")
    assert "the student alone ships: student minus student alone is" in metrics["verdict"]
    assert metrics["transfer_ratio"] is None  # the teacher has no lead that could be taken over
    reached = metrics["transfer_ratio_interval"]
    assert reached["value"] is None and reached["reason"].endswith("is not above chance")
    assert "How much of the teacher's lead reached the student is undefined: the teacher's lead over" in metrics["verdict"]
    assert metrics["advice"]["cause"].startswith("teacher minus student alone is −0.")
    assert metrics["advice"]["cause"].endswith("AUC; pretraining took 1 steps; validation holds 125 clicks")
    assert metrics["advice"]["change"] == "pretrain.training.epochs=40"
    page = (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert "The student alone ships" in page and "Try pretrain.training.epochs=40 next." in page


def test_what_the_inputs_are_worth_is_measured_on_the_graph_that_ships(pipeline: SmallPipeline, quick: RunConfig) -> None:
    """That of this pipeline reads the candidate's id and nothing else."""
    pipeline.runner(quick).run()
    found = latest(pipeline)["importance"]
    assert (found["model"], found["split"], found["rows"]) == ("student", "validation", 300)
    item, *others = found["groups"].values()
    assert item["inputs"] == ["item_id"] and item["auc"]["low"] > 0.05 and item["log_loss"]["high"] < 0
    assert {name for one in others for name in one["inputs"]} == {"history", "device", "item_age", "item_clicks_1h", "item_clicks_1d"}
    assert all(one[metric]["difference"] == one[metric]["low"] == 0 for one in others for metric in ("auc", "log_loss"))
    page = (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert "Permuting item_id costs the student most, " in page
    forced = {"distill": {"teachers": {"bert": 1}, "ship": "alone"}, "evaluate": {"bootstrap": 20, "importance_rows": 200}}
    pipeline.runner(RunConfig.model_validate(quick.model_dump(by_alias=True) | forced)).run()
    assert (latest(pipeline)["importance"]["model"], latest(pipeline)["importance"]["rows"]) == ("student_alone", 200)
    pipeline.runner(RunConfig.model_validate(quick.model_dump(by_alias=True) | {"evaluate": {"importance_rows": 0}})).run()
    assert latest(pipeline)["importance"] is None
    assert "What the inputs are worth" not in (pipeline.workspace / "reports" / "latest" / "report.html").read_text()


def test_trees_that_were_a_teacher_are_not_fitted_again(pipeline: SmallPipeline, quick: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "fit_boosted_trees", lambda *arguments: pytest.fail("fitted again"))
    distill = {"teachers": {"bert": 0.5, "boosted_trees": 0.5}}
    pipeline.runner(RunConfig.model_validate(quick.model_dump(by_alias=True) | {"distill": distill})).run()
    models = latest(pipeline)["models"]
    assert models["boosted_trees"]["auc"] == models["teacher/boosted_trees"]["auc"]
    assert models["boosted_trees"]["rows_per_second"] == 7.0
    assert models["boosted_trees"]["library"] == models["teacher/boosted_trees"]["library"] == "lightgbm"
    assert models["teacher/bert"]["masked_item_accuracy"] == models["teacher"]["masked_item_accuracy"] == {"before": 0.2, "after": 0.1}


def test_trees_stand_beside_the_students_with_the_library_that_grew_them(
    pipeline: SmallPipeline, quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_libraries, "installed_library", lambda: Installed("scikit-learn"))
    monkeypatch.setattr(boosted_trees, "installed_library", tree_libraries.installed_library)
    pipeline.runner(quick).run()
    metrics, page = latest(pipeline), (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert metrics["models"]["boosted_trees"]["library"] == "scikit-learn"
    assert {"student-boosted_trees", "student_alone-boosted_trees"} <= set(metrics["comparisons"])
    assert "Boosted trees (scikit-learn)" in page and "Over boosted trees (scikit-learn), AUC" in page


@pytest.mark.parametrize("teachers", [{"bert": 1.0}, {"bert": 0.5, "boosted_trees": 0.5}])
def test_trees_of_another_library_are_another_baseline(
    pipeline: SmallPipeline, quick: RunConfig, monkeypatch: pytest.MonkeyPatch, teachers: dict[str, float]
) -> None:
    for module in (tree_libraries, boosted_trees):
        monkeypatch.setattr(module, "installed_library", lambda: Installed("scikit-learn"))
    config = RunConfig.model_validate(quick.model_dump(by_alias=True) | {"distill": {"teachers": teachers}})
    runner = pipeline.runner(config)
    runner.run()
    manifest = runner.context.artifacts["evaluate"].finished
    assert manifest.inputs["boosted_trees"].digest == "scikit-learn"
    assert pipeline.runner(config).run().made == ()
    pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install lightgbm", exc_type=(ImportError, OSError))
    monkeypatch.undo()
    other = pipeline.runner(config)
    assert other.states()[-1].state == "made by other code (changed: boosted_trees)"
    assert other.run().made == ("evaluate",)
    if "boosted_trees" not in teachers:
        assert latest(pipeline)["models"]["boosted_trees"]["library"] == "lightgbm"


def test_the_report_is_one_page_with_its_curves(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.runner(quick).run()
    page = (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Learning curves" in page


def test_figures_before_calibration_stand_beside_those_after_it(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.runner(quick).run()
    assert "uncalibrated" not in latest(pipeline)["models"]["student"]
    pipeline.runner(
        RunConfig.model_validate(quick.model_dump(by_alias=True) | {"distill": {"teachers": {"bert": 1}, "calibration": "isotonic"}})
    ).run()
    models = latest(pipeline)["models"]
    before = models["student"]["uncalibrated"]
    assert set(before) == {"log_loss", "calibration_error", "calibration_ratio"}
    assert (
        before["log_loss"] > models["student"]["log_loss"]["value"] and before["calibration_error"] > models["student"]["calibration_error"]
    )
    assert "uncalibrated" not in models["student_alone"]
    assert "Before and after calibration" in (pipeline.workspace / "reports" / "latest" / "report.html").read_text()


def test_a_report_that_a_kill_left_unpublished_is_published_by_the_next_run(pipeline: SmallPipeline, quick: RunConfig) -> None:
    runner = pipeline.runner(quick)
    runner.run()
    report = pipeline.workspace / "reports" / runner.context.artifacts["evaluate"].path.name
    before = (report / "report.html").stat().st_mtime_ns
    pipeline.runner(quick).run()
    assert (report / "report.html").stat().st_mtime_ns == before
    (report / "_manifest.json").unlink()
    (pipeline.workspace / "reports" / "latest").unlink()
    (report / "report.html").write_text("half")
    pipeline.runner(quick).run()
    assert "<html" in (pipeline.workspace / "reports" / "latest" / "report.html").read_text()


def test_latest_is_the_newest(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.runner(quick).run()
    first = (pipeline.workspace / "reports" / "latest").readlink()
    other = RunConfig.model_validate(quick.model_dump(by_alias=True) | {"evaluate": {"bootstrap": 21, "boosted_trees": False}})
    pipeline.runner(other).run()
    assert (pipeline.workspace / "reports" / "latest").readlink() != first
    assert "boosted_trees" not in latest(pipeline)["models"]


def test_another_fine_tuning_of_the_same_encoder_is_shown_beside_the_configured_one(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.runner(quick).run()
    (own,) = latest(pipeline)["models"]["teacher"]["fine_tunings"]
    assert own["configured"] and own["masked_item_accuracy"] == {"before": 0.2, "after": 0.1}
    other = RunConfig.model_validate(quick.model_dump(by_alias=True) | {"finetune": {"rate_ratio": 0.5}})
    pipeline.runner(other).run(last="finetune")
    assert pipeline.runner(quick).run().made == ("evaluate",)
    tunings = latest(pipeline)["models"]["teacher"]["fine_tunings"]
    assert [tuning["configured"] for tuning in tunings] == [True, False]
    assert tunings[0] == own
    assert (pipeline.workspace / "reports" / "latest" / "report.html").read_text().count(">this run<") == 1
    assert pipeline.runner(quick).run().made == ()


def prove(pipeline: SmallPipeline, config: RunConfig, seeds: list[float]) -> None:
    """A proof of a configuration, played by its file."""

    def write(context: StageContext) -> None:
        gain = {"difference": float(np.mean(seeds)), "low": 0.001, "high": 0.009, "p_value": 0.01, "seeds": seeds}
        proof = {"seeds": list(range(len(seeds))), "comparisons": {"student-student_alone": {"auc": gain}}}
        (context.output / "prove.json").write_text(json.dumps(proof))
        (context.output / "prove.html").write_text("<html>")

    runner = pipeline.runner(config)
    runner.run(last="finetune")
    stage = Stage("prove", write, ("ingest", "finetune"), ("seed", *STUDENT_KEYS), outside=lambda run: {"seeds": str(len(seeds))})
    Runner(runner.context, [stage]).run()


def test_what_other_seeds_move_stands_beside_the_gain(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.runner(quick).run()
    page = pipeline.workspace / "reports" / "latest" / "report.html"
    assert latest(pipeline)["other_seeds"] is None
    assert "covers the choice of test rows alone. Another seed may move it by 0.002 AUC, as on other logs;" in page.read_text()
    for change in ({"seed": 1}, {"distill": {"teachers": {"bert": 1}, "alpha": 0.1}}):  # proofs of something else
        prove(pipeline, RunConfig.model_validate(quick.model_dump(by_alias=True) | change), [0.1, 0.2])
    prove(pipeline, quick, [0.1])  # one seed tells nothing of others
    pipeline.runner(quick).run()
    assert latest(pipeline)["other_seeds"] is None
    prove(
        pipeline,
        RunConfig.model_validate(quick.model_dump(by_alias=True) | {"distill": {"teachers": {"bert": 1}, "ship": "alone"}}),
        [0.002, 0.007],
    )
    assert pipeline.runner(quick).run().made == ("evaluate",)
    assert latest(pipeline)["other_seeds"]["seeds"] == [0.002, 0.007]
    assert page.with_name("prove.html").read_text() == "<html>" and page.with_name("prove.json").exists()
    assert (
        "Over 2 student seeds under this teacher it was +0.0020 to +0.0070, on average +0.0045 [+0.0010, +0.0090] AUC." in page.read_text()
    )
    assert pipeline.runner(quick).run().made == ()


def test_no_test_rows_is_a_fault_of_the_data(pipeline: SmallPipeline, quick: RunConfig) -> None:
    pipeline.empty = True
    with pytest.raises(DataError, match="the test window holds no rows"):
        _empty(pipeline, quick).evaluation_rows()


def _empty(pipeline: SmallPipeline, config: RunConfig) -> ClickRows:
    runner = pipeline.runner(config)
    runner.run(last="ingest")
    return ClickRows(runner.context.artifacts["ingest"].path)


class TwoLabels(SmallPipeline):
    """Its rows have a label ``bought``, which is the click, and its models say of it what they say of the click."""

    def ingest(self, context: StageContext) -> None:
        super().ingest(context)
        file = context.output / "rows.parquet"
        rows = pq.read_table(file)
        pq.write_table(rows.append_column("label_bought", rows["label"]), file)
        ClickSummary.read(context.output).model_copy(update={"labels": ["bought"]}).write(context.output)

    def _predict(self, context: StageContext, file: str, noise: float) -> None:
        super()._predict(context, file, noise)
        row_id, logits = read_predictions(context.output / file, context.fingerprint)
        write_predictions(context.output / file, row_id, logits[:, [0, 0]], context.fingerprint, ["bought"])


def test_a_further_label_that_is_the_click_has_the_figures_of_the_click(
    tmp_path: Path, make_assembly: Callable[[Path], None], make_export: Callable[[Path, list[float]], None], quick: RunConfig
) -> None:
    pipeline = TwoLabels(tmp_path / "workspace", make_assembly, make_export)
    pipeline.runner(quick).run()
    metrics = latest(pipeline)
    of_label = metrics["labels"]["bought"]
    assert set(metrics["labels"]) == {"bought"} and of_label["rows"] == metrics["data"]["test_rows"]
    assert set(of_label["models"]) == {"teacher", "student", "student_alone", "boosted_trees"}
    for name, figures in of_label["models"].items():
        assert figures == {key: metrics["models"][name][key] for key in figures} and "gauc" in figures
    same = {pair: metrics["comparisons"][pair] for pair in of_label["comparisons"]}
    assert of_label["comparisons"] == same and {"student-student_alone", "student-boosted_trees"} <= same.keys()
    page = (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert "Label bought" in page and f"bought is 1 in {of_label['positives']:,} of the {of_label['rows']:,} test rows" in page
