"""Who replaced whom as champion, when and why: kept as tags of the registered model, one for each change."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from uuid import uuid4

from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.tables import text_table

GATE, PROMOTE, ROLLBACK = "gate", "promote", "rollback"
_TAG = "champion."
_LONGEST = 1000  # characters of a reason


@dataclass(frozen=True)
class Change:
    """One change of the champion.

    Attributes
    ----------
    how : str
        ``gate``, ``promote`` or ``rollback``.
    before : str or None
        The version that was champion; None where there was none.
    after : str
        The version that is champion since.
    why, by, at : str
        The reason, who did it, and the time in UTC.
    """

    how: str
    before: str | None
    after: str
    why: str = ""
    by: str = field(default_factory=lambda: _user())
    at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"))

    def is_again(self, other: Change) -> bool:
        """Whether it is the same step: a run that was killed between noting a change and making it repeats both."""
        return (self.how, self.before, self.after, self.why) == (other.how, other.before, other.after, other.why)


class HistoryDamaged(ArtifactError):
    """A tag that should keep a change holds something else. The message is one line."""


def changes_in(tags: Mapping[str, str]) -> list[Change]:
    """The changes among the tags of a registered model, oldest first.

    Examples
    --------
    >>> tag = tag_of(Change("gate", None, "1", "it passed", "night", "2024-05-01 03:00:00"), 0)
    >>> [change.why for change in changes_in(dict([tag, ("owner", "me")]))]
    ['it passed']
    """
    found = []
    for key in sorted(tags):
        if key.startswith(_TAG):
            try:
                found.append(Change(**json.loads(tags[key])))
            except (TypeError, ValueError):
                raise HistoryDamaged(f"tag {key} is no change of a champion; remove that tag of the registered model") from None
    return found


def tag_of(change: Change, number: int) -> tuple[str, str]:
    """Key and value of the tag that keeps a change.

    Keys sort by number, then by time. Two workspaces that write at once may have read the same number, but never share a key.
    """
    return f"{_TAG}{number:06}.{time.time_ns():020}.{uuid4().hex}", json.dumps(asdict(change) | {"why": change.why[:_LONGEST]})


def breaks_in(changes: Sequence[Change], champion: str | None) -> list[str]:
    """Where a history does not lead from one champion to the next, a line each: two commands moved the alias at once, or it was moved
    by other means.

    Parameters
    ----------
    changes : sequence of Change
        Oldest first.
    champion : str or None
        The present one.

    Examples
    --------
    >>> first, second, third = Change("gate", None, "1"), Change("gate", "1", "2"), Change("promote", "1", "3")
    >>> breaks_in([first, second], "2")
    []
    >>> breaks_in([first, second, third], "2")
    ['version 3 is noted to have replaced 1 when 2 was champion', 'version 2 is champion, and the last change that is noted is to 3']
    """
    found = [
        f"version {change.after} is noted to have replaced {change.before or 'none'} when {before.after} was champion"
        for before, change in pairwise(changes)
        if change.before != before.after
    ]
    if changes and champion != changes[-1].after:
        found.append(f"version {champion or 'none'} is champion, and the last change that is noted is to {changes[-1].after}")
    return found


def line_of_champions(changes: Sequence[Change], champion: str | None) -> list[str]:
    """The champions that rollbacks go back through, oldest first, ending with the present one.

    Parameters
    ----------
    changes : sequence of Change
        Oldest first.
    champion : str or None
        The present one, which somebody may have chosen by other means.

    Examples
    --------
    >>> first, second = Change("gate", None, "1"), Change("gate", "1", "2")
    >>> line_of_champions([first, second], "2"), line_of_champions([first, second, Change("rollback", "2", "1")], "1")
    (['1', '2'], ['1'])
    >>> line_of_champions([first, second, Change("promote", "1", "3")], "3")
    ['1', '2', '3']
    >>> line_of_champions([first], "7")
    ['1', '7']
    """
    line: list[str] = []
    last: Change | None = None
    for change in changes:
        at_once = last is not None and change.how != ROLLBACK and change.before == last.before != last.after
        line = line if at_once else _ending_with(line, change.before)  # of two that were made at once both were champion
        last = change
        line = _ending_with(line[:-1], change.after) if change.how == ROLLBACK else [*line, change.after]
    return _ending_with(line, champion)


def _ending_with(line: list[str], version: str | None) -> list[str]:
    if version is None:
        return []
    if version in line:
        return line[: len(line) - line[::-1].index(version)]
    return [*line, version]


def history_table(changes: Sequence[Change], most: int = 10, indent: int = 0) -> str:
    """The newest changes as plain text, newest last.

    Examples
    --------
    >>> print(history_table([Change("gate", "1", "2", "it passed", "night", "2024-05-01 03:00:00")]))
    when (UTC)           champion  how   by     why
    2024-05-01 03:00:00  1 -> 2    gate  night  it passed
    """
    rows = [("when (UTC)", "champion", "how", "by", "why")]
    rows += [(one.at, f"{one.before or 'none'} -> {one.after}", one.how, one.by, " ".join(one.why.split())) for one in changes[-most:]]
    earlier = [f"{' ' * indent}and {len(changes) - most} earlier changes"] if len(changes) > most else []
    return "\n".join([text_table(rows, indent=indent), *earlier])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may know no name for the user's number
        return "unknown"
