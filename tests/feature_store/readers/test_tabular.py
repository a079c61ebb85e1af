import csv
import gzip
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import SourceConfig
from feature_store.readers import base
from feature_store.readers.base import reader_fingerprint
from feature_store.readers.tabular import TabularReader
from feature_store.tables.contracts import ContractCheck, DataError, DataFolderError, EntityFacts
from tests.odd_names import ODD_COLUMNS

EVENTS = {"path": "*.csv", "user": "u", "item": "i", "time": "t", "clicked": "c", "request": "r", "ingested": "k"}


def reader(data: Path, **source: object) -> TabularReader:
    return TabularReader(SourceConfig.model_validate({"reader": "tabular", "events": EVENTS, **source}), data)


def rows(log: TabularReader) -> list[dict]:
    check = ContractCheck(log.contract())
    return [row for batch in log.read(log.files()) for row in check.split(batch)[0].to_pylist()]


def test_csv_gz_tsv_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [1, 2], "i": ["a", "b"], "t": [1717000000] * 2, "c": [1, 0], "r": [7, 7], "k": [1717000009] * 2})
    frame["device"], frame["hour"] = ["x", None], [3.5, None]
    frame.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    frame.to_csv(tmp_path / "log.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "log.parquet")
    context = {"categorical": ["device"], "dense": ["hour"]}
    seen = []
    for ending in ("csv", "csv.gz", "tsv", "parquet"):
        log = reader(tmp_path, events={**EVENTS, "path": f"*.{ending}"}, context=context)
        seen.append([{k: v for k, v in row.items() if k not in ("source", "line")} for row in rows(log)])
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert seen[0][0] == {
        "user_id": 1,
        "item_id": "a",
        "timestamp": datetime.fromtimestamp(1717000000, UTC),
        "clicked": 1,
        "request_id": 7,
        "ingested_at": datetime.fromtimestamp(1717000009, UTC),
        "time_known": True,
        "device": "x",
        "hour": 3.5,
    }
    assert seen[0][1]["device"] is None and seen[0][1]["hour"] is None


def test_the_item_file_is_no_event_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"u": [1], "i": [5], "t": [1717000000]}), tmp_path / "log.parquet")
    pq.write_table(pa.table({"id": [5], "category": pa.array(["x"]).dictionary_encode(), "name": ["T"]}), tmp_path / "items.parquet")
    events = {"path": "*.parquet", "user": "u", "item": "i", "time": "t"}
    log = reader(tmp_path, events=events, items={"path": "items.parquet", "item": "id", "categorical": ["category"], "text": "name"})
    assert [path.name for path in log.files()] == ["items.parquet", "log.parquet"]
    assert rows(log)[0] == {"item_id": 5, "category": "x", "title": "T", "source": "items.parquet", "line": 1}
    contract = log.contract()
    assert contract.has_impressions is False and contract.item_attributes == ["category"]


def test_folders_say_what_a_file_lacks(tmp_path: Path) -> None:
    for folder, shop in (("dt=2024-05-01/shop=a%20b", "own"), ("dt=2024-05-02/shop=__HIVE_DEFAULT_PARTITION__", None)):
        (tmp_path / "log" / folder).mkdir(parents=True)
        pq.write_table(
            pa.table({"u": [1, 2], "i": [5, 6], **({"shop": [shop] * 2} if shop else {})}), tmp_path / "log" / folder / "x.parquet"
        )
    (tmp_path / "log" / "dt=2024-05-03").mkdir()
    (tmp_path / "log" / "dt=2024-05-03" / "x.csv").write_text("u,i,shop\n7,8,c\n")
    events = {"path": "**/x.*", "user": "u", "item": "i", "time": "dt"}
    found = rows(reader(tmp_path / "log", events=events, context={"categorical": ["shop"]}))
    assert [(row["timestamp"].day, row["shop"]) for row in found] == [(1, "own"), (1, "own"), (2, None), (2, None), (3, "c")]
    moved = tmp_path / "dt=1999-01-01"  # folders above the data folder say nothing
    shutil.move(tmp_path / "log", moved)
    assert rows(reader(moved, events=events, context={"categorical": ["shop"]})) == found
    with pytest.raises(DataError, match="column 'place' is missing"):
        rows(reader(moved, events=events, context={"categorical": ["place"]}))


