"""Columns of several values: as the store keeps them, and as places of rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from feature_store.tables.multi_values import BETWEEN, MOST, named_by, place_name, spread, to_value_sets, values_of


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.string()), pa.list_(pa.dictionary(pa.int32(), pa.string()))])
def test_lists_of_any_kind_are_texts_of_the_store(kind: pa.DataType) -> None:
    numbers = pa.types.is_integer(kind.value_type)
    values = [[2, 1, 2], [], None, [None, 3]] if numbers else [["2", "1", "2"], [], None, [None, "3"]]
    text, bad = to_value_sets(pa.array(values, kind))
    assert text.to_pylist() == [f"2{BETWEEN}1", None, None, "3"] and not bad.any()
    assert [values_of(cell) for cell in text.to_pylist()] == [["2", "1"], [], [], ["3"]]


def test_lists_of_a_fixed_size_may_be_null() -> None:
    text, bad = to_value_sets(pa.array([["a", "b"], None, ["c", "c"]], pa.list_(pa.string(), 2)))
    assert text.to_pylist() == [f"a{BETWEEN}b", None, "c"] and not bad.any()


def test_single_values_and_bad_ones() -> None:
    assert to_value_sets(pa.array(["a", None]))[0].to_pylist() == ["a", None]
    text, bad = to_value_sets(pa.array([[str(n) for n in range(MOST + 1)], [str(n % 3) for n in range(10_000)], [f"a{BETWEEN}b"]]))
    assert bad.tolist() == [True, False, False] and text.to_pylist() == [None, f"0{BETWEEN}1{BETWEEN}2", "a b"]
    assert to_value_sets(pa.array([[b"\xff"], [b"x"]]))[1].tolist() == [True, False]
    with pytest.raises(TypeError):
        to_value_sets(pa.array([{"a": 1}]))


def test_places() -> None:
    table = pa.table({"id": [1, 2, 3], "tag": [f"a{BETWEEN}b{BETWEEN}c", None, "b"], "none": pa.nulls(3, pa.string())})
    found = spread(table, ["tag", "none"])
    places = {"tag": ["a", None, "b"], "tag[2]": ["b", None, None], "tag[3]": ["c", None, None]}
    assert found.to_pydict() == {"id": [1, 2, 3], **places, "none": [None] * 3}
    assert [named_by(name) for name in found.column_names] == ["id", "tag", "tag", "tag", "none"]
    assert place_name("tag", 3) == "tag[3]" and spread(table.slice(0, 0), ["tag"]).column_names == ["id", "tag", "none"]
