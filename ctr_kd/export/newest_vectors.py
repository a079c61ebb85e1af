"""Item vectors that a workspace published, for requests that come one by one to a model that was loaded alone.

This file travels inside the registered model, beside its scorer. It needs numpy, pandas and pyarrow, and no other file of ours.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

POINTER = "newest/newest.json"  # in a folder of vectors: which file beside it holds the newest ones, and its digest; see facts.py
PRODUCT, AGE = "embedding_product", "embedding_age"
STATE, VECTOR = "embedding_history", "embedding_item"  # with the place of a number behind it
ENCODER = b"encoder"  # key of the file's metadata
SETTINGS = ("encoder", "block", "width", "seed")  # by these and all others vectors are one model's; errors show them
_LOG = logging.getLogger("ctr_kd.student")


class VectorsError(ValueError):
    """Vectors cannot be used. The message is one line."""


class Asked(NamedTuple):
    """What a frame of requests asks for.

    Attributes
    ----------
    item : list
        Ids of candidates, those of one request after those of the other.
    request : int array (candidates,)
        Row of each in the frame.
    history, timestamp : list
        Of each request.
    """

    item: list[Any]
    request: np.ndarray
    history: list[Any]
    timestamp: list[Any]


def complete(frame: pd.DataFrame, columns: Sequence[str], answer: Callable[[Asked], Mapping[str, Sequence[Any]]]) -> pd.DataFrame:
    """A frame of requests with the columns of vectors that a model reads, unless it carries them all.

    Parameters
    ----------
    frame : DataFrame
        ``item_id`` (an id, or a list of candidates), ``history`` and ``timestamp``.
    columns : sequence of str
        Those that the model reads: ``embedding_product`` and such.
    answer : callable
        Each of these columns, a value per candidate; None where there is none.
    """
    if set(columns) <= set(frame.columns) or not {"item_id", "timestamp"} <= set(frame.columns) or not len(frame):
        return frame
    listed = [_is_list(value) for value in frame["item_id"]]
    count = np.array([len(value) if is_list else 1 for value, is_list in zip(frame["item_id"], listed, strict=True)])
    items = [one for value, is_list in zip(frame["item_id"], listed, strict=True) for one in (value if is_list else [value])]
    history = frame["history"].tolist() if "history" in frame.columns else [None] * len(frame)
    said = answer(Asked(items, np.repeat(np.arange(len(frame)), count), history, frame["timestamp"].tolist()))
    ends = np.cumsum(count)
    lacking = {}
    for name in columns:
        if name in frame.columns:
            continue
        values, of_request = said[name], name == AGE or name.startswith(f"{STATE}_")
        parts = [list(values[end - some : end]) for end, some in zip(ends, count, strict=True)]
        if of_request:
            found = [part[0] if part else None for part in parts]
        else:
            found = [part if is_list else part[0] for part, is_list in zip(parts, listed, strict=True)]
        lacking[name] = pd.Series(found, index=frame.index, dtype=object)
    return frame.assign(**lacking)


def columns_of(names: Iterable[str]) -> list[str]:
    """Those of a model's columns that vectors say.

    Examples
    --------
    >>> columns_of(["item_age", "embedding_product", "embedding_item_0", "embedding_item_of_mine"])
    ['embedding_product', 'embedding_item_0']
    """
    return [name for name in names if name in (PRODUCT, AGE) or re.fullmatch(rf"({STATE}|{VECTOR})_\d+", name)]


class PublishedVectors:
    """The newest vectors of a workspace that were learned as a model's were; they are renewed whenever others are published.

    Parameters
    ----------
    root : Path
        Folder ``embeddings`` of the workspace.
    settings : mapping
        ``embeddings`` and ``max_length`` that the model was trained with.
    casting : module
        ``casting.py`` of the model: what a raw value means.
    columns : sequence of str
        Of vectors, that the model reads.

    Raises
    ------
    VectorsError
        When none of these vectors are published there.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], casting: Any, columns: Sequence[str]) -> None:
        self._casting, self._columns, self._lock = casting, columns, threading.Lock()
        self._pointer = _folder_of(root, settings) / POINTER
        self._seen = self._state()
        self._vectors = self._read()

    def complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        """See :func:`complete`; the vectors are the newest, whatever the times of the requests.

        A row whose time cannot be read has none of the columns, and an id that cannot be read is an unknown one: the scorer says what
        it refuses.
        """
        return complete(frame, self._columns, self._answer)

    def _answer(self, asked: Asked) -> dict[str, list[float | None]]:
        vectors = self._newest()
        histories = [list(one)[-vectors.length :] if _is_list(one) else [] for one in asked.history]
        clicked = vectors.rows(self._ids([one for history in histories for one in history]))
        ends = np.cumsum([len(history) for history in histories])
        state = vectors.states([clicked[end - len(history) : end] for end, history in zip(ends, histories, strict=True)])
        times = self._times(asked.timestamp)
        some = np.array([len(history) > 0 and time is not None for history, time in zip(histories, times, strict=True)])[asked.request]
        any_time = np.array([time is not None for time in times])[asked.request]
        age = np.array([0.0 if time is None else max(0.0, (time - vectors.until) / 1e6) for time in times])[asked.request]
        state, target = state[asked.request], vectors.target[vectors.rows(self._ids(asked.item))]
        said = {PRODUCT: ((state * target).sum(1), some), AGE: (age, any_time)}
        for place in range(state.shape[1]) if f"{STATE}_0" in self._columns else ():
            halves = (part[:, place].astype(np.float16).astype(float) for part in (state, target))  # as rows of training have them
            said |= {f"{STATE}_{place}": (next(halves), some), f"{VECTOR}_{place}": (next(halves), any_time)}
        return {
            name: [one if there else None for one, there in zip(values.tolist(), known.tolist(), strict=True)]
            for name, (values, known) in said.items()
        }

    def _ids(self, values: list[Any]) -> list[str | None]:
        """Ids as text; None for one that cannot be read. Those of mixed types are read one by one."""

        def read(some: list[Any]) -> list[str | None]:
            found: list[str | None] = self._casting.id_values(pa.array(some))[0].cast(pa.string()).to_pylist()
            return found

        return _all_or_each(values, read)

    def _times(self, values: list[Any]) -> list[int | None]:
        """Microseconds UTC; None for a time that cannot be read."""

        def read(some: list[Any]) -> list[int | None]:
            time, empty, bad = self._casting.to_times(pa.array(some))
            return [None if wrong else int(one) for one, wrong in zip(time, empty | bad, strict=True)]

        return _all_or_each(values, read)

    def _newest(self) -> _Vectors:
        """The newest vectors; those that are there where newer ones cannot be read, which are better than none."""
        state = self._state()
        if state is not None and state != self._seen and self._lock.acquire(blocking=False):  # one request renews, the others go on
            try:
                self._vectors = self._read()
            except (OSError, ValueError, KeyError, TypeError) as error:
                _LOG.warning("item vectors are not renewed: %s", error)
            finally:
                self._seen = state  # what is damaged is not read again before it changes
                self._lock.release()
        return self._vectors

    def _state(self) -> tuple[int, int] | None:
        try:
            status = self._pointer.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _read(self) -> _Vectors:
        said = json.loads(self._pointer.read_text(encoding="utf-8"))
        if said["file"] is None:
            raise VectorsError(f"{self._pointer.parent} holds vectors of a BERT, which no model reads alone: let its workspace serve it")
        file = self._pointer.with_name(str(said["file"]))
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != said["sha256"]:
            raise VectorsError(f"{file} does not match its digest in {POINTER}; the next refresh publishes it again")
        return _Vectors.of(pq.ParquetFile(pa.BufferReader(content)).read(), int(said["until"]), int(said["max_length"]))


