"""Windows for training, validation and test, proposed from the times of a log's clicks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from feature_store.config_types import duration_text, parse_duration
from feature_store.tables.casting import as_array, to_clicked, to_times
from feature_store.tables.contracts import RawBatch, latest_time

WINDOWS = [parse_duration(text) for text in ("1h", "2h", "4h", "6h", "12h", "1d", "2d", "3d", "7d", "14d", "30d", "90d", "180d", "365d")]
CLICKS = 1000  # in validation and in test: an AUC is then uncertain by about .014
TRAINED = 100_000  # clicks of training from which on a longer window mostly costs time
MINUTE = timedelta(minutes=1)
STRAY = 0.001  # share of the clicks at either end of a log that may lie far from all others
SHARES = {"fractions": "[0.8, 0.1, 0.1]"}


def _clicks_by_minute(batches: Iterable[RawBatch]) -> Counter[int]:
    """Clicks of a log by minutes since 1970."""
    counts: Counter[int] = Counter()
    latest = latest_time()
    for batch in batches:
        names = batch.table.column_names
        if batch.kind != "events":
            continue
        time, empty, bad = to_times(as_array(batch.table["timestamp"]))
        known = ~(empty | bad) & (time <= latest)  # a clock that was wrong moves no window
        if "clicked" in names:
            clicked, wrong = to_clicked(as_array(batch.table["clicked"]))
            known &= (clicked == 1) & ~wrong
        if "time_known" in names:
            known &= np.asarray(as_array(batch.table["time_known"]))
        minutes, number = np.unique(time[known] // 60_000_000, return_counts=True)
        counts.update(dict(zip(minutes.tolist(), number.tolist(), strict=True)))
    return counts


def propose_split(batches: Iterable[RawBatch]) -> tuple[dict[str, str], str]:
    """Windows that end with a log and hold enough clicks to tell models apart, and why these.

    Parameters
    ----------
    batches : iterable of RawBatch
        The whole log; of its events the times and the clicks are read.
    """
    clicks = _clicks_by_minute(batches)
    if not clicks:
        return SHARES, "no click was found: shares of the requests, in order of time"
    minute, count = (np.array(part) for part in zip(*sorted(clicks.items()), strict=True))
    total = int(count.sum())
    lengths = _windows(minute, count)
    if lengths is not None:
        names = dict(zip(("train", "validation", "test"), map(duration_text, lengths.windows), strict=True))
        return names, f"windows that end with the log: {lengths.said(total)}"
    middle = (count.cumsum() > STRAY * total) & (count.cumsum() <= (1 - STRAY) * total)  # a few events may be months from all others
    lengths = _windows(minute[middle], count[middle]) if middle.any() else None
    if lengths is None:
        return SHARES, f"{total:,} clicks fit no windows of even length: shares of the requests, in order of time"
    train, validation, test = lengths.windows
    end = datetime.fromtimestamp(int(minute[middle][-1] + 1) // 60 * 3600, UTC)
    times = {"train_until": end - test - validation, "validate_until": end - test, "test_until": end}
    stated = {"train_from": duration_text(train)} | {name: f"{time:%Y-%m-%dT%H:%M}" for name, time in times.items()}
    return stated, f"windows of the time in which all but a few events are: {lengths.said(total)}"


class _Lengths(NamedTuple):
    """Three windows, train, validation and test, the clicks in each, and how long the log is."""

    windows: tuple[timedelta, timedelta, timedelta]
    clicks: tuple[int, int, int]
    span: timedelta

    def said(self, total: int) -> str:
        hours = self.span / timedelta(hours=1)
        long = f"{hours / 24:.0f} days" if hours >= 72 else f"{hours:.0f} hours"
        train, validation, test = self.clicks
        return f"{train:,}, {validation:,} and {test:,} of its {total:,} clicks, over {long}"


def _windows(minute: np.ndarray, count: np.ndarray) -> _Lengths | None:
    """The shortest windows before the last of some minutes that hold enough clicks; None where none do."""
    newest, total = int(minute[-1]), int(count.sum())
    span = timedelta(minutes=newest - int(minute[0]) + 1)

    def clicks_in(begin: timedelta, end: timedelta) -> int:
        """Between two times before the end of the log, the later one excluded."""
        ago = newest + 1 - minute
        return int(count[(ago > begin / MINUTE) & (ago <= end / MINUTE)].sum())

    least = min(CLICKS, total // 10)
    for window in WINDOWS:
        lengths = [one for one in WINDOWS if window <= one and one + 2 * window <= span * 1.02]
        if not lengths:
            return None
        test, validation = clicks_in(timedelta(0), window), clicks_in(window, 2 * window)
        if min(test, validation) >= least:
            trained = {one: clicks_in(2 * window, 2 * window + one) for one in lengths}
            train = next((one for one in lengths if trained[one] >= TRAINED), lengths[-1])
            return _Lengths((train, window, window), (trained[train], validation, test), span)
    return None
