"""Files behind a URL, as in an object store: a folder that holds a copy of raw ones, brought up to date before they are read; and one file,
copied from there or written there whole.

What a file system of Arrow knows can be read: ``s3://``, ``gs://``, ``abfs://``, ``hdfs://`` and ``file://``, with what its URLs may say,
as in ``s3://bucket/logs?region=eu-west-1``. Credentials come from the environment.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from feature_store.tables.contracts import DataError, DataFolderError
from feature_store.tables.json_files import load_json, write_json

INDEX = ".files.json"  # beside the copies: of which URL they are, with size and time of each
CHUNK = 8 << 20
SILENCE = 10  # seconds without a word at most
Needed = Callable[[Sequence[str]], Collection[str]]  # of the names below a URL those that are needed
_SECRET = re.compile(r"[?&](?:sig|[^=&]*(?:secret|token|password|access_key)[^=&]*)=", re.IGNORECASE)  # sig: of a signature of Azure


def copy_of(url: str, folder: Path, report: Callable[[str], object] = lambda line: None, needed: Sequence[Needed] = (list,)) -> Path:
    """Bring a folder up to date with the files below a URL.

    Files that are new or have another size or time are copied, those that are gone or not needed are removed; the others stay as they are.

    Parameters
    ----------
    url : str
    folder : Path
        Is created when absent; a copy of another URL is replaced.
    report : callable
        Takes a line at a time of what is copied.
    needed : sequence of callable
        Each says which files are needed, once those of the one before are copied; by default all are.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataFolderError
        When there is no file below the URL, it cannot be understood, or it holds credentials.
    DataError
        When the files cannot be listed or read. Those that were copied whole stay, and are not copied again.
    """
    _refuse_credentials(url)
    report(f"looks behind {url}")
    with _said(url, "listed"):
        system, root = file_system_of(url)
        found = system.get_file_info(fs.FileSelector(root, recursive=True))
    below = {PurePosixPath(info.path).relative_to(PurePosixPath(root)): info for info in found if info.type == fs.FileType.File}
    there = {name.as_posix(): info for name, info in below.items() if not any(part.startswith(".") for part in name.parts)}
    if not there:
        raise DataFolderError(f"{url}: holds no file")
    copies = _Copies(url, system, there, folder, report)
    wanted: set[str] = set()
    for choose in needed:
        chosen = set(choose(sorted(there))) - wanted
        copies.bring(chosen)
        wanted |= chosen
    if not wanted:
        raise DataFolderError(f"{url}: holds no file that `source` names")
    copies.drop(copies.known.keys() - wanted)
    return folder


class _Copies:
    """The copies in a folder, with an index of what they are copies of, which is true at any moment."""

    def __init__(
        self, url: str, system: fs.FileSystem, there: dict[str, fs.FileInfo], folder: Path, report: Callable[[str], object]
    ) -> None:
        self._url, self._system, self._there, self._folder, self._report = url, system, there, folder, report
        self.known = _known(folder, url)

    def bring(self, names: Collection[str]) -> None:
        """Copy those that are new or changed."""
        there, folder, url = self._there, self._folder, self._url
        todo = [name for name in sorted(names) if self.known.get(name) != _state(there[name]) or not (folder / name).is_file()]
        if todo:
            size = sum(there[name].size or 0 for name in todo) / 1e6
            self._report(f"copies {len(todo):,} of {len(names):,} files, {size:,.1f} MB, from {url}")
        try:
            told = time.monotonic()
            for number, name in enumerate(todo):
                with _said(f"{url.partition('?')[0].rstrip('/')}/{name}", "read to its end"):
                    _copy(self._system, there[name], folder / name)
                self.known[name] = _state(there[name])
                if time.monotonic() - told > SILENCE:
                    told = time.monotonic()
                    self._report(f"copied {number + 1:,} of {len(todo):,} files")
        finally:
            self._write()

    def drop(self, names: Collection[str]) -> None:
        """Remove those that are gone, or not needed any more."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        self.known = {name: state for name, state in self.known.items() if name not in names}
        self._write()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / INDEX, {"url": self._url, "files": self.known})


def copy_file(url: str, folder: Path, report: Callable[[str], object] = lambda line: None) -> Path:
    """Copy one file from behind a URL, unless the folder has it as it is there.

    Returns
    -------
    Path
        The file in the folder, as old as the one behind the URL.

    Raises
    ------
    DataError
        When it is not there, cannot be read, or the URL cannot be understood or holds credentials.
    """
    with _of_a_file(url, "read"):
        system, place = file_system_of(url)
        info = system.get_file_info(place)
    if info.type != fs.FileType.File:
        raise DataError(f"{url}: there is no such file")
    file = folder / info.base_name
    if file.is_file() and [file.stat().st_size, file.stat().st_mtime_ns] == _state(info):
        return file
    report(f"copies {(info.size or 0) / 1e6:,.1f} MB from {url}")
    with _of_a_file(url, "read to its end"):
        _copy(system, info, file)
    os.utime(file, ns=(info.mtime_ns or 0, info.mtime_ns or 0))
    return file


