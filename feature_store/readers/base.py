"""What several readers share: the data folder, Parquet files, and the digest of the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.readers.delimited import BROKEN, CSV, TSV, Layout, damaged, read_delimited, read_header, require_columns
from feature_store.tables.contracts import DataError, DataFolderError, Kind, RawBatch
from feature_store.tables.json_files import spaced_digest_of
from feature_store.tables.parquet_files import open_pieces

PARQUET_ROWS = 200_000  # rows in a batch of a Parquet file, where they hold less than its bytes
PARQUET_BYTES = 64 << 20
_STEP = 1024  # rows that are unpacked at a time: packed, a row of megabytes may look small
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # the folder of rows without a value
PARQUET_FAULTS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


def data_folder(data: Path | None, reader: str) -> Path:
    """The data folder. Raises DataFolderError when none was named or it does not exist."""
    if data is None:
        raise DataFolderError(f"reader {reader} needs a data folder")
    if not data.exists():
        raise DataFolderError(f"{data}: the data folder does not exist")
    if not data.is_dir():
        raise DataFolderError(f"{data}: is a file, not a data folder; name the folder that holds it")
    return data


def is_data_file(path: Path) -> bool:
    """Whether a file of the user's data is there, by itself or by a link. Raises DataFolderError for a link that leads nowhere."""
    if path.is_symlink() and not path.exists():
        raise DataFolderError(f"{path}: is a link that leads nowhere; correct or remove it")
    return path.is_file()


def data_files(data: Path, pattern: str) -> list[Path]:
    """Files of the user's data that match a pattern, sorted; links to files and folders are followed, ``**`` follows them too.

    A file that is called as the pattern is written is the one that is meant, as ``log[1].csv``.

    Raises
    ------
    DataFolderError
        When the pattern is none below the data folder, or a link leads nowhere.
    """
    head, deep, tail = pattern.partition("**")
    if (data / pattern).is_relative_to(data) and is_data_file(data / pattern):
        return [data / pattern]
    try:
        found = set(data.glob(pattern))
        if deep:
            for folder in data.glob(head) if head else [data]:
                for linked in _linked_folders(folder, {folder.resolve()}):
                    found.update(linked.glob(deep + tail))
    except (NotImplementedError, ValueError, IndexError):
        raise DataFolderError(f"{pattern!r} is no pattern below the data folder; write it relative, as in 'logs/*.csv.gz'") from None
    return sorted(path for path in found if is_data_file(path))


def folder_and_pattern(pattern: str) -> tuple[str, str]:
    """The folder of a pattern, as far as it holds no sign of one, and the pattern of files below it.

    Examples
    --------
    >>> folder_and_pattern("/shop/dt=*/items-*.parquet"), folder_and_pattern("/shop/items.csv")
    (('/shop', 'dt=*/items-*.parquet'), ('/shop', 'items.csv'))
    """
    parts = pattern.split("/")
    fixed = next((place for place, part in enumerate(parts) if set("*[") & set(part)), len(parts) - 1)
    return "/".join(parts[:fixed]), "/".join(parts[fixed:])


