"""Arms of a proof: the run with some of its keys changed, from ingest to student, under the same seeds and on the very same test rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctr_kd.config import ArmConfig
from ctr_kd.evaluation.several_seeds import Seeded, seed_differences, seed_means
from ctr_kd.evaluation.transfer_ratio import transfer_ratio as ratio_with_interval
from feature_store.tables.json_files import digest_of
from pipelines.config.run import RunConfig, privileged
from pipelines.errors import ConfigError
from pipelines.experiments.ablations import alone
from pipelines.experiments.comparison import LEARNED_KEYS, Taught, ingest_of_the_same_store, learned_changes, teach
from pipelines.stages.ingest import STAGE as INGEST
from pipelines.tasks import task_of
from pipelines.training.costs import student_costs
from pipelines.training.shipping import transfer_ratio
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

_OF_ALONE = ("history.max_length", "labels", "distill")  # beside its rows, what it does not see of them, and its seed

Measure = Callable[[Sequence[Sequence[Path]]], dict[str, Seeded]]


@dataclass(frozen=True)
class Arm:
    """A configuration that is compared with that of the run.

    Attributes
    ----------
    said : ArmConfig
        Its name, and the keys that it changes.
    config : RunConfig
        The run's with these keys.
    """

    said: ArmConfig
    config: RunConfig


@dataclass(frozen=True)
class TrainedArm:
    """An arm whose teachers and students are trained.

    Attributes
    ----------
    arm : Arm
    ingest : Path
        Artifact with its rows.
    taught : sequence of Taught
        Its teachers by seed, each with ``student/SEED``.
    alone : mapping of int to Path
        The student alone by seed, which may be that of the run or of another arm.
    """

    arm: Arm
    ingest: Path
    taught: Sequence[Taught]
    alone: Mapping[int, Path]

    @property
    def made_from(self) -> dict[str, str]:
        """Digests of all these artifacts, by STAGE/FINGERPRINT."""
        paths = [self.ingest, *self.alone.values(), *(path for one in self.taught for path in one.paths)]
        return {f"{path.parent.name}/{path.name}": Artifact(path).finished.digest for path in paths}


def arms_of(config: RunConfig) -> list[Arm]:
    """The configured arms.

    Raises
    ------
    ConfigError
        When an arm changes what is no key, has no such value, decides which rows are tested, or is learned from by no student.
    """
    return [Arm(said, _changed(config, said)) for said in config.prove.arms]


def _changed(config: RunConfig, said: ArmConfig) -> RunConfig:
    where = f"prove.arms: arm {said.name!r}"
    changed = learned_changes(config, said.set_, where)
    if changed.source != config.source:
        raise ConfigError(
            f"{where}: a teacher of it repeats a column that the run's rows lack: name that in the run's source.events.scores"
        )
    if changed.section(LEARNED_KEYS) == config.section(LEARNED_KEYS):
        raise ConfigError(f"{where} is the run as it is configured: no student learns from what it changes")
    return changed


def train_arms(runner: Runner, arms: Sequence[Arm], taught: Sequence[Taught], force: bool = False) -> list[TrainedArm]:
    """Bring teachers and students of every arm up to date; what an arm does not change is found where the run or another arm left it.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`, which was run.
    arms : sequence of Arm
    taught : sequence of Taught
        The run's own teachers by seed, with ``student_alone/SEED`` under the first.
    force : bool
        Train the students again even where they are up to date.

    Raises
    ------
    ConfigError
        When an arm has other test rows.
    """
    own = runner.context
    seeds = range(own.config.seed, own.config.seed + own.config.prove.seeds)
    kept = {_alone_of(own, own.config): {seed: taught[0].students[f"student_alone/{seed}"] for seed in seeds}}
    trained = []
    for number, arm in enumerate(arms, start=1):
        own.report(f"arm {number} of {len(arms)}: {arm.said.name}")
        run = replace(own, config=arm.config, artifacts={})
        Runner(run, [ingest_of_the_same_store(own)]).run()
        _refuse_other_rows(own, run, arm)
        to_teacher = Runner(run, [stage for stage in runner.stages.values() if stage.name != INGEST.name])
        to_teacher.run()
        which = _alone_of(run, run.config)
        wanted = {"student": arm.config} | ({} if which in kept else {"student_alone": alone(arm.config)})
        students = {f"{name}/{seed}": one.model_copy(update={"seed": seed}) for name, one in wanted.items() for seed in seeds}
        only = {title: one for title, one in students.items() if title.startswith("student/")}
        teacher_seeds = range(own.config.seed, own.config.seed + own.config.prove.teachers)
        found = teach(to_teacher, {seed: students if seed == own.config.seed else only for seed in teacher_seeds}, force)
        if which not in kept:
            kept[which] = {seed: found[0].students[f"student_alone/{seed}"] for seed in seeds}
        trained.append(TrainedArm(arm, run.artifacts[INGEST.name].path, found, kept[which]))
    return trained


def _refuse_other_rows(own: RunContext, run: RunContext, arm: Arm) -> None:
    """Raises ConfigError where the test rows of an arm are not those of the run, one by one."""
    paths = [one.artifacts[INGEST.name].path for one in (own, run)]
    if paths[0] == paths[1]:
        return
    ours, theirs = (task_of(own.config).rows(path).identities("test") for path in paths)
    if not ours.equals(theirs):
        raise ConfigError(
            f"prove.arms: arm {arm.said.name!r} has other test rows than the run ({theirs.num_rows:,} against {ours.num_rows:,}, or other "
            f"users, items, times or labels), and arms are compared row by row; it changes {', '.join(arm.said.set_)}"
        )


def _alone_of(run: RunContext, config: RunConfig) -> tuple[str, str]:
    """What a student alone depends on beside its seed: its rows, and its own settings, as the log decided them; no teacher."""
    return run.artifacts[INGEST.name].path.name, digest_of([alone(config).section(_OF_ALONE), config.teacher_only.named])


def arm_figures(trained: TrainedArm, measure: Measure, configured: Mapping[str, Seeded], metric: str, seed: int) -> dict[str, Any]:
    """What an arm is worth, as ``prove.json`` has it.

    Parameters
    ----------
    trained : TrainedArm
    measure : callable
        From files of logits by teacher and student seed to figures by metric.
    configured : mapping of str to Seeded
        The run's own student by metric.
    metric : str
        Of the transfer ratio.
    seed : int
        Of the resampling of seeds.
    """
    arm, taught = trained.arm, trained.taught
    students = [[path for title, path in one.students.items() if title.startswith("student/")] for one in taught]
    measured = {
        "teacher": measure([[one.teacher / "predictions_test.parquet"] for one in taught]),
        "student": measure([[path / "predictions_student_test.parquet" for path in of_teacher] for of_teacher in students]),
        "student_alone": measure([[path / "predictions_student_test.parquet" for path in trained.alone.values()]]),
    }
    models = {name: {key: mean.to_json() for key, mean in seed_means(one, seed).items()} for name, one in measured.items()}
    pairs = {
        "student-student_alone": (measured["student"], measured["student_alone"]),
        "teacher-student_alone": (measured["teacher"], measured["student_alone"]),
        "student-configured": (measured["student"], configured),
    }
    teacher, student, without = (measured[name][metric] for name in ("teacher", "student", "student_alone"))
    models["student"] |= student_costs(students[0][0], task_of(arm.config).rows(trained.ingest))
    return {
        **arm.said.model_dump(mode="json", by_alias=True),
        "privileged": privileged(arm.config),
        "models": models,
        "comparisons": {
            name: {key: found.to_json() for key, found in seed_differences(one, other, seed).items()}
            for name, (one, other) in pairs.items()
        },
        "transfer_ratio": transfer_ratio(models, metric),
        "transfer_ratio_interval": ratio_with_interval(teacher, student, without, seed).to_json(),
    }
