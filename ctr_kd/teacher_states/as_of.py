"""The newest state of each user as of a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.teacher_states.ledger import StatesFolder
from feature_store.tables.contracts import DataError


class StatesAsOf:
    """States of users as of any times; those up to the latest that was asked about are in memory.

    Parameters
    ----------
    folder : StatesFolder
    width : int
        Numbers of a state.
    delay : int
        A state is read from so long after its time on, microseconds.

    Raises
    ------
    DataError
        When none were ever made there.
    """

    def __init__(self, folder: StatesFolder, width: int, delay: int) -> None:
        known = folder.read()
        if known is None:
            raise DataError(f"{folder.path}: no teacher states were made there")
        self._folder, self._width, self._delay = folder, width, delay
        self._entries = known.entries
        self._until = np.array([entry.until for entry in known.entries], np.int64)
        self._loaded = 0
        self._users, self._key = pa.array([], pa.string()), np.zeros(0, np.int64)
        self._states = np.zeros((0, width), np.float16)

    def of(self, users: pa.Array, moment: np.ndarray) -> np.ndarray:
        """States float16 (rows, width) of users (rows,), text, at moments (rows,) in microseconds UTC; NaN where there is none."""
        found = np.full((len(moment), self._width), np.nan, np.float16)
        entry = np.searchsorted(self._until, moment - self._delay, side="right") - 1  # the newest that may be read
        self._load(int(entry.max(initial=-1)) + 1)
        code = pc.index_in(users, value_set=self._users, skip_nulls=True).fill_null(-1).to_numpy(zero_copy_only=False)
        asked = np.flatnonzero((code >= 0) & (entry >= 0))
        key = code[asked].astype(np.int64) * len(self._entries) + entry[asked]
        place = np.searchsorted(self._key, key, side="right") - 1
        same = (place >= 0) & (self._key[place] // max(len(self._entries), 1) == code[asked])
        found[asked[same]] = self._states[place[same]]
        return found

    def _load(self, count: int) -> None:
        """Have the states of the first ``count`` entries in memory, in the order of user and time."""
        if count <= self._loaded:
            return
        users, states, entry = [], [], []
        for number in range(count):
            of_users, of_states = self._folder.load(self._entries[number])
            users.append(of_users)
            states.append(of_states)
            entry.append(np.full(len(of_users), number))
        coded = pa.chunked_array(users).combine_chunks().dictionary_encode()
        key = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64) * len(self._entries) + np.concatenate(entry)
        order = np.argsort(key, kind="stable")
        self._users, self._key, self._states = coded.dictionary, key[order], np.concatenate(states)[order]
        self._loaded = count
