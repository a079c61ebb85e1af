import errno
import gzip
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.config import SourceConfig
from feature_store.store import ingest as ingest_module
from feature_store.store import merge, staging
from feature_store.store import store as store_module
from feature_store.store.ingest import IngestSummary, ingest
from feature_store.store.store import Store
from feature_store.tables import contracts
from feature_store.tables.casting import to_text
from feature_store.tables.contracts import DataError, StorageError
from tests.odd_names import odd_folder
from tests.programs import HANGS

DAY = 1717200000  # 2024-06-01 00:00 UTC
NOW = datetime(2024, 7, 1, tzinfo=UTC)
EVENTS = {"path": "*.csv", "user": "user", "item": "item", "time": "time", "clicked": "clicked"}
HEADER = "user,item,time,clicked,device\n"


class World:
    """A data folder, a store, and the ingestion of one into the other."""

    def __init__(self, root: Path, **source: Any) -> None:
        self.data, self.root, self.failed = root / "data", root / "workspace" / "store", root / "workspace" / "failed"
        self.data.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.root)
        self.lines: list[str] = []
        defaults = {"reader": "tabular", "events": EVENTS, "context": {"categorical": ["device"]}, "bad_rows_limit": 0.5}
        self.source = SourceConfig.model_validate({**defaults, **source})

    def write(self, name: str, *rows: str) -> None:
        (self.data / name).write_text(HEADER + "".join(f"{row}\n" for row in rows))

    def ingest(self) -> IngestSummary:
        return ingest(self.source, self.data, self.store, self.failed, self.lines.append, now=NOW)

    def rows(self, *columns: str) -> list[tuple]:
        """Stored events in their stored order, by date."""
        names = columns or ("user_id", "item_id", "clicked")
        return [tuple(row[name] for name in names) for file in self.store.event_files() for row in pq.ParquetFile(file).read().to_pylist()]

    def bytes(self) -> dict[str, bytes]:
        files = sorted(path for path in self.root.rglob("*") if path.is_file()) if self.root.exists() else []
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}

    def quarantine(self, *columns: str) -> list[tuple]:
        rows = pq.ParquetFile(self.root / "quarantine" / "quarantine.parquet").read().to_pylist()
        return [tuple(row[name] for name in columns or ("file", "line", "reason")) for row in rows]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def row(user: object = 1, item: object = 10, time: object = DAY, clicked: object = 1, device: object = "phone") -> str:
    return f"{user},{item},{time},{clicked},{device}"


def test_the_store_does_not_depend_on_the_names_of_the_folders_above_it_or_the_log(world: World, tmp_path: Path) -> None:
    odd = World(odd_folder(tmp_path / "odd"))
    for one in (world, odd):
        one.write("a.csv", row(2, 10, DAY + 5), row(1, 11, DAY + 86_400), row(1, 12, DAY + 9, clicked="?"), row(1, 13, DAY + 3, 0, ""))
        one.ingest()
        one.write("b.csv", row(2, 10, DAY + 5), row("x", 11, DAY + 86_400), row(1, 13, DAY + 4, "?"), row(4), row(5))
        one.ingest()
        for user in (7, 8):  # rows of a file that is read again leave the store, whatever it is called
            one.write("it's ${x} [1].csv", row(user))
            one.ingest()
        assert {"7", "8"} & {user for user, *_ in one.rows()} == {"8"}
    assert odd.bytes() == world.bytes()
    assert len(odd.quarantine()) == 3


@pytest.mark.parametrize("context", [["gap"], ["device", "Device"], ["SCORE"], ["model_version"]])
def test_a_name_that_is_taken_is_refused_before_anything_is_read(world: World, context: list[str]) -> None:
    world.write("a.csv", row())
    world.ingest()
    before = world.bytes()
    odd = World(world.data.parent, context={"categorical": context})
    odd.write("b.csv", row(2))
    with pytest.raises(DataError, match=f"categorical context: .*column '{context[-1]}' is .*rename it in the log and in `source`"):
        odd.ingest()
    assert world.bytes() == before


