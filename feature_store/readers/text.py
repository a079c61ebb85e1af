"""Labelled texts: TSV without quoting, JSON lines, or a JSON array; one text or a pair, labels as names or numbers.

    train.tsv     a title<TAB>news_world               text: 0, label: 1
    train.txt     a question<TAB>another<TAB>1         text: 0, text_b: 1, label: 2
    train.json    [{"text": "a title", "label": 3}]    text: text, label: label
    train.jsonl   {"sentence": "a title", "label": 3}  text: sentence, label: label

Columns by name need a first line with the names in TSV, and objects in JSON; columns by position need no header, and arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from feature_store.config import JSON_ENDINGS, SourceConfig
from feature_store.readers.base import data_folder, is_data_file, reader_fingerprint, relative
from feature_store.readers.delimited import BLOCK_BYTES, BROKEN, SLOW_ROWS, TSV, Layout, damaged, first_line, read_delimited
from feature_store.readers.json_elements import Broken, json_elements
from feature_store.tables.contracts import LONGEST_TEXT, DataError, DataFolderError, RawBatch, Rejected

TextSplit = Literal["train", "validation", "test", "unlabelled"]
SPLITS: tuple[TextSplit, ...] = ("train", "validation", "test", "unlabelled")

_TSV, _JSON_LINES = (".tsv", ".txt"), (".jsonl", ".ndjson")


class TextReader:
    """Reads the files that ``source.train``, ``source.validation``, ``source.test`` and ``source.unlabelled`` name.

    Attributes
    ----------
    splits : dict of str to str
        Split by the name of its file, in the order train, validation, test, unlabelled.
    """

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._config = config
        self._data = data_folder(data, "text")
        named = {"train": config.train, "validation": config.validation, "test": config.test, "unlabelled": config.unlabelled}
        self.splits: dict[str, TextSplit] = {}
        for split in SPLITS:
            if (name := named[split]) is not None:
                self.splits[relative(self._find(f"source.{split}", name), self._data)] = split

    def _find(self, key: str, name: str) -> Path:
        path = self._data / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataFolderError(f"{key}: {name!r} is no file below the data folder; write its path relative to it")
        if not is_data_file(path):
            raise DataFolderError(f"{self._data}: {name} does not exist; correct {key} or the data folder")
        return path

    def files(self) -> list[Path]:
        names = [self._find("source.class_names", self._config.class_names)] if self._config.class_names else []
        return sorted([*(self._data / name for name in self.splits), *names])

    def fingerprint(self) -> str:
        config = self._config
        columns: dict[str, Any] = {"text": config.text, "text_b": config.text_b, "label": config.label, "class_names": config.class_names}
        if config.unlabelled_columns is not None:
            columns["unlabelled"] = config.unlabelled_columns.model_dump()
        return reader_fingerprint("text", splits=self.splits, share=config.validation_share, seed=config.seed, **columns)

    @property
    def has_pairs(self) -> bool:
        """Whether rows have two texts."""
        return self._config.text_b is not None

    def class_names(self) -> list[str] | None:
        """Lines of ``source.class_names``. Raises DataError when a line is empty or occurs twice."""
        if self._config.class_names is None:
            return None
        path = self._find("source.class_names", self._config.class_names)
        try:
            names = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DataError(f"{path.name}: is not UTF-8; convert the file to UTF-8") from None
        for line, name in enumerate(names, start=1):
            if not name.strip() or name in names[: line - 1]:
                raise DataError(f"{path.name}:{line}: {name!r} names no class, or one that a line above has; give every class its own name")
        return names

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        """Rows of these files as bytes; a text or label that is missing or empty is null."""
        for path in files:
            file = relative(path, self._data)
            if file not in self.splits:
                continue  # the names of the classes
            columns = self._columns(file)
            ending = path.name.removesuffix(".gz")
            if ending.endswith(_TSV):
                yield from self._read_tsv(path, file, columns)
            elif ending.endswith(JSON_ENDINGS):
                yield from _read_json(path, file, columns, ending.endswith(_JSON_LINES))
            else:
                known = ", ".join((*_TSV, *JSON_ENDINGS))
                raise DataError(f"{file}: its ending says no known format; files of texts end in {known}, or one of these and .gz")

    def _columns(self, file: str) -> dict[str, int | str]:
        unlabelled = self.splits[file] == "unlabelled"
        config = (self._config.unlabelled_columns if unlabelled else None) or self._config
        columns: dict[str, int | str] = {"text": config.text}
        columns |= {"text_b": config.text_b} if config.text_b is not None else {}
        return columns if unlabelled else {**columns, "label": self._config.label}

    def _key(self, file: str, name: str) -> str:
        """The configuration key that says which column it is."""
        own = self.splits[file] == "unlabelled" and self._config.unlabelled_columns is not None
        return f"source.unlabelled_columns.{name}" if own else f"source.{name}"

    def _read_tsv(self, path: Path, file: str, columns: dict[str, int | str]) -> Iterator[RawBatch]:
        if isinstance(columns["text"], str):
            yield from read_delimited(path, file, "texts", {name: str(column) for name, column in columns.items()}, TSV)
            return
        width = _first_line(path, file).count(b"\t") + 1
        for name, column in columns.items():
            if int(column) >= width:
                key = self._key(file, name)
                raise DataError(f"{file}: {key} is column {column}, and the first line has columns 0 to {width - 1}; correct the key")
        layout = Layout(delimiter="\t", quoted=False, names=[str(place) for place in range(width)])
        yield from read_delimited(path, file, "texts", {name: str(column) for name, column in columns.items()}, layout)


def _first_line(path: Path, file: str) -> bytes:
    try:
        return first_line(path, file)
    except BROKEN as error:
        raise damaged(file, error) from None


def _read_json(path: Path, file: str, columns: dict[str, int | str], lines_only: bool) -> Iterator[RawBatch]:
    cells: dict[str, list[bytes | None]] = {name: [] for name in columns}
    lines: list[int] = []
    rejected: list[Rejected] = []
    held = 0  # bytes

    def batch() -> RawBatch:
        table = pa.table({name: pa.array(values, pa.binary()) for name, values in cells.items()})
        return RawBatch("texts", file, table, np.array(lines, dtype=np.int64), rejected)

    for line, element in json_elements(path, file, lines_only):
        row = _row(element, columns)
        if isinstance(row, str):
            shown = element if isinstance(element, str) else json.dumps(element, ensure_ascii=False)
            rejected.append(Rejected(line, row, _bytes(shown).decode(errors="backslashreplace")[:LONGEST_TEXT]))
        else:
            lines.append(line)
            for name, value in row.items():
                cells[name].append(value)
                held += len(value or b"")
        if len(lines) + len(rejected) >= SLOW_ROWS or held >= BLOCK_BYTES:
            yield batch()
            cells, lines, rejected, held = {name: [] for name in columns}, [], [], 0
    yield batch()


def _row(element: Any, columns: dict[str, int | str]) -> dict[str, bytes | None] | str:
    """The cells of a row, or the reason why there are none."""
    if isinstance(element, Broken):
        return "is no JSON"
    row: dict[str, bytes | None] = {}
    for name, column in columns.items():
        if isinstance(column, str):
            if not isinstance(element, dict):
                return "is no JSON object"
            value = element.get(column)
        elif not isinstance(element, list):
            return "is no JSON array"
        elif column >= len(element):
            return "wrong number of columns"
        else:
            value = element[column]
        if name == "label" and isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
            value = str(int(value))
        if value is not None and not isinstance(value, str):
            return f"{name} is neither a name nor a whole number" if name == "label" else f"{name} is no text"
        row[name] = _bytes(value) if value else None
    return row


def _bytes(text: str) -> bytes:
    """UTF-8, or bytes that are not UTF-8 where the text holds half a surrogate pair or bytes that never were."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
