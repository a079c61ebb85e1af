import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ctr_kd.data.disk_arrays import disk_array, let_go, read_ahead
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


def test_arrays_in_memory_are_left_alone():
    values = np.arange(3)
    let_go([values])
    read_ahead(values, 0, 3)
    assert values.tolist() == [0, 1, 2]
