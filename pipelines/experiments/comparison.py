"""Many students under one teacher or several: each of all these is an artifact of its own, which the next experiment finds again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.metrics.bootstrap import Bootstrap
from pipelines.config.problems import keys_of
from pipelines.config.run import STUDENT_KEYS, RunConfig, with_changes
from pipelines.errors import ConfigError
from pipelines.stages import TO_TEACHER
from pipelines.stages.ingest import STAGE as INGEST
from pipelines.stages.student import STAGE as STUDENT
from pipelines.stages.transfer import STAGE as TRANSFER
from pipelines.tasks import Rows, task_of
from pipelines.training.budgets import with_numbers
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.parent import parent_of
from pipelines.workspace.reports import publish_beside_run
from pipelines.workspace.runner import Runner

LEARNED_KEYS = tuple(dict.fromkeys(key for stage in (*TO_TEACHER, TRANSFER, STUDENT) for key in stage.keys))
"""Keys on which a student depends, from its rows to itself."""

_DECIDE_ROWS = ("source", "split", "candidates")


def learned_changes(config: RunConfig, changes: Mapping[str, Any], where: str) -> RunConfig:
    """The configuration with other values under some dotted keys, of which students learn and which leave their rows comparable.

    Parameters
    ----------
    config : RunConfig
    changes : mapping of str to value
    where : str
        What says them: the beginning of what is said of a mistake.

    Raises
    ------
    ConfigError
        When a key is none, has no such value, decides which rows there are, or is learned from by no student.
    """
    learned = {key.partition(".")[0] for key in LEARNED_KEYS} - {"seed", *_DECIDE_ROWS}
    for key in changes:
        block = key.partition(".")[0]
        if block in _DECIDE_ROWS:
            raise ConfigError(f"{where}: {key} decides which rows are tested, and all are compared row by row: change it in the run itself")
        if block in keys_of(RunConfig) and block not in learned:
            raise ConfigError(f"{where}: no student learns from {key}; what may change is {', '.join(sorted(learned))}")
    return with_changes(config, changes, where)


def ingest_of_the_same_store(own: RunContext) -> Stage:
    """Stage ``ingest`` without a look at the log: what came since a run's own rows were made is in no rows beside them."""
    inputs = own.artifacts[INGEST.name].finished.inputs
    known = {name: one.digest for name, one in inputs.items() if one.digest is not None}
    return replace(INGEST, outside=lambda _: known)


@dataclass(frozen=True)
class Taught:
    """A teacher and what learned under it.

    Attributes
    ----------
    teacher : Path
        Artifact of stage ``teacher``.
    students : mapping of str to Path
        Artifacts of stage ``student``, by title.
    """

    teacher: Path
    students: Mapping[str, Path]

    @property
    def paths(self) -> list[Path]:
        """All these artifacts."""
        return [self.teacher, *self.students.values()]


@dataclass(frozen=True)
class Comparison:
    """What an experiment trains, and how it compares that.

    Attributes
    ----------
    name : str
        Of its stage, and of its settings in the configuration.
    students : mapping of int to mapping of str to RunConfig
        The configuration of each, by title, under the seed of its teacher; the run's own seed comes first.
    compare : callable
        Takes the context of the stage, and the teachers with their students, in the order of the seeds.
    files : tuple of str
        What it writes for people to see.
    read : mapping of str to str
        Digests of whatever else it reads, by name.
    """

    name: str
    students: Mapping[int, Mapping[str, RunConfig]]
    compare: Callable[[StageContext, Sequence[Taught]], None]
    files: tuple[str, ...]
    read: Mapping[str, str] = field(default_factory=dict)


def bring_up_to_date(runner: Runner, comparison: Comparison, force: bool = False) -> None:
    """Bring the teachers, all students and the comparison of them up to date.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`.
    comparison : Comparison
    force : bool
        Train the students again even where they are up to date; the teachers and their transfer sets stay.
    """
    runner.run()
    compare(runner, comparison, teach(runner, comparison.students, force))


