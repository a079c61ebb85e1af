"""Which files below a folder may be opened: regular ones, by names that stay below it.

What lies in a workspace or a model may come from elsewhere. A link, a pipe or a device there, or a name in one of its lists that leads
out of the folder, is refused by name and never followed. A user's own data folder is another matter: links in it lead where they lead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from feature_store.tables.files import UnsafeFile, kind_of


def below(root: Path, name: str) -> Path:
    """Where a name that was read from a file lies below a folder, whether it is there or not.

    Parameters
    ----------
    root : Path
        May be reached by links itself.
    name : str
        Relative, with ``/`` between its parts.

    Raises
    ------
    UnsafeFile
        When the name is absolute, holds ``..`` or is not spelled as names are written, or a link lies on the way.
    """
    pure = PurePosixPath(name)
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts or pure.as_posix() != name or name == ".":
        raise UnsafeFile(f"{root}: {name!r} is no name of something below it")
    path = root
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise UnsafeFile(f"{path} is a link; only files and folders that lie there themselves are opened")
    return path


def regular_file(root: Path, name: str) -> Path:
    """A file below a folder, by a name that was read from a file.

    Raises
    ------
    UnsafeFile
        When :func:`below` does, or it is a pipe, a device or a folder.
    FileNotFoundError
        When there is none.
    """
    path = below(root, name)
    _require_regular(path, path.lstat().st_mode)
    return path


def regular_files(root: Path) -> list[str]:
    """Names of all files below a folder, relative to it and sorted.

    Raises
    ------
    UnsafeFile
        Naming whatever lies there that is neither a regular file nor a folder.
    """
    return sorted(_names(root, ""))


def _names(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _names(folder / entry.name, f"{prefix}{entry.name}/")
            else:
                _require_regular(folder / entry.name, entry.stat(follow_symlinks=False).st_mode)
                yield prefix + entry.name


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UnsafeFile(f"{path} is {kind_of(mode)}; only files that lie there themselves are opened")
