"""Typed settings of what happens after training: scoring dates and files, and watching what the scores were worth."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from feature_store.config_types import Config, Duration, is_url, parse_duration


class ScoreConfig(Config):
    candidates: Literal["log", "live", "retrieve"] = Field(
        "log",
        description="log: that date's impressions or sampled candidates; live: users of the date x items live then; retrieve: per user the "
        "live items nearest to their history. live and retrieve also score a date that has no event yet",
    )
    window: Duration | None = Field(
        None,
        description="live, retrieve: an item is live when it was clicked within so long before the newest event; null: candidates.window",
    )
    users: Duration | None = Field(
        None,
        description="live, retrieve: score who had an event within so long before the end of the date, or before the beginning of one "
        "that has no event yet; null: who had one on the date, or in the week before one without",
    )
    per_user: int = Field(100, ge=1, le=10_000, description="retrieve: candidates per user")
    top: int | None = Field(None, ge=1, description="keep the best so many rows of each user; null keeps all (--top)")
    batch_rows: int = Field(
        100_000,
        ge=1,
        description="rows joined and scored at a time, a part: bounds the memory. A killed scoring takes over its finished parts",
    )
    copy_to: str | None = Field(
        None,
        description="a URL, such as s3://bucket/scores, below which the folder of each scored date is put too; credentials come from "
        "the environment",
    )
    engine: Literal["local", "spark"] = Field(
        "local", description="who scores: local processes, or the executors of the Spark session that feature_store.spark describes"
    )
    workers: int | None = Field(
        None, ge=1, description="processes that score, beside the one that reads and joins; null: one per core; 1: that one does it all"
    )

    @field_validator("copy_to")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is not None and not is_url(url):
            raise ValueError(f"{url!r} is no URL; write one, such as s3://bucket/scores or file:///folder")
        return url


class MonitorConfig(Config):
    """Bounds on scored dates whose clicks have arrived; null switches one off."""

    judged_dates: int = Field(
        7, ge=1, description="newest measured dates on which a broken bound ends in exit code 4; older ones are shown"
    )
    min_rows: int = Field(100, ge=1, description="dates with fewer labelled rows are shown, not judged")
    horizon: Duration = Field(
        parse_duration("1d"), description="clicks this long after scoring are the labels of live and retrieved candidates"
    )
    stale_after: Duration | None = Field(
        None,
        description="no new event for so long is an alarm, whatever the scores are worth; counted back from --as-of, without it from the "
        "clock's time",
    )
    teacher_rows: int = Field(
        20_000,
        ge=0,
        description="rows of the newest date whose clicks have arrived, in whole requests drawn at random, on which the champion's own "
        "teacher, student and student alone are compared; 0: none",
    )
    transfer_ratio_min: float | None = Field(
        None, description="smallest share of the teacher's lead that has reached the student on these rows; undefined breaks it too"
    )
    auc_min: float | None = Field(0.5, ge=0, le=1, description="smallest AUC")
    log_loss_max: float | None = Field(None, gt=0, description="largest log loss")
    calibration_ratio_min: float | None = Field(0.5, ge=0, description="smallest ratio of predicted to observed clicks")
    calibration_ratio_max: float | None = Field(2.0, gt=0, description="largest ratio of predicted to observed clicks")
    calibration_error_max: float | None = Field(0.1, gt=0, le=1, description="largest calibration error")
    psi_max: float | None = Field(
        0.25,
        gt=0,
        description="largest population stability index of the scores against the validation rows, or what chance makes of so few rows in "
        "one of a hundred dates, if that is more",
    )

    @model_validator(mode="after")
    def _room_for_a_ratio(self) -> MonitorConfig:
        low, high = self.calibration_ratio_min, self.calibration_ratio_max
        if low is not None and high is not None and low >= high:
            raise ValueError(f"calibration_ratio_min ({low:g}) must be below calibration_ratio_max ({high:g})")
        return self
