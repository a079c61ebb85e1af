"""Which student ships: decided by a paired bootstrap on validation rows; and what is said where distillation did not pay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctr_kd.evaluation.rows import EvaluationRows
from pipelines.config.run import RunConfig, load
from pipelines.metrics import Shipping
from pipelines.tasks.logits import write_predictions
from pipelines.training.shipping import advise, choose_student

ROWS = 2000
RNG = np.random.default_rng(0)
LOGIT = RNG.normal(size=ROWS)
ROWS_OF_USERS = EvaluationRows((RNG.random(ROWS) < 1 / (1 + np.exp(-LOGIT))).astype(np.int8), np.arange(ROWS) % 100)


def chosen(
    folder: Path, config: RunConfig, noise: tuple[float, float], rows: EvaluationRows = ROWS_OF_USERS, ship: str = "better"
) -> Shipping:
    """With student and student alone so far from the true logits."""
    for seed, (name, much) in enumerate(zip(("student", "student_alone"), noise, strict=True)):
        logit = LOGIT + much * np.random.default_rng(seed + 1).normal(size=ROWS)
        if rows.classes:
            logit = np.stack([np.zeros(ROWS), logit], axis=1)
        else:
            logit = logit[:, None]
        write_predictions(folder / f"predictions_{name}_validation.parquet", np.arange(ROWS), logit, folder.name)
    settings = {"distill": {"ship": ship}, "evaluate": {"bootstrap": 50}}
    return choose_student(RunConfig.model_validate(config.model_dump(by_alias=True) | settings), folder, rows)


@pytest.mark.parametrize(
    ("noise", "ship", "shipped", "said"),
    [
        ((0.1, 1.0), "better", "student", "a gain beyond chance"),
        ((0.5, 0.5), "better", "student", "no more than chance makes"),
        ((1.0, 0.1), "better", "student_alone", "a loss beyond chance"),
        ((1.0, 0.1), "student", "student", "the student ships, since distill.ship is student: student minus student alone is"),
        ((0.1, 1.0), "alone", "student_alone", "the student alone ships, since distill.ship is alone: student minus student alone is"),
    ],
)
def test_the_student_ships_unless_it_is_worse_beyond_chance(
    tmp_path: Path, config: RunConfig, noise: tuple[float, float], ship: str, shipped: str, said: str
) -> None:
    found = chosen(tmp_path, config, noise, ship=ship)
    assert found.shipped == shipped and said in found.sentence
    assert found.metric == "auc" and found.validation["low"] <= found.validation["difference"] <= found.validation["high"]
    assert found.gain_high == (0.0 if shipped == "student_alone" else found.validation["high"])


def test_classes_are_compared_by_accuracy(tmp_path: Path, config: RunConfig) -> None:
    rows = EvaluationRows(ROWS_OF_USERS.label.astype(np.int64), classes=["no", "yes"])
    found = chosen(tmp_path, config, (2.0, 0.1), rows)
    assert (found.metric, found.shipped) == ("accuracy", "student_alone")
    assert "accuracy on validation" in found.sentence


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (EvaluationRows(ROWS_OF_USERS.label, np.zeros(ROWS, int)), "an interval needs at least two users"),
        (EvaluationRows(np.zeros(ROWS, np.int8), ROWS_OF_USERS.user), "all 2000 labels are 0"),
    ],
    ids=["one user", "one label"],
)
def test_what_has_no_interval_decides_nothing(tmp_path: Path, config: RunConfig, rows: EvaluationRows, reason: str) -> None:
    found = chosen(tmp_path, config, (1.0, 0.1), rows)
    assert found.shipped == "student" and found.gain_high is None
    assert found.sentence == f"the student ships: validation cannot tell the two apart ({reason})"
    assert found.validation["reason"] == reason


def tables(gain: float, lead: float, trees: float = 0.6) -> dict[str, Any]:
    def gap(value: float) -> dict[str, Any]:
        return {"auc": {"difference": value, "low": value - 0.001, "high": value + 0.001}}

    models = {"student_alone": {"auc": 0.7}, "boosted_trees": {"auc": trees}}
    return {"models": models, "comparisons": {"student-student_alone": gap(gain), "teacher-student_alone": gap(lead)}}


@pytest.mark.parametrize(
    ("found", "settings", "steps", "change"),
    [
        (tables(0.0, 0.01), {}, 900, "distill.training.epochs=6"),
        (tables(0.0, 0.01), {"distill": {"training": {"epochs": 9}}}, 900, "distill.alpha=0.2"),
        (tables(0.0, 0.01), {"distill": {"training": {"epochs": 9}, "alpha": 0.1}}, 900, None),
        (tables(-0.01, 0.0), {}, 900, "pretrain.training.epochs=6"),
        (tables(-0.01, 0.0), {}, 90_000, "pretrain.encoder.width=128"),
        (tables(-0.01, 0.0, trees=0.71), {}, 30, "pretrain.training.epochs=40"),
        (tables(-0.01, 0.0, trees=0.71), {}, 9000, "distill.teachers={bert: 0.5, boosted_trees: 0.5}"),
        (tables(-0.01, 0.0), {}, None, "finetune.training.epochs=4"),
        (tables(-0.01, 0.0, trees=0.71), {"distill": {"teachers": {"boosted_trees": 1}}}, 900, None),
    ],
)
def test_what_to_try_next_follows_from_the_figures_and_is_a_key(
    tmp_path: Path, config: RunConfig, found: dict[str, Any], settings: dict[str, Any], steps: int | None, change: str | None
) -> None:
    epochs = {stage: {"training": {"epochs": 2}} for stage in ("pretrain", "finetune")}
    taught = {"training": {"epochs": 2}, "teachers": {"bert": 1}} | settings.get("distill", {})
    own = RunConfig.model_validate(config.model_dump(by_alias=True) | epochs | {"distill": taught})
    shipping = Shipping(ship="better", shipped="student", metric="auc", validation={}, sentence="")
    advice = advise(own, shipping, found, pretraining_steps=steps, validation_clicks=1234)
    assert advice is not None and advice.change == change
    assert advice.cause.endswith("validation holds 1,234 clicks")
    if change:
        (tmp_path / "conf.yaml").write_text("source: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}\n")
        load(tmp_path / "conf.yaml", [change])


def test_nothing_is_advised_where_distillation_paid_or_is_not_wanted(config: RunConfig) -> None:
    shipping = Shipping(ship="better", shipped="student", metric="auc", validation={}, sentence="")
    paid = {"pretraining_steps": 900, "validation_clicks": 1}
    assert advise(config, shipping, tables(0.01, 0.01), **paid) is None
    other = shipping.model_copy(update={"shipped": "student_alone"})
    given = RunConfig.model_validate(config.model_dump(by_alias=True) | {"distill": {"training": {"epochs": 2}}})
    assert advise(given, other, tables(0.01, 0.01), **paid) is not None  # test and validation disagree
    alone = RunConfig.model_validate(config.model_dump(by_alias=True) | {"distill": {"ship": "alone"}})
    assert advise(alone, other, tables(-0.01, 0.01), **paid) is None
