"""What of the files behind a URL is copied: what the source names, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import SourceConfig
from feature_store.readers.base import data_files
from feature_store.readers.remote_log import _matching, copy_of_log, table_url
from feature_store.readers.tabular import TabularReader
from feature_store.tables.contracts import DataFolderError

COLUMNS = {"user": "u", "item": "i", "time": "t"}


def source(**blocks: Any) -> SourceConfig:
    events = {**COLUMNS, **blocks.pop("events")}
    return SourceConfig.model_validate({"reader": "tabular", "events": events, **blocks})


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != ".files.json")


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for name in ("dt=2024-04-30/x.csv", "dt=2024-05-01/x.csv", "dt=2024-05-01/deep/y.csv", "items.csv", "users.csv", "pictures/1.png"):
        (tmp_path / "bucket" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / name).write_text(name)
    return tmp_path / "bucket"


def test_files_that_nobody_names_are_not_copied(bucket: Path, tmp_path: Path) -> None:
    copy, said = tmp_path / "copy", list[str]()
    items = {"path": "items.csv", "item": "i"}
    copy_of_log(source(events={"path": "dt=2024-05-*/*.csv"}, items=items), bucket.as_uri(), copy, said.append)
    assert files(copy) == ["dt=2024-05-01/x.csv", "items.csv"] and "copies 2 of 2 files" in said[1]
    copy_of_log(source(events={"path": "dt=*/**/*.csv"}), bucket.as_uri(), copy, said.append)
    assert files(copy) == ["dt=2024-04-30/x.csv", "dt=2024-05-01/deep/y.csv", "dt=2024-05-01/x.csv"] and "copies 2 of 3 files" in said[-1]
    copy_of_log(source(events={"path": "dt=*/*.csv", "since": "2024-05-01"}, items=items), bucket.as_uri(), copy, said.append)
    assert files(copy) == ["dt=2024-05-01/x.csv", "items.csv"]
    with pytest.raises(DataFolderError, match="holds no file that `source` names"):
        copy_of_log(source(events={"path": "*.parquet"}), bucket.as_uri(), copy)
    read_titles = {**items, "text": {"column": "title", "encoder": "pictures"}}
    copy_of_log(source(events={"path": "users.csv"}, items=read_titles), bucket.as_uri(), copy, said.append)
    assert files(copy) == ["items.csv", "pictures/1.png", "users.csv"]  # the encoder of titles is needed too
    copy_of_log(SourceConfig(reader="mind"), bucket.as_uri(), copy)
    assert len(files(copy)) == 6  # a reader that knows its files by their names


@pytest.mark.parametrize(
    "pattern", ["*.csv", "**/*.csv", "dt=*/*", "dt=2024-0[45]-*/**/?.csv", "items.csv", "./items.csv", "*/deep/*", "**/x.*"]
)
def test_patterns_mean_the_same_behind_a_url(bucket: Path, pattern: str) -> None:
    assert _matching(files(bucket), [pattern]) == [path.relative_to(bucket).as_posix() for path in data_files(bucket, pattern)]


@pytest.mark.parametrize("below", [True, False], ids=["below the data folder", "the data folder itself"])
def test_of_a_delta_table_its_version_is_copied(tmp_path: Path, below: bool) -> None:
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: make test-extras installs it")
    table = tmp_path / "lake" / "log"
    for user in (1, 2):
        rows = pa.table({"u": [user], "i": [5], "t": [1717200000]})
        deltalake.write_deltalake(table, rows, mode="overwrite")
    url = (tmp_path / "lake" if below else table).as_uri()
    of_log = source(events={"delta": "log" if below else url})
    assert table_url(of_log) == (None if below else url)
    copy = copy_of_log(of_log, url, tmp_path / "copy")
    (path,) = TabularReader(of_log, copy).files()
    assert pq.ParquetFile(path).read()["u"].to_pylist() == [2] and len(list(copy.rglob("*.parquet"))) == 1  # not those of versions before
    said: list[str] = []
    deltalake.write_deltalake(table, pa.table({"u": [3], "i": [5], "t": [1717200000]}), mode="append")
    copy_of_log(of_log, url, copy, said.append)
    assert [line.partition(" files")[0] for line in said[1:]] == ["copies 1 of 3", "copies 1 of 2"]  # of the log, and of the data
    assert len(TabularReader(of_log, copy).files()) == 2
    first = source(events={"delta": "log" if below else url, "version": 0})
    copy_of_log(first, url, copy)
    assert [pq.ParquetFile(path).read()["u"].to_pylist() for path in TabularReader(first, copy).files()] == [[1]]


def test_what_is_no_table_behind_a_url_is_said_of_the_url(bucket: Path, tmp_path: Path) -> None:
    pytest.importorskip("deltalake", reason="deltalake is not installed: make test-extras installs it")
    of_log = source(events={"delta": bucket.as_uri()})
    with pytest.raises(DataFolderError, match=f"^{bucket.as_uri()}: is no Delta Lake table, it has no _delta_log"):
        copy_of_log(of_log, bucket.as_uri(), tmp_path / "copy")
