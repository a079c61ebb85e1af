"""Next-segment prediction: is segment B the continuation of A's user (Devlin et al. 2019, section 3.1, over clicks)?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.data.batching import trim
from ctr_kd.models.bert import MaskedItemModel, last_position
from feature_store.special_tokens import CLS


class Pairs(NamedTuple):
    """Pairs of segments, as :func:`segment_pairs` cuts them.

    Attributes
    ----------
    tokens : int32 tensor (batch, length, features)
    length : int64 tensor (batch,)
    segment : int64 tensor (batch, length)
    continues : float32 tensor (batch,)
    """

    tokens: Tensor
    length: Tensor
    segment: Tensor
    continues: Tensor


def segment_pairs(
    tokens: np.ndarray, length: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut every sequence in two; half of them continue with the end of another sequence.

    That end is as long as the one that it replaces, where the other sequence has as much behind its first token: otherwise a pair's
    length would tell which it is, above all where most sequences are as long as they may be.

    Parameters
    ----------
    tokens : int32 array (batch, length, features)
        Right-padded, at least two tokens each.
    length : int64 array (batch,)
    rng : numpy Generator

    Returns
    -------
    tokens : int32 array (batch, longest + 1, features)
        A, B, then [CLS], right-padded.
    length : int64 array (batch,)
        Including [CLS].
    segment : int64 array (batch, longest + 1)
        1 at the tokens of B.
    continues : float32 array (batch,)
        1 where B is A's own continuation.
    """
    count = len(tokens)
    cut = rng.integers(1, np.maximum(length, 2))  # at least one token on each side
    source = np.arange(count)
    foreign = rng.random(count) < 0.5
    if count > 1:
        source[foreign] = (source[foreign] + rng.integers(1, count, foreign.sum())) % count
    begin = np.maximum(length[source] - (length - cut), 1)  # of B in its sequence; its own is at the cut
    length_b = length[source] - begin
    total = cut + length_b + 1
    at = np.arange(total.max())
    in_a = at < cut[:, None]
    in_b = (at >= cut[:, None]) & (at < (total - 1)[:, None])
    row = np.where(in_a, np.arange(count)[:, None], source[:, None])
    column = np.where(in_a, at, at - cut[:, None] + begin[:, None]).clip(0, tokens.shape[1] - 1)
    pairs = tokens[row, column]  # (batch, longest + 1, features)
    pairs[~(in_a | in_b)] = 0
    pairs[np.arange(count), total - 1, 0] = CLS
    return pairs, total, in_b.astype(np.int64), (source == np.arange(count)).astype(np.float32)


def make_pairs(tokens: np.ndarray, length: np.ndarray, rng: np.random.Generator) -> Pairs:
    """The tensors of :func:`segment_pairs`."""
    return Pairs(*(torch.from_numpy(array) for array in segment_pairs(tokens, length, rng)))


def pairs_part(pairs: Pairs, rows: slice) -> Pairs:
    """Some pairs of a batch, trimmed to the longest of them."""
    tokens, length = trim(pairs.tokens, pairs.length, rows)
    return Pairs(tokens, length, pairs.segment[rows, : tokens.shape[1]], pairs.continues[rows])


def next_segment_loss(model: MaskedItemModel, pairs: Pairs) -> Tensor:
    """Mean binary cross entropy of the pairs, in nats."""
    state = model.bert(pairs.tokens, pairs.length, pairs.segment, wanted=last_position(pairs.tokens, pairs.length))
    logit = model.next_segment(state).squeeze(1)  # (batch,)
    return F.binary_cross_entropy_with_logits(logit, pairs.continues)
