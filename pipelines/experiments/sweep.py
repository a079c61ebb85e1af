"""Stage sweep: a grid of students under one teacher, as a frontier of AUC against rows per second and bytes. Its command runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from ctr_kd.config_students import COMBINING, StudentSettings
from ctr_kd.evaluation.pareto import on_frontier
from ctr_kd.evaluation.several_seeds import measure_seeds, seed_means
from feature_store.config_types import Config
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import write_json, write_text
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.experiments.ablations import changed
from pipelines.experiments.comparison import Comparison, Taught, bring_up_to_date, compared_rows
from pipelines.metrics import RunFacts
from pipelines.tasks.logits import stored_probabilities
from pipelines.training.costs import combined_costs, student_costs
from pipelines.training.facts import StudentFacts
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.reports import experiment_directory
from pipelines.workspace.runner import Runner

FILE, PAGE = "sweep.json", "sweep.html"


def sweep(runner: Runner, force: bool = False) -> str:
    """Bring the teacher, every student of the grid and the frontier up to date; returns the table of the result.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`.
    force : bool
        Train the students again even where they are up to date; the teacher and its transfer sets stay.
    """
    wanted, _ = grid(runner.context.config)
    file = runner.context.config.sweep.points
    points = None if file is None else read_points(file)  # before anything is trained
    if not wanted:
        raise ConfigError("no student of the grid goes with the rest of the configuration; change sweep.kinds or sweep.widths")

    def measure(context: StageContext, taught: Sequence[Taught]) -> None:
        measure_students(context, taught[0].students, points)

    read = {} if file is None else {"points": sha256_of(file)}
    bring_up_to_date(runner, Comparison("sweep", {runner.context.config.seed: wanted}, measure, (FILE, PAGE), read), force)
    return sweep_table(runner.context)


class Point(Config):
    """A model of others: its place on the axes of the sweep."""

    name: str = Field(min_length=1)
    auc: dict[str, float]  # value on the test rows, and low and high where there is an interval
    validation_auc: float | None = None
    rows_per_second: float | None = Field(None, gt=0)
    parameters: int | None = Field(None, gt=0)
    bytes: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _has_a_value(self) -> Point:
        if not {"value"} <= set(self.auc) <= {"value", "low", "high"}:
            raise ValueError("auc holds value, and low and high where there is an interval")
        return self


class Points(BaseModel):
    """What a file of ``sweep.points`` must hold; other keys are passed over."""

    rows: str = Field(description="name of the artifact of ingest that the models were measured on")
    points: list[Point]


def read_points(file: Path) -> Points:
    """Models of others from a JSON file.

    Raises
    ------
    ConfigError
        When there is no such file, or it holds no points.
    """
    try:
        return Points.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"sweep.points: {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"sweep.points: {file}: {f'{where}: ' if where else ''}{problem['msg'].removeprefix('Value error, ')}") from None


def grid(config: RunConfig) -> tuple[dict[str, RunConfig], dict[str, str]]:
    """The configured distillation into each student of the grid, by ``KIND WIDTH``; and those that cannot be, with the reason."""
    students, impossible = {}, {}
    for kind in dict.fromkeys(config.sweep.kinds):
        for width in sorted(set(config.sweep.widths)):
            title = f"{kind} {width}"
            try:
                students[title] = changed(config, {"distill.student": _student(config, kind) | {"width": width}})
            except ConfigError as error:
                impossible[title] = str(error)
    return students, impossible


def _student(config: RunConfig, kind: str) -> dict[str, Any]:
    """The configured student's settings, as far as another kind has them too."""
    configured = config.distill.student.model_dump()
    shared = {key: configured[key] for key in StudentSettings.reads({"kind": kind}).model_fields if key in configured}
    return shared | {"kind": kind} | ({} if kind in COMBINING or "combiner" not in shared else {"combiner": "mean"})


def measure_students(context: StageContext, trained: Mapping[str, Path], points: Points | None = None) -> None:
    """Measure all students and the teacher on the same rows; writes ``sweep.json`` and ``sweep.html``.

    Raises
    ------
    ConfigError
        When the points of others were measured on other rows: on the same axes they would mean something else.
    """
    from ctr_kd.report import WORDS, render_sweep

    config, settings = context.config, context.config.evaluate
    rows = context.inputs["ingest"].name
    if points and points.rows != rows:
        raise ConfigError(
            f"sweep.points: {config.sweep.points} was measured on the rows of {points.rows}, and these are of {rows}; "
            "measure them again with this configuration and this log"
        )
    test, labelled, bootstrap = compared_rows(context)

    def measured(file: Path) -> dict[str, Any]:
        score = stored_probabilities(file, test.negative_sampling_rate)
        means = seed_means(measure_seeds(labelled.label, [[score]], bootstrap, labelled.weight, labelled.row_weight), settings.seed)
        return {metric: mean.to_json() for metric, mean in means.items()}

    students: list[dict[str, Any]] = []
    shown: list[float] = []  # on validation
    for name, artifact in trained.items():
        kind, width = name.rsplit(" ", 1)
        main, validation = StudentFacts.read(artifact).curve.kept_figure
        entry = {"name": name, "kind": kind, "width": int(width), f"validation_{main}": validation}
        students.append(entry | measured(artifact / "predictions_student_test.parquet") | student_costs(artifact, test))
        shown.append(np.nan if validation is None else validation)
        context.report(f"{name}: {WORDS[main]} {students[-1][main]['value']:.4f}, {students[-1]['rows_per_second'] or 0:,.0f} rows/s")
    fast = on_frontier(shown, [1 / one["rows_per_second"] if one["rows_per_second"] else np.nan for one in students])
    small = on_frontier(shown, [one["bytes"] for one in students])
    for one, first, second in zip(students, fast.tolist(), small.tolist(), strict=True):
        one["on_frontier"] = {"rows_per_second": first, "bytes": second}
    result = {
        "run": RunFacts.of(context).to_json(),
        "data": {"test_rows": len(labelled.label), "users": bootstrap.units},
        "teacher": measured(context.inputs["teacher"] / "predictions_test.parquet") | combined_costs(context),
        "students": students,
        "others": [point.model_dump() for point in points.points] if points else [],
        "not_possible": grid(config)[1],
    }
    write_json(context.output / FILE, result)
    write_text(context.output / PAGE, render_sweep(result))
    context.record({"students": len(students), "on_frontier": int((fast | small).sum())})


def sweep_table(run: RunContext) -> str:
    """Every student with its quality and cost, the frontier marked, and where the page is."""
    from ctr_kd.report import WORDS, quality

    result: Mapping[str, Any] = read_json(run.artifacts["sweep"].path / FILE) or {}
    main = quality({"models": {one["name"]: one for one in result["students"]}})
    heads = (WORDS[main], "validation", "rows/s", "kB", "on the frontier of")
    lines = [f"{'model':<16}{heads[0]:>8}{heads[1]:>12}{heads[2]:>12}{heads[3]:>9}  {heads[4]}"]
    models = [*result["students"], *result["others"]]
    for one in [{"name": "teacher", **result["teacher"]}, *sorted(models, key=lambda one: -one[main]["value"])]:
        best = [{"rows_per_second": "speed", "bytes": "size"}[name] for name, on in one.get("on_frontier", {}).items() if on]
        chosen_by = one.get(f"validation_{main}")
        validation = "–" if chosen_by is None else f"{chosen_by:.4f}"
        size = "–" if one["bytes"] is None else f"{one['bytes'] / 1000:,.0f}"
        rate = f"{one['rows_per_second']:,.0f}" if one["rows_per_second"] else "–"
        lines.append(f"{one['name']:<16}{one[main]['value']:>8.4f}{validation:>12}{rate:>12}{size:>9}  {', '.join(best)}".rstrip())
    lines += [f"{name:<16}{'–':>8}  {reason}" for name, reason in result["not_possible"].items()]
    return "\n".join([*lines, f"report: {experiment_directory(run, 'sweep', PAGE) / PAGE}"])
