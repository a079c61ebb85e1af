"""Files behind URLs that are scored or measured: a copy of what is read and the draft of what is written lie in the workspace meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feature_store.readers.remote import copy_file, file_name, require_writable, write_file
from feature_store.tables.json_files import digest_of
from pipelines.scoring.files import score_file
from pipelines.scoring.partitions import REPORT
from pipelines.workspace.context import RunContext


def score_files(run: RunContext, source: Path | str, target: Path | str) -> str:
    """As :func:`pipelines.scoring.files.score_file`, of paths and URLs.

    Parameters
    ----------
    run : RunContext
    source, target : Path or str
        A text is a URL. What is behind the target appears whole, its ``NAME.scoring.json`` before it.

    Raises
    ------
    DataError
        Also when something behind a URL cannot be read or written; the latter is tried before anything is scored.
    """
    if isinstance(source, Path) and isinstance(target, Path):
        return score_file(run, source, target)
    name = file_name(target) if isinstance(target, str) else target.name
    if isinstance(target, str):
        require_writable(target)
    with _meanwhile(run, source, target) as folder:
        written = folder / "output" / name if isinstance(target, str) else target
        done = score_file(run, _copied(run, source, folder), written)
        if isinstance(target, str):
            report = written.with_name(f"{written.stem}.{REPORT}")
            write_file(report, _beside(target, report.name))
            write_file(written, target)
    return done.replace(str(written), str(target))


@contextmanager
def local_file(run: RunContext, source: Path | str) -> Iterator[Path]:
    """The file itself, or for so long a copy of what is behind a URL."""
    if isinstance(source, Path):
        yield source
        return
    with _meanwhile(run, source) as folder:
        yield _copied(run, source, folder)


@contextmanager
def _meanwhile(run: RunContext, *places: Path | str) -> Iterator[Path]:
    """A folder in the workspace that goes once all is done. After a failure it stays, so that finished parts count when it is tried again,
    and is removed with other unfinished scorings."""
    folder = run.workspace / "scores" / f".{digest_of([str(place) for place in places])[:16]}.parts"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # where nothing was copied yet
        raise
    shutil.rmtree(folder)


def _copied(run: RunContext, source: Path | str, folder: Path) -> Path:
    return source if isinstance(source, Path) else copy_file(source, folder / "input", lambda line: run.report(line, "score"))


def _beside(url: str, name: str) -> str:
    """URL of another file in the same folder.

    Examples
    --------
    >>> _beside("s3://bucket/scored.parquet?region=eu-west-1", "scored.scoring.json")
    's3://bucket/scored.scoring.json?region=eu-west-1'
    """
    path, question, settings = url.partition("?")
    return f"{path.rpartition('/')[0]}/{name}{question}{settings}"
