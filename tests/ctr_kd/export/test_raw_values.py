"""A raw value means to the exported scorer what it means to ingestion, whatever its type; or both refuse it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly, Signature
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.click_values import NO_TIME, PAD, ClickRowsError, Lookup, Rows
from ctr_kd.export.onnx_export import export_student, packages_of
from ctr_kd.models.students import STUDENTS
from feature_store.tables import casting
from feature_store.tables.contracts import ContractCheck, DataError, RawBatch, log_contract

NOW = datetime(2024, 6, 1, tzinfo=UTC)
CONTRACT = log_contract(has_impressions=True, categorical=["device"], dense=["item_age"])
FIRST = 5  # index of the first token

WORDS = ["", "12", "12.0", "-7.00", "0.0", "-0.0", "012", "N1", "True", "false", "nan", "inf", "1.50", "1e3", " 5", "x" * 3]
TIMES = [
    "2024-01-01",
    "2024-01-01T10:00:00+02:00",
    "2024-01-01 10:00:00.5",
    "01/02/2024 2:14:46 PM",
    "1704067200",
    "1704067200000.0",
    "soon",
]
WHOLE = st.integers(-(2**40), 2**40) | st.sampled_from(
    [0, 12, 2**53 + 1, 2**62, 1704067200, 1704067200123, 1704067200123456, 1704067200123456789]
)
REAL = st.floats(width=32) | WHOLE.map(float) | st.sampled_from([12.0, -0.0, 1.5, 1e300, 1704067200.5])
MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1))


def column(kind: pa.DataType, values: st.SearchStrategy[Any]) -> st.SearchStrategy[pa.Array]:
    return st.lists(st.none() | values, min_size=1, max_size=3).map(lambda found: pa.array(found, kind))


COLUMNS = st.one_of(
    column(pa.int64(), WHOLE),
    column(pa.int8(), st.integers(-128, 127)),
    column(pa.uint64(), st.integers(0, 2**64 - 1)),
    column(pa.float64(), REAL),
    column(pa.float32(), st.floats(width=32)),
    column(pa.float16(), st.floats(width=16).map(np.float16)),
    column(pa.decimal128(24, 2), st.integers(-(10**6), 10**20).map(lambda n: Decimal(n) / 100)),
    column(pa.decimal128(38, 0), WHOLE.map(Decimal)),
    column(pa.bool_(), st.booleans()),
    column(pa.string(), st.sampled_from(WORDS + TIMES) | st.text(max_size=4) | WHOLE.map(str) | REAL.map(str)),
    column(pa.large_string(), st.sampled_from(WORDS + TIMES)),
    column(pa.binary(), st.sampled_from([b"12.0", b"\xff", b"N1", b"1704067200", b""])),
    column(pa.string(), st.sampled_from(WORDS)).map(pa.Array.dictionary_encode),
    *(column(pa.timestamp(unit, zone), MOMENTS) for unit in ("s", "ms", "us", "ns") for zone in (None, "Europe/Berlin")),
    column(pa.date32(), st.dates(date(1980, 1, 1), date(2030, 1, 1))),
    column(pa.list_(pa.int64()), st.lists(WHOLE, max_size=2)),
    st.integers(1, 3).map(pa.nulls),
)


@pytest.fixture(scope="module")
def scorer(assembly: Assembly, signature: Signature, tmp_path_factory: pytest.TempPathFactory) -> ClickScorer:
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("values")
    export_student(STUDENTS["pooled"](signature, StudentConfig(kind="pooled", width=8)).eval(), signature, assembly, folder)
    return ClickScorer(folder)


def ingested(name: str, raw: pa.Array) -> list[Any]:
    """What ingestion stores for the value of each row; the reason where it sets the row apart."""
    rows = len(raw)
    table = {"user_id": pa.repeat("u", rows), "item_id": pa.repeat("i", rows), "timestamp": pa.repeat(pa.scalar(NOW), rows), name: raw}
    try:
        good, rejected = ContractCheck(CONTRACT, NOW).split(RawBatch("events", "log", pa.table(table), np.arange(rows), []))
    except DataError as error:
        return [error] * rows
    stored = dict(zip(good["line"].to_pylist(), good[name].to_pylist(), strict=True))
    reasons = {row.line: DataError(row.reason) for row in rejected}
    return [stored[row] if row in stored else reasons[row] for row in range(rows)]


def each(raw: pa.Array, read: Callable[[pa.Array], Any]) -> list[Any]:
    """What the scorer reads of each value alone; the refusal where it refuses."""
    found: list[Any] = []
    for row in range(len(raw)):
        try:
            found.append(read(raw.slice(row, 1)))
        except ClickRowsError as error:
            found.append(error)
    return found


def agree(raw: pa.Scalar, stored: Any, read: Any, same: Callable[[Any, Any], bool]) -> bool:
    """Ingestion may need a value where the scorer takes none; what has a value means the same to both."""
    if isinstance(stored, DataError):
        return isinstance(read, ClickRowsError) or not raw.is_valid or str(stored).endswith("is null")
    return not isinstance(read, ClickRowsError) and same(stored, read)


@settings(max_examples=120)
@given(raw=COLUMNS)
def test_ids_and_categories(scorer: ClickScorer, raw: pa.Array) -> None:
    for name, asked in (("item_id", "item_id"), ("device", "device")):
        for stored, alone in zip(ingested(name, raw), (raw.slice(row, 1) for row in range(len(raw))), strict=True):
            token = "nothing" if stored is None or isinstance(stored, DataError) else str(stored)
            lookup = Lookup(pa.array([token]), FIRST, scorer.meaning(asked), asked)
            expected = PAD if stored is None else FIRST
            ways: list[Callable[[pa.Array], Any]] = [lookup, lambda values, lookup=lookup: lookup(pa.chunked_array([values] * 300))[:1]]
            if raw.type not in (pa.binary(), pa.float32(), pa.float16()):  # of which Python makes other values
                ways.append(lambda values, lookup=lookup, name=name: lookup(scorer.raw.column(values.to_pylist(), name)))
            for way in ways:
                (read,) = each(alone, way)
                assert agree(alone[0], stored, read, lambda stored, read, expected=expected: read.tolist() == [expected]), (
                    name,
                    alone,
                    stored,
                    read,
                )


@settings(max_examples=120)
@given(raw=COLUMNS)
def test_numbers(scorer: ClickScorer, raw: pa.Array) -> None:
    def read(values: pa.Array) -> float:
        numbers = scorer.raw.numbers(Rows(pa.table({"item_age": values})), ["item_age"])
        return float(numbers[0, 0])

    def same(stored: float | None, read: float) -> bool:
        return bool(np.isnan(read)) if stored is None else np.float32(stored) == read

    for value, stored, found in zip(raw, ingested("item_age", raw), each(raw, read), strict=True):
        assert agree(value, stored, found, same), (value, stored, found)


@settings(max_examples=120)
@given(raw=COLUMNS)
def test_times(scorer: ClickScorer, raw: pa.Array) -> None:
    def read(values: pa.Array) -> int | None:
        moment = int(scorer.raw.typed(values, "history_timestamps")[0])
        return None if moment == NO_TIME else moment

    def same(stored: datetime, read: int) -> bool:
        return stored == datetime.fromtimestamp(0, UTC) + pd.Timedelta(microseconds=read).to_pytimedelta()

    for value, stored, found in zip(raw, ingested("timestamp", raw), each(raw, read), strict=True):
        if str(stored).endswith(("in the future", "out of range")):
            continue  # a bound of logs: a row to be scored may lie ahead
        assert agree(value, stored, found, same), (value, stored, found)


def test_floats_that_arrow_lacks_are_refused_by_the_name_of_their_column(scorer: ClickScorer) -> None:
    with pytest.raises(ClickRowsError, match="column item_age must hold numbers, not longdouble"):
        scorer.to_table(pd.DataFrame({"item_age": np.array([1, 2], np.longdouble)}))


def test_what_says_the_meaning_of_values_needs_nothing_of_this_project() -> None:
    assert packages_of(Path(casting.__file__)) == ["pyarrow"]


@pytest.mark.parametrize(
    "change",
    [
        {"item_id": [100.0, 101.0]},
        {"item_id": ["100.0", "101"]},
        {"history": [["101.0"], [102.0]]},
        {"device": ["d1", ""], "item_id": [Decimal(100), Decimal(101)]},
        {"item_age": ["3.5", "nan"]},
        {"item_age": [Decimal("3.50"), None]},
        {"history_timestamps": [[1704060000], [1704061000]]},
        {"history_timestamps": [[1704060000.0], [1704061000_000]]},
        {"history_timestamps": [[1704060000_000_000], ["2023-12-31T22:16:40Z"]]},
    ],
    ids=str,
)
def test_a_frame_scores_alike_however_its_values_are_written(scorer: ClickScorer, change: dict[str, Any]) -> None:
    moments = [[pd.Timestamp("2023-12-31T22:00:00Z")], [pd.Timestamp("2023-12-31T22:16:40Z")]]
    row = {"history": [[101], [102]], "item_id": [100, 101], "timestamp": pd.Timestamp("2024-01-01"), "device": ["d1", None]}
    row |= {"item_age": [3.5, None], "history_timestamps": moments}
    expected = scorer.predict(pd.DataFrame(row))["score"].to_numpy()
    np.testing.assert_allclose(scorer.predict(pd.DataFrame({**row, **change}))["score"], expected, atol=1e-7)
