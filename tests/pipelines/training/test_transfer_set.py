"""Stage distill with a transfer set, on a tiny simulated log through the real stages."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.data import disk_arrays
from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.retrieval import unlabelled_pairs
from ctr_kd.training.checkpoint import load_checkpoint
from ctr_kd.training.devices import autocast
from ctr_kd.training.loop import predict
from feature_store.special_tokens import SPECIALS
from pipelines.config.run import RunConfig
from pipelines.stages import PIPELINE, TO_TEACHER, student, transfer
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import read_predictions
from pipelines.training import students
from pipelines.training.bert import load_teacher
from pipelines.training.teachers import bert
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

TINY: dict[str, Any] = {
    "name": "tiny",
    "source": {"reader": "simulated", "simulator": {"users": 120, "items": 60, "requests": 900, "days": 3, "candidates": 4}},
    "split": {"fractions": [0.7, 0.15, 0.15]},
    "vocabulary": {"min_count": 2},
    "pretrain": {"encoder": {"width": 8, "layers": 1}, "training": {"epochs": 1, "batch_size": 32}},
    "finetune": {"members": 1, "training": {"epochs": 1, "batch_size": 128}},
}
DISTILL = {"training": {"epochs": 1, "batch_size": 128}, "teachers": {"bert": 0.5, "boosted_trees": 0.5}, "listwise": 0.3}
Distil = Callable[..., Path]


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose pipeline stands until finetune."""
    workspace = tmp_path_factory.mktemp("transfer") / "workspace"
    Runner(RunContext(RunConfig.model_validate(TINY), workspace, console=Console(io.StringIO())), PIPELINE).run(last="finetune")
    return workspace


@pytest.fixture
def distil(finetuned: Path, tmp_path: Path) -> Distil:
    """Runs distill in a copy of that workspace; returns its artifact."""
    workspace = Path(shutil.copytree(finetuned, tmp_path / "workspace"))

    def run(amount: float, force: bool = False, **keys: Any) -> Path:
        config = RunConfig.model_validate(TINY | {"distill": DISTILL | {"transfer": {"amount": amount}} | keys})
        context = RunContext(config, workspace, console=Console(io.StringIO()))
        Runner(context, PIPELINE).run(first="distill", last="distill", force=force)
        return context.artifacts["distill"].path

    return run


