"""The gate on parts of the rows: in none of them may the challenger be behind the champion beyond chance, by more than a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctr_kd.evaluation.tables import MetricDifference
from pipelines.config.register import RegisterConfig
from pipelines.registry.promotion_gate import Check, at_least

_SHOWN_PARTS = 3  # of a column, where more are behind


@dataclass(frozen=True)
class PartDifference:
    """Challenger minus champion on the rows that have one value of a column.

    Attributes
    ----------
    value : str
    rows : int
    difference : MetricDifference
        Of AUC, of classes of accuracy; it has an interval.
    """

    value: str
    rows: int
    difference: MetricDifference

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return math.inf if self.difference.high is None else self.difference.high

    def __str__(self) -> str:
        """For people."""
        low, high = self.difference.low or 0.0, self.high
        return f"{self.value} {self.difference.difference:+.4f} [{low:+.4f}, {high:+.4f}] on {self.rows:,} rows"


def slice_checks(parts: Mapping[str, Sequence[PartDifference]], bounds: RegisterConfig) -> list[Check]:
    """In no part of the rows is the challenger behind the champion beyond chance, by more than a margin; one check for each column.

    The upper end of the interval counts: among many parts some are behind by chance alone, and few rows say little of theirs.

    Parameters
    ----------
    parts : mapping of str to sequence of PartDifference
        By column; parts with too few rows are not among them.
    bounds : RegisterConfig

    Examples
    --------
    >>> tv, phone = MetricDifference(-0.05, -0.07, -0.03), MetricDifference(0.01, 0.0, 0.02)
    >>> parts = {"device": [PartDifference("tv", 1200, tv), PartDifference("phone", 9000, phone)]}
    >>> (check,) = slice_checks(parts, RegisterConfig())
    >>> check.name, check.value, check.bound, check.passed, check.measured
    ('slice_device', -0.03, '>= -0.02', False, 'worst of 2 parts: tv -0.0500 [-0.0700, -0.0300] on 1,200 rows')
    """
    checks = []
    for column, found in parts.items():
        name, behind = f"slice_{column}", sorted((part for part in found if part.high < -bounds.slice_margin), key=lambda part: part.high)
        if not found:
            reason = f"no part has {bounds.slice_rows:,} rows and clicks that tell two models apart"
            checks.append(Check(name=name, value=None, bound=f">= {-bounds.slice_margin:g}", passed=True, reason=reason))
            continue
        worst = min(found, key=lambda part: part.high)
        shown = "; ".join(map(str, behind[:_SHOWN_PARTS] or [worst]))
        more = f" and {len(behind) - _SHOWN_PARTS} more" if len(behind) > _SHOWN_PARTS else ""
        measured = f"worst of {len(found)} part{'' if len(found) == 1 else 's'}: {shown}{more}"
        checks.append(at_least(name, worst.high, -bounds.slice_margin).model_copy(update={"measured": measured}))
    return checks
