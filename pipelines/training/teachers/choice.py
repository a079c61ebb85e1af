"""From the configuration to teachers, and what of the world outside a workspace they depend on."""

from __future__ import annotations

from typing import cast

from ctr_kd.config_teachers import TeacherConfig
from feature_store.plugins import plugin_digest
from pipelines.tasks import task_of
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.fitting import teaching_library
from pipelines.tasks.texts import TextRows
from pipelines.training.teachers.bert import BertTeacher
from pipelines.training.teachers.fitted import LinearTeacher, TreesTeacher
from pipelines.training.teachers.logged_scores import LoggedScores, scores_digest
from pipelines.training.teachers.mlflow_model import ModelTeacher, digest_of_model, model_folder
from pipelines.training.teachers.plugin import PluginTeacher
from pipelines.training.teachers.teacher import Teacher
from pipelines.workspace.context import RunContext, StageContext


def make_teacher(config: TeacherConfig, context: StageContext) -> Teacher:
    """A configured teacher, not yet fitted; it reads the columns that teachers alone read too."""
    if config.scores is not None:
        return LoggedScores(config.name, config.scores, context)
    if config.name == "bert":
        return BertTeacher(config.name, context)
    rows = task_of(context.config).rows(context.inputs["ingest"], "teacher")
    if config.model is not None:
        return ModelTeacher(config, context, rows)
    if config.plugin is not None:
        return PluginTeacher(config.name, config.plugin, context, rows)
    return (
        TreesTeacher(config.name, context, rows)
        if isinstance(rows, ClickRows)
        else LinearTeacher(config.name, context, cast(TextRows, rows))
    )


def columns_of(config: TeacherConfig) -> tuple[str, ...] | None:
    """Columns of the splits' rows that a teacher needs; None where it may read any of them.

    What the BERT says of them its own stage has stored, by their numbers: of a large log all columns would fill the memory.
    """
    return ("row_id", "split") if config.name == "bert" and not config.out_of_fold else None


def outside_of_teachers(run: RunContext) -> dict[str, str]:
    """Digests of what teachers are made of that is in no artifact: the library of the trees, files of scores, models, plug-ins."""
    found = teaching_library(run)
    for teacher in run.config.distill.teachers:
        key = f"teacher/{teacher.name}"
        if teacher.scores is not None and teacher.scores.path is not None:
            found[key] = scores_digest(teacher.scores, run)
        elif teacher.model is not None:
            found[key] = digest_of_model(model_folder(teacher, run))
        elif teacher.plugin is not None:
            found[key] = plugin_digest("ctr_kd.teachers", teacher.plugin)
    return found
