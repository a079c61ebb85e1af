"""A student, or a term of its loss, that is a plug-in: the digest by which artifacts know it, and its checks before a training."""

from __future__ import annotations

import pyarrow as pa

from ctr_kd.config import SOFT_TERMS
from ctr_kd.config_students import STUDENT_KINDS
from ctr_kd.data.samples import Samples
from ctr_kd.data.texts import AnyAssembly
from ctr_kd.training.errors import TrainingError
from feature_store.plugins import plugin_digest
from pipelines.config.run import RunConfig
from pipelines.tasks import task_of
from pipelines.workspace.context import RunContext, StageContext

STUDENT = "student "  # begins the name of a plug-in among the inputs of a stage


def student_digest(config: RunConfig) -> dict[str, str]:
    """Digest of the source of the configured student, where that is a plug-in: another one is trained anew."""
    kind = config.distill.student.kind
    return {} if kind in STUDENT_KINDS else {f"{STUDENT}{kind}": plugin_digest("ctr_kd.students", kind)}


def student_source(run: RunContext) -> dict[str, str]:
    """:func:`student_digest`, and that of the term of the teacher's logits, as what a stage reads from outside."""
    soft = run.config.distill.soft
    term = {} if soft in SOFT_TERMS else {f"objective {soft}": plugin_digest("ctr_kd.objectives", soft)}
    return student_digest(run.config) | term


def check_plugin(context: StageContext, assembly: AnyAssembly, validation: Samples) -> None:
    """Try a student that is a plug-in on validation rows, before any of it is trained; ours are tried by the tests.

    Raises
    ------
    TrainingError
        Of the first check that it fails.
    """
    settings = context.config.distill.student
    if settings.kind in STUDENT_KINDS:
        return
    from ctr_kd.models.students import student_class
    from ctr_kd.training.student_checks import check_export, check_student, rows_to_check

    signature, rows = assembly.signature(), task_of(context.config).rows(context.inputs["ingest"])
    maker = student_class(settings.kind)
    try:
        try:
            model = maker(signature, settings)
        except Exception as error:
            raise TrainingError(f"the student cannot be made: {type(error).__name__}: {error}") from error
        tried = check_student(model, signature, validation)
        asked = rows.read("validation").take(pa.array(rows_to_check(validation)))
        check_export(tried, signature, assembly, validation, rows.raw(asked))
    except TrainingError as error:
        raise TrainingError(f"distill.student.kind {settings.kind}: {error}") from error
    context.report(f"student {settings.kind} passes the checks")
