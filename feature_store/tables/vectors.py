"""Columns that hold a vector a row, made elsewhere: of a title, an image, a graph. All vectors of a column are equally wide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.tables.casting import as_array

TITLE_VECTOR = "title_vector"  # the column of vectors that are made of titles
WIDEST = 4096  # numbers of a vector
STORED = pa.list_(pa.float32())  # how the store has such a column


def to_vectors(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Lists of numbers of any type as the store has them; null, and a list without a number, is no vector.

    Parameters
    ----------
    column : pa.Array (rows,)

    Returns
    -------
    vectors : pa.Array (rows,)
        Lists of float32; null where there is none, or a bad one.
    bad : bool array (rows,)
        Vectors with a number that is missing or not finite, as float32 has it, or of more than :data:`WIDEST` numbers.

    Raises
    ------
    TypeError
        When the column holds no lists of numbers.

    Examples
    --------
    >>> vectors, bad = to_vectors(pa.array([[1, 2], [], None, [0.5, float("nan")]], pa.list_(pa.float64())))
    >>> vectors.to_pylist(), bad.tolist()
    ([[1.0, 2.0], None, None, None], [False, False, False, True])
    """
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), STORED), np.zeros(len(column), bool)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise TypeError(f"must hold lists of numbers, not {kind}")
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type) or pa.types.is_null(kind.value_type)):
        raise TypeError(f"must hold lists of numbers, not of {kind.value_type}")
    # flat numbers, and which row each is of; of a null, a list of a fixed size has numbers all the same, which flattening leaves out
    flat = as_array(pc.list_flatten(column)).cast(pa.float32(), safe=False)
    width = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    row = np.repeat(np.arange(len(column)), width)
    numbers = flat.to_numpy(zero_copy_only=False)  # a missing one is NaN
    bad = width > WIDEST
    bad[row[~np.isfinite(numbers)]] = True
    kept = np.where(bad, 0, width)
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers[~bad[row]], pa.float32()), mask=pa.array(kept == 0))
    return lists.cast(STORED), bad


def widths_of(vectors: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Numbers of each vector (rows,); 0 where there is none."""
    found: np.ndarray = pc.fill_null(pc.list_value_length(as_array(vectors)), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def stored_widths(file: Path, names: Sequence[str]) -> dict[str, int]:
    """Width of those of the columns of a file that hold a vector at all."""
    found: dict[str, int] = {}
    with pq.ParquetFile(file) as stored:
        for batch in stored.iter_batches(columns=list(names)) if names else ():
            found |= {name: int(widths_of(batch[name]).max(initial=0)) for name in names if not found.get(name)}
            if all(found.values()):
                break
    return {name: width for name, width in found.items() if width}


def matrix_of(vectors: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A column as one matrix.

    Returns
    -------
    matrix : float32 array (rows, width)
        Zeros where a row has no vector; of no width where no row has one.
    present : bool array (rows,)

    Examples
    --------
    >>> matrix, present = matrix_of(pa.array([[1.0, 2.0], None], pa.list_(pa.float32())))
    >>> matrix.tolist(), present.tolist()
    ([[1.0, 2.0], [0.0, 0.0]], [True, False])
    """
    column = as_array(vectors)
    width = widths_of(column)
    present = width > 0
    matrix = np.zeros((len(column), int(width.max(initial=0))), np.float32)
    if present.any():
        matrix[present] = as_array(pc.list_flatten(column)).cast(pa.float32()).to_numpy(zero_copy_only=False).reshape(-1, matrix.shape[1])
    return matrix, present
