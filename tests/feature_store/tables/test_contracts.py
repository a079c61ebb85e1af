from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from feature_store.tables.contracts import ContractCheck, DataError, RawBatch, Rejected, log_contract, schema

NOW = datetime(2024, 6, 1, tzinfo=UTC)
CONTRACT = log_contract(has_impressions=True, categorical=["device"], dense=["hour"], item_attributes=["category"], user_attributes=["age"])


def batch(rejected: tuple = (), kind: str = "events", **columns: list) -> RawBatch:
    table = pa.table(columns)
    return RawBatch(kind, "log.csv", table, np.arange(2, 2 + len(table)), list(rejected))


def split(**columns: list) -> tuple[pa.Table, list[Rejected]]:
    return ContractCheck(CONTRACT, NOW).split(batch(**columns))


def test_good_rows_come_back_typed_and_complete() -> None:
    good, rejected = split(user_id=["1", "2"], item_id=["a", "b"], timestamp=["1717000000", "1717000001"], device=[4, 3], hour=["5", ""])
    ids = {"user_id": pa.int64(), "item_id": pa.string(), "request_id": pa.int64()}
    assert not rejected and good.schema == schema("events", CONTRACT, ids)
    assert good.drop_columns(["timestamp", "ingested_at"]).to_pylist()[0] == {
        "user_id": 1,
        "item_id": "a",
        "clicked": 1,
        "request_id": None,
        "time_known": True,
        "device": "4",
        "hour": 5.0,
        "source": "log.csv",
        "line": 2,
    }
    assert good["ingested_at"].equals(good["timestamp"])  # the source is silent: never the wall clock


def test_every_reason_names_its_row() -> None:
    good, rejected = split(
        user_id=["1", None, "", "4", "5", "6", "7", "8", "9"],
        item_id=["a", "b", "c", None, "e", "f", "g", "h", "i"],
        timestamp=["1717000000"] * 4 + ["soon", "4000000000", "3", None, "1717000000"],
        clicked=["1", "1", "1", "1", "1", "0", "0", "0", "2"],
    )
    assert good["user_id"].to_pylist() == [1]
    assert [(row.line, row.reason) for row in rejected] == [
        (3, "user_id is null"),
        (4, "user_id is null"),
        (5, "item_id is null"),
        (6, "timestamp is not a time"),
        (7, "timestamp in the future"),
        (8, "timestamp out of range"),
        (9, "timestamp is null"),
        (10, "clicked is not 0 or 1"),
    ]
    assert rejected[3].text == '{"user_id": "5", "item_id": "e", "timestamp": "soon", "clicked": "1"}'


