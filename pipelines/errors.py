"""How a command fails: the exceptions of this package, each with the exit code that it ends in.

Imports nothing, so that a scheduler's own environment can read a configuration without Arrow, torch or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any


class ConfigError(Exception):
    """The configuration or the command line is wrong: which file and line, which key, what is allowed.

    Parameters
    ----------
    *problems : str
        All that is wrong, a line each. The message joins them.
    """

    code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class GateRefused(Exception):
    """The challenger did not pass the promotion gate. The message is one line; ``table`` shows every check.

    Attributes
    ----------
    table : str
        Every check with its value and its bound.
    failed : tuple of str
        Names of the checks that failed.
    result : Result or None
        All that the run made, where :func:`pipelines.run` began it: a refusal is a result.
    """

    code = 4
    result: Any = None

    def __init__(self, text: str, table: str, failed: tuple[str, ...]) -> None:
        super().__init__(text)
        self.table, self.failed = table, failed


class BoundBroken(Exception):
    """A figure of monitoring, or what warm nights are worth less, lies beyond its bound."""

    code = 4


class WorkspaceLocked(Exception):
    """Another live run holds the workspace."""

    code = 5


class FailedElsewhere(Exception):
    """Another process of the same command failed; the message is its line.

    Attributes
    ----------
    code : int
        Its exit code.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class DatesFailed(Exception):
    """Some dates of several could not be scored; each has its reason in a table that was shown before.

    Attributes
    ----------
    code : int
        That of the failures where all have the same one, else 1.
    """

    def __init__(self, failed: Mapping[date, int], asked: int) -> None:
        super().__init__(
            f"{len(failed)} of {asked} dates failed ({', '.join(day.isoformat() for day in failed)}); "
            "the table and `ctr-kd status` give the reasons; `ctr-kd backfill --mode failed` tries them again"
        )
        codes = set(failed.values())
        self.code = codes.pop() if len(codes) == 1 else 1
