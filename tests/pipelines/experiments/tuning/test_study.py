"""What is tried next, what is remembered after a kill, and what is said to have mattered; with figures in place of trainings."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipelines.config.run import RunConfig, with_changes
from pipelines.experiments.tuning import study as room
from pipelines.experiments.tuning.clock import Clock
from pipelines.experiments.tuning.finals import Finalist, Judged, finalists_of, winner_of
from pipelines.experiments.tuning.space import configured_point, space_of
from pipelines.experiments.tuning.study import Study, Tried, study_name
from pipelines.experiments.tuning.trials import Order, Trained
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext

SPACE = {
    "distill.alpha": {"low": 0.0, "high": 1.0},
    "distill.temperature": {"low": 1.0, "high": 8.0, "log": True},
    "distill.student.kind": {"choices": ["pooled", "din"]},
    "finetune.training.epochs": {"low": 1, "high": 4},
}


def run_of(config: RunConfig, tmp_path: Path, **tune: Any) -> RunContext:
    config = with_changes(config, {"tune": {"space": SPACE, **tune}}, "test")
    ingest = SimpleNamespace(finished=SimpleNamespace(digest="rows"), path=Path("rows"))
    return RunContext(config, tmp_path, console=Console(io.StringIO()), artifacts=cast("Any", {"ingest": ingest}))


def study_of(run: RunContext, anew: bool = False) -> Study:
    return Study(run, space_of(run.config), run.config, anew)


def gave(value: float, size: int = 100) -> Trained:
    return Trained(metric="auc", value=value, artifact="a", seconds={"student": 1.0}, made=["student"], bytes=size, parameters=1)


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a disk, for tests of what is drawn."""
    import optuna

    monkeypatch.setattr(room, "_storage", lambda database: optuna.storages.InMemoryStorage())


def worth(order: Order) -> float:
    """Alpha is what matters; .25 is best."""
    return 0.7 - (order.changes.get("distill.alpha", 0.5) - 0.25) ** 2


def search(study: Study, trials: int) -> list[Order]:
    orders = []
    for _ in range(trials):
        order = study.ask()
        assert order is not None
        study.tell(order.number, "trained", 1.0, gave(worth(order)))
        orders.append(order)
    return orders


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_the_configuration_comes_first_and_good_values_are_found(config: RunConfig, tmp_path: Path, sampler: str) -> None:
    study = study_of(run_of(config, tmp_path, sampler=sampler))
    first, *others = search(study, 30)
    assert first.changes == {} and first.title == "as configured"
    assert all(order.changes.keys() == SPACE.keys() for order in others)
    assert {type(order.changes["finetune.training.epochs"]) for order in others} == {int}
    best = max(others, key=worth)
    assert abs(best.changes["distill.alpha"] - 0.25) < 0.06
    assert next(iter(study.importance())) == "distill.alpha"
    assert len({order.changes["finetune.training.epochs"] for order in others}) > 1
    values = [order.changes for order in others]
    kept = sum(values[n]["finetune.training.epochs"] in {one["finetune.training.epochs"] for one in values[:n]} for n in range(1, 29))
    assert kept > 15, "most trials take the teacher of another"