def test_rows_land_in_the_partition_of_their_date_sorted_by_user_and_time(world: World) -> None:
    world.write("a.csv", row(2, 10, DAY + 5), row(1, 11, DAY + 86_400), row(1, 12, DAY + 9), row(1, 13, DAY + 3, 0, ""))
    summary = world.ingest()
    assert world.store.dates() == ["2024-06-01", "2024-06-02"]
    assert world.rows("user_id", "item_id", "clicked", "device", "source", "line") == [
        (1, 13, 0, None, "a.csv", 5),
        (1, 12, 1, "phone", "a.csv", 4),
        (2, 10, 1, "phone", "a.csv", 2),
        (1, 11, 1, "phone", "a.csv", 3),
    ]
    assert (summary.files, summary.rows_read, summary.rows_stored, summary.rows_quarantined) == (1, 4, 4, 0)
    assert summary.partitions_written == ["2024-06-01", "2024-06-02"] and summary.partitions_unchanged == 0
    assert world.store.contract.to_json() == {
        "user_id": "int64",
        "item_id": "int64",
        "request_id": "int64",
        "has_impressions": True,
        "oracle": False,
        "context": {"categorical": ["device"], "dense": []},
        "item_attributes": [],
        "user_attributes": [],
    }
    manifest = world.store.manifest("2024-06-01")
    assert manifest.rows == 3 and list(manifest.inputs) == ["a.csv"]
    assert [time.isoformat() for time in (manifest.min_timestamp, manifest.max_timestamp)] == [
        "2024-06-01T00:00:03+00:00",
        "2024-06-01T00:00:09+00:00",
    ]
    midnight, last = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 2, tzinfo=UTC)
    asked = (None, last + timedelta(seconds=1), last, midnight + timedelta(seconds=5), midnight)
    newest = [last, last, midnight + timedelta(seconds=9), midnight + timedelta(seconds=3), None]
    assert [world.store.newest_event(as_of) for as_of in asked] == newest
    world.store.verify()


def test_a_second_run_changes_nothing_and_says_so(world: World) -> None:
    world.write("a.csv", row(), row(1, 10, "soon"))
    world.ingest()
    before = world.bytes()
    summary = world.ingest()
    assert (summary.files, summary.rows_read, summary.partitions_unchanged) == (0, 0, 1) and world.bytes() == before
    assert "nothing new" in world.lines[-1]


def test_the_same_input_makes_the_same_bytes(tmp_path: Path) -> None:
    stores = []
    for name in ("one", "two"):
        world = World(tmp_path / name)
        world.write("a.csv", *(row(n % 7, n % 5, DAY + n * 1000) for n in range(300)), row(1, 1, "soon"))
        world.ingest()
        stores.append(world.bytes())
    assert stores[0] == stores[1]


def test_late_rows_land_in_their_own_dates_partition(world: World) -> None:
    world.write("a.csv", row(1, 10, DAY), row(1, 11, DAY + 86_400))
    world.ingest()
    untouched = world.store.event_files()[1].stat().st_mtime_ns
    world.write("b.csv", row(0, 12, DAY + 60))
    summary = world.ingest()
    assert summary.files == 1 and summary.partitions_written == ["2024-06-01"] and summary.partitions_unchanged == 1
    assert world.rows("user_id", "item_id", "source") == [(0, 12, "b.csv"), (1, 10, "a.csv"), (1, 11, "a.csv")]
    assert world.store.event_files()[1].stat().st_mtime_ns == untouched


def test_the_rows_of_a_changed_file_are_replaced(tmp_path: Path) -> None:
    world, fresh = World(tmp_path / "world"), World(tmp_path / "fresh")
    world.write("a.csv", row(1, 10, DAY), row(1, 11, DAY + 86_400), row(9, 9, "soon"))
    world.write("b.csv", row(2, 12, DAY))
    world.ingest()
    for w in (world, fresh):
        w.write("a.csv", row(1, 13, DAY))
        w.write("b.csv", row(2, 12, DAY))
    summary = world.ingest()
    assert summary.files == 1 and summary.partitions_written == ["2024-06-01", "2024-06-02"]
    assert world.rows() == [(1, 13, 1), (2, 12, 1)] and world.store.dates() == ["2024-06-01"]
    fresh.ingest()
    assert world.bytes() == fresh.bytes()


