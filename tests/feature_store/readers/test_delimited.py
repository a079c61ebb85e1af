import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store.readers import delimited
from feature_store.readers.delimited import CSV, TSV, Layout, read_delimited
from feature_store.tables.contracts import DataError, RawBatch

COLUMNS = {"user_id": "user", "item_id": "item"}


def read(path: Path, content: bytes, layout: Layout = CSV, columns: dict = COLUMNS) -> list[RawBatch]:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return list(read_delimited(path, path.name, "events", columns, layout))


def rows(batches: list[RawBatch]) -> list[tuple]:
    """(line, user, item) of every row."""
    return [(line, *values.values()) for b in batches for line, values in zip(b.lines.tolist(), b.table.to_pylist(), strict=True)]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_columns_by_name_with_their_lines(tmp_path: Path, name: str) -> None:
    batches = read(tmp_path / name, b"x,item,user\r\n1,10,7\r\n2,,8\r\n")
    assert rows(batches) == [(2, b"7", b"10"), (3, b"8", None)] and not batches[0].rejected


def test_one_column_may_serve_twice(tmp_path: Path) -> None:
    (batch,) = read(tmp_path / "a.csv", b"user,item\n1,2\n", columns={"user_id": "user", "item_id": "item", "request_id": "user"})
    assert batch.table.to_pylist() == [{"user_id": b"1", "item_id": b"2", "request_id": b"1"}]


def test_quotes_are_csv_only(tmp_path: Path) -> None:
    assert rows(read(tmp_path / "a.csv", b'user,item\n"a, b","x ""y"""\n')) == [(2, b"a, b", b'x "y"')]
    assert rows(read(tmp_path / "a.tsv", b'user\titem\n"a\tb"\n', TSV)) == [(2, b'"a', b'b"')]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert rows(read(tmp_path / "a.csv", b"\xef\xbb\xbfuser,item\n1,2\n")) == [(2, b"1", b"2")]
    assert rows(read(tmp_path / "a.csv", b"\xef\xbb\xbfuser,item\n1,2\n\n3\n")) == [(2, b"1", b"2")]


def test_rows_of_the_wrong_width_are_rejected_with_their_line(tmp_path: Path) -> None:
    batches = read(tmp_path / "a.csv", b"user,item\n1,2\n\n3\n4,5,6\n7,8\n")
    assert rows(batches) == [(2, b"1", b"2"), (6, b"7", b"8")]
    assert [tuple(row) for b in batches for row in b.rejected] == [
        (4, "wrong number of columns", "3"),
        (5, "wrong number of columns", "4,5,6"),
    ]


def test_lines_count_line_breaks_inside_quotes_where_rows_are_split_one_by_one(tmp_path: Path) -> None:
    batches = read(tmp_path / "a.csv", b'user,item\n"1\n1",2\n3\n4,5\n')
    assert rows(batches) == [(2, b"1\n1", b"2"), (5, b"4", b"5")] and batches[0].rejected[0].line == 4


def test_an_unclosed_quote_costs_its_rows_and_not_the_file(tmp_path: Path) -> None:
    batches = read(tmp_path / "a.csv", b'user,item\n1,2\n"3,4\n5,6\n')
    assert rows(batches) == [(2, b"1", b"2")] and [row.line for row in batches[0].rejected] == [3]


def test_bytes_that_are_not_utf8_pass_for_the_contract_to_judge(tmp_path: Path) -> None:
    for content in (b"user,item\n\xff,2\n", b"user,item\n\xff,2\n3\n"):
        assert rows(read(tmp_path / "a.csv", content)) == [(2, b"\xff", b"2")]
    (batch,) = read(tmp_path / "a.csv", b"user,item\n1,2\n\xff\n")
    assert batch.rejected[0].text == "\\xff"


def test_fast_and_slow_path_meet_without_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 256)
    monkeypatch.setattr(delimited, "SLOW_ROWS", 40)
    lines = [f"{n},{n + 1}" for n in range(500)]
    lines[300] = "odd"
    batches = read(tmp_path / "a.csv", ("user,item\n" + "\n".join(lines)).encode())
    assert rows(batches) == [(n + 2, str(n).encode(), str(n + 1).encode()) for n in range(500) if n != 300]
    assert len(batches) > 5 and [row.line for b in batches for row in b.rejected] == [302]


def test_a_row_longer_than_a_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64)
    long = "x" * 1000
    assert rows(read(tmp_path / "a.csv", f"user,item\n1,2\n3,{long}\n".encode())) == [(2, b"1", b"2"), (3, b"3", long.encode())]


