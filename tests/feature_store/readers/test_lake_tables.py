"""Events in a Delta Lake or Iceberg table, where deltalake and pyiceberg are installed (make test-extras)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from feature_store.config import SourceConfig
from feature_store.readers.first_rows import check_log
from feature_store.readers.tabular import TabularReader
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError, DataFolderError
from pipelines.config.run import RunConfig

DAY = 1717200000  # 2024-06-01 00:00 UTC
ROWS = "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"  # six of the first thirty, as a deletion vector writes them
COLUMNS = {"user": "u", "item": "i", "time": "t", "clicked": "c"}


def log(*users: int, day: int = 0, **more: Any) -> pa.Table:
    rows = len(users)
    columns = {"u": pa.array(users, pa.int64()), "i": [10 + user for user in users], "t": [DAY + 86_400 * day + user for user in users]}
    return pa.table({**columns, "c": [user % 2 for user in users], "dt": [f"2024-06-0{day + 1}"] * rows, **more})


class Lake:
    """A table, a store, and the ingestion of one into the other."""

    def __init__(self, root: Path, events: dict[str, Any]) -> None:
        self.root, self.events, self.lines = root, events, list[str]()
        self.store = Store(root / "store")

    def source(self, context: tuple[str, ...] = (), **events: Any) -> SourceConfig:
        known = {"reader": "tabular", "events": {**self.events, **COLUMNS, **events}, "context": {"categorical": context}}
        return SourceConfig.model_validate(known)

    def ingest(self, context: tuple[str, ...] = (), **events: Any) -> list[int]:
        """Users that the store then holds, in order."""
        self.lines.clear()
        data = self.root / "data"
        ingest(self.source(context, **events), data if data.is_dir() else None, self.store, self.root / "failed", self.lines.append)
        return sorted(user for file in self.store.event_files() for user in pq.ParquetFile(file).read()["user_id"].to_pylist())

    def files(self, **events: Any) -> list[Path]:
        return TabularReader(self.source(**events), self.root / "data").files()

    @property
    def version(self) -> int | None:
        assert self.store.ledger is not None
        return self.store.ledger.version


@pytest.fixture
def delta(tmp_path: Path) -> Iterator[tuple[Lake, Callable[..., Any]]]:
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: make test-extras installs it")
    (tmp_path / "data").mkdir()

    def write(rows: pa.Table, **options: Any) -> None:
        deltalake.write_deltalake(tmp_path / "data" / "log", rows, **{"mode": "append", **options})

    yield Lake(tmp_path, {"delta": "log"}), write


@pytest.fixture
def iceberg(tmp_path: Path) -> Iterator[tuple[Lake, Any]]:
    catalogs = pytest.importorskip("pyiceberg.catalog", reason="pyiceberg is not installed: make test-extras installs it")
    settings = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/lake"}
    catalog = catalogs.load_catalog("default", **settings)
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.log", schema=log(1).schema)
    with table.update_spec() as spec:
        spec.add_identity("dt")
    yield Lake(tmp_path, {"iceberg": "shop.log", "catalog": settings}), table


def test_a_delta_table_is_followed_by_its_versions(delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(1, 2), partition_by=["dt"])
    write(log(3, day=1), partition_by=["dt"])
    (lake.root / "data" / "log" / "dt=2024-06-01" / "stray.parquet").write_bytes(b"no file of the table: a writer died")
    assert lake.ingest() == [1, 2, 3] and lake.version == 1
    assert lake.lines[0] == "the events are version 1 of Delta Lake table log, 2 files"
    write(log(4, day=2), partition_by=["dt"])
    assert lake.ingest() == [1, 2, 3, 4] and lake.version == 2 and "reading 1 of 3 input files" in lake.lines
    assert lake.ingest() == [1, 2, 3, 4] and "nothing new: 3 inputs are as they were" in lake.lines
    assert lake.ingest(version=0) == [1, 2] and lake.version == 0  # the store is as the version says
    assert "2 files of earlier ingestions are not of this version; their rows go" in lake.lines
    assert lake.ingest(as_of="2100-01-01") == [1, 2, 3, 4]


def test_rows_that_a_later_version_deletes_or_rewrites_go(delta: tuple[Lake, Callable[..., Any]]) -> None:
    from deltalake import DeltaTable

    lake, write = delta
    write(log(1, 2, 3))
    write(log(4, 5, day=1))
    assert lake.ingest() == [1, 2, 3, 4, 5]
    table = DeltaTable(lake.root / "data" / "log")
    table.delete("u = 2")
    assert lake.ingest() == [1, 3, 4, 5]
    table.optimize.compact()
    assert lake.ingest() == [1, 3, 4, 5] and lake.store.quarantined_rows() == 0  # one file has the rows of both, and none counts as a copy
    table.delete("u > 3")
    assert lake.ingest() == [1, 3] and lake.store.dates() == ["2024-06-01"]


def test_partitions_and_younger_columns_are_those_of_the_table(delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(1), partition_by=["dt"])
    write(log(2, day=1, device=["phone"]), partition_by=["dt"], schema_mode="merge")
    write(log(3, day=2, device=["desk"]), partition_by=["dt"], schema_mode="merge")
    lake.ingest(("device", "dt"))
    rows = [row for file in lake.store.event_files() for row in pq.ParquetFile(file).read().to_pylist()]
    assert [(row["device"], row["dt"]) for row in rows] == [(None, "2024-06-01"), ("phone", "2024-06-02"), ("desk", "2024-06-03")]
    with pytest.raises(DataError, match=r"part-.*parquet: column 'place' is missing"):
        lake.ingest(("place",))


def test_the_program_checks_a_delta_table(delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(*range(50)), partition_by=["dt"])
    split = RunConfig.model_validate(
        {"name": "x", "source": {"reader": "simulated"}, "split": {"fractions": [0.6, 0.2, 0.2]}}
    ).need_clicks()
    found = check_log(lake.source(("dt",)), split, lake.root / "data")
    assert found.faults == [] and "50 events looked at" in found.seen[1]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({"version": 9}, "cannot be read as a Delta Lake table at version 9"),
        ({"as_of": "2001-01-01"}, "has no version as of 2001-01-01 00:00:00 UTC"),
        ({"delta": "elsewhere"}, "is no Delta Lake table, it has no _delta_log"),
        ({"delta": "../log"}, "is no folder below the data folder"),
        ({"delta": "/log"}, "is no folder below the data folder; let the data folder be one above the table"),
    ],
)
def test_a_delta_table_that_is_not_there_is_one_line(events: dict[str, Any], said: str, delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(1))
    with pytest.raises(DataFolderError, match=said) as error:
        lake.files(**events)
    assert "\n" not in str(error.value)


def test_a_file_that_was_vacuumed_is_one_line(delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(1))
    next((lake.root / "data" / "log").glob("*.parquet")).unlink()
    with pytest.raises(DataFolderError, match="is not there any more, and version 0 of Delta Lake table log needs it"):
        lake.files()


def edit(commit: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the lines of a commit of a table, as a writer of another kind would have written them."""
    lines = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        change(line)
    commit.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def test_deletion_vectors_are_refused(delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(*range(1, 31)), configuration={"delta.enableDeletionVectors": "true"})
    assert len(lake.files()) == 1  # it could have some, and has none
    for vector in (ROWS, ROWS[::-1]):  # and one that cannot be read itself
        marks = {"storageType": "i", "pathOrInlineDv": vector, "sizeInBytes": 44, "cardinality": 6}
        edit(
            lake.root / "data" / "log" / "_delta_log" / "00000000000000000000.json",
            lambda line, marks=marks: line["add"].update(deletionVector=marks) if "add" in line else None,  # type: ignore[misc]
        )
        with pytest.raises(DataError, match="has deletion vectors, which cannot be read; rewrite its files first"):
            lake.files()


