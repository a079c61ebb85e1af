"""WordPiece as BERT reads it (Devlin et al. 2019, github.com/google-research/bert, tokenization.py), over a vocab.txt or one of its own.

The words of a text come from one pass of ``str.translate`` that puts spaces around what is a word by itself (Chinese characters,
punctuation), strips accents and drops control characters; what becomes of a character is worked out once. The pieces of a word are
remembered as well. Equal to ``transformers``' BertTokenizer, in which text such as "[MASK]" is however a special token: here it is
text, so that no title can write a separator.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

SPECIALS = ("[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]")
UNKNOWN = 1  # among them; as in feature_store/special_tokens.py, of which a file that is copied beside a student imports nothing
LONGEST_WORD = 100  # characters; a longer word is unknown
_REMEMBERED = 1 << 17  # words whose pieces are kept
# The blocks that BERT calls Chinese: Japanese kana and Korean syllables are written with words as others are.
_CHINESE = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class _Rewriting(dict[int, str]):
    """What becomes of each character, for ``str.translate``; worked out when it is met first."""

    def __init__(self, lowercase: bool) -> None:
        self._lowercase = lowercase

    def __missing__(self, point: int) -> str:
        self[point] = rewritten = self._rewrite(chr(point))
        return rewritten

    def _rewrite(self, character: str) -> str:
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            return " "
        if character in "\0\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
            return ""
        if any(first <= ord(character) <= last for first, last in _CHINESE):
            return f" {unicodedata.normalize('NFD', character) if self._lowercase else character} "
        if self._lowercase:
            bare = (part for part in unicodedata.normalize("NFD", character) if unicodedata.category(part) != "Mn")
            character = "".join(part.lower() for part in bare)
        return "".join(f" {part} " if _stands_alone(part) else part for part in character)


def _stands_alone(character: str) -> bool:
    """Punctuation, to which BERT counts every ASCII sign, such as $ and ^."""
    return unicodedata.category(character).startswith("P") or ("!" <= character <= "~" and not character.isalnum())


class WordPiece:
    """The longest pieces of each word that are in the vocabulary; those inside a word begin with ##.

    Parameters
    ----------
    tokens : sequence of str
        The vocabulary without the five special tokens.
    max_length : int
        Tokens that are kept of a text, its first ones.
    lowercase : bool
        Also strips accents.
    """

    kind: ClassVar[str] = "wordpiece"

    def __init__(self, tokens: Sequence[str], *, max_length: int, lowercase: bool = True) -> None:
        self.tokens = list(tokens)
        self._max_length, self._lowercase = max_length, lowercase
        self._index = {token: len(SPECIALS) + place for place, token in enumerate(self.tokens)}
        self._rewriting = _Rewriting(lowercase)
        self._pieces: dict[str, tuple[int, ...]] = {}

    @classmethod
    def from_lines(cls, lines: Sequence[str], **options: Any) -> Self:
        """With the vocabulary of a vocab.txt.

        Raises
        ------
        ValueError
            When [UNK] is missing, or a token occurs twice.
        """
        if "[UNK]" not in lines:
            raise ValueError("the vocabulary has no [UNK], the token of words that it lacks")
        if len(set(lines)) < len(lines):
            token = next(token for token, count in Counter(lines).items() if count > 1)
            raise ValueError(f"the vocabulary holds {token!r} twice")
        return cls([token for token in lines if token not in SPECIALS], **options)

    @classmethod
    def fit(cls, texts: Sequence[str], *, min_count: int, max_size: int, **options: Any) -> Self:
        """Words and single characters, also inside words, that are frequent: a word that is rare falls into characters."""
        unfitted = cls([], **options)
        words = Counter(word for text in texts for word in unfitted.words(text))
        counts: Counter[str] = Counter()
        for word, count in words.items():
            counts.update({word: count})
            if 1 < len(word) <= LONGEST_WORD:
                for place, character in enumerate(word):
                    counts.update({f"##{character}" if place else character: count})
        ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count and len(token) <= LONGEST_WORD)
        return cls([token for _, token in ranked[:max_size]], **options)

    def words(self, text: str) -> list[str]:
        """The words of one text before they are cut into pieces.

        Examples
        --------
        >>> WordPiece([], max_length=9).words("Les Élèves看BERT!")
        ['les', 'eleves', '看', 'bert', '!']
        """
        return text.translate(self._rewriting).split()

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices int32 (tokens,) and offsets int64 (texts + 1,)."""
        remembered, limit = self._pieces, self._max_length
        indices: list[int] = []
        offsets = [0]
        for text in texts:
            start = len(indices)
            for word in text.translate(self._rewriting).split():
                pieces = remembered.get(word)
                indices += self._cut(word) if pieces is None else pieces
                if len(indices) - start >= limit:
                    break
            if len(indices) - start > limit:
                del indices[start + limit :]
            offsets.append(len(indices))
        return np.array(indices, np.int32), np.array(offsets, np.int64)

    def _cut(self, word: str) -> tuple[int, ...]:
        pieces: list[int] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._index), None)
            if end is None:
                break
            pieces.append(self._index[prefix + word[start:end]])
            start = end
        found = tuple(pieces) if start == len(word) else (UNKNOWN,)
        if len(word) <= LONGEST_WORD and len(self._pieces) < _REMEMBERED:
            self._pieces[word] = found
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "max_length": self._max_length, "lowercase": self._lowercase}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tokens: Sequence[str]) -> Self:
        return cls(tokens, **{name: value for name, value in values.items() if name != "kind"})


KINDS = {WordPiece.kind: WordPiece}
