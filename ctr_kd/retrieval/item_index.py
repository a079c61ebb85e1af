"""Nearest items by cosine similarity: exact where the items are few, by inverted lists where they are many (Faiss)."""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np

EXACT_BELOW = 50_000  # items; an exact search of all of them by all of them then takes seconds
ENOUGH_RECALL = 0.95
PROBED_QUERIES = 1000  # on which recall is measured
BATCH = 16_384  # queries at a time


class Found(NamedTuple):
    """What a search found, most similar first.

    Attributes
    ----------
    similarity : float32 array (queries, k)
        Cosine, from -1 to 1.
    item : int64 array (queries, k)
        Rows of the indexed vectors; -1 where the lists that were probed hold fewer than k.
    """

    similarity: np.ndarray
    item: np.ndarray


class ItemIndex:
    """Finds the items nearest to a vector.

    Below ``exact_below`` items every one is compared. From there on they lie in inverted lists around k-means centres (Jegou et al.
    2011, doi:10.1109/TPAMI.2010.57, section IV), and a query looks into the nearest lists alone: as many as it takes for ``recall``, which
    is measured against the exact search, to reach ``ENOUGH_RECALL``. The result repeats: centres begin at seeded items. The index lives
    no longer than the vectors that it was made of, so it cannot be that of another embedding.

    Parameters
    ----------
    vectors : float array (items, width)
    exact_below : int
    seed : int
        Of the centres, and of the items on which recall is measured.

    Attributes
    ----------
    kind : "exact" or "ivf"
    recall : float
        Share of the ten truly nearest items that are found, on a seeded sample of the items; 1 where the search is exact.

    Raises
    ------
    ValueError
        When there is no vector, or one is not finite.

    Examples
    --------
    >>> index = ItemIndex(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
    >>> index.search(np.array([[1.0, 0.1]]), 2).item.tolist()
    [[0, 2]]
    """

    def __init__(self, vectors: np.ndarray, exact_below: int = EXACT_BELOW, seed: int = 0) -> None:
        if vectors.ndim != 2 or not vectors.size:
            raise ValueError(f"an index needs vectors of items, one a row, not an array of shape {vectors.shape}")
        self._vectors = _normalised(vectors)
        items, width = self._vectors.shape
        exact = faiss.IndexFlatIP(width)
        exact.add(self._vectors)
        self._index: faiss.Index = exact
        self.kind, self.recall = "exact", 1.0
        if items < exact_below:
            return
        sample = self._vectors[np.random.default_rng(seed).permutation(items)[:PROBED_QUERIES]]
        _, nearest = exact.search(sample, min(10, items))
        lists = round(4 * items**0.5)
        self._centres = faiss.IndexFlatIP(width)  # kept here, since the lists do not keep it alive
        inverted = faiss.IndexIVFFlat(self._centres, width, lists, faiss.METRIC_INNER_PRODUCT)
        inverted.cp.seed, inverted.cp.min_points_per_centroid = seed, 1
        inverted.train(self._vectors)
        inverted.add(self._vectors)
        while True:  # probing every list is the exact search
            _, found = inverted.search(sample, nearest.shape[1])
            self.recall = float((found[:, :, None] == nearest[:, None, :]).any(1).mean())
            if self.recall >= ENOUGH_RECALL or inverted.nprobe >= lists:
                break
            inverted.nprobe = min(2 * inverted.nprobe, lists)
        self.kind, self._index = "ivf", inverted

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: np.ndarray, k: int) -> Found:
        """The nearest items of each vector, ``min(k, items)`` of them.

        Parameters
        ----------
        queries : float array (queries, width)
        k : int

        Raises
        ------
        ValueError
            When the width is another, a query is not finite, or k is below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != self._vectors.shape[1]:
            raise ValueError(f"the index is over vectors of width {self._vectors.shape[1]}, and the queries have shape {queries.shape}")
        if k < 1:
            raise ValueError(f"at least one neighbour must be asked for, not {k}")
        k = min(k, len(self))
        parts = [self._index.search(_normalised(queries[first : first + BATCH]), k) for first in range(0, len(queries), BATCH)]
        if not parts:
            return Found(np.zeros((0, k), np.float32), np.zeros((0, k), np.int64))
        return Found(np.concatenate([similarity for similarity, _ in parts]), np.concatenate([item for _, item in parts]))

    def neighbours(self, k: int) -> Found:
        """The nearest items of every item, itself left out: ``min(k, items - 1)`` columns.

        Examples
        --------
        >>> ItemIndex(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 2.0]])).neighbours(9).item.tolist()
        [[2, 1], [2, 0], [0, 1]]
        """
        similarity, item = self.search(self._vectors, k + 1)
        left_out = item == np.arange(len(self))[:, None]
        left_out[~left_out.any(1), -1] = True  # among items that equal it, an item need not find itself
        shape = len(self), item.shape[1] - 1
        return Found(similarity[~left_out].reshape(shape), item[~left_out].reshape(shape))


def _normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float32; one of length 0 stays, and is similar to nothing."""
    broken = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(broken):
        raise ValueError(f"vector {broken[0]} is not finite ({len(broken):,} such vectors): retrain the model that they come from")
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.ascontiguousarray(wide / np.where(length > 0, length, 1), np.float32)
