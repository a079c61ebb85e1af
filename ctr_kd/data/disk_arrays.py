"""Arrays of a split that is too large to be held: they lie in files without a name, and memory has what is being read.

A file without a name is gone with the process, however that one ends. The system keeps its pages as long as there is room, and
:func:`let_go` takes them off the process before that.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


def disk_array(shape: tuple[int, ...], dtype: DTypeLike, folder: Path) -> np.ndarray:
    """An array of zeros whose bytes lie on the disk of a folder, under no name.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    folder : Path
        It must be writable.

    Raises
    ------
    OSError
        When the disk has no room for it: at once, and not by a signal when the last of it is written.

    Examples
    --------
    >>> disk_array((2, 3), np.float32, Path(tempfile.gettempdir())).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "r+", shape=shape)


def let_go(arrays: Iterable[np.ndarray]) -> None:
    """Take the pages of those arrays that lie on disk off this process; what they hold is read again when it is asked for."""
    for array in arrays:
        if (mapped := _map_of(array)) is not None:
            mapped.madvise(mmap.MADV_DONTNEED)


def read_ahead(array: np.ndarray, begin: int, end: int) -> None:
    """Ask the system to fetch rows [begin, end) of an array that lies on disk, and do not wait for them."""
    if (mapped := _map_of(array)) is not None:
        first = begin * array.strides[0] // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, first, end * array.strides[0] - first)


def _map_of(array: np.ndarray) -> mmap.mmap | None:
    return getattr(array, "_mmap", None)
