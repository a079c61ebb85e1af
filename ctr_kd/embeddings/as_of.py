"""What vectors say of rows as of their time: the product of the state of a history and a candidate, both of them, and their age."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from ctr_kd.embeddings.encoder import build_encoder, set_parameters
from ctr_kd.embeddings.facts import FactsFolder, since_all
from ctr_kd.embeddings.vectors import Catalogue, VectorTables, distinct
from ctr_kd.models.threads import one_thread
from feature_store.config import EmbeddingsConfig
from feature_store.config_types import in_microseconds
from feature_store.features.statistics import vector_columns
from feature_store.tables.contracts import DataError
from feature_store.tables.ranges import ranges

AT_A_TIME = 8192  # requests


class Requests(NamedTuple):
    """Requests and their rows.

    Attributes
    ----------
    moment : int64 array (requests,)
        Microseconds UTC.
    as_of : int64 array (requests,)
        The vectors of the last refresh before this time are read, which is the moment where no refresh was missed.
    history : int32 array (requests, length)
        Items, newest click first; -1 where there is none.
    request : int64 array (rows,)
        Position of each row's request.
    item : int32 array (rows,)
    """

    moment: np.ndarray
    as_of: np.ndarray
    history: np.ndarray
    request: np.ndarray
    item: np.ndarray

    def some(self, chosen: np.ndarray) -> Requests:
        """Some requests (of a mask) and their rows, in their order."""
        rows = chosen[self.request]
        number = np.cumsum(chosen) - 1
        return Requests(self.moment[chosen], self.as_of[chosen], self.history[chosen], number[self.request[rows]], self.item[rows])


def joined_requests(parts: Sequence[Requests]) -> Requests:
    """The requests of parts, one part after the other."""
    before = np.cumsum([0, *(len(part.moment) for part in parts)])
    numbered = [part._replace(request=part.request + first) for part, first in zip(parts, before, strict=False)]
    moment, as_of, history, request, item = (np.concatenate(columns) for columns in zip(*numbered, strict=True))
    return Requests(moment, as_of, history, request, item)


class FromVectors(NamedTuple):
    """What vectors say of rows.

    Attributes
    ----------
    product : float32 array (rows,)
        Of the state of the history and the vector of the item; NaN without a history, and where nothing was known yet.
    age : float32 array (rows,)
        Seconds since all that was known then had been learned; NaN where nothing was known yet.
    state, item : float16 array (rows, width), or (rows, 0)
        State of the history and vector of the item, where rows read them; NaN where the product is, but an item has its vector without a
        history.
    """

    product: np.ndarray
    age: np.ndarray
    state: np.ndarray
    item: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Each column by its name, as :func:`feature_store.features.statistics.vector_columns` lists them."""
        names = vector_columns(self.state.shape[1])
        return dict(zip(names, (self.product, self.age, *self.state.T, *self.item.T), strict=True))

    @classmethod
    def nothing(cls, rows: int, width: int) -> FromVectors:
        """Of rows that know nothing, to be filled in."""
        vectors = (np.full((rows, width), np.nan, np.float16) for _ in range(2))
        return cls(np.full(rows, np.nan, np.float32), np.full(rows, np.nan, np.float32), *vectors)


