"""Footers of Parquet files as they lie on disk, for whoever makes one file of several without decoding a value.

A footer is a structure of Thrift's compact protocol (https://github.com/apache/parquet-format); what is not asked for stays as it was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from feature_store.tables.contracts import DataError

MAGIC = b"PAR1"
_COPIED = 1 << 22  # bytes at a time

# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BINARY, LIST, _SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

# Fields of the footer and of what it holds.
SCHEMA, ROWS, GROUPS = 2, 3, 4
COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSET, CHUNK_META, _INDEX_OFFSETS = 2, 3, (4, 6)
_CHUNK_PATH, _CHUNK_PAGES = 3, 13
_PAGE_KIND, _PAGE_ENCODING = 1, 2
_DATA_PAGES, _NUMBERS = (0, 3), (2, 8)  # kinds of pages, and encodings that are numbers of a dictionary's values
_PAGE_OFFSETS = (9, 10, 11, 14)  # data, index, dictionary, bloom filter

Struct = dict[int, tuple[int, Any]]  # field -> (type, value); a list is a pair of the elements' type and the elements


def copy_bytes(source: BinaryIO, target: BinaryIO, count: int) -> None:
    """Copy so many bytes from where one file stands to where the other does; DataError where the first has fewer."""
    while count:
        block = source.read(min(_COPIED, count))
        if not block:
            raise DataError(f"{source.name} ends before its footer; write it again")
        target.write(block)
        count -= len(block)


def read_footer(path: Path) -> tuple[Struct, int]:
    """The footer of a file, and where it begins."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length > size - 12:
            raise DataError(f"{path}: is no complete Parquet file; write it again")
        file.seek(size - 8 - length)
        return _Reader(file.read(length)).struct(), size - 8 - length


def numbered_throughout(path: Path) -> set[str]:
    """Paths of the columns, such as ``history.list.element``, of which every page holds numbers of a dictionary's values.

    A writer gives a dictionary up that becomes too large, and a file of many distinct values has one for its first pages alone.
    """
    groups = read_footer(path)[0][GROUPS][1][1]
    found: dict[str, bool] = {}
    for chunk in (chunk[CHUNK_META][1] for group in groups for chunk in group[COLUMNS][1][1]):
        name = b".".join(chunk[_CHUNK_PATH][1][1]).decode()
        pages = chunk.get(_CHUNK_PAGES, (LIST, (STRUCT, [])))[1][1]
        data = [page[_PAGE_ENCODING][1] for page in pages if page[_PAGE_KIND][1] in _DATA_PAGES]
        found[name] = found.get(name, True) and bool(data) and all(encoding in _NUMBERS for encoding in data)
    return {name for name, is_numbered in found.items() if is_numbered}


def write_footer(footer: Struct, target: BinaryIO) -> None:
    """End a file, of which the row groups are written."""
    written = encoded(dict(sorted(footer.items())))
    target.write(written)
    target.write(len(written).to_bytes(4, "little") + MAGIC)


def move_group(group: Struct, shift: int) -> None:
    """Let the offsets of a row group be those of bytes that lie further back; 0 means none, and its number in the file is new."""
    group.pop(_ORDINAL, None)
    _add(group, (_GROUP_OFFSET,), shift)
    for chunk in group[COLUMNS][1][1]:
        _add(chunk, (_CHUNK_OFFSET, *_INDEX_OFFSETS), shift)
        _add(chunk[CHUNK_META][1], _PAGE_OFFSETS, shift)


def _add(struct: Struct, fields: Sequence[int], shift: int) -> None:
    for field in fields:
        kind, value = struct.get(field, (I64, 0))
        if value:
            struct[field] = (kind, value + shift)


class _Reader:
    """Reads structures of Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> Struct:
        found: Struct = {}
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            field = field + delta if delta else _from_zigzag(self._varint())
            found[field] = (kind, self._value(kind))
        return found

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in (_I16, I32, I64):
            return _from_zigzag(self._varint())
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in (LIST, _SET):
            return self._list()
        if kind == STRUCT:
            return self.struct()
        raise DataError(f"a Parquet footer holds a value of Thrift's type {kind}, which no footer has; write the file again")

    def _list(self) -> tuple[int, list[Any]]:
        head = self._byte()
        kind, count = head & 15, head >> 4
        count = self._varint() if count == 15 else count
        # Truth values are a byte each here, and no byte at all as fields.
        return kind, [self._byte() if kind in (_TRUE, _FALSE) else self._value(kind) for _ in range(count)]


def _from_zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def encoded(struct: Struct) -> bytes:
    """The bytes of a structure, whose fields are in their order."""
    return b"".join(_fields(struct)) + b"\0"


def _fields(struct: Struct) -> Iterator[bytes]:
    before = 0
    for field, (kind, value) in struct.items():
        kind = (_TRUE if value else _FALSE) if kind in (_TRUE, _FALSE) else kind
        delta = field - before
        yield bytes([delta << 4 | kind]) if 0 < delta < 16 else bytes([kind]) + _varint(field << 1)
        if kind not in (_TRUE, _FALSE):
            yield _encoded_value(kind, value)
        before = field


def _encoded_value(kind: int, value: Any) -> bytes:
    if kind in (LIST, _SET):
        if isinstance(value, bytes):  # encoded already
            return value
        of, elements = value
        return list_header(of, len(elements)) + b"".join(
            bytes([element]) if of in (_TRUE, _FALSE) else _encoded_value(of, element) for element in elements
        )
    if kind == STRUCT:
        return encoded(value)
    if kind == BINARY:
        return _varint(len(value)) + value
    if kind == _DOUBLE:
        return bytes(value)
    if kind == _BYTE:
        return bytes([value])
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def list_header(kind: int, count: int) -> bytes:
    """What stands before the elements of a list."""
    return bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + _varint(count)
