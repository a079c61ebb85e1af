"""What of the budget is left, and what still fits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median

from feature_store.config_types import duration_text

FINALS = 0.3  # share of the budget that is kept for the finalists


@dataclass
class Clock:
    """Seconds of a budget; those of an earlier command on the same study count.

    Attributes
    ----------
    budget : float
        Of the whole study.
    before : float
        Used by earlier commands.
    processes : int
        Trainings that go on at once.
    """

    budget: float
    before: float
    processes: int = 1
    _began: float = field(default_factory=time.monotonic)

    @property
    def used(self) -> float:
        """Seconds so far, those of earlier commands among them."""
        return self.before + time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds of the budget that are left; less than none where it is spent."""
        return self.budget - self.used

    def together(self, seconds: Sequence[float]) -> float:
        """How long trainings take that each take so many seconds, by as many processes as there are.

        Examples
        --------
        >>> Clock(100, 0, processes=2).together([3.0, 3.0, 3.0]), Clock(100, 0).together([3.0, 3.0])
        (6.0, 6.0)
        """
        longest_first = sorted(seconds, reverse=True)
        return sum(longest_first[:: self.processes])

    def kept_for_finals(self, whole: float) -> float:
        """Seconds that no trial of the search may use: enough for a finalist beside the configuration as it is, with one other seed.

        Parameters
        ----------
        whole : float
            Seconds of a trial that finds nothing made.

        Examples
        --------
        >>> Clock(1000, 0).kept_for_finals(20.0), Clock(1000, 0).kept_for_finals(200.0)
        (300.0, 400.0)
        """
        return max(FINALS * self.budget, self.together([whole, whole]))

    def has_room_for_a_trial(self, taken: Sequence[float], whole: float) -> bool:
        """Whether the median of the trials so far would end before the finals begin.

        Parameters
        ----------
        taken : sequence of float
            Seconds of each trial so far.
        whole : float
            Seconds of a trial that finds nothing made.
        """
        return median(taken or [whole]) <= self.left - self.kept_for_finals(whole)


def time_text(seconds: float) -> str:
    """Seconds as a person says them.

    Examples
    --------
    >>> time_text(7200.0), time_text(95.4), time_text(5400.0)
    ('2h', '96s', '90m')
    """
    whole = timedelta(seconds=max(1, -(-seconds // 1)))
    return duration_text(whole if seconds < 600 else timedelta(minutes=-(-seconds // 60)))
