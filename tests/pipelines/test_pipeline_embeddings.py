"""embeddings from the raw log to scores: rows of training, transfer set and production read the same vectors, as of their times."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.features.statistics import AGE, PRODUCT, vector_columns
from feature_store.features.summary import ClickSummary
from pipelines.registry.lookup import tags_of_version
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "*.parquet", user: user, item: item, time: time, clicked: clicked, request: request}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 6}
EMBEDDINGS
statistics: {auto: false}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 16}, training: {epochs: 8, batch_size: 64, learning_rate: 1.0e-2}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: false, importance_rows: 0}
register: {auc_min: 0, calibration_error_max: 1}
"""
ITEMS = "  items: {path: items.csv, item: item, multi: [tags]}\n"  # a key of source
EMBEDDINGS = "embeddings: {block: 1h, width: 8, negatives: 16}"
BEGIN, HOUR, DAY = 1_704_067_200, 3600, 86_400


def write_log(file: Path, requests: range) -> None:
    """Users of two tastes; one of two candidates is of each taste, and four times of five theirs is clicked. Ten requests an hour."""
    rng = np.random.default_rng(requests.start)
    request = np.repeat(np.arange(requests.start, requests.stop), 2)
    user = (request * 7) % 40
    item = 2 * rng.integers(0, 8, len(request)) + np.tile([0, 1], len(requests))
    columns = {
        "user": user,
        "item": item,
        "time": BEGIN + request * 360,
        "clicked": ((item % 2 == user % 2) ^ np.repeat(rng.random(len(requests)) < 0.2, 2)).astype(int),
        "request": request,
    }
    pq.write_table(pa.table(columns), file)


@pytest.fixture
def workspace(tmp_path: Path, mlflow_database: Path) -> Workspace:
    made = Workspace.new(tmp_path / "workspace", mlflow_database)
    made.conf.write_text(CONF.replace("EMBEDDINGS", EMBEDDINGS))
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data" / "events-0.parquet", range(800))
    return made


@pytest.mark.parametrize("vectors", [False, True])
def test_vectors_are_the_same_in_training_and_in_production(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, vectors: bool
) -> None:
    data = str(tmp_path / "data")
    conf = CONF.replace("EMBEDDINGS", EMBEDDINGS.replace("}", f", vectors: {str(vectors).lower()}}}"))
    workspace.conf.write_text(conf.replace("split:", f"{ITEMS}split:"))
    tags = "".join(f"{item},{'even' if item % 2 == 0 else 'odd'}{('', '|few', '|few|some')[item % 3]}\n" for item in range(16))
    (tmp_path / "data" / "items.csv").write_text("item,tags\n" + tags)
    workspace.run("run", "--data", data)
    (rows,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
    assembled, columns = pq.read_table(rows), list(vector_columns(8 if vectors else 0))
    assert ClickSummary.read(rows.parent).statistics[-len(columns) :] == assembled.column_names[-len(columns) :] == columns
    items = pq.read_table(rows.with_name("items.parquet"))
    assert items.column_names == ["code", "item_id", "tags", "tags[2]", "tags[3]"]
    assert items.slice(5, 1).to_pylist() == [{"code": 5, "item_id": 5, "tags": "odd", "tags[2]": "few", "tags[3]": "some"}]
    assert assembled[PRODUCT].null_count < assembled.num_rows / 4  # only the first clicks of each user have none before them
    age, split = assembled[AGE].to_numpy(), assembled["split"].to_numpy(zero_copy_only=False)
    assert 0 < np.mean(age[split == "train"] > HOUR) < 0.2  # as if refreshes had been missed
    assert np.nanmax(age[split != "train"]) < HOUR
    (transfer,) = workspace.path.glob("artifacts/*/*/transfer.parquet")
    assert pq.read_table(transfer)[PRODUCT].null_count < pq.read_table(transfer).num_rows / 4
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    assert metrics["models"][metrics["shipped"]]["auc"]["value"] > 0.7
    assert [one["refresh"] for one in metrics["freshness"]] == ["1h", "6h", "1d", None]
    auc = [one["auc"]["value"] for one in metrics["freshness"]]
    assert auc[0] == pytest.approx(metrics["models"][metrics["shipped"]]["auc"]["value"], abs=1e-6) and len(set(auc)) > 1
    assert "How fresh item vectors must be" in (workspace.path / "reports" / "latest" / "report.html").read_text()

    # the last date, joined from the store: the shipped student's own logits of the test rows, row by row
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{metrics['shipped']}_test.parquet")
    logits = pq.read_table(predictions).sort_by("row_id")["logit_0"].to_numpy().astype(np.float64)
    (partition,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = pq.read_table(partition)
    here = min(len(logits), scored.num_rows)
    assert np.allclose(scored["score"].to_numpy()[-here:], 1 / (1 + np.exp(-logits[-here:])), atol=1e-4)

    # items are found by the vectors of the exported student, whose tags share a table
    workspace.run("score", "--date", "2024-01-04", "--set", "score.candidates=retrieve")

    # MLflow's own model, which knows no workspace, but what it published
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    asked = {"history": ["0", "2", "4"], "item_id": ["0", "1"], "timestamp": "2024-01-04T08:00"}
    monkeypatch.delenv("CTR_KD_VECTORS", raising=False)
    blind = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame([asked]))["score"][0]
    monkeypatch.setenv("CTR_KD_VECTORS", str(workspace.path / "embeddings"))
    seeing = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame([asked]))["score"][0]
    assert blind != seeing and seeing[0] > seeing[1]  # of the same taste
    monkeypatch.setenv("CTR_KD_VECTORS", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="holds no published vectors of this model"):
        mlflow.pyfunc.load_model(str(folder))

    # the same rows from a file, in parts of any size
    given, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(scored.drop_columns(["score", "model_version", "request_id"]), given)
    for size in (50, 100_000):
        workspace.run("score", "--input", str(given), "--output", str(out), "--set", f"score.batch_rows={size}")
        assert np.allclose(pq.read_table(out)["score"].to_numpy(), scored["score"].to_numpy(), atol=1e-6)


