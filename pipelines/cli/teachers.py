"""The teachers of a configuration as a table: how much each counts, what it covers, what it is worth, how old it is, what it costs."""

from __future__ import annotations

from datetime import datetime

import click

from pipelines.cli.options import Options, common
from pipelines.cli.session import say_what_was_done, session
from pipelines.stages import TO_TEACHER
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS
from pipelines.training.facts import FitOnRows, TeacherFacts, TeachersFacts
from pipelines.workspace.context import RunContext
from pipelines.workspace.tables import text_table

_ROWS = 1_000_000  # of which the cost is shown


@click.command("teachers")
@common
def teachers_command(options: Options) -> None:
    """Show who teaches: weight, coverage, AUC and calibration where each teaches and on validation, age and cost.

    Coverage is the share of rows that have a logit. A teacher that is far better on the newest training rows than on validation has seen
    the labels that it teaches. Calibration is predicted clicks over clicks. Age runs from the end of what a teacher learned from to the
    logical time of the run; of one that was trained elsewhere nobody knows it. What a teacher said once is kept in the workspace, below
    teachers/, and it is asked about no row twice.

    \b
    Examples:
      ctr-kd teachers conf/simulated.yaml
      ctr-kd teachers conf/globo.yaml --workspace work/globo --set "distill.teachers={bert: 0.5, boosted_trees: 0.5}"
    """
    with session("teachers", options.starting("cold"), TO_TEACHER) as runner:
        say_what_was_done(runner.run(options.first or "teacher", options.last or "teacher", options.force))
        if "teacher" in runner.context.artifacts:
            click.echo(teachers_table(runner.context))


def teachers_table(run: RunContext) -> str:
    """A line for each configured teacher, in the order of the configuration.

    Parameters
    ----------
    run : RunContext
        With ``ingest`` and ``teacher`` up to date.
    """
    known = TeachersFacts.read(run.artifacts["teacher"].path).teachers
    facts = task_of(run.config).rows(run.artifacts["ingest"].path).facts()
    quality = "AUC" if run.config.task == "clicks" else "accuracy"
    head = ["teacher", "kind", "weight", *(f"of {split}" for split in SPLITS), f"{quality} where it teaches", "on validation"]
    head += ["calibration", "age", "s per million rows", "scores"]
    rows = [head]
    for name, weight in run.config.distill.teacher_weights.items():
        one = known[name]
        on = (None, None) if one.leak is None else (one.leak.training, one.leak.validation)
        rows.append(
            [
                name,
                one.kind,
                f"{weight:.2f}",
                *(f"{one.coverage[split]:.1%}" if split in one.coverage else "–" for split in SPLITS),
                *map(_quality, on),
                _number(on[1].calibration_ratio if on[1] else None, "{:.3f}"),
                _age(one, facts.get("as_of")),
                _number(_ROWS / one.rows_per_second if one.rows_per_second else None, "{:,.1f}"),
                one.digest[:12],
            ]
        )
    warned = [name for name, one in known.items() if one.leak is not None and one.leak.beyond_chance]
    said = f"\nbetter beyond chance where it teaches: {', '.join(warned)}" if warned else ""
    return text_table(rows, right=range(2, len(head) - 1)) + said


def _quality(rows: FitOnRows | None) -> str:
    return "–" if rows is None else _number(rows.auc if rows.auc is not None else rows.accuracy, "{:.4f}")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _age(teacher: TeacherFacts, as_of: str | None) -> str:
    """Hours or days from the end of what a teacher learned from."""
    if teacher.until is None or as_of is None:
        return "–"
    hours = (datetime.fromisoformat(as_of) - teacher.until).total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} d"
