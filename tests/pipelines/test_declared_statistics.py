"""Declared statistics from the log to scores, through the real program: the same in training, in files, in dates, live and backfilled."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.features.historical_features import candidates_on
from feature_store.store.store import Store
from pipelines.config.run import load
from pipelines.tasks.clicks import ClickRows
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow

CONFIGURATION = """
source: {reader: simulated, simulator: {users: 40, items: 30, requests: 400, days: 4, candidates: 4}}
split: {fractions: [0.6, 0.2, 0.2]}
candidates: {window: 1d}
statistics:
  of:
    - {by: [device, item], count: clicks, windows: [6h, 2d], share_of: item, trend: true}
    - {by: [segment, category], rate: true}
    - {by: [user, position], count: impressions, age_of_last: true}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 1, batch_size: 128}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 8}, training: {epochs: 4, batch_size: 64}, transfer: {amount: 0.2}}
evaluate: {bootstrap: 20, boosted_trees: false}
register: {auc_min: 0, calibration_error_max: 1}
"""
DECLARED = [
    *("item_device_clicks_6h", "item_device_clicks_6h_of_item", "item_device_clicks_2d", "item_device_clicks_2d_of_item"),
    *("item_device_clicks_6h_of_2d", "category_segment_rate", "user_position_impressions", "user_position_age_of_last"),
]
BARE = ["user_id", "item_id", "timestamp", "device", "position"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workspace:
    """A workspace in which the pipeline was gone to its end."""
    workspace = Workspace.new(tmp_path_factory.mktemp("declared") / "workspace", mlflow_database)
    workspace.conf.write_text(CONFIGURATION)
    workspace.run("run")
    return workspace


@pytest.fixture(scope="module")
def rows(told: Workspace) -> pa.Table:
    """The test rows of the assembly with raw ids, histories and statistics."""
    return raw_rows(told, None)


@pytest.fixture(scope="module")
def expected(told: Workspace, rows: pa.Table) -> np.ndarray:
    """Scores of the test rows, of which everything is given."""
    return scores(told, rows)


def raw_rows(told: Workspace, file: Path | None) -> pa.Table:
    """Rows in the layout of the assembly, by default its test rows, with raw ids, histories and statistics."""
    (assembly,) = (path.parent for path in told.path.glob("artifacts/ingest/*/_manifest.json"))
    click_rows = ClickRows(assembly)
    table = click_rows.read("test") if file is None else pq.read_table(file)
    return click_rows.raw(table).append_column("clicked", table["label"])


def scores(told: Workspace, table: pa.Table) -> np.ndarray:
    """Of the rows of a file."""
    source, target = told.path.with_name("rows.parquet"), told.path.with_name("scored.parquet")
    pq.write_table(table, source)
    told.run("score", "--input", str(source), "--output", str(target))
    return pq.read_table(target)["score"].to_numpy()


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_rows_of_the_assembly_score_the_same_when_they_come_from_elsewhere(told: Workspace, rows: pa.Table, expected: np.ndarray) -> None:
    assert [name for name in rows.column_names if name in DECLARED] == DECLARED
    assert all(rows[name].null_count < rows.num_rows - 50 for name in DECLARED)
    bare = rows.select(BARE)
    assert np.array_equal(scores(told, bare), expected)
    bare = with_column(bare, "position", pa.array([f"{value:.1f}" for value in bare["position"].to_pylist()]))
    bare = with_column(bare, "device", bare["device"].combine_chunks().dictionary_encode())
    assert np.array_equal(scores(told, bare.take(np.arange(len(bare))[::-1]))[::-1], expected)


def test_rows_of_the_transfer_set_too(told: Workspace) -> None:
    (file,) = told.path.glob("artifacts/distill/*/transfer.parquet")
    transfer = raw_rows(told, file)
    assert transfer.num_rows > 20
    assert np.array_equal(scores(told, transfer.select(BARE)), scores(told, transfer))


def test_without_its_context_a_statistic_is_unknown(told: Workspace, rows: pa.Table) -> None:
    nulled = rows
    for name in ("device", *(name for name in DECLARED if "device" in name)):
        nulled = with_column(nulled, name, pa.nulls(rows.num_rows, rows.schema.field(name).type))
    assert np.array_equal(scores(told, rows.select(BARE).drop_columns("device")), scores(told, nulled))


def test_a_statistic_that_a_file_carries_is_used_as_it_is(told: Workspace, rows: pa.Table, expected: np.ndarray) -> None:
    own = pa.array(np.full(rows.num_rows, 5), pa.int64())
    found = scores(told, rows.select(BARE).append_column("item_device_clicks_6h", own))
    assert np.array_equal(found, scores(told, with_column(rows, "item_device_clicks_6h", own)))
    assert not np.array_equal(found, expected)


def test_one_of_another_type_is_named_and_nothing_is_lost(told: Workspace, rows: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "scored.parquet").write_bytes(b"what was there")
    for wrong, reason in ((pa.array([[1.0]] * rows.num_rows), "list<"), (pa.array(["many"] * rows.num_rows), "many")):
        pq.write_table(rows.select(BARE).append_column("item_device_clicks_6h", wrong), tmp_path / "rows.parquet")
        ended = told.start("score", "--input", str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "scored.parquet"))
        line = ended.err.splitlines()[-1]
        assert (ended.code, line.startswith("ctr-kd: ")) == (3, True) and reason in line and "column item_device_clicks_6h " in line
        assert (tmp_path / "scored.parquet").read_bytes() == b"what was there"


def test_labels_are_measured_the_same(told: Workspace, rows: pa.Table, tmp_path: Path) -> None:
    measured = []
    for number, table in enumerate((rows, rows.select([*BARE, "clicked"]))):
        pq.write_table(table, tmp_path / f"{number}.parquet")
        measured.append(json.loads(told.run("evaluate", "--input", str(tmp_path / f"{number}.parquet"))[0]))
    assert measured[0] == measured[1] and measured[0]["auc"]["value"] is not None


def test_a_date_has_the_scores_of_its_rows_however_it_was_asked_for(told: Workspace) -> None:
    *_, day, _ = sorted(path.name.removeprefix("date=") for path in told.path.glob("store/events/date=*"))
    told.run("backfill", "--start", day, "--end", day, "--mode", "missing")
    backfilled = check_date(told, day, "log")
    told.run("score", "--date", day, "--set", "score.candidates=live")
    check_date(told, day, "live")
    told.run("score", "--date", day)
    assert check_date(told, day, "log").equals(backfilled)
    assert told.start("monitor").code in (0, 4)


def check_date(told: Workspace, day: str, kind: Literal["log", "live"]) -> pa.Table:
    """Scores of a date, which are those of a file with the same rows."""
    found = pq.read_table(told.path / "scores" / f"date={day}" / "scores.parquet", partitioning=None)
    config = load(told.conf)
    rows = candidates_on(Store(told.path / "store"), date.fromisoformat(day), config.assembly, config.feature_store, kind=kind)
    assert found.select(BARE[:3]).equals(rows.select(BARE[:3])) and found.num_rows > 50
    assert np.array_equal(scores(told, rows.select(BARE)), found["score"].to_numpy())
    return found


def test_every_statistic_is_told(told: Workspace) -> None:
    out, _ = told.run("features")
    assert all(any(line.startswith(f"{name} ") for line in out.splitlines()) for name in DECLARED)
    assert "share of these among the clicks of the same item" in out and "LEAK" not in out
