"""The champion's teacher, student and student alone on fresh clicks: the rows are those of its own assembly, made anew."""

from __future__ import annotations

import io
import json
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ctr_kd.metrics import auc_score
from pipelines.config.run import load
from pipelines.errors import BoundBroken
from pipelines.scoring.manifest import SeenInTraining
from pipelines.stages import PIPELINE, monitor
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import stored_probabilities
from pipelines.tracking.relocate import follow_workspace
from pipelines.training import fresh_clicks
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow


def watch(workspace: Workspace, *settings: str) -> dict[str, Any]:
    """monitor.json of a champion's workspace."""
    run = RunContext(load(workspace.conf, ["monitor.min_rows=10", *settings]), workspace.path, console=Console(io.StringIO()))
    try:
        Runner(run, [PIPELINE[0], monitor.STAGE]).run("monitor", "monitor")
    finally:
        found: dict[str, Any] = json.loads((workspace.path / "reports" / "monitor" / "monitor.json").read_text())
    return found


@pytest.fixture
def registered(whole_pipeline: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a champion and the newest date scored by it; of so short a log that date is half validation."""
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    monkeypatch.setattr(SeenInTraining, "mostly", property(lambda self: False))
    follow_workspace(workspace.path)
    return workspace


def by_identity(rows: pa.Table, score: np.ndarray) -> dict[tuple[Any, ...], float]:
    keys = zip(*(rows[name].to_pylist() for name in ("user_id", "item_id", "timestamp")), strict=True)
    return dict(zip(keys, score.tolist(), strict=True))


def test_rows_made_anew_get_the_very_scores_that_they_had_at_registration(registered: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the date's rows that the run tested on: histories, statistics, vocabulary and bins are the champion's, point in time."""
    seen: dict[str, Any] = {}

    def sampled(rows: pa.Table, *rest: Any) -> pa.Table:
        seen["ids"] = ClickRows(next(registered.path.glob("artifacts/monitor/*/checkpoint/fresh"))).identities("test")
        return rows

    def evaluated(rows: Any, scores: Any, **settings: Any) -> Any:
        seen["scores"] = scores
        return EVALUATE(rows, scores, **settings)

    EVALUATE = fresh_clicks.evaluate_models
    monkeypatch.setattr(fresh_clicks, "_some_requests", sampled)
    monkeypatch.setattr(fresh_clicks, "evaluate_models", evaluated)
    found = watch(registered)
    fresh, dates = found["fresh"], found["dates"]
    assert "reason" not in fresh and fresh["date"] == dates[-1]["date"] and fresh["model_version"] == "1"
    assert fresh["rows"] == dates[-1]["rows"] and fresh["clicks"] == dates[-1]["clicks"]
    (ingest,), (distill,) = (list((registered.path / "artifacts" / stage).glob("*/_manifest.json")) for stage in ("ingest", "distill"))
    tested = ClickRows(ingest.parent).identities("test")
    assert seen["ids"].num_rows > tested.num_rows > 100
    for name in ("teacher", "student", "student_alone"):
        now = by_identity(seen["ids"], seen["scores"][name])
        then = by_identity(tested, stored_probabilities(distill.parent / f"predictions_{name}_test.parquet"))
        both = now.keys() & then.keys()
        assert len(both) > 100
        np.testing.assert_allclose([now[key] for key in both], [then[key] for key in both], atol=2e-3)  # teachers are kept in 16 bits
        label = seen["ids"]["label"].to_numpy()
        assert fresh["models"][name]["auc"]["value"] == pytest.approx(auc_score(label, seen["scores"][name]))
    # The champion scored the date from the store, and its student reads an assembly here.
    metrics = registered.metrics()
    assert fresh["models"][metrics["shipped"]]["auc"]["value"] == pytest.approx(dates[-1]["auc"]["value"], abs=1e-6)
    before = fresh["at_registration"]
    for name in ("teacher", "student", "student_alone"):
        assert before["auc"][name] == metrics["models"][name]["auc"]["value"]
        assert before["changed"][name] == pytest.approx(fresh["models"][name]["auc"]["value"] - before["auc"][name])
    assert before["transfer_ratio"] == metrics["transfer_ratio"]
    lead, gain = (fresh["comparisons"][f"{one}-student_alone"]["auc"]["difference"] for one in ("teacher", "student"))
    assert fresh["transfer_ratio"] == (pytest.approx(gain / lead) if lead > 0 else None)
    assert not list(registered.path.glob("artifacts/monitor/*/checkpoint"))
    page = (registered.path / "reports" / "monitor" / "monitor.html").read_text()
    assert "The teacher on fresh clicks" in page and f"{fresh['models']['teacher']['auc']['value']:.4f}" in page


def test_a_sample_is_of_whole_requests_and_the_same_each_time() -> None:
    request = np.repeat(np.arange(50), 4)
    rows = pa.table({"request": request, "row_id": np.arange(200)})
    some = fresh_clicks._some_requests(rows, 41, seed=0)
    assert some.num_rows == 40 and set(np.unique(some["request"].to_numpy(), return_counts=True)[1]) == {4}
    assert some["row_id"].to_pylist() == sorted(some["row_id"].to_pylist())
    assert fresh_clicks._some_requests(rows, 41, seed=0).equals(some) and not fresh_clicks._some_requests(rows, 41, seed=1).equals(some)
    assert fresh_clicks._some_requests(rows, 200, seed=0) is rows and fresh_clicks._some_requests(rows, 1, seed=0).num_rows == 4


def test_a_bound_on_the_share_alarms_and_what_was_pruned_is_said(registered: Workspace) -> None:
    fresh = watch(registered, "monitor.teacher_rows=200")["fresh"]
    assert 190 < fresh["rows"] <= 200
    with pytest.raises(BoundBroken, match="transfer_ratio"):
        watch(registered, "monitor.teacher_rows=200", "monitor.transfer_ratio_min=50")
    assert watch(registered, "monitor.teacher_rows=0")["fresh"] is None

    (finetune,) = (registered.path / "artifacts" / "finetune").iterdir()
    shutil.rmtree(finetune)
    found = watch(registered)
    assert found["broken"] == [] and found["dates"][-1]["state"] == "measured"
    assert found["fresh"]["reason"].startswith(f"{finetune} is not in this workspace (any more)")
    page = (registered.path / "reports" / "monitor" / "monitor.html").read_text()
    assert "The teacher of version 1 is not measured on" in page


def test_a_champion_is_asked_as_it_was_made_whatever_the_configuration_says_today(tmp_path: Path) -> None:
    """A block that it had not is absent from its lineage, and states are those of its own encoder."""
    conf = tmp_path / "shop.yaml"
    conf.write_text("source: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}")
    today = load(conf, ["teacher_only.context=[device]", "teacher_state.width=16", "embeddings.block=10m"])
    keys: dict[str, dict[str, Any]] = {"ingest": {"history": {"max_length": 7}}, "distill": {"distill.alpha": 0.5}}
    lineage: Any = SimpleNamespace(configuration=SimpleNamespace(keys=keys), statistics=None, teacher_state=None)
    plain = fresh_clicks._as_the_champion(today, lineage, date(2024, 1, 9))
    assert plain.history.max_length == 7 and not plain.teacher_only.named and plain.teacher_state is None and plain.embeddings is None
    keys["finetune"] = {"finetune": {"head_width": 32}}  # of a release that had no layer of the newest clicks
    older = fresh_clicks._as_the_champion(today, lineage, date(2024, 1, 9))
    assert (older.finetune.head_width, older.finetune.recency, plain.finetune.recency) == (32, False, True)
    keys["distill"]["teacher_only"] = {"context": ["segment"]}
    lineage.teacher_state = {"width": 8, "encoder": "encoder-0123456789ab"}
    more = fresh_clicks._as_the_champion(today, lineage, date(2024, 1, 9))
    assert more.teacher_only.named == {"context": ["segment"]}
    assert more.teacher_state is not None and more.teacher_state.encoder == "encoder-0123456789ab"
