"""Characters and character n-grams as tokens, counted or hashed; a batch of texts at a time, in numpy.

An n-gram of up to three characters is one integer: 21 bits for each code point, the first one lowest. So counting is a sort, a look-up
is a binary search, and no string is made.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

UNKNOWN, FIRST = 1, 5  # index of [UNK], and of the first token behind the special ones, as feature_store/special_tokens.py has them
LONGEST = 3  # characters: three code points fit in 63 bits
_BITS = 21
_REPLACEMENT = 0xFFFD  # for half of a surrogate pair, which is no character
_BATCH = 1 << 19  # characters in memory at a time


class NGrams:
    """Character n-grams of a text, by position and then by length: of "abc" with 1 to 2 a, ab, b, bc, c.

    Text is normalised to NFKC and white space to single spaces, which are characters too. No n-gram reaches beyond its text.

    Parameters
    ----------
    tokens : sequence of str
        The vocabulary; empty where n-grams are hashed.
    shortest, longest : int
        Characters of an n-gram, 1 to 3.
    buckets : int or None
        Hash n-grams into this many tokens, by a hash that is the same everywhere and always. None looks them up.
    max_length : int
        Tokens that are kept of a text, its first ones.
    lowercase : bool
    keep_unknown : bool
        Whether an n-gram that the vocabulary lacks is [UNK]; else it is left out.
    """

    kind: ClassVar[str] = "ngrams"
    keep_spaces: ClassVar[bool] = True

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        max_length: int,
        shortest: int = 1,
        longest: int = LONGEST,
        buckets: int | None = None,
        lowercase: bool = True,
        keep_unknown: bool = True,
    ) -> None:
        if not 1 <= shortest <= longest <= LONGEST:
            raise ValueError(f"an n-gram has 1 to {LONGEST} characters, not {shortest} to {longest}")
        self.tokens = [f"bucket {number}" for number in range(buckets)] if buckets else list(tokens)
        self._shortest, self._longest, self._buckets = shortest, longest, buckets
        self._max_length, self._lowercase, self._keep_unknown = max_length, lowercase, keep_unknown
        codes = np.array([] if buckets else [_code(token) for token in self.tokens], np.int64)
        self._order = np.argsort(codes).astype(np.int32)
        self._codes = codes[self._order]

    @classmethod
    def fit(cls, texts: Sequence[str], *, min_count: int, max_size: int, **options: Any) -> Self:
        """See :class:`feature_store.text.tokenizers.Tokenizer`. Hashed n-grams need no texts."""
        unfitted = cls([], **options)
        if unfitted._buckets:
            return unfitted
        codes, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for found, _ in unfitted._batches(texts):
            joined, place = np.unique(np.concatenate([codes, found]), return_inverse=True)
            counts = np.bincount(place, np.concatenate([counts, np.ones(len(found))]), len(joined)).astype(np.int64)
            codes = joined
        frequent = counts >= min_count
        ranked = sorted(zip((-counts[frequent]).tolist(), map(_text, codes[frequent].tolist()), strict=True))
        return cls([token for _, token in ranked[:max_size]], **options)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices int32 (tokens,) and offsets int64 (texts + 1,)."""
        indices, lengths = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
        for codes, length in self._batches(texts):
            index = self._index(codes)
            if not self._keep_unknown:
                known = index != UNKNOWN
                length = np.bincount(np.repeat(np.arange(len(length)), length)[known], minlength=len(length))
                index = index[known]
            indices.append(index)
            lengths.append(length)
        return np.concatenate(indices), np.cumsum(np.concatenate(lengths))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "max_length": self._max_length, "lowercase": self._lowercase, **self._own_options()}

    def _own_options(self) -> dict[str, Any]:
        own = {"shortest": self._shortest, "longest": self._longest, "buckets": self._buckets}
        return own if self._keep_unknown else {**own, "keep_unknown": False}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tokens: Sequence[str]) -> Self:
        return cls(tokens, **{name: value for name, value in values.items() if name != "kind"})

    def _index(self, codes: np.ndarray) -> np.ndarray:
        if self._buckets:
            return (FIRST + _hash(codes) % np.uint64(self._buckets)).astype(np.int32)
        if not len(self._codes):
            return np.full(len(codes), UNKNOWN, np.int32)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[place] == codes, FIRST + self._order[place], UNKNOWN).astype(np.int32)

    def _clean(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text.replace("\0", " "))  # code point 0 means no character
        text = (" " if self.keep_spaces else "").join((text.lower() if self._lowercase else text).split())
        return text[: self._max_length + self._longest]  # every position but the last begins an n-gram, so this suffices

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Codes (n-grams,) of some texts and how many each has, int64 (texts,)."""
        held: list[str] = []
        size = 0
        for text in texts:
            held.append(self._clean(text))
            size += len(held[-1])
            if size >= _BATCH:
                yield self._grams(held)
                held, size = [], 0
        if held:
            yield self._grams(held)

    def _grams(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        raw = "".join(texts).encode("utf-32-le", errors="surrogatepass")
        points = np.frombuffer(raw, np.uint32).astype(np.int64)  # (characters,)
        points[(points >= 0xD800) & (points <= 0xDFFF)] = _REPLACEMENT
        length = np.array([len(text) for text in texts], np.int64)
        row = np.repeat(np.arange(len(texts)), length)
        left = np.cumsum(length)[row] - np.arange(len(points))  # characters from here to the end of the text
        padded = np.concatenate([points, np.zeros(LONGEST, np.int64)])
        grams = np.zeros((len(points), self._longest - self._shortest + 1), np.int64)  # (characters, lengths)
        code = np.zeros(len(points), np.int64)
        for size in range(1, self._longest + 1):
            code = code | padded[size - 1 : size - 1 + len(points)] << (_BITS * (size - 1))
            if size >= self._shortest:
                grams[:, size - self._shortest] = np.where(left >= size, code, 0)
        count = (grams != 0).sum(axis=1)
        first = np.concatenate([[0], np.cumsum(count)])
        begin = first[np.cumsum(length) - length]  # of each text among all n-grams
        rank = np.arange(first[-1]) - np.repeat(begin[row], count)
        kept = rank < self._max_length
        return grams[grams != 0][kept], np.bincount(np.repeat(row, count)[kept], minlength=len(texts)).astype(np.int64)


class Characters(NGrams):
    """Single characters without white space, of text in NFKC."""

    kind = "characters"
    keep_spaces = False

    def __init__(self, tokens: Sequence[str], *, max_length: int, lowercase: bool = True) -> None:
        super().__init__(tokens, max_length=max_length, shortest=1, longest=1, lowercase=lowercase)

    def _own_options(self) -> dict[str, Any]:
        return {}


def _code(token: str) -> int:
    return sum(ord(character) << (_BITS * place) for place, character in enumerate(token))


def _text(code: int) -> str:
    points = [code >> (_BITS * place) & ((1 << _BITS) - 1) for place in range(LONGEST)]
    return "".join(chr(point) for point in points if point)


def _hash(codes: np.ndarray) -> np.ndarray:
    """Splitmix64 (Steele, Lea, Flood 2014), uint64 (codes,): every bit of the code moves every bit of the hash."""
    mixed = codes.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


KINDS = {tokenizer.kind: tokenizer for tokenizer in (Characters, NGrams)}
