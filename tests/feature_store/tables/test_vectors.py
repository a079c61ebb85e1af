"""Columns of vectors: whatever type they come in, the store has the same numbers, and says which rows it cannot have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.tables.vectors import STORED, WIDEST, matrix_of, stored_widths, to_vectors, widths_of

NUMBERS = st.floats(-1000, 1000, width=16) | st.just(float("nan")) | st.none()
ROWS = st.lists(st.none() | st.lists(NUMBERS, max_size=4), max_size=20)
TYPES = st.sampled_from([pa.list_(pa.float16()), pa.list_(pa.float32()), pa.large_list(pa.float64())])


@given(ROWS, TYPES)
def test_every_row_is_what_it_is_alone(rows: list, kind: pa.DataType) -> None:
    typed = [
        None if row is None else [None if v is None else np.float16(v) if kind.value_type == pa.float16() else v for v in row]
        for row in rows
    ]
    vectors, bad = to_vectors(pa.array(typed, kind))
    broken = [row is not None and any(v is None or v != v for v in row) for row in rows]
    assert vectors.type == STORED and bad.tolist() == broken
    assert vectors.to_pylist() == [None if not row or wrong else row for row, wrong in zip(rows, broken, strict=True)]
    assert widths_of(vectors).tolist() == [0 if row is None else len(row) for row in vectors.to_pylist()]


@given(st.lists(st.none() | st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), max_size=20), st.integers(0, 5))
def test_a_matrix_has_every_vector_in_its_row(rows: list, cut: int) -> None:
    column = pa.array([None] * cut + rows, STORED)[cut:]  # Arrow's slices keep what lies before them
    matrix, present = matrix_of(column)
    assert present.tolist() == [row is not None for row in rows]
    assert all(matrix[place].tolist() == row for place, row in enumerate(rows) if row is not None)
    assert not matrix[~present].any()


def test_a_list_of_a_fixed_size_may_be_null() -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 4.0]), 2, mask=pa.array([True, False]))
    vectors, bad = to_vectors(column)
    assert vectors.to_pylist() == [None, [3.0, 4.0]] and not bad.any()


def test_too_wide_and_infinite_vectors_are_bad() -> None:
    vectors, bad = to_vectors(pa.array([[0.0] * (WIDEST + 1), [1e300], [1.0]]))
    assert bad.tolist() == [True, True, False] and vectors.to_pylist() == [None, None, [1.0]]


@pytest.mark.parametrize("column", [pa.array(["[1, 2]"]), pa.array([1.0]), pa.array([["a"]])])
def test_a_column_of_something_else_is_refused(column: pa.Array) -> None:
    with pytest.raises(TypeError, match="must hold lists of numbers, not"):
        to_vectors(column)


def test_the_width_of_a_file_is_that_of_its_first_vector(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([None, [1.0, 2.0]], STORED), "b": pa.nulls(2, STORED)}), tmp_path / "items.parquet")
    assert stored_widths(tmp_path / "items.parquet", ["a", "b"]) == {"a": 2}
    assert stored_widths(tmp_path / "items.parquet", []) == {}
