"""Candidates of users by retrieval: live items near to what a user clicked, by the embeddings of the student that will score them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from onnx import numpy_helper

from ctr_kd.data.samples import GAP, table_name
from ctr_kd.export.signature import ClickSignature
from ctr_kd.retrieval.item_index import ItemIndex
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.multi_values import named_by


class EmbeddingsMissing(ValueError):
    """The exported graph holds no item embeddings."""


class ItemEmbeddings:
    """What an exported student reads for an item: the sum of the embeddings of its id and its attributes.

    Parameters
    ----------
    directory : Path
        Holds ``student.onnx``.
    scorer : ClickScorer
        Of the same directory; it knows the vocabularies and the items' attributes.

    Raises
    ------
    EmbeddingsMissing
        When the graph has no table of a token feature.
    """

    def __init__(self, directory: Path, scorer: Any) -> None:
        graph = onnx.load(str(directory / "student.onnx"), load_external_data=False).graph
        names = [name for name in ClickSignature.from_json(scorer.signature).tokens if name != GAP]
        endings = {f"token.tables.{name}.weight": name for name in names}
        endings |= {f"token.tables.{table_name(place)}.weight": name for place, name in enumerate(names)}
        found = {  # the places of one attribute share a table
            named_by(name): numpy_helper.to_array(tensor)
            for tensor in graph.initializer
            for ending, name in endings.items()
            if tensor.name == ending or tensor.name.endswith(f".{ending}")
        }
        found |= getattr(scorer, "item_vectors", {})  # a student of an earlier release knows none
        lacking = [name for name in names if named_by(name) not in found]
        if lacking:
            raise EmbeddingsMissing(f"{directory / 'student.onnx'} holds no embeddings of {lacking[0]}, so it cannot retrieve")
        self._tables = [found[named_by(name)] for name in names]
        self._scorer = scorer

    def of(self, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (items, width) of raw ids, and whether each is more than that of any unknown item, (items,)."""
        tokens = self._scorer.item_tokens[self._scorer.items(ids)]  # (items, features)
        vectors = [table[token] for table, token in zip(self._tables, tokens.T, strict=True)]
        return np.asarray(np.sum(vectors, axis=0, dtype=np.float32)), (tokens > UNKNOWN).any(axis=1)


class Retriever:
    """Finds live items for histories of clicks: the nearest to the mean of a history's vectors, by cosine (Faiss).

    Items of the history itself are no candidates. Where a history says nothing (it is empty, or none of its items is known), and where
    fewer items are left than asked for, the most clicked live items follow.

    Parameters
    ----------
    embeddings : ItemEmbeddings
    items : pa.Array (items,)
        Raw ids of the live items; no other is ever found.
    clicks : int array (items,)
        How often each was clicked of late.
    """

    def __init__(self, embeddings: ItemEmbeddings, items: pa.Array, clicks: np.ndarray) -> None:
        self._embeddings = embeddings
        vectors, known = embeddings.of(items)
        self.reachable = np.flatnonzero(known)  # positions of the items that the index holds
        self._index = ItemIndex(vectors[self.reachable]) if len(self.reachable) else None
        self._popular = np.argsort(-clicks, kind="stable")
        self._place = {str(item): place for place, item in enumerate(items.to_pylist())}
        self._items = len(items)

    def find(self, histories: pa.ListArray, k: int) -> np.ndarray:
        """The candidates of each history.

        Parameters
        ----------
        histories : pyarrow ListArray (users,)
            Raw item ids, oldest first.
        k : int
            Candidates wanted.

        Returns
        -------
        int64 array (users, min(k, items))
            Positions among the live items, nearest first; -1 where these are used up.
        """
        k = min(k, self._items)
        queries, says = self._queries(histories)
        longest = int(np.diff(histories.offsets.to_numpy()).max(initial=0))
        found = np.full((len(histories), k), -1, np.int64)
        nearest = np.full((len(histories), 0), -1, np.int64)
        if self._index is not None and says.any():
            nearest = np.full((len(histories), min(k + longest, len(self.reachable))), -1, np.int64)
            places = self._index.search(queries[says], k + longest).item
            nearest[says] = np.where(places >= 0, self.reachable[places], -1)
        for user, clicked in enumerate(histories.to_pylist()):
            seen = {self._place.get(str(item), -1) for item in clicked or ()} | {-1}
            chosen = [place for place in nearest[user].tolist() if place not in seen][:k]
            if len(chosen) < k:
                seen.update(chosen)
                chosen += [place for place in self._popular.tolist() if place not in seen][: k - len(chosen)]
            found[user, : len(chosen)] = chosen
        return found

    def _queries(self, histories: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
        """Mean vector of the known items of each history, (users, width), and whether there is one."""
        offsets = histories.offsets.to_numpy().astype(np.int64)
        clicked = histories.values.slice(offsets[0], offsets[-1] - offsets[0])
        vectors, known = self._embeddings.of(clicked)
        user = np.repeat(np.arange(len(histories)), np.diff(offsets))[known]
        total = np.zeros((len(histories), vectors.shape[1]), np.float64)
        np.add.at(total, user, vectors[known])
        count = np.bincount(user, minlength=len(histories))
        return (total / np.maximum(count, 1)[:, None]).astype(np.float32), count > 0
