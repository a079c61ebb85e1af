"""A log of several types of events from the raw log to scores, by a column or by files."""

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
from feature_store.tables.parquet_files import read_parquet
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events:
    path: "log.parquet"
    user: user
    item: item
    time: time
    request: request
    type: {column: action, label: click, shown: view, history: [click, purchase], counted: [cart]}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 8}
statistics: {of: [{by: item, count: [clicks, purchase, cart], windows: [1d]}]}
vocabulary: {min_count: 1}
pretrain: {encoder: {width: 16, layers: 1}, training: {epochs: 3, batch_size: 64}}
finetune: {members: 1, rate_ratio: 1.0, training: {epochs: 3, batch_size: 64, learning_rate: 1.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 16, hidden: 16}, training: {epochs: 10, batch_size: 64, learning_rate: 1.0e-2}, transfer: {amount: 0}}
evaluate: {bootstrap: 20, boosted_trees: true, importance_rows: 100}
register: {auc_min: 0, calibration_error_max: 1}
"""
BEGIN, DAY = 1_704_067_200, 86_400
ITEMS, USERS, REQUESTS = 12, 60, 1600


def write_data(folder: Path, split_files: bool = False) -> None:
    """Half of the items are for one kind of user. Who is of which kind only purchases tell: clicks of the past are as chance makes them."""
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 2, USERS)
    rows: list[tuple] = []
    for user in range(USERS):  # everybody clicked all over the place, and bought twice of their own kind
        for n, item in enumerate(rng.permutation(ITEMS)[:5]):
            rows.append((user, item, BEGIN - DAY + 60 * n, "click", -1))
        for n, item in enumerate(rng.permutation(ITEMS // 2)[:2]):
            rows.append((user, 2 * item + kind[user], BEGIN - DAY + 3600 + n, "purchase", -1))
            rows.append((user, int(rng.integers(0, ITEMS)), BEGIN - DAY + 1800 + n, "cart", -1))
            rows.append((user, int(rng.integers(0, ITEMS)), BEGIN - DAY + 1900 + n, "scroll", -1))
    user = rng.integers(0, USERS, REQUESTS)
    for request in range(REQUESTS):
        own, other = 2 * rng.integers(0, ITEMS // 2) + kind[user[request]], 2 * rng.integers(0, ITEMS // 2) + 1 - kind[user[request]]
        time = BEGIN + request * 5 * DAY // REQUESTS
        right = rng.random() < 0.9
        rows += [
            (user[request], own, time, "click" if right else "view", request),
            (user[request], other, time, "view" if right else "click", request),
        ]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "action", "request"])
    if not split_files:
        frame.to_parquet(folder / "log.parquet")
        return
    for action, part in frame.drop(columns="action").groupby(frame["action"]):
        part.to_csv(folder / f"{action}.csv", index=False)


def test_types_are_read_in_training_and_in_production(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    told, _ = workspace.run("check", "--data", str(tmp_path / "data"))
    assert "the first rows fit" in told and "look at this" not in told
    workspace.run("run", "--data", str(tmp_path / "data"))
    (assembly,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
    summary = ClickSummary.read(assembly.parent)
    assert summary.history_types == {"click": 1, "purchase": 2} and sum(summary.rows.values()) == 2 * REQUESTS + 5 * USERS
    assert {"item_clicks_1d", "item_purchase_1d", "item_cart_1d"} <= set(summary.statistics)
    stored = pd.concat(read_parquet(file).to_pandas() for file in workspace.path.glob("store/events/*/events.parquet"))
    assert stored["type_code"].value_counts().to_dict() == {0: REQUESTS, 1: REQUESTS + 5 * USERS, 2: 2 * USERS, 3: 2 * USERS}
    assert stored["clicked"].isna().sum() == 4 * USERS
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    shipped = metrics["shipped"]
    assert metrics["models"][shipped]["auc"]["value"] > 0.75
    assert '"history_types"' not in json.dumps(metrics["importance"])

    # the last date, joined from the store: the shipped student's own logits of the test rows, row by row
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{shipped}_test.parquet")
    logits = read_parquet(predictions).sort_by("row_id")["logit_0"].to_numpy().astype(np.float64)
    (partition,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = read_parquet(partition)
    here = min(len(logits), scored.num_rows)
    assert np.allclose(scored["score"].to_numpy()[-here:], 1 / (1 + np.exp(-logits[-here:])), atol=1e-4)

    # the registered model is told the types, or is not
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    signature = load_json(next(folder.rglob("signature.json")))
    assert signature["has_types"] and "history_types" in signature["columns"]["optional"]
    model = mlflow.pyfunc.load_model(str(folder))
    row = {"history": ["1", "3", "5"], "item_id": ["1", "2"], "timestamp": "2024-01-05"}
    told = [{"history_types": ["purchase"] * 3}, {"history_types": ["click"] * 3}, {}]
    bought, clicked, untold = (model.predict(pd.DataFrame([row | more]))["score"][0] for more in told)
    assert bought[0] > bought[1] + 0.2 and abs(bought[0] - clicked[0]) > 0.001 and untold not in (bought, clicked)
    # a file that brings a history brings its types too, or nothing says them: those of the store are of other events
    asked = scored.slice(0, 4).select(["user_id", "item_id", "timestamp"]).append_column("history", pa.array([["1", "3"]] * 4))
    pq.write_table(asked, tmp_path / "asked.parquet")
    files = ("--input", str(tmp_path / "asked.parquet"), "--output", str(tmp_path / "answered.parquet"))
    workspace.run("score", *files)
    assert read_parquet(tmp_path / "answered.parquet")["score"].null_count == 0
    with pytest.raises(mlflow.MlflowException, match="history_types must have one type for every item of history"):
        model.predict(pd.DataFrame([row | {"history_types": ["click"]}]))


def test_a_file_for_each_type_is_the_same_log(tmp_path: Path, mlflow_database: Path) -> None:
    rows = []
    column = "column: action, label: click"
    files = "files: {view.csv: view, click.csv: click, purchase.csv: purchase, cart.csv: cart}, label: click"
    for name, conf in (("one", CONF), ("many", CONF.replace('path: "log.parquet"', "").replace(column, files))):
        workspace = Workspace.new(tmp_path / name, mlflow_database)
        workspace.conf = tmp_path / f"{name}.yaml"
        workspace.conf.write_text(conf)
        (tmp_path / f"{name}_data").mkdir()
        write_data(tmp_path / f"{name}_data", split_files=name == "many")
        workspace.run("ingest", "--data", str(tmp_path / f"{name}_data"))
        (file,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
        rows.append(read_parquet(file))
    assert rows[0].equals(rows[1])


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"counted: [cart]": "counted: [cart, return]"},
            "no event of type 'return'; of the types that source.events.type names it has view, click, purchase, cart",
        ),
        (
            {"count: [clicks, purchase, cart]": "count: [return]"},
            "statistics.of[0].count: there are no events 'return'; count some of clicks, impressions, purchase",
        ),
        ({"shown: view": "shown: click"}, "shown (click) is what was not clicked"),
        ({"column: action, ": ""}, "name what tells the types in one way: column, or files"),
        ({"request: request": "request: request\n    clicked: request"}, "clicked and type both say what a click is"),
    ],
)
def test_types_that_are_not_there_are_said(change: dict[str, str], said: str, tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    conf = CONF
    for before, after in change.items():
        conf = conf.replace(before, after)
    workspace.conf.write_text(conf)
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"))
    assert ended.code in (2, 3) and said in ended.err
    if "'return'" in said and "no event of" in said:
        assert "look at this: no event of type 'return'" in workspace.start("check", "--data", str(tmp_path / "data")).out
