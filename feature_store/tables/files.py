"""What every floor does with files: opening one that is a file, their digest, and waiting until they are on the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path


class UnsafeFile(ValueError):
    """What should be a file is none, or lies elsewhere than it says. The message is one line and names it."""


def open_regular(path: Path, follow: bool = False) -> BufferedReader:
    """Open a regular file to read its bytes; what is none is never waited for.

    Parameters
    ----------
    path : Path
    follow : bool
        Whether it may be a link to a file, as it may in a user's own data.

    Raises
    ------
    UnsafeFile
        When it is a pipe, a device or a folder, or a link that may be none.
    OSError
        When it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise UnsafeFile(f"{path} is a link; only files that lie there themselves are opened") from None
        if error.errno in (errno.EISDIR, errno.ENXIO):  # a folder; a socket
            raise UnsafeFile(f"{path} is {kind_of(path.stat().st_mode)}; only files are opened") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise UnsafeFile(f"{path} is {kind_of(mode)}; only files are opened")
    return os.fdopen(descriptor, "rb")


def kind_of(mode: int) -> str:
    """What a mode of ``os.stat`` says something is, in words."""
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal; a link counts as what it names."""
    with open_regular(path, follow=True) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file's bytes, or a directory's entries, on disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
