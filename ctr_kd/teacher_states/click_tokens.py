"""Clicks as the tokens that an encoder of states reads: items and their attributes, by a vocabulary of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from ctr_kd.data.samples import Segment, Signature, index_of
from feature_store.features.click_sequences import ClickSequences
from feature_store.special_tokens import SPECIALS
from feature_store.tables.multi_values import named_by

Vocabulary = Mapping[str, Sequence[str]]


def vocabulary_of(clicks: ClickSequences, known: np.ndarray, min_count: int, max_size: int) -> dict[str, list[str]]:
    """The ids of some clicks by token feature, the most frequent first; the places of one attribute have one vocabulary.

    Parameters
    ----------
    clicks : ClickSequences
    known : int array (known,)
        Positions of the clicks that are counted; nothing else is looked at.
    min_count : int
        Clicks of an id at least.
    max_size : int
        Ids of a feature at most.
    """
    count = np.bincount(clicks.item[known], minlength=clicks.items.num_rows)
    columns: dict[str, list[pa.ChunkedArray]] = {}
    for name in clicks.items.column_names:
        columns.setdefault(named_by(name), []).append(clicks.items[name])
    found = {}
    for name, places in columns.items():
        values = pd.concat([pd.Series(count, index=pd.Index(one.to_pylist(), dtype=object)) for one in places])
        totals = values[values.index.notna()].groupby(level=0).sum()
        kept = sorted((-total, value) for value, total in totals.items() if total >= min_count)
        found[name] = [value for _, value in kept[:max_size]]
    return found


class ClickTokens:
    """Some clicks as sequences of tokens, for pretraining and for states; see :class:`ctr_kd.data.sequences.TokenSequences`.

    Parameters
    ----------
    clicks : ClickSequences
    known : int array (known,)
        Positions of the clicks that are there, ascending.
    vocabulary : mapping of str to sequence of str
        Of each token feature, as :func:`vocabulary_of` gives it.
    max_length : int
        Clicks of a sequence at most.

    Attributes
    ----------
    user : int32 array (known,)
        Position of the user of each click in ``clicks.users``.
    """

    def __init__(self, clicks: ClickSequences, known: np.ndarray, vocabulary: Vocabulary, max_length: int) -> None:
        self._vocabulary, self._max_length, self._names = vocabulary, max_length, clicks.items.column_names
        items = [index_of(clicks.items[name], vocabulary[named_by(name)]) for name in self._names]
        self._items = np.stack(items, axis=1)
        self._pool = self._items[clicks.item[known]]
        self.user = clicks.user[known]

    def signature(self) -> Signature:
        """Names and sizes of the token features."""
        tokens = {name: len(SPECIALS) + len(self._vocabulary[named_by(name)]) for name in self._names}
        return Signature(tokens=tokens, categorical={}, dense={}, outputs=1, max_length=self._max_length)

    def vocabulary_tokens(self) -> np.ndarray:
        """Token (vocabulary, features) of every index of the item vocabulary: its id and its attributes."""
        tokens = np.zeros((len(SPECIALS) + len(self._vocabulary[self._names[0]]), len(self._names)), np.int32)
        tokens[:, 0] = np.arange(len(tokens))
        known = self._items[:, 0] >= len(SPECIALS)
        tokens[self._items[known, 0]] = self._items[known]
        return tokens

    def pieces(self) -> Segment:
        """Every user's clicks in pieces of ``max_length``, cut from the newest back; the newest of a user comes last."""
        ends = np.flatnonzero(np.diff(self.user, append=-1)) + 1
        begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        count = -(-(ends - begins) // self._max_length)
        run = np.repeat(np.arange(len(count)), count)
        newer = np.cumsum(count)[run] - 1 - np.arange(len(run))  # pieces of the same user that are newer
        end = ends[run] - newer * self._max_length
        return Segment(self._pool, np.maximum(end - self._max_length, begins[run]), end)

    def sequences(self, until: int | None = None, overlap: float = 0.0) -> Segment:
        """The pieces of two clicks and more. Of all clicks: which of them are known was said before, and no piece repeats another."""
        pieces = self.pieces()
        long_enough = pieces.end - pieces.start >= 2
        return Segment(self._pool, pieces.start[long_enough], pieces.end[long_enough])

    def users_of(self, sequences: Segment) -> np.ndarray:
        """Position of the user (sequences,) of each of :meth:`sequences`."""
        users: np.ndarray = self.user[sequences.start]
        return users
