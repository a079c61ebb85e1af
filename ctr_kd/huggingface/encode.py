"""Texts as vectors: the mean of what a BERT of Hugging Face says at each of their tokens, of length one.

So sentence encoders are trained to be read (Reimers and Gurevych 2019, arXiv:1908.10084, section 3); vectors of other BERTs are worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.huggingface.convert import load_bert
from ctr_kd.huggingface.folder import InterchangeError, lowercases
from ctr_kd.models.bert import Bert
from ctr_kd.models.layers import padding_mask
from feature_store.special_tokens import SPECIALS
from feature_store.text.tokenizers.wordpiece import WordPiece

_BATCH = 64  # texts


class TextEncoder:
    """A BERT of Hugging Face, and how it reads texts.

    Parameters
    ----------
    folder : Path
        Holds config.json, vocab.txt and the weights; what ``tokenizer_config.json`` says of upper case counts, if it is there.
    max_length : int
        Tokens that are read of a text, its first ones.

    Attributes
    ----------
    bert : Bert

    Raises
    ------
    InterchangeError
        When the folder holds no BERT that can be computed, or not its words.
    """

    def __init__(self, folder: Path, max_length: int) -> None:
        loaded = load_bert(folder)
        if loaded.vocabulary is None:
            raise InterchangeError(f"{folder} has no vocab.txt: without its words the meaning of its embeddings is unknown")
        words, specials = loaded.vocabulary.tokens, loaded.vocabulary.specials
        positions = loaded.model.bert.position
        longest = max_length if positions is None else min(max_length, positions.num_embeddings - 2)
        self.bert = loaded.model.bert
        self._words = WordPiece.from_lines(words, max_length=longest, lowercase=lowercases(folder) is not False)
        place = {word: index for index, word in enumerate(words)}
        self._index = np.array([*(specials[name] for name in SPECIALS), *(place[word] for word in self._words.tokens)], np.int32)
        self._first, self._last = specials["[CLS]"], specials["[SEP]"]

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.bert.config.width

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], report: Callable[[int], object] = lambda done: None) -> np.ndarray:
        """Vectors of texts.

        Parameters
        ----------
        texts : sequence of str
        report : callable
            Takes how many are done, after every batch.

        Returns
        -------
        float32 array (texts, width)
            The same for a text whatever the texts around it, up to rounding.
        """
        found, done = np.zeros((len(texts), self.width), np.float32), 0
        for rows, tokens, length in batches_of(self, texts):
            found[rows] = mean_state(self.bert, torch.from_numpy(tokens).unsqueeze(-1), torch.from_numpy(length)).numpy()
            done += len(rows)
            report(done)
        return found

    def tokens_of(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text between [CLS] and [SEP], by the folder's own indices."""
        indices, offsets = self._words.encode(texts)
        first, last = (np.array([index], np.int32) for index in (self._first, self._last))
        return [np.concatenate([first, self._index[indices[begin:end]], last]) for begin, end in pairwise(offsets.tolist())]


def batches_of(encoder: TextEncoder, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of texts of like length, which need hardly any padding: their places, tokens (texts, longest), and lengths."""
    tokens = encoder.tokens_of(texts)
    length = np.array([len(own) for own in tokens])
    order = np.argsort(length, kind="stable")
    for begin in range(0, len(order), _BATCH):
        part = order[begin : begin + _BATCH]
        padded = np.zeros((len(part), int(length[part].max())), np.int32)
        for row, text in enumerate(part):
            padded[row, : length[text]] = tokens[text]
        yield part, padded, length[part]


def mean_state(bert: Bert, tokens: Tensor, length: Tensor) -> Tensor:
    """Means of the states of padded texts, of length one, float (texts, width)."""
    states = bert(tokens, length)  # (texts, longest, width)
    states = states * padding_mask(length, tokens.shape[1]).unsqueeze(-1)
    return F.normalize(states.sum(1) / length.unsqueeze(1), dim=1)