def test_a_damaged_part_of_the_store_is_merged_into_nothing(world: World) -> None:
    world.write("a.csv", row(user=1, item=10), "1,2")
    world.ingest()
    world.write("b.csv", row(user=2, item=10))
    for name in ("events/date=2024-06-01/events.parquet", "quarantine/quarantine.parquet"):
        held, before = (world.root / name).read_bytes(), world.store.ledger
        (world.root / name).write_bytes(held.replace(b"phone", b"phony") if b"phone" in held else held[:-9] + b"?" + held[-8:])
        with pytest.raises(DataError, match=rf"{name}: its sha256 .* is damaged; restore it from a backup, or delete .*store and ingest"):
            world.ingest()
        assert world.store.ledger == before
        (world.root / name).write_bytes(held)
    world.ingest()
    assert world.rows("user_id") == [(1,), (2,)]


def test_a_vanished_file_keeps_its_rows(world: World) -> None:
    world.write("a.csv", row(1))
    world.write("b.csv", row(2))
    world.ingest()
    (world.data / "a.csv").unlink()
    world.write("c.csv", row(3))
    world.ingest()
    assert [user for user, *_ in world.rows()] == [1, 2, 3] and any("not there any more" in line for line in world.lines)


def test_other_settings_replace_the_store(tmp_path: Path, world: World) -> None:
    world.write("a.csv", row(), row(2, 10, DAY, 0))
    world.ingest()
    clicks_only = World(tmp_path, events={**EVENTS, "clicked": None}, context={})
    clicks_only.ingest()
    assert clicks_only.rows() == [(1, 10, 1), (2, 10, 1)] and clicks_only.store.contract.has_impressions is False
    assert "it is replaced" in clicks_only.lines[0]


def test_ids_become_text_for_the_whole_log_when_one_file_says_so_and_integers_again_when_none_does(tmp_path: Path) -> None:
    world, fresh = World(tmp_path / "world"), World(tmp_path / "fresh")
    world.write("a.csv", row(2), row(10, 10, DAY + 86_400))
    world.ingest()
    integers = world.bytes()
    for w in (world, fresh):
        w.write("a.csv", row(2), row(10, 10, DAY + 86_400))
        w.write("b.csv", row("012"))
    world.ingest()
    assert world.store.contract.user_id == "string" and world.store.contract.item_id == "int64"
    assert [user for user, *_ in world.rows()] == ["012", "2", "10"]
    fresh.ingest()
    assert world.bytes() == fresh.bytes()
    world.write("b.csv", row("soon", 10, "soon"), row(3))
    world.ingest()
    assert world.store.contract.user_id == "int64" and [user for user, *_ in world.rows()] == [2, 3, 10]
    assert world.store.event_files()[1].read_bytes() == integers["events/date=2024-06-02/events.parquet"]


def test_bad_rows_go_to_quarantine_with_file_line_reason_and_text(world: World) -> None:
    bad = [row("", 10), row(1, 10, "soon"), row(1, 10, DAY * 3), row(1, 10, DAY, 2), "1,2"]
    world.write("a.csv", row(1), *bad, row(3, 1), row(3, 2), row(3, 3), row(3, 4))
    (world.data / "b.csv").write_bytes(HEADER.encode() + row(4).encode() + b"\n" + row("\xff").encode("latin-1") + b"\n")
    summary = world.ingest()
    assert world.quarantine() == [
        ("a.csv", 3, "user_id is null"),
        ("a.csv", 4, "timestamp is not a time"),
        ("a.csv", 5, "timestamp in the future"),
        ("a.csv", 6, "clicked is not 0 or 1"),
        ("a.csv", 7, "wrong number of columns"),
        ("b.csv", 3, "user_id is not UTF-8"),
    ]
    assert '"timestamp": "soon"' in world.quarantine("text")[1][0] and world.quarantine("text")[4] == ("1,2",)
    assert summary.rows_quarantined == 6 == world.store.quarantined_rows() and summary.reasons["user_id is null"] == 1
    assert summary.rows_read == 12 and len(world.rows()) == summary.rows_stored == 6
    world.write("a.csv", row(1))
    world.ingest()
    assert world.quarantine() == [("b.csv", 3, "user_id is not UTF-8")]
    world.write("b.csv", row(2))
    world.ingest()
    assert world.store.quarantined_rows() == 0 and not (world.root / "quarantine").exists()


