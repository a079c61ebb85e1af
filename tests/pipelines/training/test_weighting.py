"""Weights of teachers learned per row, on a tiny simulated log: what they are fitted on, and what they may not see."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.training import finetune as finetuning
from ctr_kd.training import pretrain as pretraining
from ctr_kd.training import teacher_weights as weighting
from feature_store.tables.contracts import DataError
from pipelines.config.run import RunConfig
from pipelines.experiments.comparison import train_all
from pipelines.stages import PIPELINE, TO_TEACHER
from pipelines.tasks import task_of
from pipelines.tasks.logits import read_predictions
from pipelines.training import weighting as per_row
from pipelines.training.teachers import fitted
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.runner import Runner
from tests.pipelines.training.test_transfer_set import TINY

DISTILL = {
    "training": {"epochs": 1, "batch_size": 128},
    "teachers": {"bert": 0.5, "boosted_trees": 0.5},
    "weighting": "learned",
    "held_out": 0.25,
}
COLUMNS = ["timestamp", "label", "split", "row_id"]


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """A workspace whose pipeline stands until finetune."""
    workspace = tmp_path_factory.mktemp("weighting") / "workspace"
    config = RunConfig.model_validate(TINY | {"distill": DISTILL})
    context = RunContext(config, workspace, console=Console(io.StringIO()))
    Runner(context, PIPELINE).run(last="finetune")
    return context


def spy(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, note: Callable[..., None]) -> None:
    real = getattr(module, name)

    def noted(*arguments: Any, **named: Any) -> Any:
        note(*arguments, **named)
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, noted)


def test_weights_are_fitted_on_rows_that_their_teachers_did_not_see(finetuned: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    spy(monkeypatch, pretraining, "pretrain", lambda *_, until: seen.setdefault("pretrained until", until))
    spy(monkeypatch, finetuning, "finetune", lambda _, rows, *a, **named: seen.setdefault("fine-tuned on", rows.train.row_id))
    spy(monkeypatch, fitted, "fit_boosted_trees", lambda rows, train, *a: seen.setdefault("trees", []).append(train))
    spy(monkeypatch, weighting, "fit_teacher_weights", lambda logits, context, label, fixed, **_: seen.setdefault("labels", label))
    Runner(finetuned, PIPELINE).run(first="distill", last="distill", force=True)
    rows = pq.read_table(finetuned.artifacts["ingest"].path / "rows.parquet", columns=COLUMNS).to_pandas()
    train = rows[rows["split"] == "train"]
    cutoff = seen["pretrained until"]
    older, newer = train[train["timestamp"] < cutoff], train[train["timestamp"] >= cutoff]
    assert len(older) + len(newer) == len(train) and 0.2 < len(newer) / len(train) < 0.3
    assert set(seen["fine-tuned on"]) == set(older["row_id"])
    assert seen["trees"][-1]["row_id"].to_pylist() == older["row_id"].tolist()
    assert np.array_equal(seen["labels"], newer["label"].to_numpy(np.float32))

    artifact = finetuned.artifacts["distill"].path
    facts = json.loads((artifact / "training.json").read_text())["weighting"]
    assert facts["rows"] == len(newer) and set(facts["validation"]) == {"fixed", "learned"}
    losses = {name: figures["log_loss"] for name, figures in facts["validation"].items()}
    assert losses[facts["used"]] == min(losses.values())
    assert sum(one["mean"] for one in facts["teachers"].values()) == pytest.approx(1)


@pytest.mark.parametrize("used", ["learned", "fixed"])
def test_what_validation_prefers_is_what_teaches(finetuned: RunContext, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The combined logit of every row is that of the weights in use; the teacher of the proofs is the same one."""
    real = per_row._decide

    def decide(context: Any, *rest: Any, **named: Any) -> Any:
        facts = real(context, *rest, **named)
        kept = json.loads((context.output / per_row.FILE).read_text())
        (context.output / per_row.FILE).write_text(json.dumps(kept | {"used": used}))
        return facts

    monkeypatch.setattr(per_row, "_decide", decide)
    Runner(finetuned, PIPELINE).run(first="distill", last="distill", force=True)
    artifact = finetuned.artifacts["distill"].path
    logit = {
        name: read_predictions(artifact / f"predictions_teacher_{name}_test.parquet", artifact.name)[1] for name in DISTILL["teachers"]
    }
    ids, combined = read_predictions(artifact / "predictions_teacher_test.parquet", artifact.name)
    share = ((combined - logit["boosted_trees"]) / (logit["bert"] - logit["boosted_trees"])).ravel()
    clear = np.abs(logit["bert"] - logit["boosted_trees"]).ravel() > 0.05
    if used == "fixed":
        np.testing.assert_allclose(share[clear], 0.5, atol=1e-3)
    else:
        assert np.ptp(share[clear]) > 1e-3 and share[clear].min() > 0 and share[clear].max() < 1
    Runner(finetuned, TO_TEACHER).run(first="teacher", force=True)
    teacher = finetuned.artifacts["teacher"].path
    again, same = read_predictions(teacher / "predictions_test.parquet", teacher.name)
    assert np.array_equal(ids, again)
    np.testing.assert_allclose(combined, same, atol=1e-5)


def test_no_weight_depends_on_a_label_of_the_test_rows(finetuned: RunContext) -> None:
    def learned() -> str:
        Runner(finetuned, TO_TEACHER).run(first="teacher", force=True)
        return (finetuned.artifacts["teacher"].path / per_row.FILE).read_text()

    before, artifact = learned(), finetuned.artifacts["ingest"]
    file = artifact.path / "rows.parquet"
    rows, whole = pq.read_table(file), file.read_bytes()
    labels = [1 - y if s == "test" else y for y, s in zip(rows["label"].to_pylist(), rows["split"].to_pylist(), strict=True)]
    patched = pytest.MonkeyPatch()
    try:
        patched.setattr("pipelines.workspace.artifacts.Verifier.verify", lambda self, artifact: None)
        pq.write_table(rows.set_column(rows.column_names.index("label"), "label", pa.array(labels, pa.int8())), file)
        assert learned() == before
    finally:
        file.write_bytes(whole)
        patched.undo()


