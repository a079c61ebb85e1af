"""teacher_state from the raw log to scores: rows of training, transfer set and production read the same states, as of their times."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.teacher_states.ledger import StatesFolder
from feature_store.features.statistics import state_columns
from feature_store.features.summary import ClickSummary
from pipelines.registry.lookup import tags_of_version
from tests.pipelines.test_pipeline_embeddings import BEGIN, CONF, HOUR, write_log
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
STATE = "teacher_state: {width: 4, hidden: 8, layers: 1, every: 6h, delay: 1h, epochs: 20, batch_size: 16, max_length: 8}"
COLUMNS = list(state_columns(4))


@pytest.fixture
def workspace(tmp_path: Path, mlflow_database: Path) -> Workspace:
    made = Workspace.new(tmp_path / "workspace", mlflow_database)
    made.conf.write_text(CONF.replace("EMBEDDINGS", STATE))
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data" / "events-0.parquet", range(800))
    return made


def states_there(workspace: Path) -> dict[tuple[str, int], list[float]]:
    """Every state of a workspace, by user and time (microseconds UTC)."""
    (list_file,) = workspace.glob("teacher_states/*/every-21600s/states.json")
    folder, known = StatesFolder(list_file.parent), StatesFolder(list_file.parent).read()
    assert known is not None
    loaded = [(entry.until, *folder.load(entry)) for entry in known.entries]
    return {(user, until): state.tolist() for until, users, states in loaded for user, state in zip(users.to_pylist(), states, strict=True)}


def rows_read(rows: pa.Table, users: list[str], states: dict[tuple[str, int], list[float]]) -> None:
    """Every row holds the newest state of its user that was made an hour before it or earlier, or null."""
    vectors = np.stack([rows[name].to_numpy() for name in COLUMNS], axis=1)
    for user, time, vector in zip(users, rows["timestamp"].cast(pa.int64()).to_pylist(), vectors, strict=True):
        there = [(at, state) for (of, at), state in states.items() if of == user and at <= time - HOUR * 10**6]
        if there:
            assert vector.tolist() == max(there)[1]
        else:
            assert np.isnan(vector).all()


def test_states_are_the_same_in_training_and_in_production(tmp_path: Path, workspace: Workspace) -> None:
    data = str(tmp_path / "data")
    _, said = workspace.run("run", "--data", data)
    assert "teacher states: encoder-" in said
    (assembly,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
    assembled, summary = pq.read_table(assembly), ClickSummary.read(assembly.parent)
    assert summary.statistics[-4:] == assembled.column_names[-4:] == COLUMNS
    states = states_there(workspace.path)
    encoder = json.loads(next(workspace.path.glob("teacher_states/*/encoder.json")).read_text())
    assert summary.teacher_state is not None and summary.teacher_state.encoder == encoder["name"]
    assert encoder["until"] <= min(time for _, time in states)  # no state is of an encoder that learned anything later
    users = pq.read_table(assembly.with_name("users.parquet"))["user_id"].cast(pa.string()).take(assembled["user"]).to_pylist()
    rows_read(assembled, users, states)
    known = ~np.isnan(assembled[COLUMNS[0]].to_numpy())
    split = assembled["split"].to_numpy(zero_copy_only=False)
    assert 0.3 < known[split == "train"].mean() < 0.8 and known[split == "test"].mean() > 0.9
    (transfer,) = workspace.path.glob("artifacts/*/*/transfer.parquet")
    pairs = pq.read_table(transfer)
    rows_read(
        pairs, pq.read_table(assembly.with_name("users.parquet"))["user_id"].cast(pa.string()).take(pairs["user"]).to_pylist(), states
    )

    # the last date, joined from the store: the shipped student's own logits of the test rows, row by row
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{metrics['shipped']}_test.parquet")
    logits = pq.read_table(predictions).sort_by("row_id")["logit_0"].to_numpy().astype(np.float64)
    (partition,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = pq.read_table(partition)
    here = min(len(logits), scored.num_rows)
    assert np.allclose(scored["score"].to_numpy()[-here:], 1 / (1 + np.exp(-logits[-here:])), atol=1e-4)

    # backfilled, after all of the log is known, it is the same again
    workspace.run("backfill", "--start", "2024-01-04", "--end", "2024-01-04", "--mode", "all")
    assert pq.read_table(partition)["score"].equals(scored["score"])

    # the same rows from a file, in parts of any size; states that the file carries are read in place of those
    given, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(scored.drop_columns(["score", "model_version", "request_id"]), given)
    for size in (50, 100_000):
        workspace.run("score", "--input", str(given), "--output", str(out), "--set", f"score.batch_rows={size}")
        assert np.allclose(pq.read_table(out)["score"].to_numpy(), scored["score"].to_numpy(), atol=1e-6)
    table = pq.read_table(given)
    for name in COLUMNS:
        table = table.append_column(name, pa.nulls(table.num_rows, pa.float32()))
    pq.write_table(table, given)
    workspace.run("score", "--input", str(given), "--output", str(out))
    assert not np.allclose(pq.read_table(out)["score"].to_numpy(), scored["score"].to_numpy(), atol=1e-6)

    # MLflow's own model: a state that the caller sends, or none
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    student = mlflow.pyfunc.load_model(str(folder))
    asked = {"history": ["0", "2", "4"], "item_id": "1", "timestamp": "2024-01-04T08:00"}
    sent = dict(zip(COLUMNS, [2.0, -1.0, 0.5, 3.0], strict=True))
    blind, nothing, seeing = (student.predict(pd.DataFrame([asked | more]))["score"][0] for more in ({}, dict.fromkeys(COLUMNS), sent))
    assert blind == nothing != seeing
    listed = pd.DataFrame([asked | {"teacher_state": list(sent.values())}, asked | {"teacher_state": None}])
    assert student.predict(listed)["score"].tolist() == pytest.approx([seeing, nothing], abs=1e-12)
    request = pd.DataFrame([asked | {"item_id": ["1", "3"], "teacher_state": list(sent.values())}])
    assert student.predict(request)["score"][0][0] == pytest.approx(seeing, abs=1e-7)
    with pytest.raises(Exception, match="column teacher_state must hold lists of 4 numbers"):
        student.predict(pd.DataFrame([asked | {"teacher_state": [1.0, 2.0]}]))

    lineage = json.loads((folder / "data" / "student" / "lineage.json").read_text())
    assert lineage["teacher_state"]["encoder"] == encoder["name"]


def test_refresh_makes_the_states_of_the_champion_by_its_own_encoder(tmp_path: Path, workspace: Workspace) -> None:
    data = str(tmp_path / "data")
    ended = workspace.start("refresh", "--data", data)
    assert ended.code == 2 and "no champion reads teacher states yet" in ended.err
    workspace.run("run", "--data", data, "--until", "register")
    before = states_there(workspace.path)
    write_log(tmp_path / "data" / "events-1.parquet", range(800, 950))
    ended = workspace.start("refresh", "--data", data, "--set", "teacher_state=null")
    assert ended.code == 0, ended.err
    after = states_there(workspace.path)
    assert before.items() < after.items()
    newest = (BEGIN + 949 * 360) // (6 * HOUR) * 6 * HOUR
    assert max(time for _, time in after) == newest * 10**6
    assert f"teacher states of the champion: {len(after) - len(before)} made, the newest of 2024-01-04 18:00:00 UTC" in ended.out
    tags = tags_of_version(f"sqlite:///{workspace.path / 'mlflow.db'}", "tiny", "1")
    assert tags["teacher_states"] in ended.out and tags["teacher_states_until"] == "2024-01-04T18:00:00+00:00"
    assert ": 0 made" in workspace.start("refresh").out

    # a configuration with another encoder trains it beside, and the champion goes on with its own
    encoder = tags["teacher_states"]
    workspace.run("ingest", "--set", "teacher_state.hidden=16", "--set", "statistics.auto=false")
    assert len(list(workspace.path.glob("teacher_states/*/encoder.json"))) == 2
    workspace.run("score", "--date", "2024-01-04", "--set", "teacher_state.hidden=16")
    assert encoder in workspace.start("refresh", "--set", "teacher_state.hidden=16").out


def test_a_warm_night_goes_on_with_the_states_of_its_parent(tmp_path: Path, workspace: Workspace) -> None:
    write_log(tmp_path / "data" / "events-1.parquet", range(800, 900))
    split = ["--set", "split={train: 40h, validation: 10h, test: 10h}"]
    workspace.run("run", "--data", str(tmp_path / "data"), *split, "--as-of", "2024-01-04T08:00", "--until", "register")
    _, said = workspace.run("ingest", *split, "--as-of", "2024-01-04T18:00", "--set", "training.start=warm")
    assert "continues version 1" in said and "training their encoder" not in said
    nights = [ClickSummary.read(file.parent).teacher_state for file in workspace.path.glob("artifacts/ingest/*/summary.json")]
    assert len(nights) == 2 and nights[0] == nights[1]
    # one that begins anew has another encoder, of the clicks before its own labels
    _, said = workspace.run("ingest", *split, "--as-of", "2024-01-04T18:00")
    assert "training their encoder" in said


def test_an_encoder_may_be_held(tmp_path: Path, workspace: Workspace) -> None:
    data = str(tmp_path / "data")
    there_is_none = "torch finds no GPU here"  # the device of pretraining is that of this encoder
    on_gpu = ("--set", "pretrain.training.device=cuda")
    ended = workspace.start("ingest", "--data", data, *on_gpu)
    assert torch.cuda.is_available() or (ended.code == 2 and there_is_none in ended.err)
    workspace.run("ingest", "--data", data)
    (encoder,) = (path.name for path in workspace.path.glob("teacher_states/*"))
    _, said = workspace.run("ingest", "--set", f"teacher_state.encoder={encoder}", "--set", "split={fractions: [0.5, 0.25, 0.25]}")
    assert f"teacher states: {encoder} of" in said and "training their encoder" not in said
    ended = workspace.start("ingest", "--set", f"teacher_state.encoder={encoder}", "--set", "split={fractions: [0.6, 0.2, 0.2]}", *on_gpu)
    assert torch.cuda.is_available() or (ended.code == 2 and there_is_none in ended.err)
    ended = workspace.start("ingest", "--set", f"teacher_state.encoder=encoder-{'0' * 12}")
    assert ended.code == 3 and "has no encoder-000000000000; null trains one" in ended.err
    ended = workspace.start("ingest", "--set", f"teacher_state.encoder={encoder}", "--set", "teacher_state.width=8")
    assert ended.code == 3 and f"teacher_state.width is 8, and the states of {encoder} have 4 numbers" in ended.err
    _, said = workspace.run("ingest", "--set", "teacher_state.delay=30d")
    assert "no row has a teacher state" in said


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("teacher_state: {width: 3}", "teacher_state.width"),
        ("teacher_state: {hidden: 30, heads: 4}", "heads (4) must divide hidden (30)"),
        ("teacher_state: {hidden: 8, width: 32}", "width (32) must be up to twice hidden (8)"),
        ("teacher_state: {encoder: mine}", "teacher_state.encoder"),
        ("teacher_state: {evry: 24h}", "evry"),
    ],
)
def test_settings_that_cannot_be_are_refused(workspace: Workspace, state: str, said: str) -> None:
    workspace.conf.write_text(CONF.replace("EMBEDDINGS", state))
    ended = workspace.start("config")
    assert ended.code == 2 and said in ended.err


def test_a_log_that_has_a_column_of_that_name_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "data" / "events-0.parquet"
    log = pq.read_table(file)
    pq.write_table(log.append_column("teacher_state_1", pa.array(np.zeros(log.num_rows))), file)
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"), "--set", "source.context={dense: [teacher_state_1]}")
    assert ended.code == 3
    assert "column teacher_state_1 of the log has the name of what `teacher_state` adds" in ended.err
