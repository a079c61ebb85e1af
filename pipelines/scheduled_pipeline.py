"""What a scheduler does for one logical time: the commands, in order, and which failures are worth another try.

Imports nothing that a scheduler's own environment lacks, so that it need not hold torch, MLflow or Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.config.run import RunConfig

STAGES = ("ingest", "pretrain", "finetune", "distill", "evaluate", "register", "score")
# A wrong configuration, a refused challenger and a broken bound are the same a moment later. A log that breaks its contract need not be:
# its day may have been half written.
FINAL_CODES = (2, 4)


@dataclass(frozen=True)
class ScheduledPipeline:
    """A configuration, the places that its commands work on, and the program that runs them.

    Attributes
    ----------
    config : RunConfig
    conf, workspace : Path
        Absolute: a scheduler's process may run in any folder.
    data : Path or None
        Folder of the raw log.
    program : tuple of str
        What comes before a command's own words, such as ``("/srv/ctr_kd/.venv/bin/ctr-kd",)``.
    """

    config: RunConfig
    conf: Path
    workspace: Path
    data: Path | None = None
    program: tuple[str, ...] = ("ctr-kd",)

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the commands, in order; where rows have no dates, nothing of them arrives that could be watched."""
        watched = ("monitor",) if self.config.has_dates else ()
        return (*STAGES, *watched, *(("prune",) if self.config.retention.after_run else ()))

    def command(self, step: str, moment: datetime) -> list[str]:
        """The words of a step's command: no shell reads them.

        Parameters
        ----------
        step : str
            One of :attr:`steps`.
        moment : datetime
            Logical time: no step sees anything later. The date that is scored lies ``schedule.scored_days_back`` before it.
        """
        moment = moment.astimezone(UTC)
        words: Sequence[str] = (*self.program, step, str(self.conf), "--workspace", str(self.workspace), "--as-of", moment.isoformat())
        data = ("--data", str(self.data)) if self.data is not None else ()
        scored = moment.date() - timedelta(days=self.config.schedule.scored_days_back)
        dated = step == "score" and self.config.has_dates
        return [*words, *data, *(("--date", scored.isoformat()) if dated else ())]
