from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from feature_store.tables.casting import to_categories, to_clicked, to_ids, to_numbers, to_text, to_times

NOON = 1_507_723_200_000_000  # 2017-10-11T12:00 UTC in microseconds


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["12", "-7", "0", None]), [12, -7, 0, None]),
        (pa.array([b"12", b""]), [12, None]),
        (pa.array([3, None], pa.uint8()), [3, None]),
        (pa.array([3.0, float("nan")]), [3, None]),
        (pa.array(["5", "6"]).dictionary_encode().cast(pa.string()), [5, 6]),
        (pa.array([], pa.null()), []),
    ],
)
def test_canonical_integers_become_int64(column: pa.Array, expected: list) -> None:
    ids, bad = to_ids(column)
    assert ids.type == pa.int64() and ids.to_pylist() == expected and not bad.any()


@pytest.mark.parametrize("odd", ["012", "-0", "+5", " 5", "5.5", "N1", "9223372036854775808", "1e3"])
def test_one_odd_text_keeps_all_ids_text(odd: str) -> None:
    ids, _ = to_ids(pa.array(["12", odd]))
    assert ids.type == pa.string() and ids.to_pylist() == ["12", odd]


def test_large_unsigned_ids_become_text() -> None:
    assert to_ids(pa.array([2**63], pa.uint64()))[0].to_pylist() == [str(2**63)]


@pytest.mark.parametrize("column", [pa.array([1.5, 2.0]), pa.array([1.5, 2.0], pa.float32()), pa.array([Decimal("1.5"), Decimal("2.0")])])
def test_fractions_are_no_ids(column: pa.Array) -> None:
    ids, bad = to_ids(column)
    assert ids.to_pylist() == [None, 2] and bad.tolist() == [True, False]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["12.0", None, "-7.0"]),  # as pandas writes integers to CSV when one is missing
        pa.array([b"12.00", b"", b"-7"]),
        pa.array([12.0, None, -7.0]),
        pa.array([Decimal(12), None, Decimal(-7)]),
        pa.array([Decimal("12.00"), None, Decimal("-7.00")]),
    ],
    ids=lambda column: str(column.type),
)
def test_an_integer_is_the_same_id_however_it_is_written(column: pa.Array) -> None:
    ids, bad = to_ids(column)
    assert ids.type == pa.int64() and ids.to_pylist() == [12, None, -7] and not bad.any()


def test_a_category_has_one_text_whatever_its_type() -> None:
    for column in (
        pa.array(["1", "0", None]),
        pa.array(["1.0", "-0.0", ""]),
        pa.array([1, 0, None]),
        pa.array([1.0, -0.0, float("nan")], pa.float32()),
        pa.array([Decimal("1.0"), Decimal("0.0"), None]),
    ):
        assert to_categories(column)[0].to_pylist() == ["1", "0", None]
    for column in (pa.array([0.1, 1.5]), pa.array([0.1, 1.5], pa.float32()), pa.array([Decimal("0.10"), Decimal("1.50")])):
        assert to_categories(column)[0].to_pylist() == ["0.1", "1.5"]
    assert to_categories(pa.array(["True", "FALSE", "Truth"]))[0].to_pylist() == ["true", "false", "Truth"]
    assert to_categories(pa.array([True, False]))[0].to_pylist() == ["true", "false"]
    assert to_text(pa.array(["2012.0", "True"]))[0].to_pylist() == ["2012.0", "True"]  # a title is what it is


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.bool_(), pa.timestamp("us")])
def test_a_column_that_cannot_hold_ids_is_a_type_error(kind: pa.DataType) -> None:
    with pytest.raises(TypeError, match="an id is text or an integer"):
        to_ids(pa.nulls(1, kind))


@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.large_string(), pa.large_binary()])
def test_bytes_that_are_not_utf8_are_found_by_row(kind: pa.DataType) -> None:
    # a Parquet file may call such bytes text
    raw = pa.array([b"a", b"\xff\xfe", None], pa.binary())
    wide = pa.large_binary() if kind in (pa.large_string(), pa.large_binary()) else pa.binary()
    column = pa.Array.from_buffers(kind, 3, raw.cast(wide).buffers())
    text, bad = to_text(column)
    assert text.to_pylist() == ["a", None, None] and bad.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1507723200]),
        pa.array([1507723200.0]),
        pa.array([1507723200000]),
        pa.array([NOON]),
        pa.array([NOON * 1000]),
        pa.array(["1507723200"]),
        pa.array(["1507723200.0"]),
        pa.array([b"1507723200000"]),
        pa.array(["2017-10-11T12:00"]),
        pa.array(["2017-10-11 12:00:00"]),
        pa.array(["2017-10-11T12:00:00Z"]),
        pa.array(["2017-10-11T14:00:00+02:00"]),
        pa.array(["10/11/2017 12:00:00 PM"]),
        pa.array([datetime(2017, 10, 11, 12)], pa.timestamp("ns")),
        pa.array([datetime(2017, 10, 11, 12, tzinfo=UTC)], pa.timestamp("s", "Europe/Berlin")),
    ],
    ids=lambda column: f"{column.type}:{column[0]}",
)
def test_every_form_of_time(column: pa.Array) -> None:
    micros, empty, bad = to_times(column)
    assert micros.tolist() == [NOON] and not empty.any() and not bad.any()


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us"), pa.date64()])
def test_a_time_beyond_every_calendar_is_none(kind: pa.DataType) -> None:
    """Where it does not fit microseconds it would come back as another time."""
    assert to_times(pa.array([2**61, None, 0], pa.int64()).cast(pa.timestamp("ms") if kind == pa.date64() else kind).view(kind))[
        2
    ].tolist() == [True, False, False]


