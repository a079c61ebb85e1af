"""Columns beside a Parquet file whose own are not decoded, read back by Arrow and by DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_columns import add_columns
from tests.feature_store.tables.test_parquet_concat import table


@st.composite
def pairs(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    names = ["number", "truth", "share", "text", "kind", "moment", "history", "pair"]
    own, more = (table(draw, draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))) for _ in range(2))
    rows = min(own.num_rows, more.num_rows)
    return own.slice(0, rows), more.slice(0, rows)


@settings(max_examples=80, deadline=None)
@given(
    both=pairs(),
    group=st.integers(1, 4),
    compression=st.sampled_from(["snappy", "zstd", "none"]),
    index=st.booleans(),
    stored=st.booleans(),
)
def test_the_columns_of_both_stand_beside_each_other(
    tmp_path_factory: pytest.TempPathFactory, both: tuple[pa.Table, pa.Table], group: int, compression: str, index: bool, stored: bool
) -> None:
    folder = tmp_path_factory.mktemp("columns")
    own, more = both
    pq.write_table(own, folder / "own.parquet", row_group_size=group, compression=compression, write_page_index=index, store_schema=stored)
    pq.write_table(more, folder / "more.parquet", row_group_size=group)
    assert add_columns(folder / "own.parquet", folder / "more.parquet", folder / "both.parquet") == own.num_rows
    expected = pq.read_table(folder / "own.parquet")
    for name in more.column_names:
        place = expected.column_names.index(name) if name in expected.column_names else None
        expected = expected.append_column(name, more[name]) if place is None else expected.set_column(place, name, more[name])
    found = pq.read_table(folder / "both.parquet")
    assert found.column_names == expected.column_names
    assert found.to_pylist() == expected.to_pylist()
    if stored:
        assert found.schema.types == expected.schema.types
    file = pq.ParquetFile(folder / "both.parquet")
    assert file.num_row_groups == pq.ParquetFile(folder / "own.parquet").num_row_groups
    assert duckdb.connect().execute(f"select count(*) from '{folder / 'both.parquet'}'").fetchall() == [(own.num_rows,)]


def test_row_groups_are_found_by_the_statistics_of_old_and_new_columns(tmp_path: Path) -> None:
    own = pa.table({"n": range(100), "text": [f"t{n:02}" for n in range(100)]})
    pq.write_table(own, tmp_path / "own.parquet", row_group_size=10, write_page_index=True)
    pq.write_table(pa.table({"score": [n / 100 for n in range(100)]}), tmp_path / "more.parquet", row_group_size=10)
    add_columns(tmp_path / "own.parquet", tmp_path / "more.parquet", tmp_path / "both.parquet")
    read = (
        duckdb.connect().execute(f"select n, text from '{tmp_path / 'both.parquet'}' where score >= 0.335 and n < 36 order by n").fetchall()
    )
    assert read == [(34, "t34"), (35, "t35")]
    assert pq.read_table(tmp_path / "both.parquet", filters=[("text", "=", "t77")]).to_pylist() == [{"n": 77, "text": "t77", "score": 0.77}]
    group = pq.ParquetFile(tmp_path / "both.parquet").metadata.row_group(3)
    assert group.num_columns == 3 and group.column(2).statistics.min == 0.3
    assert group.total_byte_size == sum(group.column(n).total_uncompressed_size for n in range(3))


def test_what_pandas_and_others_said_of_the_file_stays(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int8())}).replace_schema_metadata({"said": "a"}), tmp_path / "own.parquet")
    pq.write_table(pa.table({"score": [0.5, 0.25]}).replace_schema_metadata({"said": "b"}), tmp_path / "more.parquet")
    add_columns(tmp_path / "own.parquet", tmp_path / "more.parquet", tmp_path / "both.parquet")
    schema = pq.read_schema(tmp_path / "both.parquet")
    assert schema.metadata == {b"said": b"a"} and schema.types == [pa.int8(), pa.float64()]


def test_no_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "own.parquet")
    pq.write_table(pa.table({"score": pa.array([], pa.float64())}), tmp_path / "more.parquet")
    assert add_columns(tmp_path / "own.parquet", tmp_path / "more.parquet", tmp_path / "both.parquet") == 0
    assert pq.read_table(tmp_path / "both.parquet").column_names == ["n", "score"]


def test_the_bytes_of_the_rows_are_those_of_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(1000)}), tmp_path / "own.parquet")
    pq.write_table(pa.table({"score": pc.divide(pa.array(range(1000)), 7.0)}), tmp_path / "more.parquet")
    add_columns(tmp_path / "own.parquet", tmp_path / "more.parquet", tmp_path / "both.parquet")
    chunk = pq.read_metadata(tmp_path / "own.parquet").row_group(0).column(0)
    until = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size
    assert (tmp_path / "both.parquet").read_bytes()[:until] == (tmp_path / "own.parquet").read_bytes()[:until]


@pytest.mark.parametrize("damage", ["groups", "rows", "cut"])
def test_what_cannot_stand_beside_is_named(tmp_path: Path, damage: str) -> None:
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "own.parquet")
    more = pa.table({"score": [0.5, 0.5, 0.5] if damage == "rows" else [0.5, 0.5]})
    pq.write_table(more, tmp_path / "more.parquet", row_group_size=1 if damage == "groups" else 10)
    if damage == "cut":
        (tmp_path / "more.parquet").write_bytes((tmp_path / "more.parquet").read_bytes()[:-3])
    with pytest.raises(DataError, match="no complete Parquet" if damage == "cut" else "other row groups"):
        add_columns(tmp_path / "own.parquet", tmp_path / "more.parquet", tmp_path / "both.parquet")
