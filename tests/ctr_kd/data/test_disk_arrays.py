import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ctr_kd.data import disk_arrays
from ctr_kd.data.disk_arrays import disk_array, joined, let_go, npy_array, pieces_of, read_ahead, rows_array, written_on_disk
from tests.memory import peak_memory


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=2, max_side=50), elements=st.floats(width=32, allow_nan=False)))
def test_what_was_written_is_read_after_its_pages_were_let_go(tmp_path_factory, values):
    kept = disk_array(values.shape, values.dtype, tmp_path_factory.getbasetemp())
    kept[:] = values
    let_go([kept])
    read_ahead(kept, len(values) // 2, len(values))
    assert np.array_equal(kept, values)


def test_the_file_has_no_name_and_nothing_is_left_of_it(tmp_path):
    kept = disk_array((100,), np.int64, tmp_path)
    assert not list(tmp_path.iterdir()) and kept.sum() == 0
    kept[3] = 7
    assert kept[3] == 7 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(3, 2), (0, 1)])
def test_a_file_with_a_name_holds_what_numpy_would_have_saved(shape, tmp_path):
    values = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    npy_array(tmp_path / "a.npy", shape, np.float32)[:] = values
    np.save(tmp_path / "b.npy", values)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_nothing_needs_no_file(tmp_path):
    assert disk_array((5, 0), np.int32, tmp_path).shape == (5, 0)
    let_go([disk_array((0,), np.int32, tmp_path)])


def test_memory_has_what_is_being_read(tmp_path):
    kept = disk_array((8 << 20, 4), np.float32, tmp_path)  # 128 MB
    before = peak_memory(reset=True)
    for begin in range(0, len(kept), 1 << 20):
        kept[begin : begin + (1 << 20)] = 1.0
        let_go([kept])
    assert peak_memory() - before < 64 << 20
    assert kept.sum(dtype=np.float64) == kept.size


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        disk_array((10,), np.float32, tmp_path)
    with pytest.raises(OSError, match="No space left"):
        npy_array(tmp_path / "a.npy", (10,), np.float32)
    assert list(tmp_path.iterdir()) == []  # a file that is left would read as zeros


def test_arrays_in_memory_are_left_alone():
    values = np.arange(3)
    let_go([values])
    read_ahead(values, 0, 3)
    assert values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 25])
def test_pieces_are_joined_into_what_they_are_pieces_of(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 9)
    monkeypatch.setattr(disk_arrays, "PIECE", 4)
    values = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    pieces = pieces_of(rows)
    assert [piece.stop - piece.start for piece in pieces] == ([rows] if rows <= 9 else [4] * (rows // 4) + [rows % 4] * (rows % 4 > 0))
    kept = joined((values[piece] for piece in pieces), rows, tmp_path)
    assert isinstance(kept, np.memmap) == (rows > 9) == isinstance(rows_array((rows,), np.int8, tmp_path), np.memmap)
    assert kept.dtype == values.dtype and np.array_equal(kept, values)
    both = written_on_disk(({"a": values[piece], "b": values[piece, 0]} for piece in pieces), rows, tmp_path)
    assert np.array_equal(both["a"], values) and np.array_equal(both["b"], values[:, 0])
