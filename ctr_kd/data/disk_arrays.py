"""Arrays of a split that is too large to be held: they lie in files without a name, and memory has what is being read.

A file without a name is gone with the process, however that one ends. The system keeps its pages as long as there is room, and
:func:`let_go` takes them off the process before that.
"""

from __future__ import annotations

import itertools
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

MOST_IN_MEMORY = 1 << 23  # rows; of more, arrays lie on disk
PIECE = 1 << 20  # rows of so many that are held at a time


def too_many(rows: int) -> bool:
    """Whether so many rows are more than :data:`MOST_IN_MEMORY`."""
    return rows > MOST_IN_MEMORY


def pieces_of(rows: int) -> list[slice]:
    """So many rows in pieces of :data:`PIECE` where they are :func:`too_many`, else all in one.

    Examples
    --------
    >>> pieces_of(7)
    [slice(0, 7, None)]
    """
    size = PIECE if too_many(rows) else max(rows, 1)
    return [slice(begin, min(begin + size, rows)) for begin in range(0, max(rows, 1), size)]


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


def npy_array(file: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array of zeros in a .npy file of that name, which :func:`numpy.load` maps; like :func:`disk_array` where the disk has no room."""
    array: np.ndarray = np.lib.format.open_memmap(file, "w+", dtype, shape)
    try:
        with file.open("r+b") as written:
            os.posix_fallocate(written.fileno(), 0, file.stat().st_size)
    except OSError:
        file.unlink()  # or it would read as zeros
        raise
    return array


def rows_array(shape: tuple[int, ...], dtype: DTypeLike, folder: Path) -> np.ndarray:
    """An array of zeros for so many rows, the first of the shape: of :func:`too_many` a :func:`disk_array`, else in memory."""
    return disk_array(shape, dtype, folder) if too_many(shape[0]) else np.zeros(shape, dtype)


def written_on_disk(pieces: Iterable[Mapping[str, np.ndarray]], rows: int, folder: Path) -> dict[str, np.ndarray]:
    """Arrays (rows, ...) on the disk of a folder, by name, from pieces of them; memory has one piece.

    Parameters
    ----------
    pieces : iterable of mapping of str to array (rows of the piece, ...)
        One at least, all with the same names.
    rows : int
        Of all pieces.
    folder : Path
    """
    arrays: dict[str, np.ndarray] = {}
    done = 0
    for piece in pieces:
        for name, part in piece.items():
            if name not in arrays:
                arrays[name] = disk_array((rows, *part.shape[1:]), part.dtype, folder)
            arrays[name][done : done + len(part)] = part
        done += len(part)
        let_go(arrays.values())
    return arrays


def joined(pieces: Iterable[np.ndarray], rows: int, folder: Path) -> np.ndarray:
    """Pieces of an array (rows, ...) one behind the other: one alone as it is, several on the disk of a folder."""
    rest: Iterator[np.ndarray] = iter(pieces)
    first = next(rest)
    if len(first) == rows:
        return first
    return written_on_disk(({"array": piece} for piece in itertools.chain([first], rest)), rows, folder)["array"]


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