@pytest.mark.usefixtures("in_memory")
def test_most_trials_are_near_a_good_one(config: RunConfig, tmp_path: Path) -> None:
    space = {
        f"distill.training.{key}": {"low": 0.0, "high": 0.5} for key in ("unknown_rate", "attribute_rate", "statistics_rate", "warmup")
    }
    space |= {f"finetune.training.{key}": {"low": 0.0, "high": 0.5} for key in ("unknown_rate", "attribute_rate", "warmup", "average")}
    config = with_changes(config, {f"{block}.training.unknown_rate": 0.2 for block in ("finetune", "distill")}, "test")
    run = run_of(config, tmp_path, space=space)
    orders = search(study_of(run), 40)
    point = configured_point(run.config, space_of(run.config))
    values = [{**point, **order.changes} for order in orders]
    distance = [min(sum(one[key] != other[key] for key in space) for other in values[:n]) for n, one in enumerate(values) if n]
    assert sorted(distance)[len(distance) // 2] <= 3 and max(distance) >= 4, "others draw all keys of the student, or all"


@pytest.mark.usefixtures("in_memory")
def test_the_state_of_cmaes_is_not_pickled_into_the_database(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write the database could let code run where it is unpickled."""
    monkeypatch.setattr("pickle.loads", lambda *arguments: pytest.fail("something was unpickled"))
    study = study_of(run_of(config, tmp_path, sampler="cmaes"))
    search(study, 25)
    attributes = {name for trial in study._study.get_trials() for name in trial.system_attrs}
    assert {"cma:generation"} <= attributes and not any("optimizer" in name for name in attributes)
    assert max(trial.system_attrs.get("cma:generation", 0) for trial in study._study.get_trials()) > 0


def test_another_process_finds_what_was_tried_and_goes_on_with_what_was_left(config: RunConfig, tmp_path: Path) -> None:
    run = run_of(config, tmp_path)
    study = study_of(run)
    search(study, 3)
    left = study.ask()
    assert left is not None
    study.keep_seconds(12.5)
    study.keep_final(left, {"any": "thing"})
    again = study_of(run)
    assert again.seconds == 12.5 and len(again.tried()) == 3 and list(again.finals.values()) == [{"any": "thing"}]
    order = again.ask()
    assert order is not None and order.changes == left.changes and order.number != left.number
    assert len(study_of(run, anew=True).tried()) == 0


def test_a_workspace_may_be_called_anything(config: RunConfig, tmp_path: Path) -> None:
    run = run_of(config, tmp_path / "who? %20")
    search(study_of(run), 1)
    assert (tmp_path / "who? %20" / "tune" / room.DATABASE).is_file() and len(study_of(run).tried()) == 1


def test_the_configuration_that_was_left_is_tried_again(config: RunConfig, tmp_path: Path) -> None:
    run = run_of(config, tmp_path)
    first = study_of(run).ask()
    order = study_of(run).ask()
    assert first is not None and order is not None
    assert first.changes == order.changes == {} and order.number == 1
    study = study_of(run)
    study.tell(cast("Order", study.ask()).number, "failed", 1.0, reason="it diverged")
    assert cast("Order", study.ask()).changes, "it failed by itself, and would again"


def test_another_value_in_the_space_is_a_trial_and_one_outside_another_study(config: RunConfig, tmp_path: Path) -> None:
    run = run_of(config, tmp_path)
    search(study_of(run), 4)
    run.config = with_changes(run.config, {"distill.alpha": 0.75}, "test")
    study = study_of(run)
    assert len(study.tried()) == 3, "the configuration as it was is no configuration as it is"
    assert cast("Order", study.ask()).changes == {}
    names = {study_name(run, space_of(run.config))}
    for changes in ({"distill.soft": "kl"}, {"tune.bytes_max": 5}, {"tune.space": {"distill.alpha": {"low": 0.0, "high": 1.0}}}):
        run.config = with_changes(run.config, changes, "test")
        names.add(study_name(run, space_of(run.config)))
    assert len(names) == 4


@pytest.mark.usefixtures("in_memory")
def test_what_was_drawn_before_is_not_trained_again(config: RunConfig, tmp_path: Path) -> None:
    run = run_of(config, tmp_path)
    run.config = with_changes(run.config, {"tune.space": {"distill.student.kind": {"choices": ["pooled", "din"]}}}, "test")
    study = study_of(run)
    (first,) = search(study, 1)
    other = study.ask()
    assert other is not None and (first.changes, other.changes) == ({}, {"distill.student.kind": "din"})
    study.tell(other.number, "failed", 1.0, reason="it diverged")
    assert study.ask() is None and len(study.tried()) == 2, "there is nothing else, and what failed would fail again"


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_what_is_worth_less_at_the_same_point_is_stopped_early(config: RunConfig, tmp_path: Path, pruner: str) -> None:
    study = study_of(run_of(config, tmp_path, pruner=pruner))
    for n in range(12):
        order = cast("Order", study.ask())
        assert study.goes_on(order.number, 25, 0.7 + n / 1000) or n > 0
        study.goes_on(order.number, 75, 0.7 + n / 1000)
        study.tell(order.number, "trained", 1.0, gave(0.7 + n / 1000))
    goes_on = []
    for _ in range(6):  # hyperband has brackets that stop less
        order = cast("Order", study.ask())
        goes_on.append(study.goes_on(order.number, 25, 0.5) and study.goes_on(order.number, 75, 0.5))
        study.tell(order.number, "stopped", 1.0)
    assert all(goes_on) if pruner == "none" else not any(goes_on) if pruner == "median" else not all(goes_on)
    assert study.tried()[-1].state == "stopped" and study.tried()[-1].points[25] == 0.5


@pytest.mark.usefixtures("in_memory")
def test_a_student_beyond_a_bound_loses_by_the_share_that_it_is_over(config: RunConfig, tmp_path: Path) -> None:
    study = study_of(run_of(config, tmp_path, bytes_max=100))
    for value, size in ((0.7, 100), (0.9, 150)):
        order = cast("Order", study.ask())
        study.tell(order.number, "trained", 1.0, gave(value, size))
    assert [one.objective for one in study.tried()] == [0.7, pytest.approx(0.4)]
    assert [one.tried.number for one in finalists_of(study.tried(), 3)] == [0, 1]


def test_a_damaged_database_says_so(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / room.DATABASE).write_bytes(b"no database at all, but some text that is long enough" * 20)
    with pytest.raises(ArtifactError, match=r"studies\.db is damaged: .*; delete it and run again"):
        study_of(run_of(config, tmp_path))


def judged(number: int, value: float, gain: float | None, within: bool = True) -> Judged:
    tried = Tried(number, "trained", {"distill.alpha": 0.1} if number else {}, value, 1.0, gave(value), "", {})
    return Judged(Finalist(tried, {1: gave(value)}), {"value": value}, None if gain is None else {"difference": gain}, within)


def test_only_what_is_better_and_within_the_bounds_replaces_the_configuration() -> None:
    configured = judged(0, 0.70, None)
    better, best, too_large = judged(1, 0.71, 0.01), judged(2, 0.72, 0.02), judged(3, 0.8, 0.1, within=False)
    assert winner_of([configured, better, best, too_large]) == best
    assert winner_of([configured, judged(4, 0.69, -0.01)]) is None and winner_of([configured, too_large]) is None
    assert winner_of([judged(0, 0.7, None, within=False), judged(4, 0.69, -0.01)]) is not None
    assert winner_of([judged(4, 0.69, None)]) is not None, "the configuration as it is gave no student"
    assert winner_of([]) is None


def test_what_fits_a_budget() -> None:
    clock = Clock(1000.0, before=500.0)
    assert clock.has_room_for_a_trial([150.0, 190.0, 900.0], whole=100.0)
    assert not clock.has_room_for_a_trial([250.0], whole=100.0), "300 s are kept for the finals"
    assert not clock.has_room_for_a_trial([100.0], whole=250.0), "a finalist and the configuration take 500 s"
    assert Clock(1000.0, before=500.0, processes=2).has_room_for_a_trial([100.0], whole=250.0)