class VectorsAsOf:
    """Vectors of some items, moved along time.

    Ask in order of time: moving forward reads what changed in between, moving back begins anew.

    Parameters
    ----------
    folder : FactsFolder
    config : EmbeddingsConfig
    length : int
        Newest clicks of a history that are read.
    items : pa.Table (items, 1 + attributes)
        ``item_id`` and attributes, all text.

    Attributes
    ----------
    block : int
        Length of a block, microseconds.
    refresh : int
        From one refresh to the next, microseconds.
    until : int
        All that became known before (microseconds UTC) was learned.
    width_read : int
        Numbers of each vector that rows read; 0 where they read products alone.

    Raises
    ------
    DataError
        When nothing was ever learned there, or the folder is damaged.
    """

    def __init__(self, folder: FactsFolder, config: EmbeddingsConfig, length: int, items: pa.Table) -> None:
        self._folder, self._config, self._length, self._catalogue = folder, config, length, Catalogue(items)
        known = folder.read()
        if known is None:
            raise DataError(f"{folder.path}: no item vectors were learned there")
        self._entries, self.until, self.block = known.entries, known.until, known.block
        self.refresh = self.block if config.refresh is None else in_microseconds(config.refresh)
        self.width_read = config.width_read
        self._restart()

    def of(self, requests: Requests) -> FromVectors:
        """What the vectors of the last refresh before each request say of its rows."""
        said = FromVectors.nothing(len(requests.item), self.width_read)
        by_request = np.argsort(requests.request, kind="stable")
        bounds = np.searchsorted(requests.request[by_request], np.arange(len(requests.moment) + 1))
        refreshed = np.minimum(requests.as_of // self.refresh * self.refresh // self.block * self.block, self.until)
        age = np.where(refreshed < self._begin, np.nan, (requests.moment - refreshed) / 1e6).astype(np.float32)
        with torch.inference_mode(), one_thread():
            for some in self._spans(refreshed):
                count = bounds[some + 1] - bounds[some]
                rows = by_request[ranges(bounds[some], bounds[some + 1])[0]]
                if self._place < 0 or not len(rows):
                    continue
                number = np.repeat(np.arange(len(some)), count)
                state = self._states(requests.history[some])
                items, (place,) = distinct(requests.item[rows])
                target = self._sums(self._tables.target, items)
                found = (state[torch.from_numpy(number)] * target[place]).sum(1).numpy()
                has_history = (requests.history[some] >= 0).any(1)
                said.product[rows] = np.where(has_history[number], found, np.nan)
                if self.width_read:
                    said.state[rows] = np.where(has_history[:, None], state.numpy(), np.nan)[number]
                    said.item[rows] = target.numpy()[place.numpy()]
        said.age[:] = age[requests.request]
        return said

    def newest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The newest vectors of all items in a history and as candidates, float32 (items, width), and the numbers of the encoder."""
        with torch.inference_mode(), one_thread():
            self._move(len(self._entries) - 1)
            everything = np.arange(self._catalogue.count)
            read, target = (self._sums(table, everything).numpy() for table in (self._tables.read, self._tables.target))
            numbers = np.concatenate([one.detach().numpy().ravel() for one in self._encoder.parameters()])
        return read, target, numbers

    @property
    def _begin(self) -> int:
        """Before this time nothing was known, microseconds UTC."""
        return self._entries[0].until if self._entries else np.iinfo(np.int64).max

    def _spans(self, refreshed: np.ndarray) -> Iterator[np.ndarray]:
        """Requests that see the same facts, to which the vectors were moved, some at a time."""
        order = np.argsort(refreshed, kind="stable")
        ends = np.array([entry.until for entry in self._entries], np.int64)
        entry = np.searchsorted(ends, refreshed[order], side="right") - 1  # the newest that was there at the refresh
        for begin, end in zip(*_runs(entry), strict=True):
            self._move(int(entry[begin]))
            for first in range(begin, end, AT_A_TIME):
                yield order[first : min(first + AT_A_TIME, end)]

    def _restart(self) -> None:
        self._tables, self._place = VectorTables(self._config.width), -1
        self._encoder = build_encoder(self._config, self._length).eval()
        self._catalogue.forget()

    def _move(self, place: int) -> None:
        """Move to an entry; -1 is before the first."""
        if place == self._place:
            return
        if place < self._place:
            self._restart()
        if place < 0:
            return
        wanted = list(since_all(self._entries[: place + 1], self._entries[place].until))
        reached = self._entries[self._place].until if self._place >= 0 else -1
        if reached < wanted[0].until:
            self._restart()
        for entry in wanted:
            if entry.until > reached:
                facts = self._folder.load(entry)
                kept = [n for n, key in enumerate(facts.rows.keys) if self._catalogue.has(key)]
                rows = facts.rows.some(np.array(kept, np.int64))
                self._catalogue.locate(rows.keys, self._tables.put(rows))
                set_parameters(self._encoder, facts.parameters)
        self._place = place

    def _states(self, history: np.ndarray) -> torch.Tensor:
        items, (place,) = distinct(history)
        return self._encoder(place, torch.from_numpy(history >= 0), self._sums(self._tables.read, items))

    def _sums(self, table: torch.Tensor, items: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.embedding_bag(torch.from_numpy(self._catalogue.rows(items)), table, mode="sum")


def _runs(values: np.ndarray) -> tuple[list[int], list[int]]:
    """Where each run of equal values begins and ends."""
    begins = np.flatnonzero(np.diff(values, prepend=values[0] - 1)) if len(values) else np.zeros(0, np.int64)
    return begins.tolist(), [*begins[1:].tolist(), len(values)] if len(values) else []
