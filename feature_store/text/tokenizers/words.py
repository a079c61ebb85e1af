"""Words as tokens, cut by jieba: its dictionary, and its hidden Markov model for words that the dictionary lacks."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

UNKNOWN, FIRST = 1, 5  # index of [UNK], and of the first token behind the special ones, as feature_store/special_tokens.py has them
_CHARACTERS = 50  # read of a text for each token that is kept: jieba's time grows with the text


@cache
def cutter() -> Any:
    """jieba with its own dictionary, read once (about a second).

    jieba would keep the dictionary as a marshalled file in the system's temporary folder, where anyone may put another.
    """
    import jieba

    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


class Words:
    """Words of a text in NFKC; white space only parts them.

    Parameters
    ----------
    tokens : sequence of str
        The vocabulary.
    max_length : int
        Tokens that are kept of a text, its first ones.
    lowercase : bool
    keep_unknown : bool
        Whether a word that the vocabulary lacks is [UNK]; else it is left out.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, tokens: Sequence[str], *, max_length: int, lowercase: bool = True, keep_unknown: bool = True) -> None:
        self.tokens = list(tokens)
        self._max_length, self._lowercase, self._keep_unknown = max_length, lowercase, keep_unknown
        self._index = {token: FIRST + place for place, token in enumerate(self.tokens)}

    @classmethod
    def fit(cls, texts: Sequence[str], *, min_count: int, max_size: int, **options: Any) -> Self:
        """See :class:`feature_store.text.tokenizers.Tokenizer`."""
        unfitted = cls([], **options)
        counts = Counter(word for text in texts for word in unfitted.cut(text))
        ranked = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        return cls([word for _, word in ranked[:max_size]], **options)

    def cut(self, text: str) -> list[str]:
        """The words of one text, at most ``max_length``.

        Examples
        --------
        >>> Words([], max_length=9).cut("我来到北京清华大学 BERT！")
        ['我', '来到', '北京', '清华大学', 'bert', '!']
        """
        text = unicodedata.normalize("NFKC", text[: _CHARACTERS * self._max_length])
        text = text.lower() if self._lowercase else text
        return [word for word in cutter().lcut(text) if not word.isspace()][: self._max_length]

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices int32 (tokens,) and offsets int64 (texts + 1,)."""
        indices: list[int] = []
        offsets = [0]
        for text in texts:
            found = [self._index.get(word, UNKNOWN) for word in self.cut(text)]
            indices += found if self._keep_unknown else [index for index in found if index != UNKNOWN]
            offsets.append(len(indices))
        return np.array(indices, np.int32), np.array(offsets, np.int64)

    def to_dict(self) -> dict[str, Any]:
        own = {"kind": self.kind, "max_length": self._max_length, "lowercase": self._lowercase}
        return own if self._keep_unknown else {**own, "keep_unknown": False}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tokens: Sequence[str]) -> Self:
        return cls(tokens, **{name: value for name, value in values.items() if name != "kind"})


KINDS = {Words.kind: Words}
