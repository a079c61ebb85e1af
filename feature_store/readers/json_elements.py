"""Elements of a JSON file one by one, from its lines or from one array of any length: no more than the longest of them is held at once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from feature_store.readers.delimited import BROKEN, LONGEST_ROW, BoundedLines, damaged, open_raw
from feature_store.tables.contracts import DataError

_CHUNK = 1 << 16  # characters read at a time
_SPACE = " \t\r\n"  # of JSON
# A raw control character in a text is the check's business, not a reason to refuse the file.
_DECODER = json.JSONDecoder(strict=False)


class Broken(str):
    """A line that is no JSON."""


def json_elements(path: Path, file: str, lines_only: bool) -> Iterator[tuple[int, Any]]:
    """(line, value) of each element of an array, or of each line that is not empty; the line is the one on which it begins.

    Parameters
    ----------
    path : Path
        Its bytes that are no UTF-8 become surrogates.
    file : str
        The name that errors use.
    lines_only : bool
        Whether it holds lines even where it begins as an array does.

    Raises
    ------
    DataError
        When the file is empty, its array is damaged, or an element is too long. A line that is no JSON is :class:`Broken`.
    """
    try:
        with _text_of(path) as stream:
            first = next((character for piece in iter(lambda: stream.read(_CHUNK), "") if (character := piece.lstrip()[:1])), "")
        if not first:
            raise DataError(f"{file}: is empty; remove it or fill it")
        with _text_of(path) as stream:
            yield from _array_elements(stream, file) if first == "[" and not lines_only else _line_elements(stream, file)
    except BROKEN as error:
        raise damaged(file, error) from None


def _text_of(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_raw(path), "utf-8-sig", errors="surrogateescape", newline="\n")


def _line_elements(stream: IO[str], file: str) -> Iterator[tuple[int, Any]]:
    lines = BoundedLines(stream, file)
    for line, text in enumerate(lines, start=1):
        lines.row = 0
        if text.strip():
            try:
                yield line, _DECODER.decode(text)
            except (ValueError, RecursionError):
                yield line, Broken(text.removesuffix("\n"))


def _array_elements(stream: IO[str], file: str) -> Iterator[tuple[int, Any]]:
    window = _Window(stream, file)
    window.next_sign()
    window.move(1)  # past the bracket
    if window.next_sign() == "]":
        return
    while True:
        window.next_sign()
        line = window.line
        yield line, window.element()
        sign = window.next_sign()
        if sign == "]":
            return
        if sign != ",":
            raise DataError(f"{file}:{window.line}: a comma or the array's end is missing here; correct it, or copy the file again")
        window.move(1)


class _Window:
    """The part of a stream that is looked at.

    Attributes
    ----------
    line : int
        Of the file, where the window begins.
    """

    def __init__(self, stream: IO[str], file: str) -> None:
        self._stream, self._file = stream, file
        self._text, self._place = "", 0
        self.line = 1

    def move(self, count: int) -> None:
        """Leave some characters behind."""
        self.line += self._text.count("\n", self._place, self._place + count)
        self._place += count

    def next_sign(self) -> str:
        """The next character that is no white space, where the window begins then; empty at the end of the file."""
        while True:
            while self._place < len(self._text):
                if self._text[self._place] not in _SPACE:
                    return self._text[self._place]
                self.move(1)
            if not self._grow():
                return ""

    def element(self) -> Any:
        """The value that begins here, which is left behind."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as error:  # of half a value too: more of it may follow
                if len(self._text) - self._place > LONGEST_ROW or not self._grow():
                    reason = f"{type(error).__name__}, or a value of more than {LONGEST_ROW >> 20} MiB"
                    raise DataError(
                        f"{self._file}:{self.line}: is no JSON from here on ({reason}); correct it, or copy the file again"
                    ) from None
            else:
                if end < len(self._text) or not self._grow():  # a number at the end of the window may go on
                    self.move(end - self._place)
                    return value

    def _grow(self) -> bool:
        """Read on; False at the end of the file. What is read grows with what is held, so that no long value is begun often."""
        held = self._text[self._place :]
        more = self._stream.read(max(_CHUNK, len(held)))
        self._text, self._place = held + more, 0
        return bool(more)