def test_duplicates_go_to_quarantine_and_the_first_stays(world: World) -> None:
    world.write("a.csv", row(1), row(2), row(1), row(1, 10, DAY, 0))
    world.write("b.csv", row(2), row(3))
    summary = world.ingest()
    assert world.rows("user_id", "clicked", "source", "line") == [
        (1, 0, "a.csv", 5),
        (1, 1, "a.csv", 2),
        (2, 1, "a.csv", 3),
        (3, 1, "b.csv", 3),
    ]
    assert world.quarantine() == [("a.csv", 4, "duplicate row"), ("b.csv", 2, "duplicate row")]
    assert summary.rows_stored == 4 and summary.reasons == {"duplicate row": 2}


def test_a_duplicate_comes_back_when_the_row_that_stood_for_it_goes(world: World) -> None:
    world.write("a.csv", row(1), row(2))
    world.write("b.csv", row(2), row(3))
    world.ingest()
    world.write("a.csv", row(1), row(5))
    world.ingest()
    assert [(user, source) for user, source in world.rows("user_id", "source")] == [(1, "a.csv"), (2, "b.csv"), (3, "b.csv"), (5, "a.csv")]
    assert world.store.quarantined_rows() == 0


def test_an_earlier_file_takes_over_and_the_standing_row_is_quarantined(tmp_path: Path) -> None:
    world, fresh = World(tmp_path / "world"), World(tmp_path / "fresh")
    world.write("b.csv", row(2), row(3))
    world.ingest()
    for w in (world, fresh):
        w.write("b.csv", row(2), row(3))
        w.write("a.csv", row(2), row(4))
        w.ingest()
    assert world.quarantine() == [("b.csv", 2, "duplicate row")] and world.bytes() == fresh.bytes()


def test_of_two_copies_the_one_known_first_stays(tmp_path: Path) -> None:
    world = World(tmp_path, events={**EVENTS, "ingested": "device"}, context={})
    world.write("a.csv", row(device=DAY + 100))
    world.write("b.csv", row(device=DAY + 50))
    world.ingest()
    assert world.rows("ingested_at", "source") == [(datetime.fromtimestamp(DAY + 50, UTC), "b.csv")]
    assert world.store.manifest("2024-06-01").max_ingested_at.isoformat() == "2024-06-01T00:00:50+00:00"


