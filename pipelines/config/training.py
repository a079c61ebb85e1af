"""Typed settings of how a night's training begins: anew, or where the last champion ended."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from feature_store.config_types import Config, Duration, parse_duration


class StartConfig(Config):
    """How training begins."""

    start: Literal["cold", "warm"] = Field(
        "cold",
        description="cold: everything is trained from nothing on the whole window of training; warm: encoder, teacher and student "
        "continue from the last champion, on what is new since",
    )


class WarmConfig(Config):
    """A warm night (`training.start: warm`): what it learns, how fast, and when the next cold one is due."""

    learning_rate: float = Field(
        0.3, gt=0, le=1, description="learning rates of a warm night, as a share of those of a cold one: what was learned must survive"
    )
    replay: float = Field(
        0.5, ge=0, description="older rows of the training window (and older sequences) that are learned again, as a share of the new ones"
    )
    restart_every: Duration = Field(
        parse_duration("7d"),
        description="time from one cold start to the next, by the ends of their training windows. On such a night a warm model is trained "
        "beside the cold one, and what it is worth less is reported; the cold one goes on",
    )
    difference_min: float = Field(
        -0.002,
        le=0,
        description="lowest AUC of warm less cold on the night of a cold start; where all of its interval lies lower, the run ends with 4",
    )
    late: Literal["keep", "restart"] = Field(
        "keep",
        description="where a date that the champion learned was corrected since: keep: go on, as what was learned is not unlearned; "
        "restart: begin with a cold night",
    )
    without_parent: Literal["cold", "fail"] = Field(
        "cold",
        description="where the champion's artifacts are missing, damaged, or of another shape or log: begin with a cold night, or fail",
    )
