"""The stages that train, on a tiny assembly: what they record, and what they say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctr_kd.data.samples import Assembly, Segment
from ctr_kd.metrics import auc_score
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.training import devices
from ctr_kd.training import distill as distilling
from ctr_kd.training import finetune as finetuning
from ctr_kd.training import pretrain as pretraining
from ctr_kd.training.checkpoint import load_checkpoint
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit, predict
from ctr_kd.training.pretrain import masked_item_accuracy
from feature_store.features.summary import ClickSummary
from pipelines.config.run import RunConfig
from pipelines.stages import distill, finetune, pretrain
from pipelines.tasks.logits import read_predictions
from pipelines.training import fine_tunings
from pipelines.training.bert import load_encoders, load_teacher
from pipelines.training.budgets import settled
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from tests.ctr_kd.worlds import write_assembly

TINY = {
    "history": {"max_length": 5},
    "pretrain": {"encoder": {"width": 8, "heads": 2, "layers": 1}, "training": {"epochs": 1, "validations": 1}},
    "finetune": {"members": 1, "training": {"epochs": 3, "validations": 3, "batch_size": 64}},
    "distill": {"teachers": {"bert": 1}, "training": {"epochs": 3, "validations": 3, "batch_size": 64}},
}


class SmallPipeline:
    """The stages after an ingestion that is played by files."""

    def __init__(self, workspace: Path, config: RunConfig) -> None:
        self.workspace, self.said = workspace, io.StringIO()
        self.train_from: str | None = None
        self.config = RunConfig.model_validate(config.model_dump(by_alias=True) | TINY)

    def ingest(self, context: StageContext) -> None:
        write_assembly(context.output)
        summary = ClickSummary.read(context.output).to_json()
        ClickSummary.from_json(summary | {"split": summary["split"] | {"train_from": self.train_from}}).write(context.output)

    def run(self, *stages: Stage) -> RunContext:
        ingest = Stage("ingest", self.ingest, outside=lambda run: {"store": "d" * 64}, settle=settled)
        context = RunContext(self.config, self.workspace, console=Console(self.said))
        Runner(context, [ingest, *stages]).run()
        return context

    def manifest(self, stage: str) -> dict[str, Any]:
        (artifact,) = (self.workspace / "artifacts" / stage).iterdir()
        manifest = read_json(artifact / "_manifest.json")
        assert manifest is not None
        return manifest


@pytest.fixture
def pipeline(tmp_path: Path, config: RunConfig) -> SmallPipeline:
    return SmallPipeline(tmp_path / "workspace", config)


def test_the_recorded_auc_is_that_of_the_checkpoint_that_was_kept(pipeline: SmallPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def fit_that_ends_badly(*arguments: Any, **named: Any) -> LearningCurve:
        """The last validation is worse than the one before it, as on a log where ids age."""
        curve = fit(*arguments, **named)
        kept.append(next(point["auc"] for point in curve.points if point["step"] == curve.kept_step))
        curve.points.append({**curve.points[-1], "step": curve.steps + 1, "auc": 0.123})
        return curve

    monkeypatch.setattr(finetuning, "fit", fit_that_ends_badly)
    monkeypatch.setattr(distilling, "fit", fit_that_ends_badly)
    pipeline.run(pretrain.STAGE, finetune.STAGE, distill.STAGE)
    teacher, student, alone = kept
    assert pipeline.manifest("finetune")["facts"]["auc"] == teacher
    facts = pipeline.manifest("distill")["facts"]
    assert (facts["student_auc"], facts["student_alone_auc"]) == (student, alone)


def test_logits_that_teach_are_stored_in_half_precision_and_measured_ones_as_computed(pipeline: SmallPipeline) -> None:
    context = pipeline.run(pretrain.STAGE, finetune.STAGE)
    folder = context.artifacts["finetune"].path
    assembly = Assembly(context.artifacts["ingest"].path, 5)
    teacher = load_teacher(folder, assembly, pipeline.config)
    for split, precision in (("train", np.float16), ("validation", np.float32), ("test", np.float32)):
        row_id, logits = read_predictions(folder / f"predictions_{split}.parquet", folder.name)
        samples = assembly.samples(split)
        computed = predict(teacher, samples)
        assert np.array_equal(row_id, samples.row_id) and logits.dtype == precision
        np.testing.assert_allclose(logits, computed, rtol=2**-11 if precision == np.float16 else 1e-6, atol=1e-6)
        assert len(np.unique(logits)) > 10


def test_a_teacher_says_of_its_rows_what_it_says_in_the_precision_of_its_training(
    pipeline: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision throughout would leave some tens of different logits."""
    monkeypatch.setattr(devices, "_cpu_computes_bfloat16", lambda: True)
    settings = {**TINY["finetune"], "training": {**TINY["finetune"]["training"], "precision": "bfloat16"}}
    pipeline.config = RunConfig.model_validate(pipeline.config.model_dump(by_alias=True) | {"finetune": settings})
    context = pipeline.run(pretrain.STAGE, finetune.STAGE)
    folder = context.artifacts["finetune"].path
    assembly = Assembly(context.artifacts["ingest"].path, 5)
    teacher = load_teacher(folder, assembly, pipeline.config)
    for split in ("train", "validation", "test"):
        _, logits = read_predictions(folder / f"predictions_{split}.parquet", folder.name)
        samples = assembly.samples(split)
        single = predict(teacher, samples)
        with devices.autocast(pipeline.config.finetune.training, torch.device("cpu")):
            computed = predict(teacher, samples)
        assert not np.array_equal(computed, single)
        np.testing.assert_allclose(computed, single, atol=0.02)
        np.testing.assert_array_equal(logits, computed.astype(logits.dtype))
        assert len(np.unique(computed)) > 0.9 * len(np.unique(single))
        if split == "validation":
            assert pipeline.manifest("finetune")["facts"]["auc"] == auc_score(samples.label, logits[:, 0])