def digests(artifact: Path) -> dict[str, str]:
    files = [*artifact.glob("*.parquet"), *artifact.glob("export/student.onnx")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def contents(artifact: Path) -> dict[str, str]:
    """:func:`digests`, whatever the row groups are in which a table was written."""
    tables = {
        file.name: hashlib.sha256(pq.read_table(file).to_pandas().to_csv().encode()).hexdigest() for file in artifact.glob("*.parquet")
    }
    return digests(artifact) | tables


def test_every_teacher_labels_every_row_without_a_label_by_its_id(distil: Distil) -> None:
    artifact = distil(0.5)
    table = pq.read_table(artifact / "transfer.parquet")
    facts = json.loads((artifact / "training.json").read_text())["transfer"]
    assert facts["rows"] == table.num_rows == 2 * facts["neighbours"] == 2 * facts["popularity"] > 100
    assert (facts["index"], facts["recall"]) == ("exact", 1.0)
    assert set(table["label"].to_pylist()) == {-1}
    ids = table["row_id"].to_numpy()
    logits = {}
    for name in ("bert", "boosted_trees"):
        row_id, logits[name] = read_predictions(artifact / f"predictions_teacher_{name}_transfer.parquet", artifact.name)
        assert np.array_equal(row_id, ids) and np.isfinite(logits[name]).all() and len(np.unique(logits[name])) > 10
    artifacts = artifact.parents[1]
    ingest, finetune = (next((artifacts / stage).glob("*/_manifest.json")).parent for stage in ("ingest", "finetune"))
    config = RunConfig.model_validate(TINY)
    assembly = Assembly(ingest, config.history.max_length)
    assert not set(ids) & set(pq.read_table(ingest / "rows.parquet", columns=["row_id"])["row_id"].to_pylist())
    expected = predict(load_teacher(finetune, assembly, config), assembly.samples_of(table))
    np.testing.assert_allclose(logits["bert"], expected, rtol=2**-11, atol=1e-5)  # in half precision


def test_the_student_learns_from_it_and_the_student_alone_does_not(distil: Distil) -> None:
    plain, with_rows = distil(0), distil(0.5)
    assert plain != with_rows and not (plain / "transfer.parquet").exists()

    def weights(artifact: Path, name: str) -> np.ndarray:
        state = load_checkpoint(artifact / f"{name}.pt", artifact.name)["model"]
        return np.concatenate([value.numpy().ravel() for value in state.values()])

    assert np.array_equal(weights(plain, "student_alone"), weights(with_rows, "student_alone"))
    assert not np.array_equal(weights(plain, "student"), weights(with_rows, "student"))
    steps = [json.loads((artifact / "training.json").read_text())["student"]["curve"]["steps"] for artifact in (plain, with_rows)]
    assert abs(steps[0] - steps[1]) <= 1


def test_a_killed_run_ends_as_one_that_was_not(distil: Distil, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = digests(distil(0.5))
    with monkeypatch.context() as patch:

        def killed(*arguments: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(students, "record_curve", killed)  # between the two students
        with pytest.raises(KeyboardInterrupt):
            distil(0.5, force=True)
    assert digests(distil(0.5)) == whole


def test_what_is_joined_on_disk_teaches_the_same_student_bit_for_bit(distil: Distil, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = distil(0.5)
    in_memory, rows = contents(artifact), pq.read_metadata(artifact / "transfer.parquet").num_rows
    joined: list[Samples] = []

    def kept(*given: Any) -> Samples:
        joined.append(unlabelled_pairs_join(*given))
        return joined[-1]

    unlabelled_pairs_join = unlabelled_pairs.join_rows
    monkeypatch.setattr(unlabelled_pairs, "join_rows", kept)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(disk_arrays, "PIECE", rows)  # training rows in two pieces; other batches of the BERT would differ by rounding
    assert contents(distil(0.5, force=True)) == in_memory
    assert joined[0].on_disk and len(joined[0]) > 2 * rows and not list(artifact.glob("tmp*"))


def test_a_student_under_stored_logits_learns_the_same_from_the_disk(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Path(shutil.copytree(finetuned, tmp_path / "workspace"))
    config = RunConfig.model_validate(TINY | {"distill": DISTILL | {"transfer": {"amount": 0.5}}})
    stages = (*TO_TEACHER, transfer.STAGE, dataclasses.replace(student.STAGE, upstream=(*student.STAGE.upstream, "transfer")))

    def made() -> dict[str, str]:
        context = RunContext(config, workspace, console=Console(io.StringIO()))
        Runner(context, stages).run(first="teacher", last="student", force=True)
        return {stage: contents(context.artifacts[stage].path) for stage in ("teacher", "transfer", "student")}

    in_memory = made()
    rows = pq.read_metadata(next((workspace / "artifacts" / "transfer").glob("*/transfer.parquet"))).num_rows
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(disk_arrays, "PIECE", rows)
    assert made() == in_memory and len(in_memory["student"]) > 1


def test_a_teacher_that_was_trained_before_is_given_no_training_rows(distil: Distil, monkeypatch: pytest.MonkeyPatch) -> None:
    read, whole = ClickRows.read, list[str]()

    def noted(rows: ClickRows, split: str, columns: Any = None, newest: int | None = None) -> Any:
        whole.extend([split] if columns is None else [])
        return read(rows, split, columns, newest)

    monkeypatch.setattr(ClickRows, "read", noted)
    assert (distil(0.5, teachers={"bert": 1}) / "transfer.parquet").exists() and not whole
    distil(0.5)
    assert whole == ["train", "validation"]  # of the trees


def test_the_transfer_set_is_judged_in_pieces_and_all_of_them_are_kept(distil: Distil, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = distil(0.5)
    ids, expected = read_predictions(artifact / "predictions_teacher_bert_transfer.parquet", artifact.name)
    shutil.rmtree(artifact.parents[2] / "teachers")
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(disk_arrays, "PIECE", 300)
    for _ in range(2):  # asked, then found again
        assert distil(0.5, force=True) == artifact
        row_id, logits = read_predictions(artifact / "predictions_teacher_bert_transfer.parquet", artifact.name)
        assert np.array_equal(row_id, ids)
        np.testing.assert_allclose(logits, expected, rtol=2**-9, atol=1e-5)
        of_bert, of_trees = sorted(len(list(folder.glob("*.parquet"))) for folder in (artifact.parents[2] / "teachers").iterdir())
        assert of_bert == -(-len(ids) // 300) < of_trees  # which says what it thinks of all rows, not of the transfer set alone


def test_labels_alone_make_no_transfer_set(distil: Distil) -> None:
    assert not (distil(0.5, alpha=1, listwise=0) / "transfer.parquet").exists()


def test_a_teacher_with_hard_negatives_sees_no_pair_that_met_and_no_other_label(finetuned: Path, tmp_path: Path) -> None:
    """The rows that fine-tuning adds: none is a click or an impression of the user, none is of a time after training."""
    workspace = Path(shutil.copytree(finetuned, tmp_path / "workspace"))
    config = RunConfig.model_validate(TINY | {"finetune": TINY["finetune"] | {"hard_negatives": {"amount": 0.5}}})
    context = RunContext(config, workspace, console=Console(io.StringIO()))
    Runner(context, PIPELINE).run(last="finetune")
    artifact, ingest = context.artifacts["finetune"].path, context.artifacts["ingest"].path
    drawn, rows = pq.read_table(artifact / "hard_negatives.parquet").to_pandas(), pq.read_table(ingest / "rows.parquet").to_pandas()
    train = rows[rows["split"] == "train"]
    facts = json.loads((artifact / "training.json").read_text())["hard_negatives"]
    assert facts["rows"] == facts["neighbours"] == len(drawn) > 100
    assert (facts["index"], facts["recall"]) == ("exact", 1.0)
    assert set(drawn["label"]) == {-1} and set(drawn["request"]) <= set(train["request"])
    assert drawn["timestamp"].max() <= train["timestamp"].max() < rows.loc[rows["split"] == "validation", "timestamp"].min()
    clicks = pq.read_table(ingest / "clicks.parquet").to_pandas()
    known = clicks[clicks["timestamp"] <= train["timestamp"].max()]  # what only the future knows is not asked for
    met = {*zip(train["user"], train["item"], strict=True), *zip(known["user"], known["item"], strict=True)}
    assert len(met) > 500 and not met & {*zip(drawn["user"], drawn["item"], strict=True)}
    first_click = clicks.groupby("item")["known_at"].min()
    assert (first_click.loc[drawn["item"]].to_numpy() < drawn["timestamp"].to_numpy()).all()
    row_id, _ = read_predictions(artifact / "predictions_train.parquet", artifact.name)
    assert row_id.tolist() == train["row_id"].tolist()  # students learn from the rows that were shown, and no others


def test_a_teacher_that_sees_what_came_after_sees_it_of_hard_negatives_too(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of all rows of a request, and no click on any of its candidates, whether shown or drawn."""
    learned: list[Samples] = []
    monkeypatch.setattr(
        "ctr_kd.training.finetune.join_rows", lambda *given: (learned.append(unlabelled_pairs.join_rows(*given)), learned[-1])[1]
    )
    workspace = Path(shutil.copytree(finetuned, tmp_path / "workspace"))
    more = {"finetune": TINY["finetune"] | {"hard_negatives": {"amount": 0.5}}, "teacher_only": {"future_clicks": 3}}
    context = RunContext(RunConfig.model_validate(TINY | more), workspace, console=Console(io.StringIO()))
    Runner(context, PIPELINE).run(last="finetune")
    (rows,) = learned
    drawn = rows.row_id >= pq.read_metadata(context.artifacts["ingest"].path / "rows.parquet").num_rows
    later = rows.later
    assert later is not None and drawn.sum() > 100 and (later.end > later.start)[drawn].mean() > 0.5
    begins = np.flatnonzero(np.diff(rows.group, prepend=-1))
    for request in np.split(np.arange(len(rows)), begins[1:]):
        assert len({(later.start[row], later.end[row]) for row in request}) == 1
        seen = later.pool[later.start[request[0]] : later.end[request[0]], 0]
        candidates = rows.b.pool[rows.b.start[request], 0]
        assert not np.isin(seen[seen >= len(SPECIALS)], candidates).any()


def test_hard_negatives_need_an_encoder_that_knows_what_is_near() -> None:
    with pytest.raises(ValueError, match="from_scratch has none"):
        RunConfig.model_validate(TINY | {"finetune": {"strategy": "from_scratch", "hard_negatives": {"amount": 0.5}}})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows_without_a_label_are_judged_in_the_precision_of_the_training(
    precision: str, finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    judge = bert.bert_logits
    monkeypatch.setattr(bert, "bert_logits", lambda *given: (there.append(torch.is_autocast_enabled("cpu")), judge(*given))[1])
    workspace = Path(shutil.copytree(finetuned, tmp_path / "workspace"))
    finetune = TINY["finetune"] | {"training": {"epochs": 1, "batch_size": 128, "precision": precision}}
    config = RunConfig.model_validate(TINY | {"finetune": finetune, "distill": DISTILL | {"transfer": {"amount": 0.5}}})
    Runner(RunContext(config, workspace, console=Console(io.StringIO())), PIPELINE).run(first="finetune", last="distill")
    with autocast(config.finetune.training, torch.device("cpu")):  # no processor has to have it
        expected = torch.is_autocast_enabled("cpu")
    assert there == [expected] and (precision == "bfloat16" or not expected)
