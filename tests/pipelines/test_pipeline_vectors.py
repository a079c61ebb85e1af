"""Vectors of items and users from the raw log to scores: training, a date and the registered model read the same, of new items too."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.features.summary import ClickSummary
from feature_store.tables.json_files import load_json
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "events*.parquet", user: user, item: item, time: time, clicked: clicked, request: request}
  items: {path: "items*.parquet", item: item, categorical: [shelf], vector: [headline]}
  users: {path: users.parquet, user: user, vector: [taste]}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 6}
statistics: {auto: false}
vocabulary: {min_count: 2}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 3, batch_size: 64, learning_rate: 2.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 8, hidden: 16}, training: {epochs: 12, batch_size: 64, learning_rate: 2.0e-2}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: true, importance_rows: 100}
register: {auc_min: 0, calibration_error_max: 1, unseen_share_max: 1}
"""
BEGIN, DAY = 1_704_067_200, 86_400
DAYS, DAILY, REQUESTS, USERS = 5, 12, 1500, 30  # every day has items of its own


def vectors_of(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.standard_normal((rows, 4)).astype(np.float32)


def write_data(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What is clicked agrees in sign with the taste of the user, in the first number of its title; the titles and the tastes."""
    rng = np.random.default_rng(3)
    titles, tastes = vectors_of(rng, DAYS * DAILY), vectors_of(rng, USERS)
    lists = [None if item % DAILY == 5 else title.tolist() for item, title in enumerate(titles)]  # some have none
    items = {"item": range(DAYS * DAILY), "shelf": ["a", "b"] * (DAYS * DAILY // 2), "headline": pa.array(lists, pa.list_(pa.float16()))}
    pq.write_table(pa.table(items), folder / "items.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(tastes.ravel().astype(np.float64)), 4)
    pq.write_table(pa.table({"user": range(USERS), "taste": fixed}), folder / "users.parquet")
    request = np.arange(REQUESTS)
    user = rng.integers(0, USERS, REQUESTS)
    day = request * DAYS // REQUESTS
    first = rng.integers(0, DAILY, REQUESTS)
    item = day[:, None] * DAILY + np.stack([first, (first + rng.integers(1, DAILY, REQUESTS)) % DAILY], 1)
    agrees = (titles[item, 0] * tastes[user, 0][:, None]).argmax(1)
    columns = {
        "user": np.repeat(user, 2),
        "item": item.ravel(),
        "time": np.repeat(BEGIN + request * DAYS * DAY // REQUESTS, 2),
        "clicked": (np.arange(2) == (agrees ^ (rng.random(REQUESTS) < 0.05))[:, None]).astype(int).ravel(),
        "request": np.repeat(request, 2),
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return titles, tastes


def test_a_vector_tells_of_items_that_nobody_clicked(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    _, tastes = write_data(tmp_path / "data")
    workspace.run("run", "--data", str(tmp_path / "data"))
    (assembly,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
    summary = ClickSummary.read(assembly.parent)
    assert summary.item_vectors == {"headline": 4} and summary.user_vectors == {"taste": 4}
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    shipped = metrics["shipped"]
    assert metrics["models"][shipped]["auc"]["value"] > 0.62  # no item of the test day was ever seen
    assert metrics["models"]["boosted_trees"]["auc"]["value"] > 0.6

    # the last date, joined from the store: the shipped student's own logits of the test rows, row by row
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{shipped}_test.parquet")
    logits = pq.read_table(predictions).sort_by("row_id")["logit_0"].to_numpy().astype(np.float64)
    (partition,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = pq.read_table(partition)
    here = min(len(logits), scored.num_rows)
    assert np.allclose(scored["score"].to_numpy()[-here:], 1 / (1 + np.exp(-logits[-here:])), atol=2e-3)

    # the registered model is told the taste of a user, or is not
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    signature = load_json(next(folder.rglob("signature.json")))
    assert signature["vectors"] == {"headline": 4, "taste": 4} and "taste" in signature["columns"]["optional"]
    model = mlflow.pyfunc.load_model(str(folder))
    row = {"history": ["0"], "item_id": "50", "timestamp": "2024-01-05"}
    told = ({"taste": [9, 0, 0, 0]}, {"taste": [-9.0, 0, 0, 0]}, {})
    one, other, none = (model.predict(pd.DataFrame([row | more]))["score"][0] for more in told)
    assert abs(one - other) > 0.03 and none not in (one, other)
    several = model.predict(pd.DataFrame([row | {"item_id": ["50", "51", "52", "53"], "taste": [9, 0, 0, 0]}]))["score"][0]
    assert np.isclose(several[0], one) and len(several) == 4  # a vector of the request, not a number for each of four candidates
    with pytest.raises(mlflow.MlflowException, match="column taste must hold lists of 4 numbers"):
        model.predict(pd.DataFrame([row | {"taste": [1.0, 2.0]}]))

    # the day after brings items that are younger than the model: their vectors count all the same
    younger = {"item": [900, 901], "shelf": ["a", "c"], "headline": pa.array([[3.0, 0, 0, 0], [-3.0, 0, 0, 0]], pa.list_(pa.float64()))}
    pq.write_table(pa.table(younger), tmp_path / "data" / "items_2.parquet")
    user = int(np.abs(tastes[:, 0]).argmax())
    shown = {"user": [user, user], "item": [900, 901], "time": [BEGIN + DAYS * DAY + 60] * 2, "clicked": [0, 0], "request": [9999, 9999]}
    pq.write_table(pa.table(shown), tmp_path / "data" / "events_2.parquet")
    workspace.run("ingest", "--data", str(tmp_path / "data"))
    workspace.run("score", "--date", "2024-01-06")
    table = pq.read_table(workspace.path / "scores" / "date=2024-01-06" / "scores.parquet")
    score = dict(zip(table["item_id"].to_pylist(), table["score"].to_pylist(), strict=True))
    assert (score[900] - score[901]) * np.sign(tastes[user, 0]) > 0.03
    workspace.run("score", "--date", "2024-01-06", "--set", "score.batch_rows=1", "--set", "score.workers=2", "--force")
    assert (
        pq.read_table(workspace.path / "scores" / "date=2024-01-06" / "scores.parquet")["score"].to_pylist() == table["score"].to_pylist()
    )


@pytest.mark.parametrize(
    "title, said",
    [
        ([[1.0, 2.0]], "items_2.parquet: none of its 1 rows can be used (headline has another width than the 4 of the first one"),
        ([[1.0, 2.0, None, 4.0]], "headline has a number that is missing or not finite"),
        ([[1.0, 2.0, float("nan"), 4.0]], "headline has a number that is missing or not finite"),
        (["[1, 2, 3, 4]"], "items_2.parquet: column 'headline' must hold lists of numbers, not string"),
    ],
)
def test_vectors_that_do_not_fit_are_said(title: list, said: str, tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    workspace.run("ingest", "--data", str(tmp_path / "data"), "--set", "vocabulary.min_count=3")
    pq.write_table(pa.table({"item": [900], "shelf": ["a"], "headline": title}), tmp_path / "data" / "items_2.parquet")
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"))
    assert ended.code == 3 and said in ended.err