@pytest.mark.parametrize(
    "clicks, train_from, warns, until",
    [
        ("before_labels", None, True, "1970-01-08T00:00:00+00:00"),
        ("before_labels", "1970-01-05T00:00:00+00:00", False, "1970-01-05T00:00:00+00:00"),
        ("before_labels", "1970-01-01T00:00:01+00:00", True, "1970-01-08T00:00:00+00:00"),  # a log no longer than its windows
        ("all", None, False, "1970-01-08T00:00:00+00:00"),
    ],
)
def test_clicks_before_labels_says_when_it_has_no_effect(
    pipeline: SmallPipeline, clicks: str, train_from: str | None, warns: bool, until: str
) -> None:
    pipeline.train_from = train_from
    pipeline.config = RunConfig.model_validate(
        pipeline.config.model_dump(by_alias=True) | {"pretrain": {**TINY["pretrain"], "clicks": clicks}}
    )
    pipeline.run(pretrain.STAGE)
    lines = [line for line in pipeline.said.getvalue().splitlines() if "before_labels has no effect" in line]
    assert len(lines) == warns
    (artifact,) = (pipeline.workspace / "artifacts" / "pretrain").iterdir()
    assert json.loads((artifact / "training.json").read_text())["until"] == until


def test_a_student_that_learns_from_the_encoder_itself_is_exported_without_it(pipeline: SmallPipeline) -> None:
    """Hints and embeddings read the weights of ``finetune``; what ships is as large as without them."""
    taught = {**TINY["distill"], "student": {"width": 8}, "embeddings": "teacher", "hints": {"hidden": 1, "relation": 1}}
    pipeline.config = RunConfig.model_validate(pipeline.config.model_dump(by_alias=True) | {"distill": taught})
    pipeline.run(pretrain.STAGE, finetune.STAGE, distill.STAGE)
    training = read_json(next((pipeline.workspace / "artifacts" / "distill").iterdir()) / "training.json") or {}
    assert training["student"]["parameters"] == training["student_alone"]["parameters"]


