"""Word vectors from a word2vec file, text or binary, as gensim's ``KeyedVectors.save_word2vec_format`` writes it.

text     a line "words dimensions", then a line "word x x x ..." for each word; also gzipped
binary   the same first line, then for each word its name, a space, and the float32 numbers, little-endian; the file ends in .bin
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from feature_store.readers.delimited import BROKEN, damaged, open_raw
from feature_store.tables.contracts import DataError

_HEADER = re.compile(rb"(\d+) (\d+)\s*")
_LONGEST_WORD = 10_000  # bytes; a longer one means that the numbers are of another type
_WIDEST = 100_000  # dimensions


@dataclass(frozen=True)
class WordVectors:
    """Vectors of the words that were asked for.

    Attributes
    ----------
    vectors : float32 array (words, dimensions)
        NaN where the file has none.
    exact, folded, missing : int
        Words that the file has as they are; those that it has in other letters, as "NBA" for "nba"; those that it lacks.
    file_words : int
        Words of the file.
    """

    vectors: np.ndarray
    exact: int
    folded: int
    missing: int
    file_words: int


def read_vectors(path: Path, words: Sequence[str]) -> WordVectors:
    """Read the vectors of these words, in their order, in memory for these alone.

    Parameters
    ----------
    path : Path
        A word2vec file.
    words : sequence of str
        Distinct words. One that the file lacks takes the vector of the first that is equal to it in NFKC and lower case.

    Raises
    ------
    DataError
        When the header is not "words dimensions" or tells another number of words or dimensions than the file holds, a number of
        a word that was asked for is no finite number, or the file is damaged.
    """
    place = {word: number for number, word in enumerate(words)}
    is_exact, is_known = np.zeros(len(words), bool), np.zeros(len(words), bool)
    try:
        with open_raw(path) as stream:
            count, width = _header(stream, path.name)
            vectors = np.full((len(words), width), np.nan, np.float32)
            read = _binary if path.name.endswith((".bin", ".bin.gz")) else _lines
            rows: Iterator[tuple[bytes, bytes]] = read(stream, path.name, count, width)
            for number, (raw, numbers) in enumerate(rows, start=1):
                word = raw.decode(errors="replace")
                at, exact = place.get(word), True
                if at is None:
                    at, exact = place.get(unicodedata.normalize("NFKC", word).lower()), False
                if at is None or is_exact[at] or (is_known[at] and not exact):
                    continue
                vectors[at] = _parse(numbers, read is _binary, f"{path.name}: word {number} of {count:,} ({word[:40]!r})")
                is_known[at], is_exact[at] = True, exact
    except BROKEN as error:
        raise damaged(path.name, error) from None
    exact_count, known = int(is_exact.sum()), int(is_known.sum())
    return WordVectors(vectors, exact_count, known - exact_count, len(words) - known, count)


def _header(stream: IO[bytes], name: str) -> tuple[int, int]:
    line = stream.readline(1000)
    match = _HEADER.fullmatch(line)
    if match is None:
        shown = line[:60].decode(errors="backslashreplace").strip()
        raise DataError(
            f"{name}: its first line is {shown!r}, not the numbers of words and dimensions, as in '352217 300'; write such a line"
        )
    count, width = int(match[1]), int(match[2])
    if not 1 <= width <= _WIDEST:
        raise DataError(f"{name}: its first line tells {width:,} dimensions; 1 to {_WIDEST:,} are possible: correct the first line")
    return count, width


def _lines(stream: IO[bytes], name: str, count: int, width: int) -> Iterator[tuple[bytes, bytes]]:
    done = 0
    for line in stream:
        text = line.rstrip()
        if not text:
            continue
        done += 1
        if done > count:
            raise DataError(f"{name}: its first line tells {count:,} words, and more follow; correct the first line")
        # Numbers are counted from the end: a word may be white space that is no plain space.
        parts = text.split(b" ", 1)
        if len(parts) < 2 or parts[1].count(b" ") != width - 1:
            found = text.count(b" ")
            raise DataError(
                f"{name}:{done + 1}: holds {found:,} numbers and the first line tells {width:,} dimensions; correct one of them"
            )
        yield parts[0], parts[1]
    if done < count:
        raise DataError(
            f"{name}: its first line tells {count:,} words, and {done:,} follow; copy the file again, or correct the first line"
        )


def _binary(stream: IO[bytes], name: str, count: int, width: int) -> Iterator[tuple[bytes, bytes]]:
    for done in range(count):
        word = bytearray()
        while (byte := stream.read(1)) != b" ":
            if not byte:
                raise DataError(
                    f"{name}: its first line tells {count:,} words, and {done:,} follow; copy the file again, or correct the first line"
                )
            if len(word) > _LONGEST_WORD:
                raise DataError(f"{name}: word {done + 1:,} has no end; is {width:,} the number of dimensions, in float32?")
            word += byte
        raw = stream.read(4 * width)
        if len(raw) < 4 * width:
            raise DataError(f"{name}: ends within word {done + 1:,} of {count:,}; copy the file again, or correct its first line")
        yield bytes(word).lstrip(b"\n"), raw
    if stream.read(1).strip():
        raise DataError(f"{name}: its first line tells {count:,} words of {width:,} dimensions, and more follow; correct the first line")


def _parse(numbers: bytes, is_binary: bool, where: str) -> np.ndarray:
    try:
        vector = np.frombuffer(numbers, "<f4") if is_binary else np.array(numbers.split(b" "), np.float32)
    except ValueError:
        raise DataError(f"{where}: holds what is no number; correct the file") from None
    if not np.isfinite(vector).all():
        raise DataError(f"{where}: holds what is no finite number; correct the file")
    return vector
