"""Stage ``score``: a date's candidates, or the test texts, through the champion into one folder of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from pipelines.config.run import TaskName
from pipelines.registry.champion import model_uri, model_version
from pipelines.scoring.dates import DateScores
from pipelines.scoring.partitions import SETTINGS
from pipelines.scoring.splits import SplitScores
from pipelines.workspace.context import RunContext, Stage, StageContext


class Scores(Protocol):
    """A folder of scores and how it comes about."""

    @property
    def place(self) -> Path:
        """Where the scores lie."""

    def made_from(self) -> dict[str, str]:
        """Digests of what is scored, the model aside."""

    def are_up_to_date(self, context: StageContext) -> bool:
        """Whether the scores are there, whole, and were made by this very scoring; another model may have written them since."""

    def write(self, context: StageContext) -> None:
        """Score, into a folder that appears complete or not at all."""


SCORES: Mapping[TaskName, Callable[[RunContext], Scores]] = {"clicks": DateScores, "texts": SplitScores}


def scores_of(run: RunContext) -> Scores:
    """What the stage writes in a run."""
    return SCORES[run.config.task](run)


def model_and_rows(run: RunContext) -> dict[str, str]:
    """The model and what it scores: of a date what the store holds for it, of which a later day of the log changes nothing."""
    return {"model": model_uri(run), "version": model_version(run)} | scores_of(run).made_from()


def score_candidates(context: StageContext) -> None:
    """Score the date, or the test texts, that the run is about."""
    scores_of(context.run).write(context)


STAGE = Stage(
    "score",
    score_candidates,
    # It scores with the champion, whoever registered it: the model is an input from outside. Of the rows to learn from it reads nothing,
    # so that a day which comes to the log makes no earlier date be scored again.
    keys=("name", "tracking.uri", *SETTINGS),
    outside=model_and_rows,
    up_to_date=lambda context: scores_of(context.run).are_up_to_date(context),
    after=("ingest",),
)