def teach(runner: Runner, students: Mapping[int, Mapping[str, RunConfig]], force: bool = False) -> list[Taught]:
    """Bring the teachers of some seeds and the students under each up to date.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`, or of those after ``ingest``, which was run.
    students : mapping of int to mapping of str to RunConfig
        As in :class:`Comparison`.
    force : bool
        Train the students again even where they are up to date.
    """
    taught = []
    for number, (seed, wanted) in enumerate(students.items(), start=1):
        if len(students) > 1:
            runner.context.report(f"teacher {number} of {len(students)}: seed {seed}")
        run = teacher_of_seed(runner, seed)
        trained = train_all(run, wanted, force)
        taught.append(Taught(run.artifacts["teacher"].path, {title: artifact.path for title, artifact in trained.items()}))
    return taught


def compare(runner: Runner, comparison: Comparison, taught: Sequence[Taught]) -> None:
    """Bring the comparison of what was trained up to date.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`, which was run.
    comparison : Comparison
    taught : sequence of Taught
        What :func:`teach` made of its students.
    """
    digests = dict(comparison.read)
    for path in (path for one in taught for path in one.paths):
        digests[f"{path.parent.name}/{path.name}"] = Artifact(path).finished.digest
    stage = Stage(
        comparison.name,
        lambda context: comparison.compare(context, taught),
        source=comparison.compare.__module__,
        upstream=("ingest", "finetune", "teacher"),
        keys=(
            "name",
            "seed",
            *STUDENT_KEYS,
            "teacher_only",
            "evaluate.bootstrap",
            "evaluate.seed",
            "evaluate.boosted_trees",
            comparison.name,
        ),
        outside=lambda _: digests,
        conclude=lambda context: publish_beside_run(context, comparison.files),
    )
    Runner(runner.context, [stage]).run()


def teacher_of_seed(runner: Runner, seed: int) -> RunContext:
    """The run with a teacher of some seed, brought up to date: all that makes a teacher is made anew, of the very same rows.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`, which was run.
    seed : int
        Of pretraining, fine-tuning and all teachers beside the BERT.
    """
    own = runner.context
    if seed == own.config.seed:
        return own
    config = own.config.model_copy(update={"seed": seed})
    run = replace(own, config=config, artifacts={"ingest": own.artifacts["ingest"]})
    Runner(run, [stage for stage in runner.stages.values() if stage.name != "ingest"]).run()
    return run


def train_all(run: RunContext, wanted: Mapping[str, RunConfig], force: bool = False) -> dict[str, Artifact]:
    """An artifact for each of the wanted students, by its title; those that are up to date in the workspace are taken from there.

    Parameters
    ----------
    run : RunContext
        In which ``ingest``, ``finetune`` and ``teacher`` are up to date.
    wanted : mapping of str to RunConfig
        They may differ from the run's configuration in ``seed`` and ``distill``, the teachers excepted. What is ``auto`` in them the log
        decides.
    force : bool
        Train them again even where they are up to date; a transfer set stays.
    """
    trained = {}
    for number, (title, config) in enumerate(wanted.items(), start=1):
        run.report(f"student {number} of {len(wanted)}: {title}")
        trained[title], _ = train_one(run, config, force)
    return trained


def train_one(run: RunContext, config: RunConfig, force: bool = False) -> tuple[Artifact, bool]:
    """One of the students of :func:`train_all`, and whether it was made now, or was up to date in the workspace."""
    ingest = run.artifacts["ingest"].path
    config = with_numbers(config, task_of(run.config).size(ingest), parent_of(ingest))
    own = replace(run, config=config, artifacts={name: run.artifacts[name] for name in STUDENT.upstream})
    stage = STUDENT
    if config.distill.transfers:  # labelled by the teacher of the run, whatever the student's seed
        Runner(replace(own, config=config.model_copy(update={"seed": run.config.seed})), [TRANSFER]).run()  # joins own.artifacts
        stage = replace(STUDENT, upstream=(*STUDENT.upstream, TRANSFER.name))
    summary = Runner(own, [stage]).run(force=force)
    return own.artifacts[STUDENT.name], bool(summary.made)


def compared_rows(context: StageContext) -> tuple[Rows, EvaluationRows, Bootstrap]:
    """What students are compared on: the rows, what the test rows are measured with, and their resamples by user, or by row without any."""

    settings, raw = context.config.evaluate, task_of(context.config).rows(context.inputs["ingest"])
    rows = raw.evaluation_rows()
    return raw, rows, Bootstrap(rows.user, len(rows.label), replicates=settings.bootstrap, seed=settings.seed)