def test_dates_mean_their_midnight() -> None:
    expected = [NOON - 12 * 3600 * 10**6]
    assert to_times(pa.array(["2017-10-11"]))[0].tolist() == expected
    assert to_times(pa.array([datetime(2017, 10, 11)]).cast(pa.date32()))[0].tolist() == expected


def test_mixed_texts_are_read_row_by_row() -> None:
    column = pa.array(
        ["1507723200123", "2017-10-11T12:00:00.5", "2017-10-11T12:00:00Z", "1507723200123.5", "10/11/2017 12:00:01 PM", "soon", None, ""]
    )
    micros, empty, bad = to_times(column)
    assert (micros[:5] - NOON).tolist() == [123_000, 500_000, 0, 123_500, 1_000_000]
    assert bad.tolist() == [False] * 5 + [True, False, False] and empty.tolist() == [False] * 6 + [True, True]


def test_each_number_says_its_unit_by_its_size() -> None:
    seconds = NOON // 10**6
    numbers = [seconds, seconds * 10**3 + 1, seconds * 10**6 + 1, seconds * 10**9 + 1999]
    expected = [NOON, NOON + 1000, NOON + 1, NOON + 1]
    assert to_times(pa.array(numbers))[0].tolist() == expected
    assert to_times(pa.array([str(number) for number in numbers]))[0].tolist() == expected
    assert to_times(pa.array([seconds + 0.5, NOON / 1000]))[0].tolist() == [NOON + 500_000, NOON]
    assert to_times(pa.array([1e300, -1e300, 1.5e9]))[2].tolist() == [True, True, False]
    assert to_times(pa.array(["1" + "0" * 40, "1500000000.5"]))[2].tolist() == [True, False]


def test_nanoseconds_stay_exact_beside_a_bad_row() -> None:
    micros, _, bad = to_times(pa.array([str(NOON * 1000 + 1999), "x"]))
    assert micros[0] == NOON + 1 and bad.tolist() == [False, True]


def test_a_column_that_cannot_hold_times_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a time is a timestamp"):
        to_times(pa.array([True]))


def test_clicks() -> None:
    for column in (
        pa.array([0, 1, 2, None]),
        pa.array([0.0, 1.0, 0.5, None]),
        pa.array([Decimal("0.0"), Decimal("1.0"), Decimal("0.5"), None]),
        pa.array(["0", "1", "yes", None]),
        pa.array(["False", "true", "-1", ""]),
    ):
        clicked, bad = to_clicked(column)
        assert clicked.dtype == np.int8 and clicked[:2].tolist() == [0, 1] and bad.tolist() == [False, False, True, True]
    assert to_clicked(pa.array([True, False]))[0].tolist() == [1, 0]
    with pytest.raises(TypeError, match="expected 0 or 1"):
        to_clicked(pa.array([[1]]))


def test_numbers() -> None:
    values, bad = to_numbers(pa.array(["1.5", "-2e3", "", "nan", "NaN", "x", "inf"]))
    assert values.to_pylist() == [1.5, -2000.0, None, None, None, None, None]
    assert bad.tolist() == [False] * 5 + [True, True]
    assert to_numbers(pa.array([1.0, float("inf"), float("nan"), None]))[1].tolist() == [False, True, False, False]
    assert to_numbers(pa.array([3.4e38, -1e39, 1e300]))[1].tolist() == [False, True, True]  # models read float32
    assert to_numbers(pa.array([Decimal("1.50"), None]))[0].to_pylist() == [1.5, None]
    assert to_numbers(pa.array([True, False]))[0].to_pylist() == [1.0, 0.0]


def test_float_integers_lose_their_fraction_in_text() -> None:
    assert to_text(pa.array([1.0, 2.5, None, -0.0]))[0].to_pylist() == ["1", "2.5", None, "0"]