def test_duplicates_are_seen_across_the_batches_of_the_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "ROW_GROUP", 2048)
    monkeypatch.setattr(staging, "STAGING_BYTES", 10_000)
    world = World(tmp_path, bad_rows_limit=1)
    world.write("a.csv", *(row(n // 3) for n in range(9000)))
    world.ingest()
    assert [user for user, *_ in world.rows()] == list(range(3000)) and world.store.quarantined_rows() == 6000
    assert pq.ParquetFile(world.store.event_files()[0]).metadata.row_group(0).num_rows == 2048
    assert world.rows("line") == [(n * 3 + 2,) for n in range(3000)]


def test_too_many_bad_rows_fail_and_leave_the_store_as_it_was(tmp_path: Path) -> None:
    world = World(tmp_path, bad_rows_limit=0.1)
    world.write("a.csv", row(1))
    world.ingest()
    before = world.bytes()
    world.write("b.csv", row(2), row(3, 10, "soon"), row(4, 10, "later"), row("", 4))
    with pytest.raises(DataError) as error:
        world.ingest()
    message = str(error.value)
    assert message.startswith("3 of 4 rows (75.00%) break the contract and source.bad_rows_limit allows 10.00%")
    assert "timestamp is not a time (2 rows, first at b.csv:3)" in message and str(world.failed) in message and "\n" not in message
    assert world.bytes() == before
    assert [r["line"] for r in pq.read_table(world.failed / "quarantine.parquet").to_pylist()] == [3, 4, 5]
    world.write("b.csv", row(2))
    world.ingest()
    assert not world.failed.exists() and len(world.rows()) == 2


def test_too_many_duplicates_fail_too(tmp_path: Path) -> None:
    world = World(tmp_path, bad_rows_limit=0.1)
    world.write("a.csv", row(1), row(1))
    with pytest.raises(DataError, match="duplicate row"):
        world.ingest()
    assert world.bytes() == {} and (world.failed / "quarantine.parquet").exists()


def test_a_file_without_one_good_row_fails_however_many_others_are_good(world: World) -> None:
    world.write("a.csv", *(row(n) for n in range(50)))
    world.write("b.csv", row(1, 10, "soon"), row(2, 10, "soon"))
    with pytest.raises(DataError, match=r"b.csv: none of its 2 rows can be used \(timestamp is not a time at b.csv:2\)"):
        world.ingest()


def test_seconds_and_milliseconds_meet(world: World) -> None:
    world.write("a.csv", row(1, 10, DAY))
    world.write("b.csv", row(2, 10, DAY * 1000 + 1))
    world.ingest()
    times = [time for (time,) in world.rows("timestamp")]
    assert (times[1] - times[0]).total_seconds() == 0.001


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv: is empty"),
        ("a.csv", HEADER.encode(), "a.csv: holds a header and no rows"),
        ("a.csv", b"user,item,tmie,clicked,device\n1,2,3,1,x\n", "a.csv: column 'time' is missing; the nearest existing name is 'tmie'"),
        ("a.csv.gz", gzip.compress(HEADER.encode() + b"1,2,1717200000,1,x\n" * 1000)[:40], "a.csv.gz: cannot be read to its end"),
        ("a.parquet", b"PAR1 and no more", "a.parquet: cannot be read as Parquet"),
    ],
    ids=["empty", "header only", "renamed column", "truncated gzip", "truncated Parquet"],
)
def test_broken_files_are_named_and_the_store_stays(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    world = World(tmp_path, events={**EVENTS, "path": "*"})
    for standing in (False, True):
        if standing and "header" in message:
            continue  # among files with rows a header alone is a quiet hour
        if standing:
            (world.data / name).unlink()
            world.write("good.csv", row())
            world.ingest()
        before = world.bytes()
        (world.data / name).write_bytes(content)
        with pytest.raises(DataError) as error:
            world.ingest()
        assert message in str(error.value) and "\n" not in str(error.value) and world.bytes() == before


def test_a_quiet_hour_is_no_error(world: World) -> None:
    world.write("a.csv", row())
    world.write("b.csv")
    assert world.ingest().files == 2 and world.ingest().files == 0


def test_a_parquet_column_of_another_type_is_named(tmp_path: Path) -> None:
    world = World(tmp_path, events={"path": "*.parquet", "user": "user", "item": "item", "time": "time"}, context={})
    pq.write_table(pa.table({"user": [[1]], "item": [1], "time": [DAY]}), world.data / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: column 'user_id' has type list<.*>; an id is text or an integer"):
        world.ingest()
    assert world.bytes() == {}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    shutil.rmtree(world.data)
    with pytest.raises(DataError, match="the data folder does not exist"):
        world.ingest()


ITEMS = {"path": "items*.csv", "item": "id", "categorical": ["category"], "text": "title"}


def test_the_newest_catalogue_counts_and_an_older_one_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path, items=ITEMS, events={**EVENTS, "path": "a.csv"})
    world.write("a.csv", row(1, 10), row(1, 11), row(1, 12))
    (world.data / "items_1.csv").write_text("id,category,title\n10,news,Old\n11,sport,B\n11,sport,B\n,x,y\n")
    (world.data / "items_2.csv").write_text("id,category,title\n10,news,New\n")
    world.ingest()

    def items() -> list[tuple]:
        file = world.store.items_file()
        assert file is not None
        return [(r["item_id"], r["category"], r["title"]) for r in pq.read_table(file).to_pylist()]

    assert items() == [(10, "news", "New"), (11, "sport", "B")]
    assert world.quarantine() == [("items_1.csv", 4, "duplicate item_id"), ("items_1.csv", 5, "item_id is null")]
    (world.data / "items_2.csv").write_text("id,category,title\n12,news,C\n")
    world.ingest()
    assert items() == [(10, "news", "Old"), (11, "sport", "B"), (12, "news", "C")]


def test_items_and_events_agree_on_the_type_of_ids(tmp_path: Path) -> None:
    world = World(tmp_path, items=ITEMS, events={**EVENTS, "path": "a.csv"})
    world.write("a.csv", row(1, 10))
    (world.data / "items.csv").write_text("id,category,title\nN1,news,Old\n")
    world.ingest()
    assert world.store.contract.item_id == "string" and world.rows("item_id") == [("10",)]


def test_an_integer_is_one_id_whichever_file_wrote_it(tmp_path: Path) -> None:
    """pandas writes 12 as 12.0 where another row of the column is empty."""
    world = World(tmp_path, items=ITEMS, events={**EVENTS, "path": "*_log.csv"})
    world.write("1_log.csv", row("12.0", "10.0", device="3.0"), row("", "11.0"))
    world.write("2_log.csv", row(12, 10, DAY + 1, device=3))
    (world.data / "items.csv").write_text("id,category,title\n10,news,2012.0\n")
    world.ingest()
    assert world.rows("user_id", "item_id", "device") == [(12, 10, "3"), (12, 10, "3")]
    assert world.store.contract.user_id == world.store.contract.item_id == "int64"
    assert pq.read_table(world.store.items_file())["title"].to_pylist() == ["2012.0"]


def test_a_store_of_other_rules_is_read_again_and_keeps_what_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a.csv", row("12.0", 10), row(7, 10))
    world.write("gone.csv", row("N1", 10))
    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "VALUES", 1)
        patch.setattr(contracts, "to_ids", lambda column: to_text(column))
        world.ingest()
    (world.data / "gone.csv").unlink()
    assert {user for (user,) in world.rows("user_id")} == {"12.0", "7", "N1"}
    world.ingest()
    assert {user for (user,) in world.rows("user_id")} == {"12", "7", "N1"}
    assert any(line.startswith("values are read by other rules") for line in world.lines)
    world.lines.clear()
    world.ingest()
    assert world.lines[-1].startswith("nothing new")


def killed_after(steps: int, rename: Any) -> Any:
    done: list[Path] = []

    def step(old: Path, new: Path) -> None:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(new)
        rename(old, new)

    return step


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5])
def test_a_run_killed_at_any_rename_is_repaired_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    world, fresh = World(tmp_path / "world"), World(tmp_path / "fresh")
    world.write("a.csv", row(1, 10, DAY), row(1, 11, DAY + 86_400))
    world.ingest()
    for w in (world, fresh):
        w.write("a.csv", row(1, 12, DAY), row(1, 13, DAY + 172_800))
        w.write("b.csv", row(2, 14, DAY), row(2, 15, DAY + 259_200), row(2, 16, "soon"))
    fresh.ingest()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_module, "rename", killed_after(steps, store_module.rename))
        world.ingest()
    world.ingest()
    assert world.bytes() == fresh.bytes()
    world.store.verify()


