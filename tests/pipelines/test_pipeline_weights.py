"""A log with weights and a rate per row, from the raw log to scores: probabilities are those of the full stream, whatever the rates."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_store.tables.json_files import load_json
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "events.parquet", user: user, item: item, time: time, clicked: clicked, request: request, weight: importance,
           negative_sampling_rate: kept}
  context: {categorical: [device]}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 6}
statistics: {auto: false}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, recency: false, rate_ratio: 0.01, training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 8, recency: false}, training: {epochs: 6, batch_size: 64, learning_rate: 1.0e-2}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: true, importance_rows: 100}
register: {auc_min: 0, calibration_error_max: 1}
"""
BEGIN, DAY, ITEMS, REQUESTS, SHOWN = 1_704_067_200, 86_400, 8, 10_000, 4
KEPT = {"phone": 0.15, "desk": 0.6}


def full_stream() -> pd.DataFrame:
    """Half of the requests are of phones, on which less is clicked."""
    rng = np.random.default_rng(3)
    rows, request = REQUESTS * SHOWN, np.arange(REQUESTS).repeat(SHOWN)
    device = np.where(rng.random(REQUESTS) < 0.5, "phone", "desk")[request]
    item = rng.integers(0, ITEMS, rows)
    clicked = rng.random(rows) < np.where(device == "phone", 0.12, 0.3) * np.where(item < 4, 1.4, 0.6)
    stream = pd.DataFrame({"user": rng.integers(0, 400, REQUESTS)[request], "item": item, "time": BEGIN + request * 5 * DAY // REQUESTS})
    stream = stream.assign(request=request, device=device, clicked=clicked.astype(int), kept=pd.Series(device).map(KEPT), importance=1.0)
    return stream.drop_duplicates(["request", "item"])


def test_probabilities_are_those_of_the_full_stream_on_every_device(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    stream = full_stream()
    thinned = stream[(stream.clicked == 1) | (np.random.default_rng(0).random(len(stream)) < stream.kept)].copy()
    bad = thinned.index[[100, 200, 300]]
    thinned.loc[bad, ["kept", "importance"]] = [[1.5, 1.0], [0.5, -1.0], [np.nan, 1.0]]
    thinned.to_parquet(tmp_path / "data" / "events.parquet")
    workspace.run("run", "--data", str(tmp_path / "data"))

    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    data = metrics["data"]
    assert data["weighted"] is True and data["negative_sampling_rate"] is None and data["quarantined_rows"] == 3
    for name in ("teacher", "student", "student_alone", "boosted_trees", "popularity"):
        figures = metrics["models"][name]
        assert figures["auc"]["low"] < figures["auc"]["high"] and 0.4 < figures["auc_unweighted"] < 1
        assert figures["calibration_ratio"] == pytest.approx(1, abs=0.3), name
    page = (workspace.path / "reports" / "latest" / "report.html").read_text()
    assert "AUC, rows alike" in page

    told, _ = workspace.run("features")
    assert "item_clicks" in told

    # the exported student says so of all rows, those that the log left out among them, and corrects nothing
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    assert load_json(next(folder.rglob("signature.json")))["negative_sampling_rate"] is None
    asked = stream[stream.time >= BEGIN + 4 * DAY].rename(columns={"user": "user_id", "item": "item_id", "time": "timestamp"})
    asked.drop(columns=["kept", "importance", "clicked"]).to_parquet(tmp_path / "asked.parquet")
    workspace.run("score", "--input", str(tmp_path / "asked.parquet"), "--output", str(tmp_path / "scored.parquet"))
    score = pq.read_table(tmp_path / "scored.parquet")["score"].to_numpy()
    for device in KEPT:
        here = (asked.device == device).to_numpy()
        assert score[here].mean() == pytest.approx(stream.clicked[stream.device == device].mean(), rel=0.25), device


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("importance", 0.0, "the train split, .*: all rows weigh 0, which teaches nothing; correct the column of source.events.weight"),
        ("importance", -1.0, "row_weight is negative"),
        ("kept", 0.0, "negative_sampling_rate is not above 0 and at most 1"),
    ],
)
def test_a_column_that_says_nothing_ends_in_one_line(tmp_path: Path, mlflow_database: Path, column: str, value: float, said: str) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    full_stream().assign(**{column: value}).to_parquet(tmp_path / "data" / "events.parquet")
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"))
    assert ended.code == 3 and re.search(said, ended.err.strip().splitlines()[-1]), ended.err
