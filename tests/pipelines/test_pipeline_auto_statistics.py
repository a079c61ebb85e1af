"""statistics.auto from the raw log to the scores of a date: every stage reads what was chosen, and scoring joins the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.features.summary import ClickSummary
from pipelines.registry.model_package import lineage_of
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "*.parquet", user: user, item: item, time: time, clicked: clicked}
  context: {categorical: [device, weather]}
split: {fractions: [0.6, 0.2, 0.2]}
statistics: {auto: true}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 1, batch_size: 512}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 8}, training: {epochs: 1, batch_size: 512}, transfer: {amount: 0.1}}
evaluate: {bootstrap: 20, boosted_trees: false, importance_rows: 0}
register: {auc_min: 0, calibration_error_max: 1}
"""


def write_log(file: Path, rows: int = 5000) -> None:
    """An item is clicked on one device of two, which changes every two hours; the weather does not matter."""
    rng, n = np.random.default_rng(2), np.arange(rows)
    item, device = rng.integers(0, 12, rows), rng.integers(0, 2, rows)
    liked = (item * 7 + n // 600) % 2 == device
    columns = {
        "user": rng.integers(0, 80, rows),
        "item": item,
        "time": 1_704_088_800 + n * 12,
        "clicked": (rng.random(rows) < np.where(liked, 0.7, 0.1)).astype(int),
        "device": [f"d{one}" for one in device],
        "weather": rng.choice(["sun", "rain", "snow"], rows),
    }
    pq.write_table(pa.table(columns), file)


def test_what_was_chosen_is_made_everywhere(tmp_path: Path, mlflow_database: Path) -> None:
    workspace = Workspace.new(tmp_path / "workspace", mlflow_database)
    workspace.conf.write_text(CONF)
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data" / "events.parquet")
    _, err = workspace.run("run", "--data", str(tmp_path / "data"))
    assert "statistics.auto: [item, device] +0." in err

    (ingested,) = workspace.path.glob("artifacts/ingest/*/statistics.yaml")
    made_with = ClickSummary.read(ingested.parent).made_with
    assert made_with is not None and [one.by for one in made_with.of] == [("item", "device")]
    chosen = [one.name for one in made_with.of[0].statistics()]
    (transfer,) = workspace.path.glob("artifacts/*/*/transfer.parquet")
    assert set(chosen) <= set(pq.read_table(transfer).column_names)
    (lineage,) = workspace.path.glob("mlartifacts/**/lineage.json")
    assert lineage_of(lineage.parents[2 if lineage.parent.parent.name == "data" else 1]).statistics == made_with.model_dump(mode="json")

    # a date is scored with what is joined from the store: the shipped student's own logits, row by row
    (scores,) = workspace.path.glob("scores/date=*/scores.parquet")
    scored = pq.read_table(scores)
    shipped = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())["shipped"]
    (predictions,) = workspace.path.glob(f"artifacts/distill/*/predictions_{shipped}_test.parquet")
    logits = pq.read_table(predictions).sort_by("row_id")["logit_0"].to_numpy()
    assert scored.num_rows >= len(logits)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert np.allclose(scored["score"].to_numpy()[-len(logits) :], expected, atol=1e-4)

    out, _ = workspace.run("features")
    assert all(f"{name} " in out for name in chosen)
