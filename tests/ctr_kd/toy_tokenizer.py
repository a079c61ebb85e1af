"""A tokenizer for tests: letters and, up to a size, strings of them. Like the real ones it needs no other file of ours."""

from __future__ import annotations

from typing import Any

import numpy as np


class Letters:
    first = 5  # indices of the specials come before those of the vocabulary

    def __init__(self, tokens: list[str], size: int) -> None:
        self.tokens, self.size = tokens, size
        self.index = {token: self.first + i for i, token in enumerate(tokens)}

    @classmethod
    def fit(cls, texts: list[str], size: int) -> Letters:
        return cls(sorted({token for text in texts for token in cls([], size).split(text)}), size)

    def split(self, text: str) -> list[str]:
        return [text[i : i + n] for n in range(1, self.size + 1) for i in range(len(text) - n + 1)]

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        tokens = [[self.index.get(token, 1) for token in self.split(text)] for text in texts]
        offsets = np.cumsum([0, *map(len, tokens)])
        return np.array([index for text in tokens for index in text], np.int32), offsets.astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "letters", "size": self.size}

    @classmethod
    def from_dict(cls, values: dict[str, Any], tokens: list[str]) -> Letters:
        return cls(tokens, values["size"])


KINDS = {"letters": Letters}
