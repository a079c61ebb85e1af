"""Masked item prediction over click sequences (Devlin et al. 2019; Sun et al. 2019, BERT4Rec, arXiv:1904.06690)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.batching import cut
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.samples import MASK, PAD, SPECIALS


class Masked(NamedTuple):
    """Sequences with hidden items.

    Attributes
    ----------
    tokens : int32 tensor (batch, length, features)
    length : int64 tensor (batch,)
    position : int64 tensor (masked,)
        Hidden positions of the flattened (batch * length).
    target : int64 tensor (masked,)
        The items that were there.
    """

    tokens: Tensor
    length: Tensor
    position: Tensor
    target: Tensor


def mask_items(
    tokens: np.ndarray, length: np.ndarray, rng: np.random.Generator, mask_rate: float, last_item_rate: float, disguised: float = 0.2
) -> Masked:
    """Hide items: in a share of the sequences the last one alone, in the others each with the same probability.

    Of the hidden positions 80 % show [MASK], 10 % a random token of the batch and 10 % the item itself, as in BERT: the
    encoder must not rely on [MASK] to know where it is asked. A masked token loses its attributes and its gap too, since they
    would give the item away. Items outside the vocabulary are never targets.

    Parameters
    ----------
    tokens : int32 array (batch, length, features)
        Right-padded.
    length : int64 array (batch,)
    rng : numpy Generator
    mask_rate : float
        Probability of each position, where the last item is not chosen alone.
    last_item_rate : float
        Share of the sequences whose last item alone is hidden.
    disguised : float
        Share of the hidden positions without [MASK]: half of them random, half unchanged. 0 measures, 0.2 trains.
    """
    ids = tokens[:, :, 0]
    at = np.arange(ids.shape[1])
    last_only = rng.random(len(ids)) < last_item_rate  # (batch,)
    hidden = np.where(last_only[:, None], at == length[:, None] - 1, rng.random(ids.shape) < mask_rate)
    hidden &= ids >= len(SPECIALS)
    position = np.flatnonzero(hidden)
    flat = tokens.reshape(-1, tokens.shape[2]).copy()
    target = flat[position, 0].astype(np.int64)
    draw = rng.random(len(position))
    to_mask, to_random = position[draw >= disguised], position[draw < disguised / 2]
    real = np.flatnonzero(ids.ravel() >= len(SPECIALS))
    if len(to_random):
        flat[to_random] = flat[rng.choice(real, len(to_random))]
    flat[to_mask] = PAD
    flat[to_mask, 0] = MASK
    return Masked(
        torch.from_numpy(flat.reshape(tokens.shape)), torch.from_numpy(length), torch.from_numpy(position), torch.from_numpy(target)
    )


def masked_part(masked: Masked, rows: slice) -> Masked:
    """Some sequences of a masked batch, trimmed, with the positions that are hidden in them."""
    longest = masked.tokens.shape[1]
    inside = (masked.position >= rows.start * longest) & (masked.position < rows.stop * longest)
    tokens, length = cut(masked.tokens, masked.length, rows)
    position = masked.position[inside]
    at = (position // longest - rows.start) * tokens.shape[1] + position % longest
    return Masked(tokens, length, at, masked.target[inside])


def masked_item_loss(model: MaskedItemModel, masked: Masked) -> tuple[Tensor, Tensor]:
    """Mean cross entropy at the hidden positions, in nats, and the number of them that were predicted right.

    The head computes hidden positions only. A batch without any gives zero, with a graph.
    """
    hidden = model.bert(masked.tokens, masked.length)  # (batch, length, width)
    logits = model.item_logits(hidden, masked.position)  # (masked, vocabulary)
    if not len(masked.target):
        return logits.sum() * 0.0, logits.new_zeros((), dtype=torch.long)
    return F.cross_entropy(logits, masked.target), (logits.argmax(1) == masked.target).sum()
