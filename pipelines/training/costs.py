"""What models cost: rows per second, parameters and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.registry.model_package import scorer_in
from pipelines.tasks import Rows
from pipelines.tasks.timing import TIMED_ROWS, rate_of
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import StageContext


def teacher_costs(members: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Rows per second of several teachers together, which cost what each of them costs; ``facts`` of each as ``teacher/NAME``.

    Examples
    --------
    >>> facts = {"teacher/a": {"rows_per_second": 20.0, "rows_per_second_alone": 5.0}, "teacher/b": {"rows_per_second": 20.0}}
    >>> teacher_costs(["a", "b"], facts)
    {'rows_per_second': 10.0, 'rows_per_second_alone': 4.0}
    """
    together = [facts[f"teacher/{name}"] for name in members]
    keys = ("rows_per_second", "rows_per_second_alone")
    return {key: 1 / sum(1 / fact.get(key, fact["rows_per_second"]) for fact in together) for key in keys}


def student_rows_per_second(export: Path, test: Rows) -> float | None:
    """Rows that an exported student scores per second on one thread, from raw ids or texts in memory to probabilities."""
    rows = test.read("test")
    table = test.raw(rows.slice(max(0, rows.num_rows - TIMED_ROWS)))
    scorer = scorer_in(export / "scorer.py", export)
    return rate_of(scorer.score, table)


def student_costs(artifact: Path, test: Rows) -> dict[str, Any]:
    """Rows per second, parameters and bytes of an exported student."""
    facts = read_json(artifact / "training.json") or {}
    return {"rows_per_second": student_rows_per_second(artifact / "export", test)} | {key: facts[key] for key in ("parameters", "bytes")}


def teacher_facts(context: StageContext) -> dict[str, Any]:
    """Rows per second of the teacher, with parameters and bytes where it is the BERT alone."""
    members = list(context.config.distill.teachers)
    bert = read_json(context.inputs["finetune"] / "training.json") or {}
    facts = teacher_costs(members, {**(read_json(context.inputs["teacher"] / "training.json") or {}), "teacher/bert": bert})
    return facts | {key: bert[key] if members == ["bert"] else None for key in ("parameters", "bytes")}