def test_no_header_and_several_characters_between_columns(tmp_path: Path) -> None:
    layout = Layout("::", quoted=False, names=("user", "item", "x"), encoding="latin-1")
    batches = read(tmp_path / "ratings.dat", b"1::caf\xe9::5\n2::3\n", layout)
    assert rows(batches) == [(1, b"1", "café".encode())]
    assert [row.line for row in batches[0].rejected] == [2]


def test_latin1_becomes_utf8_on_both_paths(tmp_path: Path) -> None:
    for odd in (b"", b"2|3|4\n"):
        layout = Layout("|", quoted=False, names=("user", "item"), encoding="latin-1")
        assert rows(read(tmp_path / "u.item", b"1|caf\xe9\n" + odd, layout)) == [(1, b"1", "café".encode())]


def test_typed_headers_lose_their_types(tmp_path: Path) -> None:
    layout = Layout("\t", quoted=False, typed_header=True)
    assert rows(read(tmp_path / "a.inter", b"user:token\titem:token\n1\t2\n", layout)) == [(2, b"1", b"2")]


def test_a_header_alone_is_a_batch_of_no_rows(tmp_path: Path) -> None:
    (batch,) = read(tmp_path / "a.csv", b"user,item\n")
    assert len(batch.table) == 0 and batch.table.column_names == ["user_id", "item_id"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv: is empty"),
        ("a.csv.gz", b"", "a.csv.gz: is empty"),
        ("a.csv", b"user,itme\n1,2\n", "a.csv: column 'item' is missing; the nearest existing name is 'itme'"),
        ("a.csv", b"user,item,user\n1,2,3\n", "column 'user' occurs 2 times"),
        ("a.csv", "user,item\n1,2\n".encode("utf-16"), "its header is not UTF-8"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path / name, content)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [5, 15, 400, 0.5, 0.99])
def test_a_truncated_gzip_is_named(tmp_path: Path, keep: float) -> None:
    content = gzip.compress("\n".join(["user,item", *(f"{n * 7919 % 10007},{n}" for n in range(5000))]).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(DataError, match=r"a.csv.gz: cannot be read to its end \(.*truncated or damaged"):
        list(read_delimited(path, path.name, "events", COLUMNS, CSV))


def test_text_that_is_no_gzip_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(b"user,item\n1,2\n")
    with pytest.raises(DataError, match=r"a.csv.gz: cannot be read to its end"):
        list(read_delimited(tmp_path / "a.csv.gz", "a.csv.gz", "events", COLUMNS, CSV))


def test_a_reader_may_stop_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 256)
    path = tmp_path / "a.csv"
    path.write_text("user,item\n" + "1,2\n" * 10_000)
    batches: Iterator[RawBatch] = read_delimited(path, "a.csv", "events", COLUMNS, CSV)
    assert isinstance(next(batches).table, pa.Table)
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", [CSV, TSV], ids=["csv", "tsv"])
@pytest.mark.parametrize(
    "content",
    [
        b"user,item\n1,2\n3," + b"4" * 5000 + b"\n5,6\n",  # a line
        b"user,item\n1,2\n3," + b"4" * 5000,  # one without an end
        b"user,item\n1,2\n3," + b'"4"' * 2000 + b"\n",
    ],
)
def test_a_row_too_long_is_named_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout, content: bytes) -> None:
    monkeypatch.setattr(delimited, "LONGEST_ROW", 1024)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 512)
    with pytest.raises(DataError, match=r"a.csv:3: a row is longer than"):
        read(tmp_path / "a.csv", content.replace(b",", layout.delimiter.encode()), layout)


def test_a_quote_that_never_ends_is_not_read_to_the_end_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "LONGEST_ROW", 1024)
    with pytest.raises(DataError, match=r"a.csv:\d+: a row is longer than"):
        read(tmp_path / "a.csv", b'user,item\n1,2\n"3,4\n' + b"5,6\n" * 1000)
    with pytest.raises(DataError, match=r"a.csv:\d+: a row is longer than"):  # short values, in a row without an end
        read(tmp_path / "a.csv", b'user,item\n1,2\n"3\n' + b'","\n' * 1000)


def test_a_header_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "LONGEST_ROW", 1024)
    with pytest.raises(DataError, match=r"a.csv:1: a row is longer than"):
        read(tmp_path / "a.csv", b"user,item," + b"x" * 2000 + b"\n1,2,3\n")


def test_long_rows_are_handed_on_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1024)
    batches = read(tmp_path / "a.csv", b"user,item\nodd\n" + (b"1," + b"2" * 900 + b"\n") * 20)
    assert len(rows(batches)) == 20 and max(batch.table.num_rows for batch in batches) <= 2
