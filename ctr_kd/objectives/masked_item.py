"""Which items an encoder must predict: hidden ones (Devlin et al. 2019; Sun et al. 2019, BERT4Rec, arXiv:1904.06690), or with
causal attention the next one at every position (Kang and McAuley 2018, SASRec, arXiv:1808.09781)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctr_kd.data.batching import trim
from ctr_kd.models.bert import prepend_cls
from feature_store.special_tokens import MASK, PAD, SPECIALS


class Masked(NamedTuple):
    """Sequences and the items to predict in them.

    Attributes
    ----------
    tokens : int32 tensor (batch, length, features)
    length : int64 tensor (batch,)
    position : int64 tensor (masked,)
        Positions of the flattened (batch * length) whose state predicts an item.
    target : int64 tensor (masked,)
        The items.
    """

    tokens: Tensor
    length: Tensor
    position: Tensor
    target: Tensor


def predict_next(tokens: np.ndarray, length: np.ndarray) -> Masked:
    """Every item as the one that follows those before it; the first follows a [CLS]. Items outside the vocabulary are no targets.

    Parameters
    ----------
    tokens : int32 array (batch, length, features)
        Right-padded.
    length : int64 array (batch,)
    """
    shown, shown_length = prepend_cls(torch.from_numpy(tokens), torch.from_numpy(length))
    following = np.zeros((len(tokens), shown.shape[1]), np.int64)  # (batch, length + 1)
    following[:, :-1] = tokens[:, :, 0]
    position = np.flatnonzero(following >= len(SPECIALS))
    return Masked(shown, shown_length, torch.from_numpy(position), torch.from_numpy(following.ravel()[position]))


def hidden_spans(shape: tuple[int, int], rng: np.random.Generator, mask_rate: float, span: float) -> np.ndarray:
    """Which positions (batch, length) are hidden: stretches of geometric length with mean ``span`` that cover ``mask_rate``.

    A stretch ends after each position with probability 1 / span and begins so often that the share of hidden positions is
    ``mask_rate`` from the first position on (a two-state Markov chain in its stationary state; SpanBERT, Joshi et al. 2020).

    Parameters
    ----------
    shape : (int, int)
        Batch and length.
    rng : numpy Generator
    mask_rate : float
        Share of hidden positions, below 1.
    span : float
        Mean length of a stretch, 1 at least.
    """
    draw = rng.random(shape)
    hidden = np.empty(shape, bool)
    if shape[1]:
        hidden[:, 0] = draw[:, 0] < mask_rate
    begin = mask_rate / (1 - mask_rate) / span
    for at in range(1, shape[1]):
        hidden[:, at] = draw[:, at] < np.where(hidden[:, at - 1], 1 - 1 / span, min(begin, 1.0))
    return hidden


def mask_items(
    tokens: np.ndarray,
    length: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_rate: float,
    last_item_rate: float,
    disguised: float = 0.2,
    span: float = 1.0,
) -> Masked:
    """Hide items: in a share of the sequences the last one alone, in the others each with the same probability, or in stretches.

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
    span : float
        Mean length of a hidden stretch; 1 hides each position by itself.
    """
    ids = tokens[:, :, 0]
    at = np.arange(ids.shape[1])
    last_only = rng.random(len(ids)) < last_item_rate  # (batch,)
    anywhere = rng.random(ids.shape) < mask_rate if span == 1 else hidden_spans(ids.shape, rng, mask_rate, span)
    hidden = np.where(last_only[:, None], at == length[:, None] - 1, anywhere)
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
    """Some sequences of a batch, trimmed, with the positions that predict in them.

    Parameters
    ----------
    masked : Masked
    rows : slice
        One sequence at least.
    """
    longest = masked.tokens.shape[1]
    inside = (masked.position >= rows.start * longest) & (masked.position < rows.stop * longest)
    tokens, length = trim(masked.tokens, masked.length, rows)
    position = masked.position[inside]
    at = (position // longest - rows.start) * tokens.shape[1] + position % longest
    return Masked(tokens, length, at, masked.target[inside])
