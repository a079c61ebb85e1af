"""Tables of items and users from the raw log to scores: training, a date, a file and the registered model read the same."""

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
  items: {path: prices.csv, item: item, categorical: [shelf], dense: [price], time: since}
  users: {path: users.csv, user: user, categorical: [segment], multi: [likes], separator: ",", dense: [age]}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 6}
statistics: {auto: false}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 8}, training: {epochs: 10, batch_size: 64, learning_rate: 1.0e-2}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: true, importance_rows: 0}
register: {auc_min: 0, calibration_error_max: 1}
"""
BEGIN, DAY = 1_704_067_200, 86_400
ITEMS, REQUESTS = 8, 1200


def write_data(folder: Path) -> None:
    """Prices change every twelve hours, and of two candidates the one that is cheaper then is clicked, nine times of ten."""
    rng = np.random.default_rng(3)
    prices = rng.uniform(1, 9, (11, ITEMS)).round(2)
    changes = pd.DataFrame(
        [
            {
                "item": item,
                "since": BEGIN - 1 + 43_200 * period,
                "price": prices[period, item],
                "shelf": "low" if prices[period, item] < 5 else "high",
            }
            for period in range(11)
            for item in range(ITEMS)
        ]
    )
    changes.to_csv(folder / "prices.csv", index=False)
    users = {"user": range(30), "segment": ["new", "old"] * 15, "age": [20 + n for n in range(30)], "likes": ["a,b", None, "b"] * 10}
    pd.DataFrame(users).to_csv(folder / "users.csv", index=False)
    request = np.arange(REQUESTS)
    time = BEGIN + request * 5 * DAY // REQUESTS
    period = (time - BEGIN) // 43_200
    first = rng.integers(0, ITEMS, REQUESTS)
    item = np.stack([first, (first + rng.integers(1, ITEMS, REQUESTS)) % ITEMS], 1)
    cheaper = prices[period[:, None], item].argmin(1) ^ (rng.random(REQUESTS) < 0.1)
    columns = {
        "user": np.repeat(rng.integers(0, 30, REQUESTS), 2),
        "item": item.ravel(),
        "time": np.repeat(time, 2),
        "clicked": (np.arange(2) == cheaper[:, None]).astype(int).ravel(),
        "request": np.repeat(request, 2),
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")


def test_prices_of_the_moment_are_read_in_training_and_in_production(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    workspace.run("run", "--data", str(tmp_path / "data"))
    (assembly,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
    summary = ClickSummary.read(assembly.parent)
    assert {"price", "age"} <= set(summary.statistics) and summary.context.categorical == ["shelf"]
    assert summary.user_attributes == ["segment", "likes", "likes[2]"]
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    assert metrics["models"]["boosted_trees"]["auc"]["value"] > 0.72  # who knows the price of the moment
    assert metrics["models"][metrics["shipped"]]["auc"]["value"] > 0.65

    told, _ = workspace.run("features")
    assert "number in the table of items or users" in told and "price" in told

    # the last date, joined from the store: the shipped student's own logits of the test rows, row by row
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{metrics['shipped']}_test.parquet")
    logits = pq.read_table(predictions).sort_by("row_id")["logit_0"].to_numpy().astype(np.float64)
    (partition,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = pq.read_table(partition)
    here = min(len(logits), scored.num_rows)
    assert np.allclose(scored["score"].to_numpy()[-here:], 1 / (1 + np.exp(-logits[-here:])), atol=1e-4)

    # the registered model is told the price, or is not
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    columns = load_json(next(folder.rglob("signature.json")))["columns"]["optional"]
    assert {"price", "age", "shelf", "segment", "likes", "likes[2]"} <= set(columns)
    asked = {"history": ["0"], "item_id": ["1", "2"], "timestamp": "2024-01-05", "price": [1.0, 9.0], "shelf": ["low", "high"]}
    model = mlflow.pyfunc.load_model(str(folder))
    cheap, dear = model.predict(pd.DataFrame([asked]))["score"][0]
    assert cheap > dear + 0.2
    assert len(model.predict(pd.DataFrame([{"history": ["0"], "item_id": "1", "timestamp": "2024-01-05"}]))) == 1


def test_two_rows_of_one_user_are_said(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    users = tmp_path / "data" / "users.csv"
    users.write_text(users.read_text() + "".join(f"{n},late,99,\n" for n in range(30)))
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"))
    assert ended.code == 3 and "duplicate user_id" in ended.err
    workspace.conf.write_text(CONF.replace("users.csv", "'*s.csv'"))
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"))
    assert ended.code == 3 and "prices.csv: is matched by source.items.path and by source.users.path" in ended.err
