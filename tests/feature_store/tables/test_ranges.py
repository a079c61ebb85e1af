"""Ranges of positions, against a loop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.tables.ranges import ranges


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=20))
def test_ranges_are_those_of_a_loop(pairs: list[tuple[int, int]]) -> None:
    start = np.array([pair[0] for pair in pairs], np.int64)
    end = start + np.array([pair[1] for pair in pairs], np.int64)
    position, offsets = ranges(start, end)
    expected = [list(range(a, b)) for a, b in zip(start, end, strict=True)]
    assert pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(position, pa.int64())).to_pylist() == expected