def require_writable(url: str) -> None:
    """Raise DataError where no file can be written to a URL, before long work that would be lost; an empty one comes and goes beside it."""
    with _of_a_file(url, "written"):
        system, place = _for_writing(url)
        with system.open_output_stream(_hidden(place)):
            pass
        system.delete_file(_hidden(place))


def write_file(file: Path, url: str) -> None:
    """Let a file be what is behind a URL, whole or not at all.

    It is written under a hidden name beside it first: what a file system makes of a stream that breaks off differs, and some keep its
    beginning as if it were all.

    Raises
    ------
    DataError
        When it cannot be written; what was there before is as it was.
    """
    with _of_a_file(url, "written"):
        system, place = _for_writing(url)
        hidden = _hidden(place)
        try:
            with open(file, "rb") as source, system.open_output_stream(hidden) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
            if system.get_file_info(hidden).size != file.stat().st_size:
                raise DataError(f"{url}: what was written is not whole; run it again")
            system.move(hidden, place)
        except BaseException:
            with suppress(OSError):
                system.delete_file(hidden)
            raise


def file_name(url: str) -> str:
    """Name of the file behind a URL. Raises DataError for a URL that names none."""
    with _of_a_file(url, "understood"):
        _, place = file_system_of(url)
    if "/" not in place.strip("/") and not url.startswith("file:"):
        raise DataError(f"{url}: names a bucket and no file in it")
    return PurePosixPath(place).name


def _for_writing(url: str) -> tuple[fs.FileSystem, str]:
    system, place = file_system_of(url)
    if system.type_name in ("local", "hdfs"):  # others have no folders but in names
        system.create_dir(PurePosixPath(place).parent.as_posix(), recursive=True)
    return system, place


def _hidden(place: str) -> str:
    return PurePosixPath(place).with_name(f".{PurePosixPath(place).name}.part").as_posix()


@contextmanager
def _of_a_file(url: str, done: str) -> Iterator[None]:
    """As :func:`_said`, of one file: that no data folder is there would be the wrong complaint."""
    try:
        _refuse_credentials(url)
        with _said(url, done):
            yield
    except DataFolderError as error:
        raise DataError(str(error)) from None


def file_system_of(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL, and the place in it."""
    if url.startswith("gs://") and "?" not in url:  # left alone, it asks for a quarter of an hour where nobody answers
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=30)), url.removeprefix("gs://").strip("/")
    system, place = fs.FileSystem.from_uri(url)
    return system, place


def _refuse_credentials(url: str) -> None:
    """Raises DataFolderError for a URL that holds a password: it would be in every log."""
    scheme, _, rest = url.partition("://")
    before = rest.partition("/")[0].rpartition("@")[0]
    is_name = scheme in ("abfs", "abfss", "hdfs") and ":" not in before  # of a container, or of a user
    if (before and not is_name) or _SECRET.search(url):
        raise DataFolderError(f"{url.partition('://')[0]}://...: a URL must hold no credentials; give them in the environment")


@contextmanager
def _said(what: str, done: str) -> Iterator[None]:
    """Turn what a file system raises into one line."""
    try:
        yield
    except FileNotFoundError:
        raise DataFolderError(f"{what}: does not exist") from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        known = "s3://, gs://, abfs://, hdfs:// and file:// can be read"
        raise DataFolderError(f"{what}: is no URL that can be read here ({_reason(error)}); {known}") from None
    except OSError as error:
        if error.filename is not None:  # of this machine's own disk
            raise
        advice = "check the URL, the credentials in the environment and the network, and run it again"
        raise DataError(f"{what}: cannot be {done} ({_reason(error)}); {advice}") from None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]


def _known(folder: Path, url: str) -> dict[str, list[int]]:
    """State of the files that were copied; none where they are of another URL, whose copies go."""
    try:
        index: Any = load_json(folder / INDEX)
        if index["url"] == url:
            return {str(name): [int(size), int(moment)] for name, (size, moment) in index["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # damaged: all is copied again
    shutil.rmtree(folder)
    return {}


def _state(info: fs.FileInfo) -> list[int]:
    return [info.size or 0, info.mtime_ns or 0]


def _copy(system: fs.FileSystem, info: fs.FileInfo, file: Path) -> None:
    """Copy one file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.part")
    try:
        with system.open_input_stream(info.path) as source, open(partial, "wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
        if info.size is not None and partial.stat().st_size != info.size:
            raise DataError(f"{file.name}: changed while it was copied; run it again")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
