"""A trial by itself: what it reuses, that no test row shapes it, and who ends it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ctr_kd.training.errors import TrainingError
from feature_store.tables.contracts import DataError
from pipelines.config.run import RunConfig, load
from pipelines.errors import ConfigError
from pipelines.experiments.tuning import trials
from pipelines.experiments.tuning.trials import Order, Trained, TrialStopped, Watcher, need_two_classes, student_artifact, train_trial
from pipelines.stages.ingest import STAGE as INGEST
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from tests.pipelines.experiments.tuning.world import write_log

pytestmark = pytest.mark.slow


def run_of(folder: Path) -> RunContext:
    run = RunContext(
        load(folder / "log.yaml", ["tune.rows_per_second_min=1"]), folder / "workspace", folder, console=Console(io.StringIO())
    )
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


def test_labels_that_are_all_alike_tell_no_trials_apart(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clicks `ingest` says so where there is none; this is of texts, and of logs of clicks alone."""
    run = RunContext(config, Path("none"), artifacts=cast("Any", {"ingest": SimpleNamespace(path=Path("none"))}))
    rows = SimpleNamespace(rows=lambda path: SimpleNamespace(evaluation_rows=lambda split: SimpleNamespace(label=np.ones(7, np.int64))))
    monkeypatch.setattr(trials, "task_of", lambda config: rows)
    with pytest.raises(DataError, match="all 7 validation rows have label 1, so no trial can be told from another"):
        need_two_classes(run)
