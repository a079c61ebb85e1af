"""A log with a further label, from the raw log to scores: purchases depend on something that clicks do not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ctr_kd.metrics import auc_score
from feature_store.tables.json_files import load_json
from pipelines.registry.pyfunc_model import PyfuncStudent
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "events.parquet", user: user, item: item, time: time, clicked: clicked, request: request, labels: [purchased]}
  context: {categorical: [member]}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 6}
statistics: {auto: false}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 8, hidden: 16}, training: {epochs: 5, batch_size: 64, learning_rate: 1.0e-2}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: true, importance_rows: 100}
register: {auc_min: 0, calibration_error_max: 1}
"""
BEGIN, DAY, ITEMS, REQUESTS, SHOWN = 1_704_067_200, 86_400, 8, 3000, 4
BUYS = {"yes": 0.8, "no": 0.05}  # of those who clicked


def log() -> pd.DataFrame:
    """Clicks depend on the item alone, purchases that follow them on whether the user is a member; of a tenth of the rows nobody knows."""
    rng = np.random.default_rng(3)
    rows, request = REQUESTS * SHOWN, np.arange(REQUESTS).repeat(SHOWN)
    member = np.where(rng.random(REQUESTS) < 0.5, "yes", "no")[request]
    item = rng.integers(0, ITEMS, rows)
    clicked = rng.random(rows) < np.where(item < 4, 0.35, 0.15)
    purchased = clicked & (rng.random(rows) < pd.Series(member).map(BUYS))
    known = pd.array(np.where(purchased, 1, 0), "Int8")
    known[rng.random(rows) < 0.1] = pd.NA
    frame = pd.DataFrame({"user": rng.integers(0, 400, REQUESTS)[request], "item": item, "time": BEGIN + request * 5 * DAY // REQUESTS})
    frame = frame.assign(request=request, member=member, clicked=clicked.astype(int), purchased=known)
    return frame.drop_duplicates(["request", "item"]).reset_index(drop=True)


def workspace_with(tmp_path: Path, database: Path, events: pd.DataFrame, conf: str = CONF) -> Workspace:
    workspace = Workspace.new(tmp_path / "workspace", database)
    workspace.conf.write_text(conf)
    (tmp_path / "data").mkdir()
    events.to_parquet(tmp_path / "data" / "events.parquet")
    return workspace


def ranked_by(scored: pd.DataFrame, column: str) -> float:
    known = scored["purchased"].notna()
    return auc_score(scored["purchased"][known].astype(int).to_numpy(), scored[column][known].to_numpy())


@pytest.mark.parametrize("chain", [False, True])
def test_a_further_label_is_learned_measured_and_scored(tmp_path: Path, mlflow_database: Path, chain: bool) -> None:
    events = log()
    workspace = workspace_with(tmp_path, mlflow_database, events, CONF + ("labels: {chain: true}\n" if chain else ""))
    workspace.run("run", "--data", str(tmp_path / "data"))

    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    assert {"teacher", "student", "student_alone", "boosted_trees", "popularity"} <= set(metrics["models"])
    (of_label,) = metrics["labels"].values()
    assert list(metrics["labels"]) == ["purchased"] and 0 < of_label["positives"] < of_label["rows"] < metrics["data"]["test_rows"]
    for name in ("teacher", "student", "student_alone", "boosted_trees"):
        figures = of_label["models"][name]
        assert figures["auc"]["value"] > 0.75 and figures["calibration_ratio"] == pytest.approx(1, abs=0.35), name
    assert {"student-student_alone", "student-teacher"} <= set(of_label["comparisons"])
    assert "purchased" in (workspace.path / "reports" / "latest" / "report.html").read_text()

    # the exported student says both, in files, of dates and to MLflow
    (folder,) = workspace.path.glob("artifacts/register/*/model")
    signature = load_json(next(folder.rglob("signature.json")))
    assert signature["labels"] == ["purchased"] and signature["outputs"] == 2
    assert signature["columns"]["answer"] == {"score": "double", "score_purchased": "double"}
    asked = events[events.time >= BEGIN + 4 * DAY].rename(columns={"user": "user_id", "item": "item_id", "time": "timestamp"})
    asked.to_parquet(tmp_path / "asked.parquet")
    workspace.run("score", "--input", str(tmp_path / "asked.parquet"), "--output", str(tmp_path / "scored.parquet"))
    scored = pq.read_table(tmp_path / "scored.parquet").to_pandas()
    assert ranked_by(scored, "score_purchased") > ranked_by(scored, "score") + 0.05
    assert auc_score(scored["clicked"].to_numpy(), scored["score"].to_numpy()) > 0.6
    for member, rate in BUYS.items():
        here = scored["member"] == member
        assert scored["score_purchased"][here].mean() == pytest.approx(0.25 * rate, rel=0.5), member
    (date,) = workspace.path.glob("scores/date=*/scores.parquet")
    dated = pq.read_table(date)
    assert {"score", "score_purchased", "model_version"} <= set(dated.column_names)
    (data,) = folder.glob("data/*/")
    student = PyfuncStudent(str(data))
    request = pd.DataFrame({"history": [[]], "item_id": [[0, 7]], "timestamp": [BEGIN + 4 * DAY], "member": ["yes"]})
    rows = request.explode("item_id")
    by_row, by_request = student.predict(rows), student.predict(request)
    for column in ("score", "score_purchased"):
        np.testing.assert_allclose(by_request[column][0], by_row[column].to_list(), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "the train split, .*: label purchased is null in all rows, which teaches nothing; .* source.events.labels"),
        (0, "the train split, .*: label purchased is 0 in all .* rows that say it"),
        (2, "label_purchased is not 0, 1 or null"),
    ],
)
def test_a_label_that_says_nothing_ends_in_one_line(tmp_path: Path, mlflow_database: Path, value: int | None, said: str) -> None:
    workspace = workspace_with(tmp_path, mlflow_database, log().assign(purchased=value))
    ended = workspace.start("ingest", "--data", str(tmp_path / "data"))
    assert ended.code == 3 and re.search(said, ended.err.strip().splitlines()[-1]), ended.err
