"""statistics.listwise_context from the raw log to scores: what was compared in training is compared in production, whatever the parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store.features.summary import ClickSummary
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "*.parquet", user: user, item: item, time: time, clicked: clicked, request: request}
split: {fractions: [0.6, 0.2, 0.2]}
statistics: {listwise_context: [size, share, rank]}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 8}, training: {epochs: 8, batch_size: 64, learning_rate: 1.0e-2}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: false, importance_rows: 0}
register: {auc_min: 0, calibration_error_max: 1}
"""


def write_log(file: Path, requests: int = 300) -> None:
    """Of each request one candidate is clicked, so that one of two is clicked more often than one of nine."""
    rng = np.random.default_rng(3)
    size = rng.choice([2, 9], requests)
    request = np.repeat(np.arange(requests), size)
    clicked = np.zeros(len(request), int)
    clicked[np.cumsum(size) - rng.integers(1, size + 1)] = 1
    columns = {
        "user": (request * 7) % 60,
        "item": (np.arange(len(request)) - np.repeat(np.cumsum(size) - rng.integers(0, 20, requests), size)) % 20,
        "time": 1_704_088_800 + request * 90,
        "clicked": clicked,
        "request": request,
    }
    pq.write_table(pa.table(columns), file)


def scores_of(workspace: Workspace, name: str, *more: str) -> np.ndarray[Any, Any]:
    workspace.run("score", *more)
    (file,) = workspace.path.glob(name) if "*" in name else [Path(name)]
    return pq.read_table(file)["score"].to_numpy()


def test_candidates_are_compared_in_production_as_in_training(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data" / "events.parquet")
    workspace.run("run", "--data", str(tmp_path / "data"))
    (ingested,) = workspace.path.glob("artifacts/ingest/*/rows.parquet")
    assert {"request_size", "item_ctr_rank", "item_age_of_request"} <= set(ClickSummary.read(ingested.parent).statistics)
    (transfer,) = workspace.path.glob("artifacts/*/*/transfer.parquet")
    assert pq.read_table(transfer)["request_size"].null_count == pq.read_table(transfer).num_rows  # those were never shown together
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    assert metrics["models"][metrics["shipped"]]["auc"]["value"] > 0.6  # one of two, or one of nine

    # the last date, joined from the store: the shipped student's own logits of the test rows, row by row
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{metrics['shipped']}_test.parquet")
    logits = pq.read_table(predictions).sort_by("row_id")["logit_0"].to_numpy()
    (partition,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = pq.read_table(partition)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert np.allclose(scored["score"].to_numpy()[-len(logits) :], expected, atol=1e-4)
    small = scores_of(workspace, "scores/date=*/scores.parquet", "--set", "score.batch_rows=60")
    assert np.allclose(small, scored["score"].to_numpy(), atol=1e-6)

    # the same rows from a file, in parts of any size
    rows, given, out = scored.drop_columns(["score", "model_version"]), tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(rows, given)
    for size in (50, 100_000):
        files = ("--input", str(given), "--output", str(out), "--set", f"score.batch_rows={size}")
        assert np.allclose(scores_of(workspace, str(out), *files), small, atol=1e-6)
    pq.write_table(rows.drop_columns("request_id"), given)
    ended = workspace.start("score", "--input", str(given), "--output", str(out))
    assert ended.code == 3 and "column request_id is missing; statistics.listwise_context" in ended.err
    pq.write_table(rows.take(pc.sort_indices(rows["item_id"])), given)
    ended = workspace.start("score", "--input", str(given), "--output", str(out), "--set", "score.batch_rows=50")
    assert ended.code == 3 and "rows of one request do not stand together" in ended.err

    # a file that carries what is compared needs no request; what it lacks besides is joined
    named = [name for name in ClickSummary.read(ingested.parent).statistics if name.endswith(("_rank", "_of_request", "_size"))]
    test = pq.read_table(ingested, filters=[("split", "=", "test")]).sort_by("row_id")
    given_rows = rows.slice(rows.num_rows - test.num_rows).drop_columns("request_id")
    for name in named:
        given_rows = given_rows.append_column(name, test[name])
    pq.write_table(given_rows.take(pc.sort_indices(given_rows["item_id"])), given)
    carried = scores_of(workspace, str(out), "--input", str(given), "--output", str(out))
    assert np.allclose(np.sort(carried), np.sort(expected), atol=1e-4)
