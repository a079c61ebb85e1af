"""What the students are compared with on the test rows, besides their teachers; a baseline that taught already is not fitted again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctr_kd.metrics import of_full_stream
from pipelines.tasks import Rows, task_of
from pipelines.tasks.baselines import BASELINES, is_asked_for
from pipelines.tasks.logits import stored_probabilities
from pipelines.training.costs import costs_of
from pipelines.training.facts import TeachersFacts
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scores = dict[str, "NDArray"]  # test probabilities by model
Costs = dict[str, dict[str, Any]]  # what a model costs, by model, as metrics.json has it


def baseline_scores(context: StageContext, test: Rows, names: Iterable[str], taught: Path, teachers: TeachersFacts) -> tuple[Scores, Costs]:
    """Test probabilities of baselines, and what each costs.

    Parameters
    ----------
    context : StageContext
    test : Rows
    names : iterable of str
        The baselines; those that the rows do not have, and those that are not asked for, are passed over.
    taught : Path
        Artifact with what the teachers said of the test rows.
    teachers : TeachersFacts
        Of that artifact.
    """
    scores, costs, rate = {}, {}, test.negative_sampling_rate
    alike = not task_of(context.config).privileged(context.inputs["ingest"])  # a teacher that reads more than can be served is no baseline
    for name in names:
        if name not in test.baselines or not is_asked_for(name, context.config.evaluate):
            continue
        if alike and name in context.config.distill.teacher_weights:
            scores[name] = stored_probabilities(taught / f"predictions_teacher_{name}_test.parquet", rate)
            costs[name] = costs_of(teachers.teachers[name])
        elif (measured := BASELINES[name](context, test)) is not None:
            score, costs[name] = measured
            scores[name] = score if name == "oracle" else of_full_stream(score, rate)  # the oracle knows the full stream
    return scores, costs
