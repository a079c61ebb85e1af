"""Parquet files put one after the other without decoding them, read back by Arrow and by DuckDB."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_concat import concatenate

COLUMNS = {
    "number": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "truth": (pa.bool_(), st.booleans()),
    "share": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "text": (pa.string(), st.text(max_size=5)),
    "kind": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["a", "b"])),
    "moment": (pa.timestamp("us", "UTC"), st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))),
    "history": (pa.list_(pa.int32()), st.lists(st.integers(0, 9), max_size=3)),
    "pair": (pa.struct([("a", pa.int8())]), st.fixed_dictionaries({"a": st.integers(0, 9)})),
}


def table(draw: st.DrawFn, names: list[str]) -> pa.Table:
    rows = draw(st.integers(0, 6))
    columns = {
        name: pa.array(draw(st.lists(st.none() | COLUMNS[name][1], min_size=rows, max_size=rows)), COLUMNS[name][0]) for name in names
    }
    return pa.table(columns)


@st.composite
def tables(draw: st.DrawFn) -> list[pa.Table]:
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=4, unique=True))
    return [table(draw, names) for _ in range(draw(st.integers(1, 4)))]


@settings(max_examples=60, deadline=None)
@given(parts=tables(), group=st.integers(1, 4), compression=st.sampled_from(["snappy", "zstd", "none"]), index=st.booleans())
def test_the_rows_are_those_of_the_parts(
    tmp_path_factory: pytest.TempPathFactory, parts: list[pa.Table], group: int, compression: str, index: bool
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    paths = [folder / f"{n}.parquet" for n in range(len(parts))]
    for part, path in zip(parts, paths, strict=True):
        pq.write_table(part, path, row_group_size=group, compression=compression, write_page_index=index)
    whole = folder / "whole.parquet"
    expected = pa.concat_tables(parts)
    assert concatenate(paths, whole) == expected.num_rows
    assert pq.read_table(whole).to_pylist() == expected.to_pylist()
    file = pq.ParquetFile(whole)
    assert file.schema_arrow == parts[0].schema
    assert file.num_row_groups == sum(pq.ParquetFile(path).num_row_groups for path in paths)
    assert duckdb.connect().execute(f"select count(*) from '{whole}'").fetchall() == [(expected.num_rows,)]


def test_many_row_groups_are_found_by_their_statistics(tmp_path: Path) -> None:
    """More than fifteen of them, which another list header stands for; readers that skip row groups find the right rows."""
    paths = []
    for part in range(40):
        paths.append(tmp_path / f"{part}.parquet")
        pq.write_table(pa.table({"n": np.arange(part * 100, part * 100 + 100), "half": np.arange(100) / 2}), paths[-1], row_group_size=50)
    assert concatenate(paths, tmp_path / "whole.parquet") == 4000
    assert pq.read_table(tmp_path / "whole.parquet", filters=[("n", ">=", 3333), ("n", "<", 3337)])["n"].to_pylist() == [*range(3333, 3337)]
    assert duckdb.connect().execute(f"select sum(half) from '{tmp_path / 'whole.parquet'}' where n >= 150 and n < 250").fetchall() == [
        (2475.0,)
    ]
    assert pq.ParquetFile(tmp_path / "whole.parquet").read_row_group(79)["n"].to_pylist() == [*range(3950, 4000)]


def test_metadata_is_that_of_the_first(tmp_path: Path) -> None:
    for name in "ab":
        pq.write_table(pa.table({"n": [1]}).replace_schema_metadata({"said": name}), tmp_path / f"{name}.parquet")
    concatenate([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "whole.parquet")
    assert pq.read_schema(tmp_path / "whole.parquet").metadata == {b"said": b"a"}


@pytest.mark.parametrize("damage", ["schema", "cut", "nothing"])
def test_what_cannot_be_joined_is_named(tmp_path: Path, damage: str) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    pq.write_table(pa.table({"n": [1]}), one)
    pq.write_table(pa.table({"n": ["1"] if damage == "schema" else [2]}), two)
    if damage == "cut":
        two.write_bytes(two.read_bytes()[:-3])
    with pytest.raises(DataError, match={"schema": "other columns", "cut": "no complete Parquet", "nothing": "no file"}[damage]):
        concatenate([] if damage == "nothing" else [one, two], tmp_path / "whole.parquet")
