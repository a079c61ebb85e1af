"""What of the files behind a URL a log needs: those that its patterns name, and of a Delta Lake table those of the version that is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from feature_store.config import SourceConfig
from feature_store.config_types import is_url
from feature_store.readers.base import folder_and_pattern, not_before, relative
from feature_store.readers.lake_tables import delta_version
from feature_store.readers.remote import Needed, copy_of
from feature_store.tables.named_files import PACKAGE


def table_url(source: SourceConfig) -> str | None:
    """URL of the table that the events are in place of a data folder; None where it lies below one, or they are none."""
    delta = None if source.events is None else source.events.delta
    return delta if delta is not None and is_url(delta) else None


def copy_of_log(
    source: SourceConfig, url: str, folder: Path, report: Callable[[str], object] = lambda line: None, beside: Sequence[str] = ()
) -> Path:
    """As :func:`feature_store.readers.remote.copy_of`, of the files alone that a log needs, and of what the patterns ``beside`` name."""
    return copy_of(url, folder, report, _needed(source, folder, beside))


def copy_of_table(url: str, folder: Path, report: Callable[[str], object] = lambda line: None) -> Path:
    """Bring copies of the files of items or users that a URL names up to date.

    Returns
    -------
    Path
        The pattern of the copies.
    """
    root, pattern = pattern_behind(url)
    copy_of(root, folder, report, (lambda names: _matching(names, [pattern]),))
    return folder.absolute() / pattern


def pattern_behind(url: str) -> tuple[str, str]:
    """The URL of a folder, and the pattern of the files below it that a URL names.

    Examples
    --------
    >>> pattern_behind("s3://bucket/shop/dt=*/items-*.parquet?region=eu-west-1")
    ('s3://bucket/shop?region=eu-west-1', 'dt=*/items-*.parquet')
    >>> pattern_behind("file:///shop/items.csv")
    ('file:///shop', 'items.csv')
    """
    path, question, settings = url.partition("?")
    folder, pattern = folder_and_pattern(path)
    return f"{folder}{question}{settings}", pattern


def _needed(source: SourceConfig, folder: Path, beside: Sequence[str]) -> Sequence[Needed]:
    events = source.events
    if source.reader != "tabular" or events is None:  # such a reader knows its files by their names, and they are few
        return (list,)
    patterns = [block.path for block in (events, source.items, source.users) if block is not None and block.path is not None]
    patterns = [*(pattern for pattern in patterns if not is_url(pattern)), *beside]
    patterns += [] if events.type is None else events.type.files
    if source.title_encoder is not None and not source.title_encoder.encoder.startswith(PACKAGE):
        patterns.append(f"{source.title_encoder.encoder}/*")
    if events.delta is None:
        described = [block.path for block in (source.items, source.users) if block is not None]

        def wanted(names: Sequence[str]) -> list[str]:
            found = _matching(names, patterns)
            others = set(_matching(found, described))
            return [*others, *not_before([name for name in found if name not in others], events.since)]

        return (wanted,)
    log = "_delta_log/**/*" if is_url(events.delta) else f"{events.delta}/_delta_log/**/*"

    def of_version(names: Sequence[str]) -> list[str]:
        wanted = {relative(path, folder) for path in delta_version(events, folder).files}
        return [name for name in names if name in wanted]

    return (lambda names: _matching(names, [*patterns, log]), of_version)  # the version is known once the table's log is here


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Names that one of the patterns means, as :func:`feature_store.readers.base.data_files` understands them.

    Examples
    --------
    >>> _matching(["a.csv", "b/a.csv", "b/c/a.csv", "b[1].csv"], ["*.csv"])
    ['a.csv', 'b[1].csv']
    >>> _matching(["a.csv", "b/a.csv", "b/c/a.csv", "b[1].csv"], ["b/**/*.csv", "b[1].csv"])
    ['b/a.csv', 'b/c/a.csv', 'b[1].csv']
    """
    cut = [PurePosixPath(pattern).parts for pattern in patterns]
    return [name for name in names if name in patterns or any(_matches(name.split("/"), parts) for parts in cut)]


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not name:
        return not pattern and not name
    if pattern[0] == "**":
        return any(_matches(name[skipped:], pattern[1:]) for skipped in range(len(name)))
    return fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])
