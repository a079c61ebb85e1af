"""Typed settings of what a workspace keeps."""

from __future__ import annotations

from pydantic import Field

from feature_store.config_types import Config, Duration, parse_duration


class RetentionConfig(Config):
    """What `ctr-kd prune` leaves, and whether each `run` ends with it; what anything alive needs is kept whatever it says."""

    after_run: bool = Field(False, description="end each `ctr-kd run` with what `ctr-kd prune` does")
    keep: int = Field(7, ge=1, description="newest artifacts of each stage that are kept, with all that they were made from")
    age: Duration = Field(parse_duration("30d"), description="what is younger is kept, whatever it is")