def _linked_folders(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Links to folders below a folder, in those that they lead to as well, but no folder twice: they may form a circle."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            if path.is_symlink():
                if path.resolve() in seen:
                    continue
                seen.add(path.resolve())
                yield path
            yield from _linked_folders(path, seen)


def relative(path: Path, data: Path | None) -> str:
    """Name of a file below the data folder, the same on every system; of one that lies elsewhere, as a table's may, where that is."""
    whole = path.absolute()
    return (whole.relative_to(data.absolute()) if data is not None and whole.is_relative_to(data.absolute()) else whole).as_posix()


def reader_fingerprint(reader: str, **settings: Any) -> str:
    """Digest of a reader's name and the settings that shape its rows."""
    return spaced_digest_of([reader, settings])


def read_table(path: Path, file: str, kind: Kind, columns: Mapping[str, str]) -> Iterator[RawBatch]:
    """Stream the named columns of a file with a header: CSV, TSV (both also gzipped) or Parquet by its ending.

    Parameters
    ----------
    columns : mapping of contract name to the file's name

    Raises
    ------
    DataError
        When the file is empty, lacks a column or is damaged. A header without rows is a quiet hour: one batch of no rows.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path, file, kind, columns)
    elif path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
        yield from read_delimited(path, file, kind, columns, _layout(path))
    else:
        raise DataError(f"{file}: its ending says no known format; files end in {', '.join(ENDINGS)}")


def partition_values(file: str) -> dict[str, pa.Scalar]:
    """Values that the folders of a file's name say, as Hive and Spark write them.

    Examples
    --------
    >>> {key: value.as_py() for key, value in partition_values("log/dt=2024-05-01/place=a%2Fb/part-0.parquet").items()}
    {'dt': '2024-05-01', 'place': 'a/b'}
    """
    said = [folder.partition("=") for folder in file.split("/")[:-1]]
    values = {key: None if value == NO_PARTITION else unquote(value) for key, equals, value in said if key and equals}
    return {key: pa.scalar(value, pa.string()) for key, value in values.items()}


def not_before(names: Sequence[str], since: datetime | None) -> list[str]:
    """Names of files without those whose folders name a date before a time.

    Raises
    ------
    DataFolderError
        When a time is given and no folder names a date.

    Examples
    --------
    >>> not_before(["dt=2026-09-30/a.csv", "dt=2026-10-01/a.csv", "day=20261002/a.csv"], datetime(2026, 10, 1, 12, tzinfo=UTC))
    ['dt=2026-10-01/a.csv', 'day=20261002/a.csv']
    """
    if since is None:
        return list(names)
    dates = {name: _date_of(name) for name in names}
    if names and not any(dates.values()):
        raise DataFolderError("source.events.since is told by folders that name dates, as dt=2026-10-01, and there are none: remove it")
    begins = since.astimezone(UTC).date()
    return [name for name, day in dates.items() if day is None or day >= begins]


def _date_of(file: str) -> date | None:
    """The date that the folders of a file name, by year, month and day in one of them."""
    for value in partition_values(file).values():
        found = re.match(r"(\d{4})-?(\d{2})-?(\d{2})(?!\d)", value.as_py() or "")
        if found is not None:
            with suppress(ValueError):
                return date(*map(int, found.groups()))
    return None


def file_columns(path: Path, file: str) -> list[str]:
    """Names of the columns of a file with a header.

    Raises
    ------
    DataError
        When the file is empty or damaged.
    """
    if path.suffix != ".parquet":
        try:
            return read_header(path, file, _layout(path))[0]
        except BROKEN as error:
            raise damaged(file, error) from None
    if path.stat().st_size == 0:
        raise DataError(f"{file}: is empty; remove it or fill it")
    try:
        with open_pieces(path) as parquet:
            return list(parquet.schema_arrow.names)
    except PARQUET_FAULTS as error:
        raise damaged_parquet(file, error) from None


def read_partitioned(
    path: Path, file: str, kind: Kind, columns: Mapping[str, str], values: Mapping[str, pa.Scalar] | None = None
) -> Iterator[RawBatch]:
    """As :func:`read_table`; a column that the file lacks may hold one value in all its rows, which stands elsewhere.

    Parameters
    ----------
    file : str
        Name below the data folder: folders above it say nothing.
    values : mapping of the column's name to pa.Scalar, optional
        Of the columns that the file may lack; by default what its folders say, as in ``dt=2024-05-01/``.
    """
    values = partition_values(file) if values is None else values
    said = {name: raw for name, raw in columns.items() if raw in values}
    if said:
        own = file_columns(path, file)
        said = {name: raw for name, raw in said.items() if raw not in own}
    for batch in read_table(path, file, kind, {name: raw for name, raw in columns.items() if name not in said}):
        table = batch.table
        for name, raw in said.items():
            table = table.append_column(name, pa.repeat(values[raw], table.num_rows))
        yield batch._replace(table=table)


def _read_parquet(path: Path, file: str, kind: Kind, columns: Mapping[str, str]) -> Iterator[RawBatch]:
    if path.stat().st_size == 0:
        raise DataError(f"{file}: is empty; remove it or fill it")
    try:
        with open_pieces(path) as parquet:
            require_columns(file, parquet.schema_arrow.names, columns)
            done = 0
            if parquet.metadata.num_rows == 0:
                empty = parquet.schema_arrow.empty_table()
                yield RawBatch(kind, file, pa.table({name: empty[raw] for name, raw in columns.items()}), np.zeros(0, dtype=np.int64), [])
            for block in _blocks(parquet, list(dict.fromkeys(columns.values()))):
                lines = np.arange(done + 1, done + 1 + block.num_rows)
                done += block.num_rows
                yield RawBatch(kind, file, pa.table({name: block[raw] for name, raw in columns.items()}), lines, [])
    except PARQUET_FAULTS as error:
        raise damaged_parquet(file, error) from None


def damaged_parquet(file: str, error: BaseException) -> DataError:
    """What is said of a Parquet file whose reading ended in one of ``PARQUET_FAULTS``."""
    reason = " ".join(str(error).split()).rstrip(".")[:200]
    return DataError(f"{file}: cannot be read as Parquet ({reason}); copy it again, it looks truncated or damaged")


def _layout(path: Path) -> Layout:
    """Of a text file with a header, by its ending."""
    return TSV if path.name.removesuffix(".gz").endswith(".tsv") else CSV


def _blocks(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.Table]:
    """Rows in blocks of some number or size, whatever the row groups are."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in parquet.iter_batches(min(_STEP, PARQUET_ROWS), columns=columns):
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= PARQUET_ROWS or size >= PARQUET_BYTES:
            yield pa.Table.from_batches(held).combine_chunks()
            held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()
