"""A training of a stage: its place in the run, and its learning curve on the tracking server."""

from __future__ import annotations

from ctr_kd.training.distributed import ALONE, Processes
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.learning_curve import LearningCurve
from pipelines.workspace.context import StageContext


def job_of(context: StageContext, name: str = "training", processes: Processes = ALONE, title: str = "") -> TrainingJob:
    """A training of a stage, by the name of its checkpoint; the processes of the run share it where they are given.

    Of a stage that may have several trainings at once, each has a title before its lines.
    """
    before = f"{title}: " if title else ""
    return TrainingJob(
        seed=context.config.seed,
        fingerprint=context.fingerprint,
        folder=context.checkpoint,
        name=name,
        report=lambda line: context.report(f"{before}{line}"),
        measured=lambda share, figures: context.run.watch(context.stage, share, figures),
        processes=processes,
    )


def record_curve(context: StageContext, name: str, curve: LearningCurve) -> None:
    """Send a learning curve to the tracking server, one metric per figure and step."""
    for point in curve.points:
        for figure, value in point.items():
            if figure not in ("step", "score"):
                context.metric(f"{name}_{figure}", value, int(point["step"]))