def test_fine_tunings_of_one_encoder_are_compared(pipeline: SmallPipeline) -> None:
    learns = {"pretrain": {**TINY["pretrain"], "training": {"epochs": 8, "validations": 1}}}  # enough to be told from no pretraining
    pipeline.config = RunConfig.model_validate(pipeline.config.model_dump(by_alias=True) | learns)
    pipeline.run(pretrain.STAGE, finetune.STAGE)
    knew = pipeline.manifest("pretrain")["facts"]["masked_item_loss"]
    shorter = {"rate_ratio": 1.0, "training": {"epochs": 1, "validations": 1}}
    for settings in ({"strategy": "freeze"}, {"strategy": "from_scratch"}, shorter):
        values = pipeline.config.model_dump(by_alias=True)
        pipeline.config = RunConfig.model_validate(values | {"finetune": values["finetune"] | settings})
        context = pipeline.run(pretrain.STAGE, finetune.STAGE)
        if settings == {"strategy": "freeze"}:
            frozen = context
    ours, *others = fine_tunings.compared(frozen)
    assert (ours["configured"], ours["strategy"], ours["different"]) == (True, "freeze", {})
    assert ours["masked_item_loss"]["before"] == ours["masked_item_loss"]["after"] == pytest.approx(knew)
    assert ours["held_out_sequences"] > 0 and 0 < ours["auc"] < 1
    assert [other["configured"] for other in others] == [False] * 3
    found = {(other["strategy"], other["rate_ratio"]): other for other in others}
    assert found["low_lr", 0.3]["masked_item_loss"]["before"] == pytest.approx(knew)
    assert found["from_scratch", 0.3]["masked_item_loss"]["before"] != pytest.approx(knew, rel=1e-3)
    assert found["from_scratch", 1.0]["different"]["training.epochs"] == 1.0


def test_a_fine_tuning_of_another_encoder_is_not_compared(pipeline: SmallPipeline) -> None:
    first = pipeline.run(pretrain.STAGE, finetune.STAGE)
    pipeline.config = RunConfig.model_validate(pipeline.config.model_dump(by_alias=True) | {"seed": 1})
    second = pipeline.run(pretrain.STAGE, finetune.STAGE)
    assert first.artifacts["finetune"] != second.artifacts["finetune"]
    assert fine_tunings.others(first) == fine_tunings.others(second) == []


@pytest.mark.parametrize("how", ["temperature", "isotonic"])
def test_nothing_of_the_test_rows_enters_the_calibration(pipeline: SmallPipeline, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other test labels, and the same two students to the last bit, calibration included."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ctr_kd.training import calibration

    monkeypatch.setattr(calibration, "FEWEST_CLICKS", 5)
    distill_keys = {**TINY["distill"], "calibration": how}
    pipeline.config = RunConfig.model_validate(pipeline.config.model_dump(by_alias=True) | {"distill": distill_keys})

    def students(workspace: Path) -> list[dict[str, Any]]:
        pipeline.workspace = workspace
        folder = pipeline.run(pretrain.STAGE, finetune.STAGE, distill.STAGE).artifacts["distill"].path
        assert (folder / "predictions_student_test.parquet").exists()
        return [load_checkpoint(folder / f"{name}.pt", folder.name)["model"] for name in ("student", "student_alone")]

    before = students(pipeline.workspace)
    ingest = pipeline.ingest

    def other_labels(context: StageContext) -> None:
        ingest(context)
        file = context.output / "rows.parquet"
        rows = pq.read_table(file)
        flipped = [1 - y if s == "test" else y for y, s in zip(rows["label"].to_pylist(), rows["split"].to_pylist(), strict=True)]
        pq.write_table(rows.set_column(rows.column_names.index("label"), "label", pa.array(flipped, pa.int8())), file)

    monkeypatch.setattr(pipeline, "ingest", other_labels)
    after = students(pipeline.workspace.with_name("other"))
    for one, two in zip(before, after, strict=True):
        assert one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)


