"""One trial: the stages from the rows to the student, with some keys changed, and what the student is worth on the validation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctr_kd.metrics.bootstrap import Bootstrap
from feature_store.tables.contracts import DataError
from feature_store.tables.json_models import JsonModel
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.experiments.comparison import ingest_of_the_same_store, learned_changes, train_one
from pipelines.stages import TO_TEACHER
from pipelines.stages.finetune import STAGE as FINETUNE
from pipelines.stages.ingest import STAGE as INGEST
from pipelines.stages.student import STAGE as STUDENT
from pipelines.tasks import task_of
from pipelines.tasks.logits import stored_probabilities
from pipelines.training.costs import student_rows_per_second
from pipelines.training.facts import StudentFacts
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

VALIDATION = "predictions_student_validation.parquet"
_FIRST_STEP = {FINETUNE.name: 0, STUDENT.name: 100}  # by the stages whose trainings are watched


class Order(JsonModel):
    """A trial that is to be trained.

    Attributes
    ----------
    title : str
        What messages call it.
    changes : dict of str to value
        Dotted keys and values in place of the configured ones.
    seed : int
        Of pretraining, fine-tuning and student; the rows are the same whatever it is.
    number : int
        Of the trial in its study; -1 for one of the finals, whose trainings nobody stops early.
    """

    title: str
    changes: dict[str, Any]
    seed: int
    number: int = -1


class Trained(JsonModel):
    """What a trial gave.

    Attributes
    ----------
    metric : str
        ``auc``, or of classes ``accuracy``.
    value : float
        Of the student, on the validation rows.
    artifact : str
        Fingerprint of the student.
    seconds : dict of str to float
        What each stage takes, whenever it was made.
    made : list of str
        Stages that this trial made; the others stood in the workspace.
    bytes, parameters : int
        Of the student.
    rows_per_second : float or None
        None where no bound asks for it.
    """

    metric: str
    value: float
    artifact: str
    seconds: dict[str, float]
    made: list[str]
    bytes: int
    parameters: int
    rows_per_second: float | None = None


class TrialStopped(Exception):
    """The trial is worth less than others were at this point."""


@dataclass(frozen=True)
class Watcher:
    """Looks at a trial's trainings, and ends those that are not worth it.

    Attributes
    ----------
    goes_on : callable
        Takes a step (up to 100 of the teacher, up to 200 of the student) and the value on validation then; says whether the trial goes on.
    """

    goes_on: Callable[[int, float], bool]

    def __call__(self, stage: str, share: float, figures: Mapping[str, float]) -> None:
        """Look at what validation measured.

        Raises
        ------
        TrialStopped
            When the trial shall not go on.
        """
        value = figures.get("accuracy", figures.get("auc"))
        if stage in _FIRST_STEP and value is not None and not self.goes_on(_FIRST_STEP[stage] + round(100 * share), value):
            raise TrialStopped


def trial_config(config: RunConfig, order: Order) -> RunConfig:
    """The configuration of a trial; raises ConfigError where its values do not go together."""
    return learned_changes(config, order.changes, order.title) if order.changes else config


def train_trial(own: RunContext, order: Order) -> Trained:
    """Bring the stages of a trial up to date, and measure its student on the validation rows. No test row is looked at.

    Parameters
    ----------
    own : RunContext
        Of the configuration as it is; its rows are up to date.
    order : Order

    Raises
    ------
    ConfigError
        When the values do not go together, or give other validation rows.
    TrialStopped
        When the run's watcher says so.
    """
    config = trial_config(own.config, order)
    run = replace(own, config=config, artifacts={})
    Runner(run, [ingest_of_the_same_store(own)]).run()
    _refuse_other_rows(own, run)
    run.config = run.config.model_copy(update={"seed": order.seed})  # with what the log decided
    made = list(Runner(run, [stage for stage in TO_TEACHER if stage.name != INGEST.name]).run().made)
    student, is_new = train_one(run, run.config)
    facts, bounds = StudentFacts.read(student.path), own.config.tune
    rows = task_of(config).rows(run.artifacts[INGEST.name].path)
    metric, value = validation_value(config, run.artifacts[INGEST.name].path, student.path)
    stages = {name: artifact for name, artifact in run.artifacts.items() if name != INGEST.name} | {STUDENT.name: student}
    return Trained(
        metric=metric,
        value=value,
        artifact=student.path.name,
        seconds={name: artifact.finished.seconds for name, artifact in stages.items()},
        made=[*made, *([STUDENT.name] if is_new else [])],
        bytes=facts.bytes,
        parameters=facts.parameters,
        rows_per_second=student_rows_per_second(student.path / "export", rows, "validation") if bounds.rows_per_second_min else None,
    )


def validation_value(config: RunConfig, ingest: Path, student: Path) -> tuple[str, float]:
    """Metric of a student on the validation rows, by name: accuracy where there are classes, else AUC.

    Raises
    ------
    DataError
        When it is undefined, as where validation holds one class.
    """
    from ctr_kd.evaluation.model_metrics import measure_model

    validation = task_of(config).rows(ingest).evaluation_rows("validation")
    metric = validation.metric
    score = stored_probabilities(student / VALIDATION)
    weight = validation.row_weight
    bootstrap = Bootstrap(validation.user, len(validation.label), replicates=1, seed=config.evaluate.seed)
    found = measure_model(validation.label, score, bootstrap, weight=weight, row_weight=weight)[metric]
    if found.value is None:
        raise DataError(f"{metric} on validation is undefined: {found.reason}")
    return metric, float(found.value)


def need_two_classes(run: RunContext) -> None:
    """Make sure, before anything is trained, that the validation rows can tell trials apart.

    Raises
    ------
    DataError
        When they hold one class.
    """
    import numpy as np

    label = task_of(run.config).rows(run.artifacts[INGEST.name].path).evaluation_rows("validation").label
    if len(np.unique(label)) < 2:
        held = f"all {len(label):,} validation rows have label {label[0]}" if len(label) else "there are no validation rows"
        raise DataError(f"{held}, so no trial can be told from another: let split give validation a longer window")


def _refuse_other_rows(own: RunContext, run: RunContext) -> None:
    """Raises ConfigError where the validation rows of a trial are not those of the configuration as it is, one by one."""
    paths = [one.artifacts[INGEST.name].path for one in (own, run)]
    if paths[0] == paths[1]:
        return
    ours, theirs = (task_of(own.config).rows(path).identities("validation") for path in paths)
    if not ours.equals(theirs):
        raise ConfigError("it has other validation rows, and trials are compared row by row")


def student_artifact(workspace: Path, trained: Trained) -> Path | None:
    """Where the student of a trial lies; None where it was removed since."""
    path = workspace / "artifacts" / STUDENT.name / trained.artifact
    return path if Artifact(path).manifest is not None else None
