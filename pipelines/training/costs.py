"""What models cost: rows per second, parameters and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_store.tables.json_models import JsonModel
from pipelines.config.run import RunConfig
from pipelines.registry.model_package import scorer_in
from pipelines.tasks import Rows
from pipelines.tasks.timing import TIMED_ROWS, rate_of
from pipelines.training.facts import FinetuningFacts, StudentFacts, TeachersFacts
from pipelines.workspace.context import StageContext

# In metrics.json, of a model.
SHOWN = ("rows_per_second", "rows_per_second_alone", "parameters", "bytes", "masked_item_accuracy", "library", "trees")


def costs_of(facts: JsonModel) -> dict[str, Any]:
    """What a model costs, and the BERT what it still knows, as metrics.json has it."""
    said = facts.to_json()
    return {name: said[name] for name in SHOWN if name in said}


def costs_together(teachers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Rows per second of several teachers together, which cost what each of them costs; logged scores cost nothing.

    Examples
    --------
    >>> costs_together([{"rows_per_second": 20.0, "rows_per_second_alone": 5.0}, {"rows_per_second": 20.0}])
    {'rows_per_second': 10.0, 'rows_per_second_alone': 4.0}
    """
    asked = [one for one in teachers if one.get("rows_per_second")]
    return {key: 1 / sum(1 / one.get(key, one["rows_per_second"]) for one in asked) for key in SHOWN[:2]} if asked else {}


def teacher_costs(config: RunConfig, bert: FinetuningFacts, others: TeachersFacts) -> dict[str, dict[str, Any]]:
    """Costs of each configured teacher, by name."""
    return {name: costs_of(bert) if name == "bert" else costs_of(others.teachers[name]) for name in config.distill.teacher_weights}


def student_rows_per_second(export: Path, rows: Rows, split: str = "test") -> float | None:
    """Rows that an exported student scores per second on one thread, from raw ids or texts in memory to probabilities."""
    timed = rows.read(split)
    table = rows.raw(timed.slice(max(0, timed.num_rows - TIMED_ROWS)))
    scorer = scorer_in(export / "scorer.py", export)
    return rate_of(scorer.score, table)


def student_costs(artifact: Path, test: Rows) -> dict[str, Any]:
    """Rows per second, parameters and bytes of an exported student."""
    facts = StudentFacts.read(artifact)
    return {
        "rows_per_second": student_rows_per_second(artifact / "export", test),
        "parameters": facts.parameters,
        "bytes": facts.bytes,
    }


def combined_costs(context: StageContext) -> dict[str, Any]:
    """Rows per second of the teachers of an experiment together, with parameters and bytes where it is the BERT alone."""
    bert, others = FinetuningFacts.read(context.inputs["finetune"]), TeachersFacts.read(context.inputs["teacher"])
    costs = teacher_costs(context.config, bert, others)
    alone = list(costs) == ["bert"]
    return costs_together(list(costs.values())) | {
        "parameters": bert.parameters if alone else None,
        "bytes": bert.bytes if alone else None,
    }