DEATH = """
import os, sys
from pathlib import Path
from feature_store.store import ingest as module
from feature_store.config import SourceConfig
from feature_store.store.store import Store

def merge_part(*arguments, count=[], original=module.merge_part, **named):
    count.append(1)
    return original(*arguments, **named) if len(count) < 2 else os._exit(9)

module.merge_part = merge_part
module.ingest(SourceConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Store(Path(sys.argv[3])), Path(sys.argv[4]))
"""


def test_a_run_killed_while_merging_is_repaired_by_the_next(tmp_path: Path) -> None:
    world, fresh = World(tmp_path / "world"), World(tmp_path / "fresh")
    for w in (world, fresh):
        w.write("a.csv", row(1, 10, DAY), row(1, 11, DAY + 86_400))
    # a real death: no handler runs, and the scratch stays behind
    arguments = [world.source.model_dump_json(exclude_unset=True), str(world.data), str(world.root), str(world.failed)]
    died = subprocess.run([sys.executable, "-c", DEATH, *arguments], check=False, cwd=Path(__file__).parents[3], timeout=HANGS)
    assert died.returncode == 9 and (world.root / "_next").is_dir() and world.store.dates() == []
    world.ingest()
    fresh.ingest()
    assert world.bytes() == fresh.bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_one_line_and_the_store_as_it_was(tmp_path: Path, small_disk: Path) -> None:
    world = World(tmp_path)
    world.root = small_disk / "store"
    world.store = Store(world.root)
    world.write("a.csv", row(1))
    world.ingest()
    before = world.bytes()
    world.write(
        "b.csv",
        *(row(n * 7919 % 100_003, n * 104_729 % 99_991, DAY + n * 31 % 86_400, device=n * 15_485_863 % 1_000_003) for n in range(100_000)),
    )
    with pytest.raises(StorageError, match="no space is left on the disk") as error:
        world.ingest()
    assert world.bytes() == before and "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["merge_part", "write_quarantine", "Staging"])
