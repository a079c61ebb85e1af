"""What comes next for whole histories, by an exported student of next items and Faiss; torch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.export.next_item_signature import FILES, GRAPH, ITEMS, NextItemSignature
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.casting import as_array
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import load_json
from feature_store.tables.parquet_files import read_parquet

HISTORIES = 4096  # at a time
_NOTHING = np.zeros(0, np.int64)


class FoundItems(NamedTuple):
    """What was found for each history, the likeliest first.

    Attributes
    ----------
    item : pyarrow ListArray (histories,)
        Raw ids.
    score : list of float32 array
        The logit of each.
    """

    item: pa.ListArray
    score: list[np.ndarray]


class NextItemRetriever:
    """Ranks all items of an exported student for histories of raw ids, by an exact search for the largest dot products.

    Parameters
    ----------
    directory : Path
        Written by :func:`ctr_kd.export.next_item_export.export_next_item`.
    threads : int
        Of the graph.

    Raises
    ------
    DataError
        When a file is missing, or is not the one that the signature names.
    """

    def __init__(self, directory: Path, threads: int = 1) -> None:
        try:
            signature = load_json(directory / NextItemSignature.FILE)
            digests, width = {name: signature["sha256"][name] for name in FILES}, signature["width"]
            self.max_length: int = signature["max_length"]
            self._specials = len(signature["special_tokens"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{directory / 'signature.json'}: is not that of a student of next items ({error!r})") from None
        for name, digest in digests.items():
            if not (directory / name).is_file() or sha256_of(directory / name) != digest:
                raise DataError(f"{directory / name}: is missing, or not what signature.json says (sha256); export the student again")
        items = read_parquet(directory / ITEMS)
        self.ids = as_array(items["item_id"])
        self.vectors = as_array(items["vector"]).flatten().to_numpy().reshape(len(self.ids), width)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self._session = onnxruntime.InferenceSession(str(directory / GRAPH), options, providers=["CPUExecutionProvider"])
        self._index = faiss.IndexFlatIP(width)
        self._index.add(self.vectors)

    def _encode(self, items: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Vectors, float32 (histories, width), of histories as the graph reads them; see ``signature.json``."""
        vector: np.ndarray = self._session.run(["vector"], {"items": items, "length": length})[0]
        return vector

    def scores(self, items: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Score of every index of the vocabulary, float32 (histories, indices); of the special ones 0.

        Parameters
        ----------
        items : int array (histories, length)
            Indices, the oldest click first, padded with 0 on the right.
        length : int64 array (histories,)
        """
        return np.pad(self.vectors_of(items, length) @ self.vectors.T, ((0, 0), (self._specials, 0)))

    def vectors_of(self, items: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Vectors, float32 (histories, width), of histories as :meth:`scores` takes them."""
        at = length[:, None] - 1 - np.arange(max(1, min(items.shape[1], self.max_length)))
        newest = np.where(at >= 0, np.take_along_axis(items, np.maximum(at, 0), axis=1), 0).astype(np.int64)
        return self._encode(newest, np.minimum(length, self.max_length))

    def find(self, histories: pa.ListArray, k: int, exclude: bool = True) -> FoundItems:
        """The likeliest next items of each history.

        Parameters
        ----------
        histories : pyarrow ListArray (histories,)
            Raw ids, oldest first; null and empty ones are such that nothing is known of.
        k : int
            Items wanted; fewer come where there are no more.
        exclude : bool
            Leave out what is in the history.
        """
        if k < 1:
            raise ValueError(f"one item at least must be asked for, not {k}")
        place, offsets = self._places(histories)
        row = np.repeat(np.arange(len(histories)), np.diff(offsets))
        known = np.unique(np.stack([row, place], axis=1)[place >= 0], axis=0) if exclude else np.zeros((0, 2), np.int64)
        seen = np.bincount(known[:, 0], minlength=len(histories))  # different items that each history keeps from being found
        begin = np.concatenate([[0], np.cumsum(seen)])
        items, scores = [_NOTHING] * len(histories), [np.zeros(0, np.float32)] * len(histories)
        order = np.argsort(seen, kind="stable")  # so a long history makes few others ask for as many
        for rows in np.array_split(order, range(HISTORIES, len(order), HISTORIES)):
            vector = self._encode(*self._newest_first(place, offsets, rows))
            score, found = self._index.search(vector, min(k + int(seen[rows].max(initial=0)), len(self.ids)))
            for one, its_items, its_scores in zip(rows, found, score, strict=True):
                wanted = ~np.isin(its_items, known[begin[one] : begin[one + 1], 1])
                items[one], scores[one] = its_items[wanted][:k], its_scores[wanted][:k]
        ends = np.cumsum([0, *map(len, items)])
        ids = self.ids.take(pa.array(np.concatenate([_NOTHING, *items])))
        return FoundItems(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), ids), scores)

    def _places(self, histories: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
        """Row of every click among the items, -1 where it is none of them, and where each history begins and the last ends."""
        length = pc.fill_null(pc.list_value_length(histories), 0).to_numpy(zero_copy_only=False)
        values = pc.list_flatten(histories).cast(pa.string())
        found = pc.fill_null(pc.index_in(values, value_set=self.ids), -1)
        return found.to_numpy(zero_copy_only=False).astype(np.int64), np.concatenate([[0], np.cumsum(length, dtype=np.int64)])

    def _newest_first(self, place: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The newest clicks of some histories as the graph reads them."""
        end = offsets[1:][rows]
        length = np.minimum(end - offsets[rows], self.max_length)
        age = np.arange(max(int(length.max(initial=0)), 1))
        inside = age < length[:, None]
        index = np.where(place < 0, UNKNOWN, place + self._specials) if len(place) else np.zeros(1, np.int64)
        return np.where(inside, index[np.where(inside, end[:, None] - 1 - age, 0)], 0), length
