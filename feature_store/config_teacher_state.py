"""Typed settings of the teacher's states: what its encoder makes of each user's history, as a feature of rows."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from feature_store.config_types import Config, Duration, duration_text, parse_duration


class TeacherStateConfig(Config):
    """What the teacher's encoder makes of each user's whole history once a night: a vector, which rows read as of their time."""

    width: int = Field(32, ge=4, le=64, description="numbers of a state that rows read: the principal components of what the encoder says")
    every: Duration = Field(
        parse_duration("24h"), description="from one making of states to the next, at multiples of it in UTC: by default at midnight"
    )
    delay: Duration = Field(
        parse_duration("1h"),
        description="states are read from so long after their time on: what it takes to make and publish them. Training rows wait as long",
    )
    share: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="share of the training window whose clicks the encoder learns where the labels begin with the log; rows of that time "
        "have no state. With split.train_from it learns the clicks before the labels",
    )
    encoder: str | None = Field(
        None,
        pattern=r"^encoder-[0-9a-f]{12}$",
        description="name of an encoder of the workspace whose states are to be read on, as ingestion says it; null trains one of its own",
    )
    max_length: int = Field(50, ge=2, le=512, description="clicks that the encoder reads at once; longer histories are read in such pieces")
    hidden: int = Field(32, ge=8, le=1024, description="the encoder's hidden size")
    layers: int = Field(1, ge=1, le=12, description="the encoder's transformer layers")
    heads: int = Field(2, ge=1, le=64, description="the encoder's attention heads; must divide hidden")
    epochs: float = Field(20.0, gt=0, description="passes over its sequences of clicks")
    batch_size: int = Field(64, ge=1, description="sequences per step")
    learning_rate: float = Field(2e-3, gt=0, description="peak rate of AdamW")
    attributes: float = Field(
        3.0, ge=0, description="weight of predicting the attributes of hidden items: tastes, and not what everybody clicks; 0 leaves it out"
    )
    unknown_rate: float = Field(0.1, ge=0, lt=1, description="share of items that are read as unknown, which trains what later items are")
    min_count: int = Field(2, ge=1, description="items and attributes that it saw less often share the unknown token")
    max_size: int = Field(100_000, ge=10, description="most frequent ids that it knows, per feature")
    seed: int = Field(17, ge=0, lt=2**32, description="seed of its training")

    @model_validator(mode="after")
    def _keys_fit(self) -> TeacherStateConfig:
        if self.hidden % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden ({self.hidden})")
        if self.width > 2 * self.hidden:
            raise ValueError(f"width ({self.width}) must be up to twice hidden ({self.hidden}): the encoder says no more of a user")
        if self.every % timedelta(seconds=1):
            raise ValueError(f"every ({duration_text(self.every)}) must be whole seconds: states are kept by the second")
        return self