def test_users_and_numbers_and_dated_tables(tmp_path: Path) -> None:
    pq.write_table(pa.table({"u": [1], "i": [5], "t": [1717000000]}), tmp_path / "log.parquet")
    (tmp_path / "items.csv").write_text("id,shelf,price,since\n5,a,1.5,2024-05-01\n5,b,,2024-06-01\n")
    (tmp_path / "users.tsv").write_text("u\tgroup\tage\n1\tx\t41\n2\ty\told\n")
    events = {"path": "*", "user": "u", "item": "i", "time": "t"}
    items = {"path": "items.*", "item": "id", "categorical": ["shelf"], "dense": ["price"]}
    users = {"path": "users.tsv", "user": "u", "categorical": ["group"], "dense": ["age"]}
    log = reader(tmp_path, events=events, items={**items, "time": "since"}, users=users)
    assert [path.name for path in log.files()] == ["items.csv", "log.parquet", "users.tsv"]
    may, _, _, user = rows(log)  # the age of the other is no number
    assert may == {
        "item_id": 5,
        "timestamp": datetime(2024, 5, 1, tzinfo=UTC),
        "shelf": "a",
        "price": 1.5,
        "title": None,
        "source": "items.csv",
        "line": 2,
    }
    assert user == {"user_id": 1, "group": "x", "age": 41.0, "source": "users.tsv", "line": 2}
    contract = log.contract()
    assert contract.item_attributes == [] and contract.user_attributes == ["group"]
    assert contract.item_facts == EntityFacts(categorical=["shelf"], dense=["price"], dated=True)
    undated = reader(tmp_path, events=events, items=items).contract()
    assert undated.item_attributes == ["shelf"] and undated.item_facts == EntityFacts(categorical=[], dense=["price"], dated=False)


