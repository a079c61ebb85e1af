"""The nights of a backtest: when each is, and the configuration that it would have run with."""

from __future__ import annotations

from datetime import datetime, timedelta

from feature_store.config import SplitConfig
from feature_store.config_types import duration_text
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError


def nights_between(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """Times at which a night trains, a step apart; the window after the last ends by ``end``.

    Raises
    ------
    ConfigError
        When there is none.

    Examples
    --------
    >>> [night.hour for night in nights_between(datetime(2024, 1, 1), datetime(2024, 1, 1, 9), timedelta(hours=4))]
    [0, 4]
    """
    count = (end - start) // step
    if count < 1:
        raise ConfigError(f"--end must be at least one --step ({duration_text(step)}) after --start: the window after each night is tested")
    return [start + n * step for n in range(count)]


def at_night(config: RunConfig, moment: datetime, step: timedelta) -> RunConfig:
    """The configuration with windows as long as ever that end at a night, and a test window of one step after it.

    Raises
    ------
    ConfigError
        When the windows of the configuration have no length in time.
    """
    split = config.need_clicks()
    if split.train is not None and split.validation is not None:
        train: timedelta | None = split.train
        validation = split.validation
    elif split.train_until is not None and split.validate_until is not None:
        validation = split.validate_until - split.train_until
        train = split.train_until - split.train_from if isinstance(split.train_from, datetime) else split.train_from
    else:
        raise ConfigError("a backtest moves windows of time: name split.train, validation and test, or split.train_until and the others")
    windows = SplitConfig(train_from=train, train_until=moment - validation, validate_until=moment, test_until=moment + step)
    return config.model_copy(update={"split": windows})
