"""When a scheduler runs the pipeline, and how often it tries."""

from __future__ import annotations

from pydantic import Field

from feature_store.config_types import Config, Duration, Time, parse_duration, parse_time


class ScheduleConfig(Config):
    """What the Airflow DAG is told; the command line reads none of it."""

    cron: str = Field("0 3 * * *", description="when the pipeline runs, as a cron expression in UTC")
    start: Time = Field(parse_time("2024-01-01"), description="first logical time that may run")
    catchup: bool = Field(False, description="also run the logical times between start and now that have not run")
    retries: int = Field(2, ge=0, description="further tries of a step that failed; none after exit code 2 or 4, which would come again")
    retry_delay: Duration = Field(parse_duration("10m"), description="time between two tries")
    scored_days_back: int = Field(
        1,
        ge=-1,
        description="the date that is scored, in days before the logical time; 1 is the last whole day, -1 the day to come, for live and "
        "retrieved candidates",
    )
