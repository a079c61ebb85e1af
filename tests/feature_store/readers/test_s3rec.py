import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.config import SourceConfig
from feature_store.readers import s3rec
from feature_store.readers.s3rec import LAST_DAY, S3RecReader, attribute_columns
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import ContractCheck, DataError

SEQUENCES = "ann 7 8 9\nbob 8\n\ncid 9 7\n"
ATTRIBUTES = {"7": [1, 2], "8": [1, 3], "9": []}


def write(data: Path, sequences: str | bytes = SEQUENCES, attributes: Any = ATTRIBUTES, **settings: Any) -> S3RecReader:
    (data / "Toys.txt").write_bytes(sequences.encode() if isinstance(sequences, str) else sequences)
    if attributes is not None:
        text = attributes if isinstance(attributes, (str, bytes)) else json.dumps(attributes)
        (data / "Toys_item2attributes.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return S3RecReader(SourceConfig(reader="s3rec", name="Toys", **settings), data)


def checked(log: S3RecReader) -> list[tuple[list[dict[str, Any]], list[tuple[int, str]]]]:
    check = ContractCheck(log.contract())
    parts = [check.split(batch) for batch in log.read(log.files())]
    return [(good.to_pylist(), [(row.line, row.reason) for row in rejected]) for good, rejected in parts]


def day(before: int) -> datetime:
    return LAST_DAY - timedelta(days=before)


def test_sequences_end_on_one_day_and_attributes_have_their_columns(tmp_path: Path) -> None:
    log = write(tmp_path, attribute_columns=2)
    assert log.contract().item_attributes == ["attribute_1", "attribute_2"] and not log.contract().has_impressions
    (events, none), (items, nothing) = checked(log)
    found = [(row["user_id"], row["item_id"], row["timestamp"], row["clicked"], row["time_known"], row["line"]) for row in events]
    assert found == [
        ("ann", 7, day(2), 1, True, 1),
        ("ann", 8, day(1), 1, True, 1),
        ("ann", 9, day(0), 1, True, 1),
        ("bob", 8, day(0), 1, True, 2),
        ("cid", 9, day(1), 1, True, 4),
        ("cid", 7, day(0), 1, True, 4),
    ]
    assert not none and not nothing
    assert [(row["item_id"], row["attribute_1"], row["attribute_2"], row["line"]) for row in items] == [
        (7, "1", "2", 1),
        (8, "1", "3", 2),
        (9, None, None, 3),
    ]


def test_the_set_may_lie_in_a_folder_of_its_name_and_attributes_may_be_absent_or_unwanted(tmp_path: Path) -> None:
    (tmp_path / "Toys").mkdir()
    write(tmp_path / "Toys")
    source = SourceConfig(reader="s3rec", name="Toys")
    assert [path.name for path in S3RecReader(source, tmp_path).files()] == ["Toys.txt", "Toys_item2attributes.json"]
    assert next(iter(S3RecReader(source, tmp_path).read([tmp_path / "Toys" / "Toys.txt"]))).file == "Toys/Toys.txt"
    unwanted = S3RecReader(SourceConfig(reader="s3rec", name="Toys", attribute_columns=0), tmp_path)
    assert len(unwanted.files()) == 1 and unwanted.contract().item_attributes == []
    (tmp_path / "Toys" / "Toys_item2attributes.json").unlink()
    assert S3RecReader(source, tmp_path).contract().item_attributes == []


def test_rows_that_cannot_be_used_are_named_with_their_line(tmp_path: Path) -> None:
    log = write(tmp_path, b"\xef\xbb\xbfann 7 8\r\nbob\nann 9 9\nc\xff\tcid 7\ndan 8 \xfe 7\n", {"7": [1], "8": 5, "9": [None]})
    (events, rejected), (items, faults) = checked(log)
    assert [(row["user_id"], row["item_id"], row["timestamp"]) for row in events] == [
        ("ann", 7, day(1)),
        ("ann", 8, day(0)),
        ("dan", 8, day(2)),
        ("dan", 7, day(0)),
    ]
    assert sorted(rejected) == [
        (2, "user without items"),
        (3, "user on an earlier line"),
        (3, "user on an earlier line"),
        (4, "user_id is not UTF-8"),
        (4, "user_id is not UTF-8"),
        (5, "item_id is not UTF-8"),
    ]
    assert [row["item_id"] for row in items] == [7]
    assert faults == [(2, "attributes are no list of numbers or texts"), (3, "attributes are no list of numbers or texts")]


def test_half_a_character_in_the_attributes_is_rejected_like_other_bad_text(tmp_path: Path) -> None:
    (_, _), (items, faults) = checked(write(tmp_path, attributes='{"7": ["\\ud800"], "\\ud800": [1], "8": [1]}'))
    assert [row["item_id"] for row in items] == [8]
    assert [reason for _, reason in faults] == ["attribute_1 is not UTF-8", "item_id is not UTF-8"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("[1, 2]", "Toys_item2attributes.json: holds no JSON object but a list"),
        ('{"7": [1', "Toys_item2attributes.json: is not JSON"),
        ("[" * 100_000, "Toys_item2attributes.json: is not JSON"),
        (b'{"caf\xe9": [1]}', "Toys_item2attributes.json: is not UTF-8"),
    ],
)
def test_attributes_that_are_none_are_an_error(tmp_path: Path, attributes: str | bytes, message: str) -> None:
    log = write(tmp_path, attributes=attributes)
    with pytest.raises(DataError, match=message) as error:
        list(log.read(log.files()))
    assert "\n" not in str(error.value)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    source = SourceConfig(reader="s3rec", name="Toys")
    with pytest.raises(DataError, match=r"no Toys.txt and no Toys/Toys.txt; name the folder"):
        S3RecReader(source, tmp_path).files()
    log = write(tmp_path, "")
    with pytest.raises(DataError, match=r"Toys.txt: is empty"):
        list(log.read(log.files()))
    with pytest.raises(ValueError, match="reader s3rec needs `name`"):
        SourceConfig(reader="s3rec")


