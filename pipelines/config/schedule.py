"""What a scheduler does for one logical time: the commands, in order, and which failures are worth another try.

Imports nothing that a scheduler's own environment lacks, so that it need not hold torch, MLflow or Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from feature_store.config import Config, Duration, Time, parse_duration, parse_time

if TYPE_CHECKING:
    from pipelines.config.run import RunConfig

STAGES = ("ingest", "pretrain", "finetune", "distill", "evaluate", "register", "score")
# A wrong configuration, a refused challenger and a broken bound are the same a moment later. A log that breaks its contract need not be:
# its day may have been half written.
FINAL_CODES = (2, 4)


class ScheduleConfig(Config):
    """What the Airflow DAG is told; the command line reads none of it."""

    cron: str = Field("0 3 * * *", description="when the road runs, as a cron expression in UTC")
    start: Time = Field(parse_time("2024-01-01"), description="first logical time that may run")
    catchup: bool = Field(False, description="also run the logical times between start and now that have not run")
    retries: int = Field(2, ge=0, description="further tries of a step that failed; none after exit code 2 or 4, which would come again")
    retry_delay: Duration = Field(parse_duration("10m"), description="time between two tries")
    scored_days_back: int = Field(1, ge=0, description="the date that is scored, in days before the logical time; 1 is the last whole day")


@dataclass(frozen=True)
class Road:
    """A configuration, the places that its commands work on, and the program that runs them.

    Attributes
    ----------
    config : RunConfig
    conf, workspace : Path
        Absolute: nobody knows where a scheduler's process stands.
    data : Path or None
        Folder of the raw log.
    program : tuple of str
        What stands before a command's own words, such as ``("/srv/ctr_kd/.venv/bin/ctr-kd",)``.
    """

    config: RunConfig
    conf: Path
    workspace: Path
    data: Path | None = None
    program: tuple[str, ...] = ("ctr-kd",)

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the commands, in order; texts are no dates, so nothing of them arrives that could be watched."""
        return STAGES if self.config.source.reader == "text" else (*STAGES, "monitor")

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
        dated = step == "score" and self.config.source.reader != "text"
        return [*words, *data, *(("--date", scored.isoformat()) if dated else ())]
