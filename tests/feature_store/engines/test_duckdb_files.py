"""DuckDB reads the files that it is told to, and the columns that are in them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.engines.duckdb_files import parquet_rows, parquet_source
from feature_store.tables.contracts import StorageError
from tests.odd_names import ODD_FOLDERS

FOLDERS = [*ODD_FOLDERS, "[a-z]", "[!a]", "[]]", "**", "***", "?", "a[*]", "%5B", "a:b", "{a,b}", "-", "new\nline", "back\\slash"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_is_read_as_it_is_wherever_it_lies(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    for other in ("a", "b", "x", "ab", "x ab"):  # what the name would mean as a pattern
        (tmp_path / other).mkdir()
        pq.write_table(pa.table({"user_id": ["b"], "clicked": [2]}), tmp_path / other / "f.parquet")
    pq.write_table(pa.table({"user_id": ["a"], "clicked": [5]}), tmp_path / name / "f.parquet")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name / "f.parquet", Path(name) / "f.parquet"):
        with duckdb.connect() as engine:
            assert engine.sql(f"select * from {parquet_source([path, path])}").fetchall() == [("a", 5), ("a", 5)]
            assert engine.sql(f"select * from {parquet_source([path], united=True)}").fetchall() == [("a", 5)]
            assert engine.sql(parquet_rows(path, ["clicked", "user_id"])).fetchall() == [(0, 5, "a")]


def test_a_path_that_cannot_be_said_is_named() -> None:
    with pytest.raises(StorageError, match=r"a\\\[x\]/f.parquet: a path with a backslash"):
        parquet_source([Path("/a\\[x]/f.parquet")])


def test_columns_that_differ_in_case_alone_and_those_of_the_engine_are_other_columns(tmp_path: Path) -> None:
    names = ["USER_ID", "Score", "user_id", "file_row_number", 'an "odd" one', "score", "row"]
    pq.write_table(pa.table([[f"{name} {n}" for n in range(2)] for name in names], names=names), tmp_path / "f.parquet")
    with duckdb.connect() as engine:
        rows = engine.sql(parquet_rows(tmp_path / "f.parquet", ["user_id", "score"])).fetchall()
    assert rows == [(0, "user_id 0", "score 0"), (1, "user_id 1", "score 1")]
