"""Tokenizers by the name that a configuration gives them.

Each reads texts as indices of a vocabulary that follows the five special tokens of :mod:`feature_store.special_tokens`. The module of each
needs the standard library, numpy and at most one package of a registry, and imports nothing of this project: its file is copied beside an
exported student, and its ``KINDS`` builds the same tokenizer there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from feature_store.config import TokenizerConfig
from feature_store.text.tokenizers import ngrams, wordpiece, words


class Tokenizer(Protocol):
    """Texts to indices.

    Attributes
    ----------
    tokens : list of str
        The vocabulary without special tokens; token i has index 5 + i.
    """

    tokens: list[str]

    @classmethod
    def fit(cls, texts: Sequence[str], *, min_count: int, max_size: int, max_length: int, **options: Any) -> Self:
        """A tokenizer whose vocabulary is that of these texts: the most frequent tokens, ties in the order of their text."""

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices int32 (tokens,) of all texts, at most ``max_length`` each, and offsets int64 (texts + 1,) of each text in them."""

    def to_dict(self) -> dict[str, Any]:
        """Kind and options, without the vocabulary."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tokens: Sequence[str]) -> Self:
        """What :meth:`to_dict` described, with its vocabulary."""


TOKENIZERS: dict[str, type[Tokenizer]] = {**wordpiece.KINDS, **ngrams.KINDS, **words.KINDS}


def fit_tokenizer(config: TokenizerConfig, texts: Sequence[str]) -> Tokenizer:
    """Fit the vocabulary of the configured tokenizer, whose ``max_length`` is a number, on texts, which must be those of training alone."""
    options: dict[str, Any] = {"min_count": config.min_count, "max_size": config.max_size, "max_length": config.max_length}
    options["lowercase"] = config.lowercase
    if config.kind == "ngrams":
        options |= {"shortest": config.lengths[0], "longest": config.lengths[1], "buckets": config.buckets}
    if not config.keep_unknown:
        options["keep_unknown"] = False
    return TOKENIZERS[config.kind].fit(texts, **options)
