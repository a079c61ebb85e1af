"""Item vectors that a workspace published, for requests that come one by one to a model that was loaded alone.

This file travels inside the registered model, beside its scorer. It needs numpy, pandas and pyarrow, and no other file of ours.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

POINTER = "newest/newest.json"  # in a folder of vectors: which file beside it holds the newest ones, and its digest
PRODUCT, AGE = "embedding_product", "embedding_age"
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


def complete(frame: pd.DataFrame, answer: Callable[[Asked], tuple[Sequence[Any], Sequence[Any]]]) -> pd.DataFrame:
    """A frame of requests with the columns ``embedding_product`` and ``embedding_age``, unless it carries both.

    Parameters
    ----------
    frame : DataFrame
        ``item_id`` (an id, or a list of candidates), ``history`` and ``timestamp``.
    answer : callable
        Product and age of each candidate; None where there is none.
    """
    if {PRODUCT, AGE} <= set(frame.columns) or not {"item_id", "timestamp"} <= set(frame.columns) or not len(frame):
        return frame
    listed = [_is_list(value) for value in frame["item_id"]]
    count = np.array([len(value) if is_list else 1 for value, is_list in zip(frame["item_id"], listed, strict=True)])
    items = [one for value, is_list in zip(frame["item_id"], listed, strict=True) for one in (value if is_list else [value])]
    history = frame["history"].tolist() if "history" in frame.columns else [None] * len(frame)
    product, age = answer(Asked(items, np.repeat(np.arange(len(frame)), count), history, frame["timestamp"].tolist()))
    ends = np.cumsum(count)
    parts = [list(product[end - some : end]) for end, some in zip(ends, count, strict=True)]
    columns = {
        PRODUCT: [part if is_list else part[0] for part, is_list in zip(parts, listed, strict=True)],
        AGE: [age[end - some] if some else None for end, some in zip(ends, count, strict=True)],
    }
    lacking = {name: pd.Series(values, index=frame.index, dtype=object) for name, values in columns.items() if name not in frame.columns}
    return frame.assign(**lacking)


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

    Raises
    ------
    VectorsError
        When none of these vectors are published there.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], casting: Any) -> None:
        self._casting, self._lock = casting, threading.Lock()
        self._pointer = _folder_of(root, settings) / POINTER
        self._seen: tuple[int, int] | None = None
        self._vectors = self._renewed()

    def complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        """See :func:`complete`; the vectors are the newest, whatever the times of the requests.

        A frame that cannot be read is left to the scorer, which says what is wrong with it.
        """
        try:
            return complete(frame, self._answer)
        except (TypeError, ValueError):
            return frame

    def _answer(self, asked: Asked) -> tuple[list[float | None], list[float | None]]:
        time, empty, bad = self._casting.to_times(pa.array(asked.timestamp))
        if (empty | bad).any():
            raise ValueError("timestamp")
        with self._lock:
            vectors = self._newest()
        ids = self._casting.id_values
        state = vectors.states([_codes(vectors, list(one)[-vectors.length :] if _is_list(one) else [], ids) for one in asked.history])
        found = (state[asked.request] * vectors.target[_codes(vectors, asked.item, ids)]).sum(1)
        known = np.array([_is_list(one) and len(one) > 0 for one in asked.history], bool)[asked.request]
        product = [float(one) if has else None for one, has in zip(found, known, strict=True)]
        age: list[float | None] = [max(0.0, (int(moment) - vectors.until) / 1e6) for moment in np.asarray(time)[asked.request]]
        return product, age

    def _newest(self) -> _Vectors:
        try:
            if self._state() != self._seen:
                self._vectors = self._renewed()
        except (OSError, VectorsError) as error:  # those that are there are better than none
            _LOG.warning("item vectors are not renewed: %s", error)
        return self._vectors

    def _state(self) -> tuple[int, int]:
        status = self._pointer.stat()
        return status.st_mtime_ns, status.st_ino

    def _renewed(self) -> _Vectors:
        seen = self._state()
        said = json.loads(self._pointer.read_text(encoding="utf-8"))
        if said["file"] is None:
            raise VectorsError(f"{self._pointer.parent} holds vectors of a BERT, which a model cannot read alone: let its workspace serve it")
        file = self._pointer.with_name(str(said["file"]))
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != said["sha256"]:
            raise VectorsError(f"{file} does not match its digest in {POINTER}; the next refresh publishes it again")
        self._seen = seen
        return _Vectors.of(pq.ParquetFile(pa.BufferReader(content)).read(), int(said["until"]), int(said["max_length"]))


class _Vectors(NamedTuple):
    """Vectors of items as sums of their parts, and what makes a state of a history; the last row is of an item that is unknown."""

    ids: pa.Array
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
        return cls(table["item_id"].combine_chunks()[:-1], read, target, recency, weight.reshape(width, width), bias, until, length)

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
        said = json.loads(pointer.read_text(encoding="utf-8"))
        if all(said.get(key) == value for key, value in settings.items()):
            return pointer.parents[1]
    shown = {key: settings["embeddings"].get(key) for key in SETTINGS}
    raise VectorsError(f"{root} holds no published vectors of this model ({shown}): refresh them, or name another folder")


def _codes(vectors: _Vectors, ids: list[Any], meaning: Any) -> np.ndarray:
    """Rows of ids; the last row for an id that is unknown."""
    if not ids:
        return np.zeros(0, np.int64)
    values, _ = meaning(pa.array(ids))
    found = pc.index_in(values.cast(pa.string()), value_set=vectors.ids)
    return found.fill_null(len(vectors.ids)).to_numpy(zero_copy_only=False).astype(np.int64)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    whole = column.combine_chunks()
    return whole.flatten().to_numpy().reshape(len(whole), -1).astype(np.float32)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))