def test_bytes_that_are_not_utf8_are_rejected_and_shown_escaped() -> None:
    raw = pa.array([b"a", b"\xff"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    large = pa.Array.from_buffers(pa.large_string(), 2, raw.cast(pa.large_binary()).buffers())
    categories = pa.DictionaryArray.from_arrays(pa.array([0, 1]), text)
    for column in (raw, text, large, categories):
        good, rejected = split(user_id=[1, 2], item_id=column, timestamp=[1717000000, 1717000001])
        assert len(good) == 1 and rejected == [Rejected(3, "item_id is not UTF-8", rejected[0].text)]
        assert "\\\\xff" in rejected[0].text
    good, rejected = split(user_id=[1, 2], item_id=[1, 2], timestamp=[1717000000, 1717000001], device=raw)
    assert [row.reason for row in rejected] == ["device is not UTF-8"]


def test_a_rejected_row_has_no_say_in_the_type_of_the_ids() -> None:
    good, rejected = split(user_id=["1", "x"], item_id=["1", "2"], timestamp=["1717000000", "soon"])
    assert good["user_id"].type == pa.int64() and len(rejected) == 1


def test_a_number_that_is_none_is_rejected() -> None:
    _, rejected = split(user_id=[1, 2], item_id=[1, 2], timestamp=[1717000000] * 2, hour=["7", "noon"])
    assert rejected[0].reason == "hour is no number"


def test_ingested_falls_back_to_the_event_time_row_by_row() -> None:
    good, rejected = split(user_id=[1, 2], item_id=[1, 2], timestamp=[1717000000] * 2, ingested_at=["1717000060", ""])
    assert not rejected
    times = zip(good["timestamp"].to_pylist(), good["ingested_at"].to_pylist(), strict=True)
    assert [(b - a).total_seconds() for a, b in times] == [60, 0]


def test_a_number_is_a_time_by_its_own_size_whatever_is_beside_it() -> None:
    good, rejected = split(user_id=[1, 2, 3], item_id=[1, 2, 3], timestamp=[1717000000000, 1717000000, 5])
    assert good["timestamp"].to_pylist() == [datetime.fromtimestamp(1717000000, UTC)] * 2
    assert [row.reason for row in rejected] == ["timestamp out of range"]


def test_a_rejected_row_with_a_time_beyond_every_calendar_can_be_shown() -> None:
    _, rejected = split(user_id=[1], item_id=[1], timestamp=pa.array([2**62]).cast(pa.timestamp("us")))
    assert rejected[0].reason == "timestamp is not a time" and str(2**62) in rejected[0].text


def test_the_future_begins_a_day_after_now() -> None:
    seconds = int(NOW.timestamp())
    good, rejected = split(user_id=[1, 2], item_id=[1, 2], timestamp=[seconds + 86_400, seconds + 86_401])
    assert len(good) == 1 and rejected[0].reason == "timestamp in the future"


def test_a_column_of_a_hopeless_type_names_file_and_column() -> None:
    with pytest.raises(DataError, match=r"log.csv: column 'timestamp' has type bool; a time is"):
        split(user_id=[1], item_id=[1], timestamp=[True])


def test_a_missing_column_names_the_nearest() -> None:
    with pytest.raises(DataError, match="'item_id' is missing; the nearest existing name is 'item'"):
        split(user_id=[1], item=[1], timestamp=[1717000000])


def test_rows_that_the_reader_rejected_are_passed_on() -> None:
    row = Rejected(9, "wrong number of columns", "1,2")
    good, rejected = ContractCheck(CONTRACT, NOW).split(batch((row,), user_id=[None], item_id=["1"], timestamp=["1717000000"]))
    assert len(good) == 0 and [r.reason for r in rejected] == ["wrong number of columns", "user_id is null"]


def test_items_and_users() -> None:
    check = ContractCheck(CONTRACT, NOW)
    items, rejected = check.split(batch(kind="items", item_id=["7", None], category=["x", "y"], title=["T", "U"], other=[1, 2]))
    assert items.to_pylist() == [{"item_id": 7, "category": "x", "title": "T", "source": "log.csv", "line": 2}]
    assert rejected[0].reason == "item_id is null"
    users, _ = check.split(batch(kind="users", user_id=["u"]))
    assert users.to_pylist() == [{"user_id": "u", "age": None, "source": "log.csv", "line": 2}]


def test_the_oracle_column_is_kept_only_where_it_is_promised() -> None:
    columns = {"user_id": [1], "item_id": [1], "timestamp": [1717000000], "click_probability": [0.25]}
    assert "click_probability" not in split(**columns)[0].column_names
    oracle = ContractCheck(log_contract(has_impressions=True, oracle=True), NOW)
    assert oracle.split(batch(**columns))[0]["click_probability"].to_pylist() == [0.25]


def test_a_weight_is_a_number_that_is_not_negative() -> None:
    weight = ["2", "0", "-0.5", None, "nan", "much", "inf", "1e300"]
    rows = {"user_id": range(8), "item_id": range(8), "timestamp": [1717000000] * 8, "row_weight": weight}
    assert "row_weight" not in split(**rows)[0].column_names and "weighted" not in CONTRACT.to_json()
    good, rejected = ContractCheck(log_contract(has_impressions=True, weighted=True), NOW).split(batch(**rows))
    assert good["row_weight"].to_pylist() == [2.0, 0.0]
    assert [(row.line, row.reason) for row in rejected] == [
        (4, "row_weight is negative"),
        (5, "row_weight is null"),
        (6, "row_weight is null"),
        (7, "row_weight is no number"),
        (8, "row_weight is no number"),
        (9, "row_weight is no number"),
    ]
    with pytest.raises(DataError, match="column 'row_weight' is missing"):
        ContractCheck(log_contract(has_impressions=True, weighted=True), NOW).split(batch(user_id=[1], item_id=[1], timestamp=[1717000000]))


def test_a_row_without_a_click_counts_one_over_the_rate_at_which_such_rows_were_kept() -> None:
    rate = ["0.5", "0.1", "0.1", "1", "0", "1.5", None, "nan", "-0.1", "some", "1e-300"]
    clicked = [0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0]
    rows = {"user_id": range(11), "item_id": range(11), "timestamp": [1717000000] * 11, "clicked": clicked, "negative_sampling_rate": rate}
    check = ContractCheck(log_contract(has_impressions=True, weighted=True), NOW)
    good, rejected = check.split(batch(**rows))
    assert good["row_weight"].to_pylist() == [2.0, 10.0, 1.0, 1.0] and "negative_sampling_rate" not in good.column_names
    out_of_range = "negative_sampling_rate is not above 0 and at most 1"
    assert [(row.line, row.reason) for row in rejected] == [
        (6, out_of_range),
        (7, out_of_range),
        (8, "negative_sampling_rate is null"),
        (9, "negative_sampling_rate is null"),
        (10, out_of_range),
        (11, "negative_sampling_rate is no number"),
        (12, "negative_sampling_rate is too small"),
    ]
    both, _ = check.split(batch(**rows, row_weight=[3] * 11))
    assert both["row_weight"].to_pylist() == [6.0, 30.0, 3.0, 3.0]


def test_the_first_good_vector_decides_how_wide_a_column_is() -> None:
    contract = log_contract(has_impressions=False, item_vectors=["v"])
    rows = pa.table({"item_id": [None, 1, 2, 3], "v": [[1.0, 2, 3], [1.0, 2], [3.0, 4], [1.0]]})
    good, rejected = ContractCheck(contract).split(RawBatch("items", "f", rows, np.arange(1, 5), []))
    assert good["item_id"].to_pylist() == [1, 2]
    assert [one.reason for one in rejected] == ["item_id is null", "v has another width than the 2 of the first one"]
    assert ContractCheck(contract, widths={"v": 1}).split(RawBatch("items", "f", rows, np.arange(1, 5), []))[0]["item_id"].to_pylist() == [
        3
    ]


def test_a_further_label_is_0_1_or_null_and_other_values_set_the_row_apart() -> None:
    check = ContractCheck(log_contract(has_impressions=True, labels=["purchased"]), NOW)
    rows = {"user_id": range(7), "item_id": range(7), "timestamp": [1717000000] * 7, "clicked": [1] * 7}
    good, rejected = check.split(batch(**rows, label_purchased=["1", "0", "", None, "2", "maybe", "1.0"]))
    assert good["label_purchased"].type == pa.int8() and good["label_purchased"].to_pylist() == [1, 0, None, None, 1]
    assert [(row.line, row.reason) for row in rejected] == [(line, "label_purchased is not 0, 1 or null") for line in (6, 7)]
    good, _ = check.split(batch(**rows, label_purchased=[1.0, 0.0, float("nan"), None, 1.0, 0.0, 1.0]))
    assert good["label_purchased"].to_pylist() == [1, 0, None, None, 1, 0, 1]
    with pytest.raises(DataError, match="column 'label_purchased' is missing"):
        check.split(batch(**rows))
    assert "labels" not in CONTRACT.to_json()