class _Vectors(NamedTuple):
    """Vectors of items as sums of their parts, and what makes a state of a history; the last row is of an item that is unknown."""

    place: dict[str, int]
    read: np.ndarray
    target: np.ndarray
    recency: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    until: int
    length: int

    @classmethod
    def of(cls, table: pa.Table, until: int, length: int) -> _Vectors:
        read, target = (_matrix(table[name]) for name in ("read", "target"))
        numbers = np.frombuffer(base64.b64decode(table.schema.metadata[ENCODER]), "<f4")
        width = read.shape[1]
        recency, weight, bias = np.split(numbers[: length + width * width + width], [length, length + width * width])
        ids = table["item_id"].to_pylist()[:-1]
        return cls({one: row for row, one in enumerate(ids)}, read, target, recency, weight.reshape(width, width), bias, until, length)

    def rows(self, ids: Sequence[str | None]) -> np.ndarray:
        """Rows of ids, int64 (ids,); the last row for an id that is unknown."""
        unknown = len(self.read) - 1
        return np.array([unknown if one is None else self.place.get(one, unknown) for one in ids], np.int64)

    def states(self, history: Sequence[np.ndarray]) -> np.ndarray:
        """State (requests, width) of each history of rows, oldest click first: see ``ctr_kd/embeddings/encoder.py``, ``PooledEncoder``."""
        place = np.zeros((len(history), self.length), np.int64)
        seen = np.zeros(place.shape, bool)
        for row, codes in enumerate(history):
            newest = codes[::-1][: self.length]
            place[row, : len(newest)], seen[row, : len(newest)] = newest, True
        weight = np.exp(self.recency) * seen
        weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-6)
        mean = np.einsum("rl,rlw->rw", weight, self.read[place])
        return mean + np.tanh(mean @ self.weight.T + self.bias) * seen.any(1, keepdims=True)


def _folder_of(root: Path, settings: Mapping[str, Any]) -> Path:
    """The folder whose vectors were learned by these settings."""
    for pointer in sorted(root.glob(f"*/{POINTER}")):
        try:
            said = json.loads(pointer.read_text(encoding="utf-8"))
            embeddings = {key: said["embeddings"].get(key) for key in settings["embeddings"]}  # a later release may know more keys
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if embeddings == settings["embeddings"] and said.get("max_length") == settings["max_length"]:
            return pointer.parents[1]
    shown = {key: settings["embeddings"].get(key) for key in SETTINGS}
    raise VectorsError(f"{root} holds no published vectors of this model ({shown}): refresh them, or name another folder")


def _all_or_each(values: list[Any], read: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """What is read of values together, or where that fails of each by itself; None where it fails too."""
    try:
        return read(values)
    except (TypeError, ValueError, OverflowError):
        found = []
        for value in values:
            try:
                found += read([value])
            except (TypeError, ValueError, OverflowError):
                found.append(None)
        return found


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    whole = column.combine_chunks()
    return whole.flatten().to_numpy().reshape(len(whole), -1).astype(np.float32)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))
