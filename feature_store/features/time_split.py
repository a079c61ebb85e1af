"""Time splits: three windows over the requests, in order of time, with times as boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor

import numpy as np

from feature_store.config import SplitConfig
from feature_store.engines import Engine
from feature_store.features.event_log import microseconds
from feature_store.features.requests import request_range
from feature_store.features.summary import SplitTimes
from feature_store.tables.contracts import DataError

SPLITS = ("train", "validation", "test")


def utc(time: int) -> datetime:
    """The time that is so many microseconds after 1970 UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)


def iso(time: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC.

    Examples
    --------
    >>> iso(1_500_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    return utc(time).isoformat()


@dataclass(frozen=True)
class Split:
    """Boundaries in microseconds since 1970 UTC: train is [train_from, train_until), validation ends before
    validate_until, test before test_until. ``train_from`` None means the beginning of the log."""

    train_from: int | None
    train_until: int
    validate_until: int
    test_until: int

    def bounds(self, name: str) -> tuple[int | None, int]:
        """Start (inclusive; None for the beginning of the log) and end (exclusive) of a split."""
        place = SPLITS.index(name)
        edges = (self.train_from, self.train_until, self.validate_until)
        return edges[place], (self.train_until, self.validate_until, self.test_until)[place]

    def describe(self, name: str) -> str:
        """A split and its bounds in words, for errors."""
        start, end = self.bounds(name)
        return f"the {name} split, {'the beginning' if start is None else iso(start)} to {iso(end)} (exclusive, UTC)"

    def number(self, times: np.ndarray) -> np.ndarray:
        """Index into ``SPLITS`` of times that lie in one of them.

        Examples
        --------
        >>> Split(0, 10, 20, 30).number(np.array([9, 10, 29])).tolist()
        [0, 1, 2]
        """
        return np.searchsorted(np.array([self.train_until, self.validate_until]), times, side="right").astype(np.int8)

    def summary(self) -> SplitTimes:
        """The boundaries as times."""
        return SplitTimes(
            train_from=None if self.train_from is None else utc(self.train_from),
            train_until=utc(self.train_until),
            validate_until=utc(self.validate_until),
            test_until=utc(self.test_until),
        )


def resolve_split(config: SplitConfig, engine: Engine, as_of: datetime | None) -> Split:
    """Turn the settings into times.

    Parameters
    ----------
    config : SplitConfig
    engine : Engine
        Holds ``requests``, numbered from 0 in order of time. Fractions are taken of all of them; a request at a boundary's
        time falls behind it, so requests of one moment stay together. Leave-one-out takes the two newest times of all: it is meant
        for logs whose users have their last click at one moment, as sequences without times do.
    as_of : datetime, optional
        Where relative windows end; by default just after the newest request.

    Raises
    ------
    DataError
        When there is no request, relative windows reach before ``train_from``, or all requests of a leave-one-out are at one time.
    """
    count, newest = engine.rows("select coalesce(max(request), -1) + 1, max(timestamp) from requests")[0]
    if count == 0:
        raise DataError("the log has no request at a known time, so there is nothing to split; check the column of times")
    micro = timedelta(microseconds=1)
    absolute = [microseconds(time) for time in (config.train_until, config.validate_until, config.test_until) if time is not None]
    relative = [length // micro for length in (config.train, config.validation, config.test) if length is not None]
    train_from = None
    if config.fractions is not None:
        shares = (config.fractions[0], config.fractions[0] + config.fractions[1])
        edges = [min(floor(share * count + 1e-9), count - 1) for share in shares]  # 0.6 + 0.2 is a little below 0.8
        times = dict(engine.rows(f"select distinct request, timestamp from requests where request in ({edges[0]}, {edges[1]})"))
        train_until, validate_until, test_until = times[edges[0]], times[edges[1]], newest + 1
    elif config.leave_one_out:
        moments = [moment for (moment,) in engine.rows("select distinct timestamp from requests order by timestamp desc limit 2")]
        if len(moments) < 2:
            raise DataError(f"all requests are at {iso(newest)}, and leave_one_out needs two times at least; name the split in another way")
        train_until, validate_until, test_until = moments[1], moments[0], newest + 1
    elif absolute:
        train_until, validate_until, test_until = absolute
    else:
        test_until = newest + 1 if as_of is None else microseconds(as_of)
        validate_until = test_until - relative[2]
        train_until = validate_until - relative[1]
        train_from = train_until - relative[0]
    if isinstance(config.train_from, timedelta):
        train_from = train_until - config.train_from // micro
    elif config.train_from is not None:
        train_from = microseconds(config.train_from)
    if train_from is not None and train_from >= train_until:
        raise DataError(f"split.train_from {iso(train_from)} is not before the end of training {iso(train_until)}; choose an earlier one")
    return Split(train_from, train_until, validate_until, test_until)


def check_windows(split: Split, engine: Engine) -> None:
    """Raise DataError, naming the split and the range of the log, when one holds no request; asked before any row is made."""
    oldest, newest = engine.rows("select min(timestamp), max(timestamp) from requests")[0]
    for name in SPLITS:
        first, last = request_range(engine, *split.bounds(name))
        if first == last:
            raise DataError(
                f"{split.describe(name)} has no row: the log has requests from {iso(oldest)} to {iso(newest)}; move its bounds there"
            )


def check_split(split: Split, rows: dict[str, int], positives: dict[str, int]) -> None:
    """Raise DataError, naming the split and its bounds, when one has no row, no click, or nothing but clicks."""
    for name in SPLITS:
        if rows[name] == 0:
            raise DataError(
                f"{split.describe(name)} has no row left: its requests have fewer clicks before them than history.min_length, or no item "
                "that candidates.window knows; lower the one or raise the other"
            )
        if positives[name] == 0:
            raise DataError(f"{split.describe(name)} has no click among its {rows[name]} rows; widen it or check the column of clicks")
        if positives[name] == rows[name]:
            raise DataError(
                f"{split.describe(name)} has nothing but clicks in its {rows[name]} rows; widen it or check the column of clicks "
                "(a log that never says what was not clicked has none: leave source.events.clicked out)"
            )


def check_weights(split: Split, of_clicks: dict[str, float], of_others: dict[str, float]) -> None:
    """Raise DataError, naming the split and its bounds, when all of its clicks, or all of its other rows, weigh nothing."""
    for name in SPLITS:
        if not of_clicks[name] or not of_others[name]:
            what = "rows" if of_clicks[name] == of_others[name] else "clicks" if not of_clicks[name] else "rows without a click"
            raise DataError(
                f"{split.describe(name)}: all {what} weigh 0, which teaches nothing; correct the column of source.events.weight"
            )


def check_further_labels(split: Split, labels: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Raise DataError, naming the label and the split, when a label is null in all rows of a split, or the same in all that are known.

    Parameters
    ----------
    split : Split
    labels : mapping of str to mapping of str to int64 array (2,)
        By label and split: rows that are known to be 0, and to be 1.
    """
    for label, counts in labels.items():
        for name in SPLITS:
            zeros, ones = counts[name].tolist()
            if not zeros or not ones:
                rows = zeros + ones
                found = f"is {1 if ones else 0} in all {rows:,} rows that say it" if rows else "is null in all rows"
                raise DataError(
                    f"{split.describe(name)}: label {label} {found}, which teaches nothing; widen the split, or correct or remove the "
                    "column of source.events.labels"
                )