def test_no_space_wherever_it_runs_out(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    world.write("a.csv", row(1))
    world.ingest()
    before = world.bytes()
    world.write("b.csv", row(2), row(3, 10, "soon"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, place, full)
        with pytest.raises(StorageError, match="no space is left on the disk; the store is as it was"):
            world.ingest()
    assert world.bytes() == before
    world.ingest()
    assert len(world.rows()) == 2


def test_an_unwritable_store_is_one_line(world: World) -> None:
    world.write("a.csv", row(1))
    world.root.parent.mkdir()
    world.root.write_text("a file where the store should be")
    with pytest.raises(StorageError, match="cannot be brought up to date"):
        world.ingest()


EVENT = st.tuples(
    st.integers(1, 3), st.sampled_from(["10", "11", "N1"]), st.integers(0, 5), st.sampled_from([0, 1]), st.sampled_from(["phone", "tv", ""])
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, min_size=1, max_size=12), data=st.data())
def test_any_order_and_split_of_the_rows_over_files_and_runs_gives_the_same_partitions(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple], data: st.DataObject
) -> None:
    """Apart from where a row came from."""
    lines = [row(user, item, DAY + 40_000 * step, clicked, device) for user, item, step, clicked, device in events]
    seen = []
    for way in range(2):
        world = World(tmp_path_factory.mktemp("world"), bad_rows_limit=1)
        if way == 0:
            world.write("all.csv", *lines)
            world.ingest()
        else:
            shuffled = data.draw(st.permutations(lines))
            cuts = sorted(data.draw(st.sets(st.integers(1, len(lines)), max_size=3)) | {0, len(lines)})
            order = data.draw(st.permutations(range(len(cuts) - 1)))
            for number, part in enumerate(order):
                world.write(f"{part}.csv", *shuffled[cuts[part] : cuts[part + 1]])
                if data.draw(st.booleans()) or number == len(order) - 1:
                    world.ingest()
        tables = [pq.ParquetFile(file).read().drop_columns(["source", "line"]) for file in world.store.event_files()]
        seen.append((world.store.dates(), tables, world.store.contract, world.store.quarantined_rows()))
    assert seen[0] == seen[1]


@pytest.mark.real_data("globo")
def test_some_hours_of_the_real_log_in_two_runs_and_in_one(tmp_path: Path, real_data: Path) -> None:
    source = SourceConfig(reader="globo")
    stores = []
    for name in ("one", "two"):
        data = tmp_path / name
        (data / "clicks").mkdir(parents=True)
        store = Store(tmp_path / f"store_{name}")
        hours = [sorted((real_data / "clicks").iterdir())[hour] for hour in (0, 10, 20, 100, 200)]  # the hour 100 is quiet
        for part in [hours] if name == "one" else [hours[3:], hours[:3]]:
            for path in part:
                shutil.copy(path, data / "clicks")
            ingest(source, data, store, tmp_path / "failed")
        stores.append(store)
    assert stores[0].digest() == stores[1].digest()
    rows = sum(manifest.rows for manifest in map(stores[0].manifest, stores[0].dates()))
    assert rows == sum(gzip.decompress(path.read_bytes()).count(b"\n") - 1 for path in hours)


