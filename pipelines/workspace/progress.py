"""Lines that tell how far a long work is, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 5.0  # seconds between two lines


class Progress:
    """Takes how much is done as often as one likes, and tells it at most every :data:`EVERY` seconds, the first time after as many.

    Parameters
    ----------
    report : callable
        Takes a line.
    total : int
        How much there is to do.
    what : str
        What is told of so many of so many, as in "rows labelled".

    Examples
    --------
    >>> progress = Progress(print, 3_000, "rows labelled")
    >>> progress(1_000)
    """

    def __init__(self, report: Callable[[str], object], total: int, what: str) -> None:
        self._report, self._total, self._what = report, total, what
        self._told = time.monotonic()

    def __call__(self, done: int) -> None:
        if done < self._total and time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            self._report(f"{done:,} of {self._total:,} {self._what}")