def test_mapped_columns_are_refused(delta: tuple[Lake, Callable[..., Any]]) -> None:
    lake, write = delta
    write(log(1), configuration={"delta.columnMapping.mode": "name"})
    with pytest.raises(DataError, match=r"maps its columns \(delta.columnMapping.mode: name\)"):
        lake.files()


def test_an_iceberg_table_is_followed_by_its_snapshots(iceberg: tuple[Lake, Any]) -> None:
    lake, table = iceberg
    table.append(log(1, 2))
    first = table.current_snapshot().snapshot_id
    table.append(log(3, day=1))
    assert lake.ingest() == [1, 2, 3] and lake.version == table.current_snapshot().snapshot_id  # without any data folder
    table.append(log(4, day=2))
    assert lake.ingest() == [1, 2, 3, 4] and "reading 1 of 3 input files" in lake.lines
    table.delete("u == 2")
    assert lake.ingest() == [1, 3, 4] and lake.store.quarantined_rows() == 0
    table.overwrite(log(1, 3, 4, 5))
    assert lake.ingest() == [1, 3, 4, 5] and lake.store.quarantined_rows() == 0
    assert lake.ingest(snapshot=first) == [1, 2] and lake.version == first
    assert lake.ingest(as_of=datetime.now(UTC)) == [1, 3, 4, 5]


