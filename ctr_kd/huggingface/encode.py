"""Texts as vectors: the mean of what a BERT of Hugging Face says at each of their tokens, of length one.

So sentence encoders are trained to be read (Reimers and Gurevych 2019, arXiv:1908.10084, section 3); vectors of other BERTs are worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ctr_kd.huggingface.convert import load_bert
from ctr_kd.huggingface.folder import InterchangeError, lowercases
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
        self._bert = loaded.model.bert
        self._words = WordPiece.from_lines(words, max_length=longest, lowercase=lowercases(folder) is not False)
        place = {word: index for index, word in enumerate(words)}
        self._index = np.array([*(specials[name] for name in SPECIALS), *(place[word] for word in self._words.tokens)], np.int32)
        self._first, self._last = specials["[CLS]"], specials["[SEP]"]

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self._bert.config.width

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
        indices, offsets = self._words.encode(texts)
        length = np.diff(offsets) + 2  # between [CLS] and [SEP]
        found = np.zeros((len(texts), self.width), np.float32)
        order = np.argsort(length, kind="stable")  # neighbours of one length need no padding
        for begin in range(0, len(order), _BATCH):
            part = order[begin : begin + _BATCH]
            tokens = np.zeros((len(part), int(length[part].max())), np.int32)
            tokens[:, 0] = self._first
            for row, text in enumerate(part):
                own = indices[offsets[text] : offsets[text + 1]]
                tokens[row, 1 : 1 + len(own)] = self._index[own]
                tokens[row, 1 + len(own)] = self._last
            lengths = torch.from_numpy(length[part])
            states = self._bert(torch.from_numpy(tokens).unsqueeze(-1), lengths)  # (texts, longest, width)
            states = states * padding_mask(lengths, tokens.shape[1]).unsqueeze(-1)
            found[part] = F.normalize(states.sum(1) / lengths.unsqueeze(1), dim=1).numpy()
            report(begin + len(part))
        return found
