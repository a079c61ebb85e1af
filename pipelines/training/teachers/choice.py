"""From the configuration to teachers, and what of the world outside a workspace they depend on."""

from __future__ import annotations

from ctr_kd.config_teachers import TeacherConfig
from feature_store.plugins import plugin_digest
from pipelines.tasks.teachers import teaching_library
from pipelines.training.teachers.bert import BertTeacher
from pipelines.training.teachers.fitted import LinearTeacher, TreesTeacher
from pipelines.training.teachers.logged_scores import LoggedScores, scores_digest
from pipelines.training.teachers.mlflow_model import ModelTeacher, digest_of_model, model_folder
from pipelines.training.teachers.plugin import PluginTeacher
from pipelines.training.teachers.teacher import Teacher
from pipelines.workspace.context import RunContext, StageContext


def make_teacher(config: TeacherConfig, context: StageContext) -> Teacher:
    """A configured teacher, not yet fitted."""
    if config.scores is not None:
        return LoggedScores(config.name, config.scores, context)
    if config.model is not None:
        return ModelTeacher(config, context)
    if config.plugin is not None:
        return PluginTeacher(config.name, config.plugin, context)
    if config.name == "bert":
        return BertTeacher(config.name, context)
    return (TreesTeacher if config.name == "boosted_trees" else LinearTeacher)(config.name, context)


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