def test_a_row_from_the_future_comes_in_when_its_time_has_come(world: World) -> None:
    tomorrow = NOW + timedelta(days=3)
    world.write("a.csv", row(), row(user=2, time=int(tomorrow.timestamp())))
    world.ingest()
    assert world.quarantine() == [("a.csv", 3, "timestamp in the future")]
    before = world.bytes()
    assert world.ingest().files == 0 and world.bytes() == before
    summary = ingest(world.source, world.data, world.store, world.failed, now=tomorrow)
    assert summary.files == 1
    assert [user for (user,) in world.rows("user_id")] == [1, 2]
    assert not (world.root / "quarantine").exists()
    assert ingest(world.source, world.data, world.store, world.failed, now=tomorrow).files == 0


# --- columns change between days -------------------------------------------------------------------------------------

KINDS = [  # of user, item, time, clicked, device, price: what days have called the same columns
    (pa.int32(), pa.int16(), pa.int32(), pa.int8(), pa.int32(), pa.int32()),
    (pa.int64(), pa.int64(), pa.int64(), pa.int64(), pa.int64(), pa.float32()),
    (pa.float64(), pa.float64(), pa.float64(), pa.float64(), pa.float64(), pa.float64()),
    (pa.uint64(), pa.uint8(), pa.timestamp("s"), pa.bool_(), pa.uint8(), pa.decimal128(25, 2)),
    (pa.string(), pa.large_string(), pa.timestamp("ns", "UTC"), pa.string(), pa.string(), pa.large_string()),
]


def day_of(kinds: Sequence[pa.DataType], day: int = 0) -> pa.Table:
    """One row, the same but for its day, in columns of these types."""
    values = {"user": 1, "item": 5, "time": DAY + 86_400 * day, "clicked": 1, "device": 3, "price": 4}
    columns = [pa.array([value]) for value in values.values()]
    seconds = [
        column.cast(pa.timestamp("s", kind.tz)) if pa.types.is_timestamp(kind) else column
        for column, kind in zip(columns, kinds, strict=True)
    ]
    return pa.table([column.cast(kind) for column, kind in zip(seconds, kinds, strict=True)], list(values))


@pytest.mark.parametrize("order", [1, -1], ids=["wider", "narrower"])
def test_types_may_change_from_day_to_day(tmp_path: Path, order: int) -> None:
    world = World(tmp_path, events={**EVENTS, "path": "*.parquet"}, context={"categorical": ["device"], "dense": ["price"]})
    for day, kinds in enumerate(KINDS[::order]):
        pq.write_table(day_of(kinds, day), world.data / f"{day}.parquet")
        world.ingest()
    assert set(world.rows("user_id", "item_id", "clicked", "device", "price")) == {(1, 5, 1, "3", 4.0)} and len(world.rows()) == len(KINDS)
    assert world.store.quarantined_rows() == 0


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("device", {"a": 1}, "1.parquet: column 'device' has type struct<a: int64>; expected text or numbers"),
        ("price", [1.0], "1.parquet: column 'price' has type list<element: double>; expected numbers"),
        ("price", "dear", r"1.parquet: none of its 1 rows can be used \(price is no number at 1.parquet:1\)"),
        ("user", 2.5, r"1.parquet: none of its 1 rows can be used \(user_id is no integer at 1.parquet:1\)"),
        ("device", None, "1.parquet: column 'device' is missing"),
    ],
)
def test_a_day_whose_columns_do_not_fit_is_one_line(tmp_path: Path, column: str, value: Any, said: str) -> None:
    world = World(tmp_path, events={**EVENTS, "path": "*.parquet"}, context={"categorical": ["device"], "dense": ["price"]})
    pq.write_table(day_of(KINDS[1]), world.data / "0.parquet")
    world.ingest()
    before, row = world.bytes(), day_of(KINDS[1], 1)
    place = row.column_names.index(column)
    pq.write_table(row.remove_column(place) if value is None else row.set_column(place, column, [[value]]), world.data / "1.parquet")
    with pytest.raises(DataError, match=said) as error:
        world.ingest()
    assert "\n" not in str(error.value) and world.bytes() == before