def test_the_newest_clicks_are_learned_without_a_training(tmp_path: Path, workspace: Workspace) -> None:
    data = str(tmp_path / "data")
    ended = workspace.start("refresh", "--data", data)
    assert ended.code == 0 and "vectors of the configuration: 790 clicks learned, all until 2024-01-04 07:00:00 UTC" in ended.out
    write_log(tmp_path / "data" / "events-1.parquet", range(800, 835))
    ended = workspace.start("refresh", "--data", data)
    assert "40 clicks learned, all until 2024-01-04 11:00:00 UTC" in ended.out  # the ten that were not complete, and thirty
    assert "0 clicks learned, all until 2024-01-04 11:00:00 UTC" in workspace.start("refresh").out
    before = {file.name: file.read_bytes() for file in workspace.path.glob("embeddings/**/*") if file.is_file()}
    assert "0 clicks learned" in workspace.start("refresh", "--as-of", "2024-01-03").out
    assert before == {file.name: file.read_bytes() for file in workspace.path.glob("embeddings/**/*") if file.is_file()}
    ended = workspace.start("refresh", "--set", "embeddings=null")
    assert ended.code == 2 and "neither the configuration nor the champion has `embeddings`" in ended.err


def test_the_vectors_of_a_champion_are_refreshed_whatever_the_configuration_says(tmp_path: Path, workspace: Workspace) -> None:
    data = str(tmp_path / "data")
    workspace.run("run", "--data", data, "--until", "register")
    write_log(tmp_path / "data" / "events-1.parquet", range(800, 835))
    ended = workspace.start("refresh", "--data", data, "--set", "embeddings=null")
    assert "vectors of the champion: 40 clicks learned" in ended.out and "of the configuration" not in ended.out
    tags = tags_of_version(f"sqlite:///{workspace.path / 'mlflow.db'}", "tiny", "1")
    assert tags["vectors"] == ended.out.split("version ")[1].split()[0] and tags["vectors_until"] == "2024-01-04T11:00:00+00:00"
    ended = workspace.start("refresh", "--set", "embeddings={block: 2h, width: 16}")
    assert "vectors of the champion: 0 clicks learned" in ended.out and "vectors of the configuration: 820 clicks" in ended.out


@pytest.mark.parametrize(
    ("embeddings", "said"),
    [
        ("embeddings: {block: 1h, refresh: 90m}", "refresh (90m) must be some blocks long (1h each)"),
        ("embeddings: {blok: 1h}", "blok"),
        ("embeddings: {block: 0h}", "is not a duration"),
    ],
)
def test_settings_that_cannot_be_are_refused(workspace: Workspace, embeddings: str, said: str) -> None:
    workspace.conf.write_text(CONF.replace("EMBEDDINGS", embeddings))
    ended = workspace.start("config")
    assert ended.code == 2 and said in ended.err


def test_a_block_that_is_longer_than_the_log_is_said(tmp_path: Path, workspace: Workspace) -> None:
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"), "--set", "embeddings.block=100d")
    assert ended.code == 0
    assert "embeddings.block (100d) is longer than the clicks of the log: no row sees a vector" in ended.err


def test_a_log_that_has_a_column_of_that_name_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "data" / "events-0.parquet"
    log = pq.read_table(file)
    pq.write_table(log.append_column(PRODUCT, pa.array(np.zeros(log.num_rows))), file)
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"), "--set", f"source.context={{dense: [{PRODUCT}]}}")
    assert ended.code == 3
    assert f"column {PRODUCT} of the log has the name of what `embeddings` adds" in ended.err
