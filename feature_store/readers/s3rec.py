"""Sequences as published with S3-Rec (Zhou et al. 2020, arXiv:2008.07873): ``NAME.txt``, a line ``user item item ...`` per user, oldest
first, and ``NAME_item2attributes.json`` with a list of attributes per item.

The files hold no times: the position is the time. Every user's sequence is aligned at its end: the last click of everyone lies on
the same day, the one before it a day earlier, and so on. So leave-one-out is a time split like any other, and whatever holds as of
a time (histories, vocabularies, statistics) holds for it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.config import SourceConfig
from feature_store.readers.base import data_folder, is_data_file, reader_fingerprint, relative
from feature_store.readers.delimited import BoundedLines
from feature_store.tables.casting import MICROSECOND
from feature_store.tables.contracts import DataError, DataFolderError, LogContract, RawBatch, Rejected, log_contract, row_text

LAST_DAY = datetime(2020, 1, 1, tzinfo=UTC)  # of everyone's last click; the contract's earliest time leaves 10,957 days before it
STEP = timedelta(days=1)  # from one position to the next
BATCH_ROWS = 200_000
MOST_REPEATED = 1 << 28  # bytes of a user id, once for each of the items of its line
MOST_ATTRIBUTES = 1 << 28  # bytes of the items' attributes


class S3RecReader:
    """Reads ``NAME.txt`` and, where it is there, ``NAME_item2attributes.json``, below the data folder or its folder ``NAME``.

    A token has one value per attribute, and an item a list of attributes of any length. Each attribute is given one of
    ``source.attribute_columns`` columns, the same one for every item that has it; see :func:`attribute_columns`.
    """

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._data = data_folder(data, "s3rec")
        self._name = config.name
        self._columns = [f"attribute_{number}" for number in range(1, config.attribute_columns + 1)]

    def files(self) -> list[Path]:
        for folder in (self._data, self._data / str(self._name)):
            sequences = folder / f"{self._name}.txt"
            if is_data_file(sequences):
                attributes = folder / f"{self._name}_item2attributes.json"
                return [sequences, attributes] if self._columns and is_data_file(attributes) else [sequences]
        raise DataFolderError(
            f"{self._data}: no {self._name}.txt and no {self._name}/{self._name}.txt; "
            "name the folder that holds it; source.name is the set without .txt"
        )

    def fingerprint(self) -> str:
        return reader_fingerprint("s3rec", name=self._name, columns=self._columns)

    def contract(self) -> LogContract:
        return log_contract(has_impressions=False, item_attributes=self._columns if len(self.files()) > 1 else ())

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        for path in files:
            if path.suffix == ".txt":
                yield from _sequences(path, relative(path, self._data))
            else:
                yield _attributes(path, relative(path, self._data), self._columns)


def _sequences(path: Path, file: str) -> Iterator[RawBatch]:
    """The clicks of all users, those of a user together; a user's second line is rejected, click by click."""
    seen: set[bytes] = set()
    users: list[bytes] = []
    items: list[bytes] = []
    ages: list[int] = []  # positions before the last one
    lines: list[int] = []
    rejected: list[Rejected] = []

    def batch() -> RawBatch:
        times = pa.scalar(LAST_DAY, MICROSECOND).value - np.array(ages, dtype=np.int64) * (STEP // timedelta(microseconds=1))
        table = {"user_id": pa.array(users, pa.binary()), "item_id": pa.array(items, pa.binary())}
        return RawBatch(
            "events", file, pa.table(table | {"timestamp": pa.array(times).cast(MICROSECOND)}), np.array(lines, np.int64), rejected
        )

    if path.stat().st_size == 0:
        raise DataError(f"{file}: is empty; remove it or fill it")
    with open(path, "rb") as stream:
        sequences = BoundedLines(stream, file)
        for number, line in enumerate(sequences, start=1):
            sequences.row = 0
            values = line.removeprefix(b"\xef\xbb\xbf").split() if number == 1 else line.split()
            if not values:
                continue  # an empty line, as in other text files
            user, clicked = values[0], values[1:]
            if not clicked:
                rejected.append(Rejected(number, "user without items", row_text({"user_id": user})))
            elif len(user) * len(clicked) > MOST_REPEATED:
                rejected.append(Rejected(number, "user id too long for so many items", row_text({"user_id": user})))
            elif user in seen:
                rejected += [Rejected(number, "user on an earlier line", row_text({"user_id": user, "item_id": item})) for item in clicked]
            else:
                seen.add(user)
                users += [user] * len(clicked)
                items += clicked
                ages += range(len(clicked) - 1, -1, -1)
                lines += [number] * len(clicked)
            if len(users) + len(rejected) >= BATCH_ROWS:
                yield batch()
                users, items, ages, lines, rejected = [], [], [], [], []
    yield batch()


def _attributes(path: Path, file: str, columns: Sequence[str]) -> RawBatch:
    """The items with their attributes in columns; the line is the item's place in the file."""
    if path.stat().st_size > MOST_ATTRIBUTES:  # of what is read at once, as it has to be: which columns fit depends on all of it
        raise DataError(f"{file}: is larger than {MOST_ATTRIBUTES >> 20} MiB; leave out attributes that few items have")
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not UTF-8; convert the file to UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is not JSON ({error}); copy it again, it looks truncated or damaged") from None
    if not isinstance(described, dict):
        raise DataError(f"{file}: holds no JSON object but a {type(described).__name__}; it should map each item to a list of attributes")
    rejected: list[Rejected] = []
    kept: dict[str, list[str]] = {}
    lines: list[int] = []
    for number, (item, values) in enumerate(described.items(), start=1):
        if isinstance(values, list) and all(isinstance(value, (int, str)) for value in values):
            kept[item] = [str(value) for value in values]
            lines.append(number)
        else:
            rejected.append(
                Rejected(
                    number,
                    "attributes are no list of numbers or texts",
                    row_text({"item_id": _json_bytes(item), "attributes": json.dumps(values)}),
                )
            )
    placed = attribute_columns(kept, len(columns))
    table = {"item_id": pa.array(map(_json_bytes, kept), pa.binary())}
    for name, column in zip(columns, placed, strict=True):
        table[name] = pa.array([_json_bytes(column[item]) if item in column else None for item in kept], pa.binary())
    return RawBatch("items", file, pa.table(table), np.array(lines, np.int64), rejected)


def _json_bytes(text: str) -> bytes:
    """JSON can spell half a character, which no UTF-8 holds: as bytes it comes before the contract like any other."""
    return text.encode(errors="surrogatepass")


def attribute_columns(attributes: dict[str, list[str]], count: int) -> list[dict[str, str]]:
    """Spread lists of attributes over columns of at most one value per item.

    An attribute is always in the same column, so that it has one embedding. The commonest come first, and each goes where it
    meets the fewest items that have a value already; where it meets one, the rarer attribute, which says more, takes the place.
    Six columns hold every attribute of the published Beauty, and 42 % of LastFM's twelve tags per item.

    Parameters
    ----------
    attributes : dict of str to list of str
        Attributes by item; repeated ones count once.
    count : int
        Number of columns.

    Returns
    -------
    list of dict of str to str
        For each column the attribute by item; an item without a value is absent.

    Examples
    --------
    >>> attribute_columns({"1": ["care", "skin"], "2": ["care", "hair"], "3": ["skin", "skin"]}, 2)
    [{'1': 'care', '2': 'care'}, {'1': 'skin', '3': 'skin', '2': 'hair'}]
    """
    holders: dict[str, list[str]] = {}
    for item, values in attributes.items():
        for value in dict.fromkeys(values):
            holders.setdefault(value, []).append(item)
    columns: list[dict[str, str]] = [{} for _ in range(count)]
    for value, items in sorted(holders.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        taken = [sum(item in column for item in items) for column in columns]
        columns[taken.index(min(taken))].update(dict.fromkeys(items, value))
    return columns