def test_earlier_encoders_of_every_size_step_as_fine_tuning_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled items make pretraining step by rows, in the stages that stand and in what is trained again without the newest rows."""
    sizes = {"items": "sampled", "negatives": 50, "more_encoders": [{"width": 12, "heads": 2, "layers": 1}]}
    config = RunConfig.model_validate(TINY | {"pretrain": TINY["pretrain"] | sizes, "distill": DISTILL})
    begun: list[list[tuple[int, bool]]] = []

    def note(encoders: Any, *rest: Any, **named: Any) -> None:
        begun.append([(one.bert.config.width, one.bert.token.embeddings()[0].sparse) for one in encoders])

    spy(monkeypatch, finetuning, "finetune_member", note)
    Runner(RunContext(config, tmp_path / "workspace", console=Console(io.StringIO())), TO_TEACHER).run()
    assert begun == [[(config.pretrain.encoder.width, False), (12, False)]] * 4  # of each size one, in the stage and once more


def test_rows_of_one_moment_stay_together_and_one_label_is_refused() -> None:
    times, labels = [1, 2, 3, 4, 4, 4, 4, 5], [0, 1, 0, 1, 0, 1, 0, 1]
    fold = per_row.cut(pa.table({"timestamp": times, "label": labels}), 0.25)
    assert (fold.cutoff, fold.older.num_rows, fold.newer.num_rows) == (4, 3, 5)
    with pytest.raises(DataError, match=r"distill.held_out of 0.1 cuts the .* those from it on \(1\) have not both labels"):
        per_row.cut(pa.table({"timestamp": times, "label": labels}), 0.1)


def test_one_teacher_has_nothing_to_be_weighed_against() -> None:
    with pytest.raises(ValueError, match="name two in teachers"):
        RunConfig.model_validate(TINY | {"distill": {"weighting": "learned", "teachers": {"bert": 1}}})


def test_the_folder_of_the_teacher_is_where_a_transfer_set_finds_the_weights(finetuned: RunContext) -> None:
    """A transfer set's rows are labelled by the weights that the teacher's stage learned."""
    config = RunConfig.model_validate(TINY | {"distill": DISTILL | {"transfer": {"amount": 0.2}}})
    context = RunContext(config, finetuned.workspace, console=Console(io.StringIO()))
    Runner(context, TO_TEACHER).run()
    train_all(context, {"student": config})
    (transfer,) = (finetuned.workspace / "artifacts" / "transfer").iterdir()
    assert (context.artifacts["teacher"].path / per_row.FILE).exists() and not (transfer / per_row.FILE).exists()
    assert (transfer / "predictions_teacher_bert_transfer.parquet").exists()


def test_validation_chooses_among_quarters_and_the_configured_weights(finetuned: RunContext) -> None:
    """The second teacher knows the labels of validation and the first is noise, so that the second has all the weight; both alike stay."""
    assembly = task_of(finetuned.config).assembly(finetuned.artifacts["ingest"].path, "student")
    samples = {"validation": assembly.samples("validation")}
    label = samples["validation"].label[:, None]
    noise = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    noise[3] = np.nan  # it says nothing of a row
    settings = RunConfig.model_validate(TINY | {"distill": DISTILL | {"weighting": "validation"}})
    stage = StageContext(replace(finetuned, config=settings), "distill", (), {}, finetuned.workspace)
    found = per_row.choose_weights(stage, samples, {"bert": {"validation": noise}, "boosted_trees": {"validation": 8 * label - 4}})
    assert {name: one.mean for name, one in found.teachers.items()} == {"bert": 0.0, "boosted_trees": 1.0} and found.used == "chosen"
    assert found.validation["chosen"].log_loss < found.validation["fixed"].log_loss
    assert per_row.weights_of(stage, {"transfer": samples["validation"]})["transfer"] == {"bert": 0.0, "boosted_trees": 1.0}
    partial = np.where(np.arange(len(label))[:, None] == 3, np.nan, 8 * label - 4).astype(np.float32)
    found = per_row.choose_weights(stage, samples, {"bert": {"validation": partial}, "boosted_trees": {"validation": np.nan_to_num(noise)}})
    assert {name: one.mean for name, one in found.teachers.items()} == {
        "bert": 0.75,
        "boosted_trees": 0.25,
    }  # who knows of the row keeps a say
    silent = np.full_like(partial, np.nan)  # a teacher that knows training rows alone
    found = per_row.choose_weights(stage, samples, {"bert": {"validation": silent}, "boosted_trees": {"validation": 8 * label - 4}})
    assert found.validation["chosen"].auc == 1.0 and found.teachers["boosted_trees"].mean > 0
    alike = {"validation": 8 * label - 4}
    assert per_row.choose_weights(stage, samples, {"bert": alike, "boosted_trees": alike}).used == "fixed"
    assert per_row.weights_of(stage, samples)["validation"] == {"bert": 0.5, "boosted_trees": 0.5}


def test_a_gap_has_the_mean_of_millions_of_rows_as_double_precision_adds_them_up() -> None:
    said = np.full((1 << 22, 2), 0.1, np.float32)
    filled = per_row.without_gaps(np.array([[np.nan, 5.0]], np.float32), said)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, [[0.1, 5.0]], rtol=1e-6)
