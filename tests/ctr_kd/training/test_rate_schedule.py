import pytest
import torch

from ctr_kd.config_training import TrainingConfig
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit
from ctr_kd.training.rate_schedule import CosineSchedule, PlateauSchedule, StepClock, schedule_of
from tests.ctr_kd.trainings import job_at


def measured(schedule, scores):
    """Steps at which a plateau schedule validates, for given scores, until its end."""
    curve, steps, scores = LearningCurve(), [], iter(scores)
    step = 0
    while step < schedule.end:
        step += 1
        if schedule.validates(step):
            steps.append(step)
            curve.points.append({"step": step, "score": next(scores)})
            if curve.points[-1]["score"] > curve.kept_score:
                curve.kept_step, curve.kept_score = step, curve.points[-1]["score"]
            schedule.begins_to_fall(curve)
    return steps, curve


def test_the_cosine_rises_and_falls_to_zero() -> None:
    schedule = CosineSchedule(TrainingConfig(warmup=0.2, validations=2), 10)
    factors = [schedule.factor(step) for step in range(10)]
    assert factors[0] == 0.5 and max(factors) == factors[1] == 1.0 and factors[-1] == pytest.approx(0, abs=1e-12)
    assert [step for step in range(1, 11) if schedule.validates(step)] == [5, 10] and schedule.end == 10
    assert [schedule.factor(step, 0.5) for step in range(5)] == [0.0] * 5 and schedule.factor(5, 0.5) == 1.0


def test_the_rate_falls_once_validation_has_not_improved_for_its_patience() -> None:
    schedule = PlateauSchedule(TrainingConfig(patience=2, validations=10, warmup=0), 100)
    steps, curve = measured(schedule, [1, 2, 3, 4, 3, 3, 5, 6])
    # best at 40; at 60 patience is at its end, and the fall takes half of 40 steps
    assert steps == [10, 20, 30, 40, 50, 60, 70, 80] and schedule.end == 80 and curve.kept_step == 80
    assert schedule.factor(60) == pytest.approx(20 / 21) and schedule.factor(79) == pytest.approx(1 / 21)


def test_a_training_that_goes_on_improving_ends_with_its_budget() -> None:
    schedule = PlateauSchedule(TrainingConfig(patience=2, validations=10, warmup=0), 90)
    steps, _ = measured(schedule, range(99))
    assert schedule.end == 90 and steps[-1] == 90 and 60 in steps  # two thirds of it at a constant rate
    assert [round(schedule.factor(step), 3) for step in (60, 75, 89)] == [0.968, 0.484, 0.032]


def test_a_budget_of_one_step_is_one_step() -> None:
    schedule = schedule_of(TrainingConfig(patience=1, validations=40), 1)
    assert schedule.validates(1) and schedule.factor(0) == 1.0
    steps, _ = measured(schedule, range(9))
    assert steps[0] == 1 and schedule.end <= 2


def test_the_state_goes_on_where_it_was() -> None:
    config = TrainingConfig(patience=2, validations=10)
    schedule, other = PlateauSchedule(config, 100), PlateauSchedule(config, 100)
    measured(schedule, [1, 2, 3, 4, 3, 3, 5, 6])
    other.load_state_dict(schedule.state_dict())
    assert (other.end, other.factor(70), other.shown_end) == (schedule.end, schedule.factor(70), "80")
    assert CosineSchedule(config, 3).state_dict() == {"end": 3} and PlateauSchedule(config, 1000).shown_end == "at most 1,000"


def test_the_training_goes_back_to_its_best_weights_before_the_rate_falls(tmp_path) -> None:
    model, seen, said = torch.nn.Linear(1, 1, bias=False), [], []
    scores = iter([1.0, 3.0, 2.0, 2.0, *[0.0] * 20])

    def validate():
        seen.append(model.weight.item())
        return {"score": next(scores)}

    config = TrainingConfig(epochs=20, validations=20, patience=2, learning_rate=0.1, warmup=0, weight_decay=0)
    loss = lambda batch, rng, progress: lambda part: model(torch.ones(1, 1)).sum()  # noqa: E731
    curve = fit(model, config, job_at(tmp_path / "c.pt", report=said.append), plan=lambda rng: [[0]], loss=loss, validate=validate)
    assert curve.kept_step == 2 and model.weight.item() == seen[1]
    assert curve.steps == 5 and [point["step"] for point in curve.points] == [1, 2, 3, 4, 5]
    assert abs(seen[4] - seen[1]) < abs(seen[3] - seen[1])  # one step at a lower rate, from the best
    assert "validation was best at step 2: the rate falls from there, to step 5" in said


def test_patience_and_the_last_weights_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="patience ends a training by its validation, and keep: last does not heed it"):
        TrainingConfig(patience=2, keep="last")


def test_the_clock_finds_out_once_how_many_steps_fit() -> None:
    def fitting(minutes, done=0):
        now = [0.0]
        clock = StepClock(minutes, done, done > 0, lambda: now[0])
        found = {}
        for step in range(done + 1, done + 40):
            now[0] += 5.0 if step <= done + StepClock.SKIPPED else 0.1
            found[step] = clock.fitting(step)
        return {step: most for step, most in found.items() if most is not None}

    assert fitting(0.051) == {13: 30} and fitting(None) == {} and fitting(0.051, done=20) == {}
    with pytest.raises(TrainingError, match=r"a step takes 0\.1 s, so 0\.011 minutes are 6 steps, too few to learn anything: raise budget"):
        fitting(0.011)


@pytest.mark.parametrize("patience", [None, 2])
def test_a_training_takes_no_more_steps_than_fit_into_its_minutes(patience, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(StepClock, "fitting", lambda self, step: 30 if step == 13 else None)
    model, scores = torch.nn.Linear(1, 1, bias=False), iter(range(100))
    config = TrainingConfig(epochs=1000, minutes=0.05, patience=patience)
    run = {
        "plan": lambda rng: [[0]],
        "loss": lambda *_: lambda part: model(torch.ones(1, 1)).sum(),
        "validate": lambda: {"score": next(scores)},
    }
    curve = fit(model, config, job_at(tmp_path / "c.pt"), **run)
    assert curve.steps == 30 and curve.points[-1]["step"] == 30