def test_several_fine_tunings_are_one_teacher(pipeline: SmallPipeline) -> None:
    """What is stored, loaded again and recorded is their mean, not the first of them."""
    values = pipeline.config.model_dump(by_alias=True)
    pipeline.config = RunConfig.model_validate(values | {"finetune": values["finetune"] | {"members": 2}})
    context = pipeline.run(pretrain.STAGE, finetune.STAGE)
    folder = context.artifacts["finetune"].path
    assembly = Assembly(context.artifacts["ingest"].path, 5)
    samples = assembly.samples("validation")
    teacher = load_teacher(folder, assembly, pipeline.config)
    row_id, logits = read_predictions(folder / "predictions_validation.parquet", folder.name)
    assert np.array_equal(row_id, samples.row_id) and len(teacher.members) == 2
    np.testing.assert_allclose(logits, predict(teacher, samples), atol=1e-6)
    training = read_json(folder / "training.json") or {}
    assert training["auc"] == pytest.approx(auc_score(samples.label, logits[:, 0]))
    assert len({member["auc"] for member in training["members"]} | {training["auc"]}) == 3


def test_encoders_of_other_sizes_learn_beside_the_first(pipeline: SmallPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed in the second of them ends as one that was not, and all of them teach."""
    values = pipeline.config.model_dump(by_alias=True)
    values["pretrain"]["training"] |= {"epochs": 3, "validations": 3}
    more = values["pretrain"] | {"more_encoders": [{"width": 12, "heads": 2, "layers": 2}]}
    pipeline.config = RunConfig.model_validate(values)
    plain = pipeline.run(pretrain.STAGE).artifacts["pretrain"].path
    pipeline.config = RunConfig.model_validate(values | {"pretrain": more})
    whole = pipeline.run(pretrain.STAGE, finetune.STAGE)
    first, folder = whole.artifacts["pretrain"].path, whole.artifacts["finetune"].path

    def weights(file: Path) -> dict[str, Any]:
        return load_checkpoint(file, file.parent.name)["model"]

    alone, beside = weights(plain / "pretrained.pt"), weights(first / "pretrained.pt")
    assert all((alone[name] == beside[name]).all() for name in alone)  # the first is what it would be without the other
    (facts,) = (read_json(first / "training.json") or {})["more_encoders"]
    assert facts["parameters"] > (read_json(first / "training.json") or {})["parameters"] and facts["curve"]["points"]

    assembly = Assembly(whole.artifacts["ingest"].path, 5)
    teacher = load_teacher(folder, assembly, pipeline.config)
    assert [member.pretrained.bert.config.width for member in teacher.members] == [8, 12]
    _, logits = read_predictions(folder / "predictions_test.parquet", folder.name)
    np.testing.assert_allclose(logits, predict(teacher, assembly.samples("test")), atol=1e-6)

    validated = []

    def killed(model: MaskedItemModel, sequences: Segment) -> dict[str, float]:
        validated.append(model.bert.config.width)
        if validated.count(12) == 2:
            raise KeyboardInterrupt
        return masked_item_accuracy(model, sequences)

    pipeline.workspace = pipeline.workspace.with_name("killed")
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "masked_item_accuracy", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(pretrain.STAGE)
    assert pipeline.said.getvalue().count("continuing at step") == 0
    resumed = pipeline.run(pretrain.STAGE).artifacts["pretrain"].path
    for file in ("pretrained.pt", "pretrained_1.pt"):
        one, other = weights(first / file), weights(resumed / file)
        assert all((one[name] == other[name]).all() for name in one)
    assert pipeline.said.getvalue().count("continuing at step") == 2  # the first repeats what came after its last checkpoint


def test_from_scratch_each_encoder_begins_as_its_pretraining_did(pipeline: SmallPipeline) -> None:
    values = pipeline.config.model_dump(by_alias=True)
    more, scratch = {"width": 12, "heads": 2, "layers": 2}, values["finetune"] | {"strategy": "from_scratch"}
    pipeline.config = RunConfig.model_validate(values | {"pretrain": values["pretrain"] | {"more_encoders": [more]}, "finetune": scratch})
    alone = RunConfig.model_validate(values | {"pretrain": values["pretrain"] | {"encoder": more}, "finetune": scratch})
    assembly = Assembly(pipeline.run().artifacts["ingest"].path, 5)
    _, second = load_encoders(pipeline.workspace, assembly, pipeline.config)
    (same,) = load_encoders(pipeline.workspace, assembly, alone)
    assert all((one == other).all() for one, other in zip(second.state_dict().values(), same.state_dict().values(), strict=True))
