"""How a command that failed ends: its exit code and its one line."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import click

from ctr_kd.training.errors import DeviceError, TrainingError
from feature_store.engines.spark_session import EngineFailed, EngineMissing
from feature_store.features.statistics import UndeclarableStatistic
from feature_store.plugins import PluginError
from feature_store.tables.contracts import DataError, DataFolderError, NoEvents, NotIngested, StorageError
from feature_store.tables.files import UnsafeFile
from feature_store.tables.plain_text import plain

_CODES_OF_OTHERS: tuple[tuple[type[Exception], int], ...] = (
    (click.UsageError, 2),
    (EngineMissing, 2),
    (UndeclarableStatistic, 2),
    (PluginError, 2),
    (DataError, 3),
    (UnsafeFile, 3),
    (TrainingError, 2),
    (DeviceError, 2),
)
_ADVICE: tuple[tuple[type[Exception], str], ...] = (  # what a lower floor cannot say: it knows no command
    (NotIngested, "run `ctr-kd ingest`"),
    (NoEvents, "score.candidates: live and retrieve score a date before it has events, score.users says whom"),
    (DataFolderError, "--data DIR names the data folder"),
    (EngineFailed, "add --debug for the traceback"),
)
_NEVER = {  # of paths that are wrong, or that this user may not use: trying again does not help
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EINVAL, errno.ENXIO),
}
_FULL = 1 << 20  # bytes left on a disk that counts as full


def exit_code(error: BaseException) -> int:
    """Exit code of a failure: 1 where the contract names no other.

    Examples
    --------
    >>> exit_code(DataError("no rows")), exit_code(PermissionError(errno.EACCES, "Permission denied")), exit_code(ValueError("bug"))
    (3, 2, 1)
    """
    if type(error).__module__.split(".")[0] == "pipelines" and hasattr(error, "code"):
        return int(error.code)
    refused = error.__cause__ if isinstance(error, StorageError) else error
    if isinstance(refused, OSError) and refused.errno in _NEVER:
        return 2
    return next((code for kind, code in _CODES_OF_OTHERS if isinstance(error, kind)), 1)


def explain(error: BaseException, workspace: Path | None = None) -> str:
    """One readable line for any failure.

    Examples
    --------
    >>> from pipelines.errors import ConfigError
    >>> explain(ConfigError("conf/globo.yaml: seed: should be a valid integer, not 'x'"))
    "conf/globo.yaml: seed: should be a valid integer, not 'x'"
    >>> explain(OSError(28, "No space left on device"))
    'no space left on the disk of the workspace; free some or choose another --workspace, then run the same command again'
    >>> explain(NotIngested("workspace/store: nothing was ingested yet"))
    'workspace/store: nothing was ingested yet; run `ctr-kd ingest`'
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
    elif isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        text = f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    elif ours or isinstance(error, OSError):
        text = "; ".join([str(error), *(advice for kind, advice in _ADVICE if isinstance(error, kind))])
    else:
        text = f"{type(error).__name__}: {error} (add --debug for the traceback)"
    return plain(" ".join(text.split()))


def _disk_is_full(error: BaseException, workspace: Path | None) -> bool:
    """Whether the disk ran out of space, which every library says in its own words, and some not at all."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(seen) for words in ("No space left on device", "database or disk is full", "Disk quota exceeded")):
            return True
        seen = seen.__cause__ or seen.__context__
    try:
        return workspace is not None and shutil.disk_usage(workspace).free < _FULL
    except OSError:  # there is none, or no path can be written like that
        return False