def test_several_values_as_text_and_as_lists(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u,i,t,c,r,k\n1,5,1717000000,1,1,\n")
    (tmp_path / "items.csv").write_bytes(b"id,tags\n5,a| b|\n6,\n7,\xff|x\n8," + b"|".join(b"%d" % n for n in range(40)) + b"\n9,only\n")
    log = reader(tmp_path, events={**EVENTS, "path": "log.csv"}, items={"path": "items.*", "item": "id", "multi": ["tags"]})
    assert log.contract().item_attributes == log.contract().item_multi == ["tags"]
    found = {row["item_id"]: row["tags"] for row in rows(log) if "tags" in row}
    assert found == {5: "a\x1fb", 6: None, 9: "only"}  # one that is not UTF-8 and one of forty values are set apart
    (tmp_path / "items.csv").unlink()
    lists = pa.array([["a", "b"], None], pa.list_(pa.string()))
    pq.write_table(pa.table({"id": [5, 6], "tags": lists}), tmp_path / "items.parquet")
    assert [row["tags"] for row in rows(log) if "tags" in row] == ["a\x1fb", None]


def test_a_log_without_them_keeps_its_identity(tmp_path: Path) -> None:
    """Else a release that knows more keys would make every store anew, and raw logs are rotated."""
    columns = {name: EVENTS[name] for name in ("user", "item", "time", "clicked", "request", "ingested")}
    items = {"item": "id", "categorical": ["shelf"], "text": None}
    log = reader(tmp_path, items={"path": "items.csv", **items})
    context = {"categorical": [], "dense": []}
    assert log.fingerprint() == reader_fingerprint("tabular", context=context, events=columns, items=items)
    assert "facts" not in str(log.contract().to_json())


def test_parquet_is_streamed_with_its_row_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PARQUET_ROWS", 10)
    pq.write_table(pa.table({"u": range(25), "i": range(25), "t": [1717000000] * 25, "unused": [[1]] * 25}), tmp_path / "log.parquet")
    log = reader(tmp_path, events={"path": "*.parquet", "user": "u", "item": "i", "time": "t"})
    batches = list(log.read(log.files()))
    assert [len(b.table) for b in batches] == [10, 10, 5] and batches[2].lines.tolist() == [21, 22, 23, 24, 25]


def test_rows_of_megabytes_are_read_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed they may be small: here each text stands once in the file."""
    monkeypatch.setattr(base, "PARQUET_BYTES", 4 << 20)
    monkeypatch.setattr(base, "_STEP", 2)
    items = [str(n % 2) * 1_000_000 for n in range(40)]
    pq.write_table(pa.table({"u": range(40), "i": items, "t": [1717000000] * 40}), tmp_path / "log.parquet")
    assert (tmp_path / "log.parquet").stat().st_size < 1_000_000
    log = reader(tmp_path, events={"path": "*.parquet", "user": "u", "item": "i", "time": "t"})
    batches = list(log.read(log.files()))
    assert max(batch.table.nbytes for batch in batches) < 7 << 20
    assert [line for batch in batches for line in batch.lines.tolist()] == list(range(1, 41))


def test_row_groups_with_dictionaries_of_their_own_are_one_block(tmp_path: Path) -> None:
    categories = ["a", "b", "c", None, "a", "d"]
    table = pa.table({"u": range(6), "i": pa.array(categories).dictionary_encode(), "t": [1717000000] * 6})
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=2)
    log = reader(tmp_path, events={"path": "*.parquet", "user": "u", "item": "i", "time": "t"})
    (batch,) = log.read(log.files())
    assert batch.table["item_id"].to_pylist() == categories


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    log = reader(tmp_path, events={"path": "*.parquet", "user": "u", "item": "i", "time": "t"})
    pq.write_table(pa.table({"u": range(1000), "i": range(1000), "t": [1717000000] * 1000}), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-20] + b"\0" * 20, b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"log.parquet: cannot be read as Parquet \(.*truncated or damaged"):
            list(log.read(log.files()))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"log.parquet: is empty"):
        list(log.read(log.files()))
    damaged = bytearray(whole)
    damaged[4:200] = b"\xff" * 196
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"log.parquet: cannot be read as Parquet"):
        list(log.read(log.files()))


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file matches source.events.path '\*.csv'"):
        reader(tmp_path).files()
    pq.write_table(pa.table({"user": [1], "i": [5], "t": [1717000000]}), tmp_path / "log.parquet")
    log = reader(tmp_path, events={"path": "*.parquet", "user": "u", "item": "i", "time": "t"})
    with pytest.raises(DataError, match=r"log.parquet: column 'u' is missing; existing names are|nearest existing name is 'user'"):
        list(log.read(log.files()))
    with pytest.raises(DataError, match=r"no file matches source.items.path"):
        reader(tmp_path, items={"path": "items.csv", "item": "i"}).files()
    (tmp_path / "log.txt").touch()
    with pytest.raises(DataError, match=r"log.txt: its ending says no known format"):
        reader(tmp_path, events={**EVENTS, "path": "*.txt"}).files()
    with pytest.raises(DataError, match="is no pattern below the data folder"):
        reader(tmp_path, events={**EVENTS, "path": "/logs/*.csv"}).files()


def test_columns_keep_their_names_whatever_they_are(tmp_path: Path) -> None:
    """Quotes, dots, dollars and twins in other letters, in the log and in the catalogue."""
    own = {"User": [3], "u": [1], "U": [2], "i": [5], "t": [1717000000], **{name: [n] for n, name in enumerate(ODD_COLUMNS)}}
    table = pa.table({name: pa.array(values) for name, values in own.items()})
    pq.write_table(table, tmp_path / "log.parquet")
    with open(tmp_path / "log.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([table.column_names, [values[0] for values in own.values()]])
    for ending in ("csv", "parquet"):
        events = {"path": f"log.{ending}", "user": "U", "item": "i", "time": "t"}
        (row,) = rows(reader(tmp_path, events=events, context={"dense": list(ODD_COLUMNS)}))
        assert (row["user_id"], row["item_id"]) == (2, 5)
        assert {name: row[name] for name in ODD_COLUMNS} == {name: n for n, name in enumerate(ODD_COLUMNS)}
        shutil.copyfile(tmp_path / f"log.{ending}", tmp_path / f"items.{ending}")
        log = reader(tmp_path, events=events, items={"path": f"items.{ending}", "item": ODD_COLUMNS[4], "categorical": ["U", *ODD_COLUMNS]})
        assert rows(log)[0] | {"source": "", "line": 0} == {
            "item_id": 4,
            "U": "2",
            **{name: str(n) for n, name in enumerate(ODD_COLUMNS)},
            "title": None,
            "source": "",
            "line": 0,
        }


def test_a_file_whose_name_is_a_pattern_is_found_by_it(tmp_path: Path) -> None:
    (tmp_path / "log[1].csv").write_text("u,i,t\n1,5,1717000000\n", encoding="utf-8")
    (tmp_path / "log1.csv").write_text("u,i,t\n2,5,1717000000\n", encoding="utf-8")
    log = reader(tmp_path, events={"path": "log[1].csv", "user": "u", "item": "i", "time": "t"})
    assert [path.name for path in log.files()] == ["log[1].csv"]


def test_a_header_alone_is_a_batch_of_no_rows(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"u": pa.array([], pa.int64()), "i": pa.array([], pa.int64()), "t": pa.array([], pa.int64())}), tmp_path / "a.parquet"
    )
    log = reader(tmp_path, events={"path": "*.parquet", "user": "u", "item": "i", "time": "t"})
    assert [len(batch.table) for batch in log.read(log.files())] == [0]


def test_weights_are_read_and_a_log_without_any_is_what_it_was(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": [1717000000] * 2, "c": [1, 0], "r": [7, 7], "k": [1717000009] * 2})
    frame.assign(w=[0.5, 3]).to_csv(tmp_path / "log.csv", index=False)
    plain, weighted = reader(tmp_path), reader(tmp_path, events={**EVENTS, "weight": "w"})
    assert [row["row_weight"] for row in rows(weighted)] == [0.5, 3.0]
    assert "row_weight" not in rows(plain)[0] and "weighted" not in plain.contract().to_json()
    columns = {name: column for name, column in EVENTS.items() if name != "path"}
    assert plain.fingerprint() == reader_fingerprint("tabular", context={"categorical": [], "dense": []}, events=columns, items=None)
    assert weighted.fingerprint() != plain.fingerprint()


def test_rates_of_a_thinned_log_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": [1717000000] * 2, "c": [1, 0], "r": [7, 7], "k": [1717000009] * 2})
    frame.assign(kept=[0.25, 0.25], w=[3, 3]).to_csv(tmp_path / "log.csv", index=False)
    thinned = {**EVENTS, "negative_sampling_rate": "kept"}
    assert [row["row_weight"] for row in rows(reader(tmp_path, events=thinned))] == [1.0, 4.0]
    assert [row["row_weight"] for row in rows(reader(tmp_path, events={**thinned, "weight": "w"}))] == [3.0, 12.0]
    ((_, said),) = reader(tmp_path, events={**thinned, "weight": "x"}).lacking([tmp_path / "log.csv"])
    assert said[0].startswith("column 'x' is missing")


def test_a_column_that_came_later_is_null_before(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("u,i,t,c,r,k\n1,5,1717000000,1,1,\n")
    pq.write_table(pa.table({"u": [1], "i": [6], "t": [1717000001], "c": [0], "r": [1], "k": [None]}), tmp_path / "2.parquet")
    (tmp_path / "3.csv").write_text("u,i,t,c,r,k,device,price\n1,7,1717000002,1,1,,tv,2.5\n")
    context = {"categorical": ["device"], "dense": ["price"]}
    events = {**EVENTS, "path": "?.*"}
    strict, lenient = (reader(tmp_path, events=events, context=one) for one in (context, {**context, "optional": ["device", "price"]}))
    with pytest.raises(DataError, match=r"^1.csv: column 'device' is missing"):
        rows(strict)
    assert [(row["device"], row["price"]) for row in rows(lenient)] == [(None, None), (None, None), ("tv", 2.5)]
    assert not any(lacks for _, lacks in lenient.lacking(lenient.files())) and all(lacks for _, lacks in strict.lacking(strict.files()[:2]))
    assert strict.fingerprint() == lenient.fingerprint()  # what a file may lack changes no row of one that lacks nothing
    (tmp_path / "4.csv").write_text("u,i,c,r,k\n1,5,1,1,\n")
    with pytest.raises(DataError, match=r"^4.csv: column 't' is missing"):
        rows(lenient)
    with pytest.raises(ValueError, match="optional names 'place', which is in neither categorical nor dense"):
        reader(tmp_path, context={**context, "optional": ["place"]})


def test_further_labels_are_read_and_a_log_without_any_is_what_it_was(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": [1717000000] * 2, "c": [1, 0], "r": [7, 7], "k": [1717000009] * 2})
    frame.assign(b=[1, None]).to_csv(tmp_path / "log.csv", index=False)
    plain, several = reader(tmp_path), reader(tmp_path, events={**EVENTS, "labels": {"bought": "b"}})
    assert [row["label_bought"] for row in rows(several)] == [1, None]
    assert "label_bought" not in rows(plain)[0] and "labels" not in plain.contract().to_json()
    assert several.contract().labels == ["bought"]
    columns = {name: column for name, column in EVENTS.items() if name != "path"}
    assert plain.fingerprint() == reader_fingerprint("tabular", context={"categorical": [], "dense": []}, events=columns, items=None)
    assert several.fingerprint() != plain.fingerprint()


def test_folders_of_earlier_dates_are_not_read(tmp_path: Path) -> None:
    for day in ("2024-04-30", "2024-05-01", "2024-05-02"):
        (tmp_path / f"dt={day}").mkdir()
        (tmp_path / f"dt={day}" / "log.csv").write_text("u,i,t,c,r,k\n1,5,1714521600,1,1,\n")
    everything = reader(tmp_path, events={**EVENTS, "path": "dt=*/log.csv"})
    newer = reader(tmp_path, events={**EVENTS, "path": "dt=*/log.csv", "since": "2024-05-01T18:00"})
    assert [path.parent.name for path in newer.files()] == ["dt=2024-05-01", "dt=2024-05-02"] and len(everything.files()) == 3
    assert newer.fingerprint() == everything.fingerprint()  # it is the same log
    (tmp_path / "log.csv").write_text("u,i,t,c,r,k\n1,5,1714521600,1,1,\n")
    with pytest.raises(DataFolderError, match=r"source\.events\.since is told by folders that name dates"):
        reader(tmp_path, events={**EVENTS, "path": "log.csv", "since": "2024-05-01"}).files()
