"""Delimited text files as raw batches: a fast path by Arrow, and a slow one that knows the line of every odd row.

The fast path streams blocks through Arrow's parser. The first block that holds something odd (a row with a wrong number of
columns, an empty line, a quote that never ends) hands the rest of the file to the slow path, which splits row by row. The
fast path counts rows, so a line break inside a quoted value shifts the line numbers that it gives.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, AnyStr, Generic

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv

from feature_store.tables.contracts import LONGEST_TEXT, DataError, Kind, RawBatch, Rejected, nearest

BLOCK_BYTES = 8 << 20  # of text that is parsed at a time
LONGEST_ROW = 64 << 20  # characters; no row is longer, whatever the file holds
SLOW_ROWS = 50_000  # rows in a batch of the slow path, where they are shorter than a block
BROKEN = (OSError, EOFError, zlib.error)  # what a truncated or damaged gzip file raises

csv.field_size_limit(LONGEST_ROW)  # a listed history may be long; the standard limit is 131,072 characters


@dataclass(frozen=True)
class Layout:
    """How a text file is split into columns.

    Parameters
    ----------
    delimiter : str
        One character, or several as in ``1::1193::5``.
    quoted : bool
        Whether double quotes enclose values. TSV has no quoting.
    names : sequence of str, optional
        Names of the columns of a file without a header.
    encoding : str
        ``utf-8`` or ``latin-1``.
    typed_header : bool
        Whether header names carry a type, as in ``user_id:token``.
    """

    delimiter: str = ","
    quoted: bool = True
    names: Sequence[str] | None = None
    encoding: str = "utf-8"
    typed_header: bool = False


CSV = Layout()
TSV = Layout(delimiter="\t", quoted=False)


def read_delimited(path: Path, file: str, kind: Kind, columns: Mapping[str, str], layout: Layout) -> Iterator[RawBatch]:
    """Stream the named columns of a text file, gzipped or not, as bytes; the empty text is null.

    Parameters
    ----------
    path : Path
    file : str
        The name that errors and the store use.
    kind : "events", "items" or "users"
    columns : mapping of contract name to the file's name
        A column of the file may serve twice.
    layout : Layout

    Raises
    ------
    DataError
        When the file is empty, lacks a column or is damaged. A header without rows is a quiet hour: one batch of no rows.
    """
    try:
        names, header_lines = read_header(path, file, layout)
        require_columns(file, names, columns)
        rows = 0
        for batch in _batches(_TextTable(path, file, kind, names, header_lines, columns, layout)):
            rows += len(batch.lines) + len(batch.rejected)
            yield batch
    except BROKEN as error:
        raise damaged(file, error) from None
    if rows == 0:
        yield RawBatch(kind, file, pa.table({name: pa.array([], pa.binary()) for name in columns}), np.zeros(0, dtype=np.int64), [])


def damaged(file: str, error: BaseException) -> DataError:
    """What is said of a file whose reading ended in one of ``BROKEN``."""
    return DataError(f"{file}: cannot be read to its end ({_one_line(error)}); copy it again, it looks truncated or damaged")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def open_raw(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked when its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]


def first_line(path: Path, file: str) -> bytes:
    """The first line of a file. Raises DataError where it is too long."""
    with open_raw(path) as stream:
        return next(BoundedLines(stream, file), b"")


class BoundedLines(Generic[AnyStr]):
    """The lines of a stream, none of them too long: whatever a file holds, no more than that is read of it at once.

    Parameters
    ----------
    stream : text or binary stream
    file : str
        The name that errors use.

    Attributes
    ----------
    row : int
        Characters of the lines since it was last set to 0: a reader whose rows may span lines does so after each of them.

    Raises
    ------
    DataError
        When a line is longer than ``LONGEST_ROW``, or the lines of a row together are. The message names it.
    """

    def __init__(self, stream: IO[AnyStr], file: str) -> None:
        self._stream: IO[AnyStr] = stream
        self._file = file
        self._number, self.row = 0, 0

    def __iter__(self) -> Iterator[AnyStr]:
        return self

    def __next__(self) -> AnyStr:
        line = self._stream.readline(LONGEST_ROW + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self.row += len(line)
        if self.row > LONGEST_ROW:
            raise row_too_long(self._file, self._number)
        return line


def row_too_long(file: str, line: int) -> DataError:
    """What is said of a row that is longer than is read."""
    return DataError(f"{file}:{line}: a row is longer than {LONGEST_ROW >> 20} MiB; correct it (a quote that never ends?) or leave it out")


def read_header(path: Path, file: str, layout: Layout) -> tuple[list[str], int]:
    """Names of the columns, and how many lines they take."""
    line = first_line(path, file)
    if not line:
        raise DataError(f"{file}: is empty; remove it or fill it")
    if layout.names is not None:
        return list(layout.names), 0
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError(f"{file}: its header is not UTF-8; convert the file to UTF-8") from None
    names = next(csv.reader([text], delimiter=layout.delimiter)) if layout.quoted else text.split(layout.delimiter)
    return [name.partition(":")[0] for name in names] if layout.typed_header else names, 1


def require_columns(file: str, names: Sequence[str], columns: Mapping[str, str]) -> None:
    """Raise DataError unless a file has each of the columns, once."""
    for name in columns.values():
        if names.count(name) > 1:
            raise DataError(f"{file}: column {name!r} occurs {names.count(name)} times; rename all but one")
        if name not in names:
            raise DataError(f"{file}: column {name!r} is missing; {nearest(name, names)}")


@dataclass(frozen=True)
class _TextTable:
    """A text file and what is read of it.

    Attributes
    ----------
    path : Path
    file : str
        The name that errors and the store use.
    kind : "events", "items", "users" or "texts"
    names : sequence of str
        Its columns.
    header_lines : int
        Lines before the first row.
    columns : mapping of contract name to the file's name
    layout : Layout
    """

    path: Path
    file: str
    kind: Kind
    names: Sequence[str]
    header_lines: int
    columns: Mapping[str, str]
    layout: Layout

    @property
    def raw(self) -> list[str]:
        """Columns of the file that are read, each once."""
        return list(dict.fromkeys(self.columns.values()))

    def batch(self, table: pa.Table | pa.RecordBatch, lines: np.ndarray, rejected: list[Rejected]) -> RawBatch:
        """Rows with the names of the contract."""
        named = pa.table({name: table.column(raw) for name, raw in self.columns.items()})
        return RawBatch(self.kind, self.file, named, lines, rejected)


def _batches(source: _TextTable) -> Iterator[RawBatch]:
    done, first = 0, source.header_lines + 1
    if len(source.layout.delimiter) == 1:
        with suppress(pa.ArrowInvalid):  # a row of the wrong width, or an unclosed quote: the slow path says which
            for table in _fast(source):
                if _holds_empty_line(table):
                    break
                lines = np.arange(done + first, done + first + table.num_rows)
                done += table.num_rows
                yield source.batch(table, lines, [])
            else:
                return
    yield from _slow(source, skip=done)


def _holds_empty_line(table: pa.RecordBatch) -> bool:
    """Whether a row is null in every column that is read: Arrow takes an empty line for such a row."""
    if min((column.null_count for column in table.columns), default=0) == 0:
        return False
    return bool(np.all([column.is_null().to_numpy(zero_copy_only=False) for column in table.columns], axis=0).any())


def _fast(source: _TextTable) -> Iterator[pa.RecordBatch]:
    raw, layout = source.raw, source.layout
    parse = pv.ParseOptions(
        delimiter=layout.delimiter,
        quote_char='"' if layout.quoted else False,
        newlines_in_values=layout.quoted,
        ignore_empty_lines=False,
    )
    read = pv.ReadOptions(block_size=BLOCK_BYTES, column_names=list(source.names), skip_rows=source.header_lines, encoding=layout.encoding)
    convert = pv.ConvertOptions(
        include_columns=raw,
        column_types=dict.fromkeys(raw, pa.binary()),  # bytes: whether they are UTF-8 is for the contract to say, row by row
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=[""],
    )
    with pa.input_stream(str(source.path)) as stream, closing(pv.open_csv(stream, read, parse, convert)) as reader:
        yield from reader


def _records(stream: IO[str], file: str, layout: Layout) -> Iterator[tuple[int, list[str], str]]:
    """(line, values, text) of each row; empty lines are passed over."""
    lines = BoundedLines(stream, file)
    if not layout.quoted:
        for number, line in enumerate(lines, start=1):
            lines.row = 0
            line = line.rstrip("\r\n")
            if line:
                yield number, line.split(layout.delimiter), line
        return
    reader = csv.reader(lines, delimiter=layout.delimiter)
    start = 1
    try:
        for values in reader:
            lines.row = 0
            if values:
                yield start, values, layout.delimiter.join(values)
            start = reader.line_num + 1
    except csv.Error:  # a value beyond the limit
        raise row_too_long(file, start) from None


def _slow(source: _TextTable, skip: int) -> Iterator[RawBatch]:
    raw, layout = source.raw, source.layout
    places = [source.names.index(name) for name in raw]
    values: list[list[str]] = []
    lines: list[int] = []
    rejected: list[Rejected] = []
    held = 0  # characters

    def batch() -> RawBatch:
        cells = ([row[place] for row in values] for place in places)
        arrays = [pa.array([cell.encode(errors="surrogateescape") if cell else None for cell in column], pa.binary()) for column in cells]
        return source.batch(pa.table(arrays, names=raw), np.array(lines, dtype=np.int64), list(rejected))

    encoding = "utf-8-sig" if layout.encoding == "utf-8" else layout.encoding
    newline = "" if layout.quoted else "\n"  # without quotes only a line feed ends a row, as on the fast path
    with open_raw(source.path) as stream, io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline=newline) as text:
        for number, (line, row, shown) in enumerate(_records(text, source.file, layout)):
            if number < source.header_lines + skip:
                continue
            if len(row) == len(source.names):
                values.append(row)
                lines.append(line)
            else:
                readable = shown.encode(errors="surrogateescape").decode(errors="backslashreplace")
                rejected.append(Rejected(line, "wrong number of columns", readable[:LONGEST_TEXT]))
            held += len(shown)
            if len(values) + len(rejected) >= SLOW_ROWS or held >= BLOCK_BYTES:
                yield batch()
                values, lines, rejected, held = [], [], [], 0
    if values or rejected:
        yield batch()
