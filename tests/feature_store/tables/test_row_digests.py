"""Digests of rows: equal where rows are equal, and nowhere else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.tables.row_digests import row_digests

VALUES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
ROWS = st.lists(
    st.tuples(VALUES, st.one_of(st.none(), st.text(max_size=3)), st.one_of(st.none(), st.lists(st.text(max_size=2), max_size=3)))
)


def table(rows: list[tuple]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
    kinds = (pa.int64(), pa.string(), pa.list_(pa.string()))
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip("abc", columns, kinds, strict=True)})


@given(ROWS)
def test_rows_have_one_digest_exactly_where_they_are_equal(rows: list[tuple]) -> None:
    digests = [tuple(one) for one in row_digests(table(rows)).tolist()]
    shown = [repr(row) for row in rows]
    for place, row in enumerate(shown):
        assert [other == row for other in shown] == [other == digests[place] for other in digests]


@given(ROWS, st.randoms())
def test_a_row_has_its_digest_wherever_it_stands(rows: list[tuple], random: object) -> None:
    whole = row_digests(table(rows))
    for place, row in enumerate(rows):
        assert np.array_equal(row_digests(table([row]).select(["c", "a", "b"]))[0], whole[place])


def test_widths_of_numbers_and_ways_to_store_text_make_no_difference() -> None:
    wide = pa.table({"n": pa.array([1, 2, None], pa.int64()), "t": pa.array(["x", None, "y"]), "f": pa.array([0.5, np.nan, -0.0])})
    narrow = pa.table(
        {
            "n": pa.array([1, 2, None], pa.int16()),
            "t": pa.array(["x", None, "y"]).dictionary_encode(),
            "f": pa.array([0.5, None, 0.0], pa.float32()),
        }
    )
    assert np.array_equal(row_digests(wide), row_digests(narrow))
    chunked = pa.concat_tables([wide.slice(0, 1), wide.slice(1)])
    assert np.array_equal(row_digests(chunked), row_digests(wide))
    sliced = pa.table({"c": pa.array([[1], [2, 3], None, []])})
    assert np.array_equal(row_digests(sliced.slice(1)), row_digests(sliced)[1:])


def test_times_and_flags_count_and_a_structure_is_refused() -> None:
    times = pa.table({"t": pa.array([1, 2], pa.timestamp("us", "UTC")), "b": [True, False]})
    assert not np.array_equal(*row_digests(times))
    with pytest.raises(TypeError, match="column 's' is struct"):
        row_digests(pa.table({"s": [{"a": 1}]}))
