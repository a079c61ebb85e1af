"""The transfer set on the side of learning: which items are near to each other, and rows without labels beside those with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

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


def join_rows(labelled: Samples, unlabelled: Samples) -> Samples:
    """Rows of two sets in the order of their requests: those of one request are adjacent, so they share its history.

    Parameters
    ----------
    labelled, unlabelled : Samples
        Over the same token features; a pool that both read, such as that of all clicks, is not copied. Where only one of them has weights,
        a row of the other weighs 1, the mean.
    """
    order = np.argsort(np.concatenate([labelled.group, unlabelled.group]), kind="stable")

    def joined(read: Callable[[Samples], np.ndarray]) -> np.ndarray:
        return np.concatenate([read(labelled), read(unlabelled)])[order]

    def segment(read: Callable[[Samples], Segment]) -> Segment:
        one, two = read(labelled), read(unlabelled)
        shared = one.pool is two.pool
        behind = np.where(order < len(labelled), 0, 0 if shared else len(one.pool))  # tokens of the second set come behind the first's
        return replace(
            one,
            pool=one.pool if shared else np.concatenate([one.pool, two.pool]),
            start=joined(lambda rows: read(rows).start) + behind,
            end=joined(lambda rows: read(rows).end) + behind,
        )

    return Samples(
        row_id=joined(lambda rows: rows.row_id),
        group=joined(lambda rows: rows.group),
        user=joined(lambda rows: rows.user),
        a=segment(lambda rows: rows.a),
        b=segment(lambda rows: rows.b),
        categorical=joined(lambda rows: rows.categorical),
        dense=joined(lambda rows: rows.dense),
        label=joined(lambda rows: rows.label),
        weight=None if labelled.weight is unlabelled.weight is None else joined(_weights),
        further=None if labelled.further is None else joined(lambda rows: _further(rows, labelled.further)),
    )


def _weights(samples: Samples) -> np.ndarray:
    return np.ones(len(samples), np.float32) if samples.weight is None else samples.weight


def _further(samples: Samples, like: np.ndarray | None) -> np.ndarray:
    """Further labels (rows, labels) of samples, unknown where they have none, as many as in ``like``."""
    if samples.further is not None or like is None:
        return np.asarray(samples.further)
    return np.full((len(samples), like.shape[1]), -1, np.float32)
