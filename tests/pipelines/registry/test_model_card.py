"""The model card says what was measured, where the model is weak, and nothing in it is markup from outside."""

from __future__ import annotations

from pipelines.metrics import Metrics
from pipelines.registry.lineage import Lineage
from pipelines.registry.model_card import limits, model_card, short_description
from pipelines.registry.promotion_gate import Check
from tests.pipelines.measured import data_facts, metrics_of
from tests.signatures import click_signature

DATA = data_facts(
    train_rows=50_000,
    validation_rows=3000,
    test_rows=2000,
    users=80,
    unseen_item_share=0.125,
    candidates={"sampled": True},
    split={
        "train_from": None,
        "train_until": "2024-05-01T00:00",
        "validate_until": "2024-05-01T02:00",
        "test_until": "2024-05-01T06:00",
    },
)
STUDENT = {
    "auc": {"value": 0.7, "low": 0.65, "high": 0.75},
    "log_loss": {"value": 0.4, "low": 0.39, "high": 0.41},
    "calibration_error": 0.01,
    "calibration_ratio": {"value": None, "reason": "no clicks"},
    "uncalibrated": {"calibration_error": 0.05},
}
METRICS = metrics_of(
    {"student": STUDENT, "teacher": {"auc": {"value": 0.71, "low": 0.66, "high": 0.76}}},
    data=DATA,
    comparisons={"student-student_alone": {"auc": {"difference": 0.004, "low": 0.001, "high": 0.007}}},
    slices={"item/unseen": {"student": {"rows": 250, "auc": {"value": 0.6}}}, "item/seen": {"student": {"rows": 1750, "auc": 0.71}}},
)
LINEAGE = Lineage.from_json(
    {
        "data": {"digest": "d" * 64, "rows": "e" * 64},
        "configuration": {"digest": "c" * 64},
        "teacher": {"digest": "f" * 64},
        "student": {"digest": "a" * 64},
        "code_revision": None,
    }
)
CHECKS = [Check(name="auc", value=0.7, bound=">= 0.5", passed=True, champion=0.69)]


def card(metrics: Metrics = METRICS, name: str = "demo") -> str:
    return model_card(name, metrics, LINEAGE, click_signature(), CHECKS, 'sqlite:////srv/a"b/mlflow.db')


def test_the_card_has_what_a_stranger_needs() -> None:
    text = card()
    for section in ("Intended use", "Data", "Metrics", "Calibration", "Known limits", "Gate", "Lineage", "How to load"):
        assert f"\n## {section}\n" in text
    assert short_description("demo", METRICS, LINEAGE) in text
    for shown in (
        "| test | 2024-05-01T02:00:00 | 2024-05-01T06:00:00 | 2,000 |",
        "| training | the beginning | 2024-05-01T00:00:00 | 50,000 |",
        "\n80 users, 0 quarantined rows.\n",
        "| auc | 0.7000 [0.6500, 0.7500] | 0.7100 [0.6600, 0.7600] |",
        "- calibration error: 0.0100, before calibration 0.0500",
        "- calibration ratio: undefined (no clicks)",
        "12.5% of the test candidates are not in its vocabulary",
        "click rates among sampled candidates",
        "AUC is 0.6000 in item/unseen (250 rows), against 0.7000 on all rows.",
        "| auc | 0.7 | 0.69 | &gt;= 0.5 | yes |",
        f"| teacher | `{'f' * 64}` |",
        "| code revision | `unknown` |",
        'mlflow.pyfunc.load_model("models:/demo@champion")',
    ):
        assert shown in text
    assert "item/seen" not in text


def test_the_card_says_how_much_of_the_teachers_lead_reached_the_student() -> None:
    reached = METRICS.model_copy(update={"transfer_ratio_interval": {"value": 0.62, "low": 0.41, "high": 0.85}})
    assert "\n62 % [41 %, 85 %] of the teacher's lead over the student alone reached the student.\n" in card(reached)
    assert "reached the student" not in card()


def test_the_card_names_the_inputs_that_are_worth_most() -> None:
    assert "## Inputs" not in card()
    groups = {"his|tory": {"inputs": ["his|tory"], "auc": {"difference": 0.03, "low": 0.02, "high": 0.04}}}
    measured = {"model": "student", "split": "validation", "rows": 3000, "auc": {"value": 0.71}, "groups": groups}
    text = card(METRICS.model_copy(update={"importance": measured}))
    assert "Permuting his\\|tory costs the student most, 0.0300 AUC [0.0200, 0.0400] of 0.7100 on 3,000 validation rows." in text


def test_the_summary_is_one_paragraph() -> None:
    said = short_description("demo", METRICS, LINEAGE)
    assert said.startswith("A `pooled` student of `demo` that gives the probability that a candidate item is clicked")
    assert "AUC 0.7000 [0.6500, 0.7500] on 2,000 test rows. Distillation gave +0.0040 [+0.0010, +0.0070]." in said
    assert "\n" not in said


def test_a_card_of_next_to_nothing_has_every_section() -> None:
    text = card(metrics_of({"student": {}}))
    assert "## How to load" in text and "| test | - | - | 300 |" in text


def test_names_from_outside_are_no_markup() -> None:
    hostile = "<script>x</script>|[a](http://b)"
    slices = {hostile: {"student": {"rows": 9, "auc": 0.1}}}
    text = card(METRICS.model_copy(update={"slices": slices}), hostile)
    assert "<script>" not in text
    assert "](http" not in text


def test_a_student_that_does_not_beat_the_trees_says_so() -> None:
    models = {**METRICS.models, "boosted_trees": {"auc": {"value": 0.701, "low": 0.65, "high": 0.75}, "library": "lightgbm"}}
    level = {"student-boosted_trees": {"auc": {"difference": -0.001, "low": -0.004, "high": 0.002}}}
    text = card(METRICS.model_copy(update={"models": models, "comparisons": level}))
    assert "| metric | student | teacher | boosted_trees |" in text
    assert "- It does not beat boosted trees by an interval: -0.0010 [-0.0040, +0.0020] AUC." in text
    above = {"student-boosted_trees": {"auc": {"difference": 0.01, "low": 0.004, "high": 0.016}}}
    assert "It does not beat" not in card(METRICS.model_copy(update={"models": models, "comparisons": above}))


def test_limits_are_those_of_the_log() -> None:
    quiet = METRICS.model_copy(update={"data": data_facts(users=5000, test_rows=20_000), "slices": {}})
    assert len(limits(quiet, None)) == 2  # what holds for every model
    assert any("down-sampled at 0.1" in limit for limit in limits(quiet, 0.1))
    weighted = quiet.model_copy(update={"data": data_facts(users=5000, test_rows=20_000, weighted=True)})
    assert any(limit.startswith("Rows count by the weights of the log") for limit in limits(weighted, None))
    several = quiet.model_copy(update={"labels": {"bought": {}, "kept": {}}})
    assert any(limit.startswith("The gate judges clicks. Of bought, kept the figures") for limit in limits(several, None))
