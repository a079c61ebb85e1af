"""A trial by itself: what it reuses, that no test row shapes it, and who ends it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.training.errors import TrainingError
from pipelines.config.run import load
from pipelines.errors import ConfigError
from pipelines.experiments.tuning.trials import Order, Trained, TrialStopped, Watcher, student_artifact, train_trial
from pipelines.stages.ingest import STAGE as INGEST
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

pytestmark = pytest.mark.slow

LOG = """
source: {reader: tabular, events: {path: log.parquet, user: user, item: item, time: time, clicked: clicked, request: request}}
split: {fractions: [0.6, 0.2, 0.2]}
statistics: {auto: false}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16}}
finetune: {training: {epochs: 1, batch_size: 128}}
distill: {student: {width: 4, hidden: 8}, training: {epochs: 1, batch_size: 128}}
tune: {bytes_max: 100, rows_per_second_min: 1}
"""


def write_log(folder: Path, flipped: bool) -> Path:
    """A log of 300 requests; the clicks of the last fifth are the others where they are flipped."""
    folder.mkdir()
    rng, requests = np.random.default_rng(0), 300
    request = np.repeat(np.arange(requests), 4)
    item = np.concatenate([rng.permutation(20)[:4] for _ in range(requests)])
    clicked = rng.random(len(request)) < np.where(item < 7, 0.5, 0.1)
    clicked = np.where(flipped & (request >= 0.8 * requests), ~clicked, clicked)
    table = {
        "user": request % 25,
        "item": item,
        "time": 1_700_000_000 + request * 600,
        "clicked": clicked.astype(np.int8),
        "request": request,
    }
    table["time"] = pa.array(table["time"] * 1_000_000, pa.timestamp("us"))
    pq.write_table(pa.table(table), folder / "log.parquet")
    (folder / "log.yaml").write_text(LOG)
    return folder


def run_of(folder: Path) -> RunContext:
    run = RunContext(load(folder / "log.yaml"), folder / "workspace", folder, console=Console(io.StringIO()))
    Runner(run, [INGEST]).run()
    return run


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.tasks.timing.TIMED_SECONDS", 0.001)


@pytest.mark.usefixtures("_quick")
def test_a_trial_makes_what_its_keys_shape_and_no_test_row_shapes_it(tmp_path: Path) -> None:
    run = run_of(write_log(tmp_path / "log", flipped=False))
    configured = train_trial(run, Order(title="as configured", changes={}, seed=0))
    assert configured.made == ["pretrain", "finetune", "teacher", "student"] and configured.metric == "auc"
    changes = {"distill.alpha": 0.2, "distill.training.learning_rate": 0.01}
    student = train_trial(run, Order(title="trial 1", changes=changes, seed=0))
    assert student.made == ["student"] and student.artifact != configured.artifact and student.seconds.keys() == configured.seconds.keys()
    assert student.bytes > 0 and (student.rows_per_second or 0) > 0 and student_artifact(run.workspace, student) is not None
    other = run_of(write_log(tmp_path / "other", flipped=True))
    assert train_trial(other, Order(title="as configured", changes={}, seed=0)).value == configured.value
    assert train_trial(other, Order(title="trial 1", changes=changes, seed=0)).value == student.value

    # A watcher sees the training as it goes, and ends it; what cannot be or diverges says so.
    seen: list[int] = []
    run.watch = Watcher(lambda step, value: (seen.append(step), len(seen) < 3)[1])
    with pytest.raises(TrialStopped):
        train_trial(run, Order(title="trial 2", changes={"distill.alpha": 0.3}, seed=0))
    assert seen == [133, 167, 200] or seen == [125, 150, 175] or (len(seen) == 3 and all(100 < step <= 200 for step in seen))
    run = replace(run, watch=lambda stage, share, figures: None)
    with pytest.raises(TrainingError, match="is not finite at step"):
        train_trial(run, Order(title="trial 3", changes={"distill.training.learning_rate": 1e20}, seed=0))
    with pytest.raises(ConfigError, match=r"heads \(2\) must divide the width \(9\)"):
        train_trial(run, Order(title="trial 4", changes={"pretrain.encoder.width": 9}, seed=0))
    with pytest.raises(ConfigError, match="it has other validation rows"):
        train_trial(run, Order(title="trial 5", changes={"history.min_length": 3}, seed=0))


def test_what_a_trial_gave_reads_back() -> None:
    trained = Trained(metric="auc", value=0.7, artifact="a", seconds={"student": 1.0}, made=[], bytes=1, parameters=2)
    assert Trained.from_json(trained.to_json()) == trained