def test_another_format_is_refused_with_its_first_fault(tmp_path: Path) -> None:
    write(tmp_path, "user,item\n1,2\n1,3\n", None)
    with pytest.raises(DataError, match=r"Toys.txt: none of its 3 rows can be used \(user without items at Toys.txt:1\)"):
        ingest(SourceConfig(reader="s3rec", name="Toys"), tmp_path, Store(tmp_path / "store"), tmp_path / "failed")


def test_settings_change_the_fingerprint(tmp_path: Path) -> None:
    assert write(tmp_path).fingerprint() == write(tmp_path).fingerprint() != write(tmp_path, attribute_columns=2).fingerprint()


def test_a_line_longer_than_the_calendar_loses_its_oldest_clicks(tmp_path: Path) -> None:
    days = (LAST_DAY - datetime(1990, 1, 1, tzinfo=UTC)).days + 1
    [(events, rejected)] = checked(write(tmp_path, "ann " + "7 " * (days + 2), None))
    assert len(events) == days and rejected == [(1, "timestamp out of range")] * 2


item = st.integers(1, 30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sequences=st.lists(st.lists(item, min_size=1, max_size=8), min_size=1, max_size=8),
    attributes=st.dictionaries(item.map(str), st.lists(st.integers(1, 9), max_size=5)),
    rows=st.integers(1, 9),
)
def test_what_is_written_is_read(tmp_path: Path, sequences: list[list[int]], attributes: dict[str, list[int]], rows: int) -> None:
    text = "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in enumerate(sequences))
    log = write(tmp_path, text, attributes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3rec, "BATCH_ROWS", rows)
        batches = list(log.read(log.files()))
    check = ContractCheck(log.contract())
    events = [row for batch in batches if batch.kind == "events" for row in check.split(batch)[0].to_pylist()]
    read: list[list[int]] = [[] for _ in sequences]
    for row in sorted(events, key=lambda row: row["timestamp"]):
        read[row["user_id"]].append(row["item_id"])
    assert read == sequences
    for row in events:
        assert row["timestamp"] == day(0) or sum(other["user_id"] == row["user_id"] for other in events) > 1
        assert row["timestamp"] <= day(0) and row["line"] == row["user_id"] + 1
    items = check.split(batches[-1])[0].to_pylist()
    assert [str(row["item_id"]) for row in items] == list(attributes)
    for row, wanted in zip(items, attributes.values(), strict=True):
        # nine attributes in six columns: what is there is the item's own, once
        values = [row[name] for name in log.contract().item_attributes if row[name] is not None]
        assert len(set(values)) == len(values) and set(values) <= {str(value) for value in wanted}
        assert bool(values) == bool(wanted)


def test_an_attribute_keeps_its_column_and_the_rarer_one_its_place() -> None:
    columns = attribute_columns({"1": ["a", "b"], "2": ["a", "c"], "3": ["a", "b"], "4": ["c", "d", "e"]}, 2)
    assert columns == [{"1": "a", "2": "a", "3": "a", "4": "e"}, {"1": "b", "3": "b", "2": "c", "4": "c"}]


@pytest.mark.real_data("s3rec")
@pytest.mark.parametrize(("name", "users", "clicks", "items"), [("Beauty", 22_363, 198_502, 12_101), ("LastFM", 1_090, 52_551, 3_646)])
def test_the_real_sets(real_data: Path, name: str, users: int, clicks: int, items: int) -> None:
    log = S3RecReader(SourceConfig(reader="s3rec", name=name), real_data)
    check = ContractCheck(log.contract())
    parts = [(batch.kind, check.split(batch)) for batch in log.read(log.files())]
    events = [good for kind, (good, _) in parts if kind == "events"]
    assert sum(good.num_rows for good in events) == clicks and not any(rejected for _, (_, rejected) in parts)
    assert len({user for good in events for user in good["user_id"].to_pylist()}) == users
    assert len(parts[-1][1][0]) == items


def test_a_line_never_costs_more_than_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id stands once for each item of its line."""
    (tmp_path / "Toys.txt").write_text("a 1 2\n" + "b" * 50 + " 1 2 3\n")
    monkeypatch.setattr(s3rec, "MOST_REPEATED", 100)
    (batch,) = S3RecReader(SourceConfig(reader="s3rec", name="Toys"), tmp_path).read([tmp_path / "Toys.txt"])
    assert batch.table["user_id"].to_pylist() == [b"a", b"a"]
    assert [(row.line, row.reason) for row in batch.rejected] == [(2, "user id too long for so many items")]
