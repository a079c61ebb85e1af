"""The transfer set on the side of learning: which items are near to each other, and rows without labels beside those with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ctr_kd.data import disk_arrays
from ctr_kd.data.disk_arrays import written_on_disk
from ctr_kd.data.row_batches import block_edges
from ctr_kd.data.samples import Assembly, Samples, Segment
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.retrieval.item_index import ItemIndex
from feature_store.special_tokens import SPECIALS


@torch.no_grad()
def item_vectors(encoder: MaskedItemModel) -> np.ndarray:
    """Embeddings of the vocabulary's items, float32 (items, width), in the vocabulary's order: id and attributes summed.

    They are what the encoder reads for an item, and what it predicts the item by.
    """
    return encoder.bert.token(encoder.vocabulary[len(SPECIALS) :]).cpu().numpy()


def item_codes(assembly: Assembly) -> np.ndarray:
    """Code that the assembly gives to each item of the vocabulary, int64 (items,).

    Items outside the vocabulary share one embedding, so nothing is near to them.
    """
    index = assembly.item_tokens[:, 0]
    known = np.flatnonzero(index >= len(SPECIALS))
    codes = np.empty(len(assembly.vocabulary["item"]), np.int64)
    codes[index[known] - len(SPECIALS)] = known
    return codes


def nearest_codes(assembly: Assembly, index: ItemIndex, k: int) -> np.ndarray:
    """Codes of the items nearest to each item of an assembly, int32 (items, at most k); -1 where there is none.

    Parameters
    ----------
    assembly : Assembly
    index : ItemIndex
        Over :func:`item_vectors` of an encoder of that assembly.
    k : int

    Raises
    ------
    ValueError
        When the index is that of another vocabulary.
    """
    codes = item_codes(assembly)
    if len(index) != len(codes):
        raise ValueError(f"the index is over {len(index):,} items and the vocabulary has {len(codes):,}: use the encoder of this assembly")
    found = index.neighbours(k).item
    nearest = np.full((len(assembly.item_tokens), found.shape[1]), -1, np.int32)
    nearest[codes] = np.where(found >= 0, codes[found], -1)
    return nearest


def join_rows(labelled: Samples, unlabelled: Samples, folder: Path) -> Samples:
    """Rows of two sets in the order of their requests: those of one request are adjacent, so they share its history.

    Parameters
    ----------
    labelled, unlabelled : Samples
        Over the same token features; a pool that both read, such as that of all clicks, is not copied. Where only one of them has weights,
        a row of the other weighs 1, the mean. Later clicks are those of a request: where labelled rows have them, an unlabelled row has
        those of the labelled rows of its request, and none where there are no such rows.
    folder : Path
        On its disk the rows lie where one of the sets lies on disk, or both are too many to be held.
    """
    labelled, unlabelled = _over_one_pool(labelled, unlabelled)
    pieces = (_arrays_of(labelled.take(some), unlabelled.take(more)) for some, more in joined_pieces(labelled, unlabelled))
    if _are_many(labelled, unlabelled):
        return labelled.with_rows(written_on_disk(pieces, len(labelled) + len(unlabelled), folder))
    return labelled.with_rows(next(pieces))


def joined_pieces(labelled: Samples, unlabelled: Samples) -> Iterator[tuple[slice, slice]]:
    """Which rows of two sets :func:`join_rows` brings together at a time: all at once, or of many rows those of some requests.

    Raises
    ------
    ValueError
        When many rows do not lie in the order of their requests.
    """
    if not _are_many(labelled, unlabelled):
        yield slice(0, len(labelled)), slice(0, len(unlabelled))
        return
    begin, first = 0, 0
    for end in block_edges(labelled.group, disk_arrays.PIECE)[1:].tolist():
        next_request = labelled.group[end] if end < len(labelled) else None
        last = len(unlabelled) if next_request is None else int(np.searchsorted(unlabelled.group, next_request))
        if any((np.diff(group) < 0).any() for group in (labelled.group[begin : end + 1], unlabelled.group[first : last + 1])):
            raise ValueError("rows that are joined a piece at a time must lie in the order of their requests")
        yield slice(begin, end), slice(first, last)
        begin, first = end, last


def _are_many(labelled: Samples, unlabelled: Samples) -> bool:
    return labelled.on_disk or unlabelled.on_disk or disk_arrays.too_many(len(labelled) + len(unlabelled))


def _over_one_pool(one: Samples, two: Samples) -> tuple[Samples, Samples]:
    """Both sets over the same pools: where theirs differ, the tokens of the second come behind those of the first."""

    def shared(first: Segment, second: Segment) -> tuple[Segment, Segment]:
        if first.pool is second.pool:
            return first, second
        pool, behind = np.concatenate([first.pool, second.pool]), len(first.pool)
        return replace(first, pool=pool), replace(second, pool=pool, start=second.start + behind, end=second.end + behind)

    (one_a, two_a), (one_b, two_b) = shared(one.a, two.a), shared(one.b, two.b)
    return replace(one, a=one_a, b=one_b), replace(two, a=two_a, b=two_b)


def _arrays_of(labelled: Samples, unlabelled: Samples) -> dict[str, np.ndarray]:
    """The arrays of two sets over the same pools, by the names of :attr:`Samples.by_row`, in the order of their requests."""
    if labelled.weight is not None or unlabelled.weight is not None:
        labelled, unlabelled = (replace(rows, weight=_weights(rows)) for rows in (labelled, unlabelled))
    further = None if labelled.further is None else _further(unlabelled, labelled.further)
    later = None if labelled.later is None else _later(unlabelled.group, labelled.group, labelled.later)
    unlabelled = replace(unlabelled, further=further, later=later)
    order = np.argsort(np.concatenate([labelled.group, unlabelled.group]), kind="stable")
    more = unlabelled.by_row
    return {name: np.concatenate([array, more[name]])[order] for name, array in labelled.by_row.items()}


def _weights(samples: Samples) -> np.ndarray:
    return np.ones(len(samples), np.float32) if samples.weight is None else samples.weight


def _further(samples: Samples, like: np.ndarray) -> np.ndarray:
    """Further labels (rows, labels) of samples, unknown where they have none, as many as in ``like``."""
    return np.full((len(samples), like.shape[1]), -1, np.float32) if samples.further is None else samples.further


def _later(group: np.ndarray, labelled: np.ndarray, later: Segment) -> Segment:
    """Later clicks of unlabelled rows: those of the labelled rows of their request, all of which have the same; none where there are none.

    They are not looked up anew. The clicks on candidates of a request are left out, and must be for all of its rows alike: else what
    is seen would tell which of them was clicked.

    Examples
    --------
    >>> later = Segment(np.zeros((9, 1), np.int32), np.array([4, 4, 6]), np.array([6, 6, 9]))
    >>> found = _later(np.array([3, 5, 8, 9]), np.array([5, 5, 8]), later)
    >>> found.start.tolist(), found.end.tolist()
    ([0, 4, 6, 0], [0, 6, 9, 0])
    """
    request, first = np.unique(labelled, return_index=True)
    place = np.searchsorted(request, group)
    row = np.where(np.append(request, -1)[place] == group, np.append(first, -1)[place], -1)  # -1: none
    start, end = (np.append(bound, 0)[row] for bound in (later.start, later.end))
    return replace(later, start=start, end=end)
