"""How a command that fails ends: its exit code and its one line."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import click

from feature_store.engines.spark_session import EngineMissing
from feature_store.tables.contracts import DataError
from pipelines.config.run import ConfigError
from pipelines.registry.promotion_gate import GateRefused
from pipelines.workspace.lock import WorkspaceLocked


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
            "the reasons stand in the table and in `ctr-kd status`; `ctr-kd backfill --mode failed` tries them again"
        )
        codes = set(failed.values())
        self.code = codes.pop() if len(codes) == 1 else 1


class BoundBroken(Exception):
    """What scores were worth since lies beyond a bound."""


EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (ConfigError, 2),
    (click.UsageError, 2),
    (EngineMissing, 2),
    (DataError, 3),
    (GateRefused, 4),
    (BoundBroken, 4),
    (WorkspaceLocked, 5),
)
_FULL = 1 << 20  # bytes left on a disk that counts as full


def exit_code(error: BaseException) -> int:
    """Exit code of a failure: 1 where the contract names no other.

    Examples
    --------
    >>> exit_code(DataError("no rows")), exit_code(ValueError("bug"))
    (3, 1)
    """
    if isinstance(error, (FailedElsewhere, DatesFailed)):
        return error.code
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def explain(error: BaseException, workspace: Path | None = None) -> str:
    """One readable line for any failure.

    Examples
    --------
    >>> explain(ConfigError("conf/globo.yaml: seed: should be a valid integer, not 'x'"))
    "conf/globo.yaml: seed: should be a valid integer, not 'x'"
    >>> explain(OSError(28, "No space left on device"))
    'no space left on the disk of the workspace; free some or choose another --workspace, then run the same command again'
    """
    ours = type(error).__module__.split(".")[0] in ("pipelines", "ctr_kd", "feature_store")
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        text = "interrupted; run the same command again to continue"
    elif isinstance(error, click.ClickException):
        usage = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "ctr-kd"
        text = f"{error.format_message()} (see {usage} --help)"
    elif not ours and _disk_is_full(error, workspace):
        text = "no space left on the disk of the workspace; free some or choose another --workspace, then run the same command again"
    elif isinstance(error, MemoryError):
        text = "not enough memory; lower feature_store.memory, feature_store.chunk or the batch sizes"
    elif ours or isinstance(error, OSError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error} (add --debug for the traceback)"
    return " ".join(text.split())


def _disk_is_full(error: BaseException, workspace: Path | None) -> bool:
    """Whether the disk ran out of space, which every library says in its own words, and some not at all."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(seen) for words in ("No space left on device", "database or disk is full", "Disk quota exceeded")):
            return True
        seen = seen.__cause__ or seen.__context__
    return workspace is not None and workspace.exists() and shutil.disk_usage(workspace).free < _FULL