def test_columns_of_an_iceberg_table(iceberg: tuple[Lake, Any]) -> None:
    from pyiceberg.types import StringType

    lake, table = iceberg
    table.append(log(1))
    with table.update_schema() as schema:
        schema.add_column("device", StringType())
    table.append(log(2, day=1, device=["phone"]))
    lake.ingest(("device", "dt"))
    rows = [row for file in lake.store.event_files() for row in pq.ParquetFile(file).read().to_pylist()]
    assert [(row["device"], row["dt"]) for row in rows] == [(None, "2024-06-01"), ("phone", "2024-06-02")]
    with table.update_schema() as schema:
        schema.rename_column("device", "machine")
    with pytest.raises(DataError, match=r"parquet: its column 'device' is not 'machine' of snapshot \d+ of Iceberg table shop.log"):
        lake.ingest(("machine",))


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({"iceberg": "shop.none"}, "Table does not exist"),
        ({"iceberg": "none"}, "Iceberg table none cannot be read"),
        ({"snapshot": 9}, "has no snapshot 9"),
        ({"as_of": "2001-01-01"}, "has no snapshot as of 2001-01-01"),
        ({"catalog": {"type": "sql", "uri": "sqlite:////no/such.db"}}, "/no/such.db: there is no such catalogue"),
        ({"catalog": {}}, "URI missing"),
        ({"catalog": {"type": "rest", "uri": "http://127.0.0.1:9"}}, "see whether its catalogue is there"),
    ],
)
def test_an_iceberg_table_that_is_not_there_is_one_line(events: dict[str, Any], said: str, iceberg: tuple[Lake, Any]) -> None:
    lake, table = iceberg
    table.append(log(1))
    with pytest.raises(DataFolderError, match=said) as error:
        lake.files(**events)
    assert "\n" not in str(error.value)


def test_what_iceberg_keeps_beside_its_files_is_refused(iceberg: tuple[Lake, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.table import DataScan

    lake, table = iceberg
    table.append(log(1))
    tasks = list(table.scan().plan_files())
    monkeypatch.setattr(DataScan, "plan_files", lambda scan: tasks)
    tasks[0].delete_files.add(tasks[0].file)
    with pytest.raises(DataError, match="has deleted rows beside its files"):
        lake.files()
    tasks[0].delete_files.clear()
    tasks[0].file._data[1] = "s3://bucket/x.parquet"
    with pytest.raises(DataError, match="its files lie behind s3://; only tables on a local or mounted disk are read"):
        lake.files()


@pytest.mark.parametrize(("key", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg")])
def test_a_missing_package_is_one_line(key: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (package, f"{package}.catalog", f"{package}.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=rf"pip install 'ctr-kd\[{key}\]'"):
        Lake(tmp_path, {key: "a.b"}).files()


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({}, "name where the events are in one way: path, or delta, or iceberg"),
        ({"path": "*", "delta": "log"}, "name where the events are in one way"),
        ({"path": "*", "version": 1}, "version has no effect on events of path"),
        ({"delta": "log", "snapshot": 1}, "snapshot has no effect on events of delta"),
        ({"delta": "log", "version": 1, "as_of": "2024-01-01"}, "as_of and version both say what is read"),
        ({"delta": "s3://key:hush@bucket/log"}, "delta must be a URL without credentials"),
        ({"iceberg": "a.b", "catalog": {"s3.secret-access-key": "hush"}}, "catalog must hold no credentials"),
        ({"iceberg": "a.b", "catalog": {"uri": "postgresql://me:hush@host/db"}}, "catalog must hold no credentials"),
    ],
)
def test_keys_that_do_not_fit_are_said(events: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as error:
        SourceConfig.model_validate({"reader": "tabular", "events": {**COLUMNS, **events}})
    assert [problem["msg"] for problem in error.value.errors() if "hush" in problem["msg"]] == []


def test_where_the_events_are_is_no_part_of_the_log() -> None:
    places: list[dict[str, Any]] = [
        {"path": "*"},
        {"delta": "log", "version": 3},
        {"iceberg": "a.b", "catalog": {"name": "c"}, "snapshot": 4},
    ]
    sources = [SourceConfig.model_validate({"reader": "tabular", "events": {**COLUMNS, **place}}) for place in places]
    assert sources[0].log() == sources[1].log() == sources[2].log()
    assert len({TabularReader(source, Path()).fingerprint() for source in sources}) == 1
    assert [source.needs_folder for source in sources] == [True, True, False]
