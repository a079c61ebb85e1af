"""Batches: rows gathered from the token pools, trimmed to the longest sequence, each history held once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctr_kd.data.later_clicks import HIDDEN, put_behind
from ctr_kd.data.samples import Samples, Segment
from feature_store.special_tokens import PAD, SPECIALS, UNKNOWN

# Batches of similar length save padding. Sorting only within a window of this many batches keeps the order random.
SORT_WINDOW = 50


class Batch(NamedTuple):
    """Inputs of a model, in the order of its ``forward`` arguments and of the exported graph.

    Attributes
    ----------
    segment_a : int32 tensor (segments, length a, token features)
        Distinct histories, padded on the right.
    segment_a_length : int64 tensor (segments,)
    segment_of_row : int64 tensor (rows,)
        History that each row reads: a request's candidates share one. Models read it by ``index_select``: the gradient of
        square brackets adds up in whatever order threads come, so a run would not repeat.
    segment_b : int32 tensor (rows, length b, token features)
    categorical : int32 tensor (rows, categorical features)
    dense : float32 tensor (rows, dense features)
        NaN where null.
    """

    segment_a: Tensor
    segment_a_length: Tensor
    segment_of_row: Tensor
    segment_b: Tensor
    categorical: Tensor
    dense: Tensor


def gather(segment: Segment, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pad the token ranges [start, end) of a pool on the right.

    Parameters
    ----------
    segment : Segment
        Its pool is read; ``start`` and ``end`` are in place of its own.
    start, end : int64 arrays (sequences,)

    Returns
    -------
    tokens : int32 array (sequences, longest, features)
        At least one position wide, so that an all-empty batch keeps its shape.
    length : int64 array (sequences,)
    """
    length = end - start
    offset = np.arange(max(int(length.max(initial=0)), 1))
    inside = offset < length[:, None]  # (sequences, longest)
    position = np.where(inside, start[:, None] + offset, 0)
    tokens = segment.pool[position] if len(segment.pool) else np.zeros((*position.shape, segment.pool.shape[1]), np.int32)
    tokens[~inside] = PAD
    if segment.gap_column is not None:
        # The first click of a cut history has no visible click before it, in training as in production.
        tokens[:, 0, segment.gap_column] = PAD
    return tokens, length


def hide_known(indices: np.ndarray, rate: float, rng: np.random.Generator) -> None:
    """Replace, in place, a share of the known values by the unknown token, so that its embedding is trained.

    Null stays null, and a token that is masked stays masked.

    Parameters
    ----------
    indices : int32 array of any shape
    rate : float
        Probability of each known value to be hidden.
    rng : numpy Generator

    Examples
    --------
    >>> device = np.array([PAD, 7, 9])
    >>> hide_known(device, 1.0, np.random.default_rng(0))
    >>> device.tolist()
    [0, 1, 1]
    """
    indices[(rng.random(indices.shape, np.float32) < rate) & (indices >= len(SPECIALS))] = UNKNOWN


def leave_out(tokens: np.ndarray, length: np.ndarray, rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded sequences without a random share of their tokens; the first and the last of each always stay.

    A kept token keeps its features, the gap to the click before it in the log included.

    Parameters
    ----------
    tokens : int32 array (sequences, longest, features)
    length : int64 array (sequences,)
    rate : float
        Probability of each inner token to be left out.
    rng : numpy Generator

    Returns
    -------
    tokens : int32 array (sequences, new longest, features)
    length : int64 array (sequences,)

    Examples
    --------
    >>> tokens, length = leave_out(np.array([[[5], [6], [7]], [[8], [0], [0]]]), np.array([3, 1]), 1.0, np.random.default_rng(0))
    >>> tokens[:, :, 0].tolist(), length.tolist()
    ([[5, 7], [8, 0]], [2, 1])
    """
    at, last = np.arange(tokens.shape[1]), length[:, None] - 1
    stays = ((rng.random(tokens.shape[:2]) >= rate) & (at < last)) | (at == last) | ((at == 0) & (last >= 0))
    kept = stays.sum(1)
    order = np.argsort(~stays, axis=1, kind="stable")[:, : max(int(kept.max(initial=0)), 1)]
    packed = np.take_along_axis(tokens, order[:, :, None], axis=1)
    packed[np.arange(order.shape[1]) >= kept[:, None]] = PAD
    return packed, kept


def make_batch(
    samples: Samples,
    rows: np.ndarray,
    rng: np.random.Generator | None = None,
    *,
    unknown_rate: float = 0.0,
    hidden_rate: float = 0.0,
    attribute_rate: float = 0.0,
) -> Batch:
    """Gather rows into one batch.

    Parameters
    ----------
    samples : Samples
    rows : int64 array (rows,)
        Positions in ``samples``.
    rng : numpy Generator, optional
        Draws what to hide; needed when a rate is above zero. Of rows with later clicks it hides all of these for a random half of the
        histories; without it they are all there.
    unknown_rate : float
        Share of known ids replaced by the unknown token.
    hidden_rate : float
        Share of rows whose dense inputs become null.
    attribute_rate : float
        Share of known token attributes and categories replaced by their feature's unknown token, each drawn by itself.
    """
    start, end = samples.a.start[rows], samples.a.end[rows]
    # Neighbouring rows share a history, so comparing with the row before finds the distinct ones without a sort.
    distinct = np.ones(len(rows), bool)
    distinct[1:] = (start[1:] != start[:-1]) | (end[1:] != end[:-1])
    later = samples.later
    if later is not None:  # requests with one history may be followed by other clicks
        distinct[1:] |= (later.start[rows[1:]] != later.start[rows[:-1]]) | (later.end[rows[1:]] != later.end[rows[:-1]])
    tokens, length = gather(samples.a, start[distinct], end[distinct])
    if later is not None:
        behind, count = gather(later, later.start[rows[distinct]], later.end[rows[distinct]])
        if rng is not None:
            count = np.where(rng.random(len(count)) < HIDDEN, 0, count)
        tokens, length = put_behind(tokens, length, behind, count)
    candidates, _ = gather(samples.b, samples.b.start[rows], samples.b.end[rows])
    dense = samples.dense[rows]
    categorical = samples.categorical[rows]
    own, *attributes = samples.a.vocabulary_columns  # both segments hold the same features
    if rng is not None and unknown_rate > 0:
        for part in (tokens, candidates):
            hide_known(part[:, :, own], unknown_rate, rng)
    if rng is not None and hidden_rate > 0:
        dense[rng.random(len(rows)) < hidden_rate] = np.nan
    if rng is not None and attribute_rate > 0:
        for part in (tokens, candidates):
            for column in attributes:
                hide_known(part[:, :, column], attribute_rate, rng)
        hide_known(categorical, attribute_rate, rng)
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(length),
        torch.from_numpy(np.cumsum(distinct) - 1),
        torch.from_numpy(candidates),
        torch.from_numpy(categorical),
        torch.from_numpy(dense),
    )


def trim(tokens: Tensor, length: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Some sequences of a padded batch, trimmed to the longest of them.

    Parameters
    ----------
    tokens : tensor (sequences, longest, features)
    length : int64 tensor (sequences,)
    rows : slice
        One sequence at least.

    Examples
    --------
    >>> tokens, length = trim(torch.zeros(3, 7, 2), torch.tensor([7, 2, 1]), slice(1, 3))
    >>> tuple(tokens.shape), length.tolist()
    ((2, 2, 2), [2, 1])
    """
    length = length[rows]
    return tokens[rows, : max(int(length.max()), 1)], length


def part_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, with the histories that they read; all rows give the same batch.

    Parameters
    ----------
    batch : Batch
    rows : slice
        One row at least.
    """
    reads = batch.segment_of_row[rows]  # ascending
    first, last = int(reads[0]), int(reads[-1]) + 1
    segment_a, length = trim(batch.segment_a, batch.segment_a_length, slice(first, last))
    return Batch(segment_a, length, reads - first, batch.segment_b[rows], batch.categorical[rows], batch.dense[rows])


def batch_plan(length: np.ndarray, group: np.ndarray, batch_size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Cut rows into batches of similar length that keep every group whole.

    Parameters
    ----------
    length : int64 array (rows,)
        Length of each row's sequence.
    group : int64 array (rows,)
        Rows of a group must be adjacent.
    batch_size : int
        Rows per batch; exceeded only by the remainder of a group.
    rng : numpy Generator or None
        Shuffles groups and batches; None sorts all groups by length, which suits inference.

    Returns
    -------
    list of int64 arrays
        Every row exactly once.
    """
    if not len(group):
        return []
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    size = np.diff(np.append(first, len(group)))
    order = np.arange(len(first)) if rng is None else rng.permutation(len(first))
    if rng is None:
        order = np.argsort(length[first], kind="stable")
    else:
        window = SORT_WINDOW * max(1, round(batch_size / size.mean()))
        for begin in range(0, len(order), window):
            part = order[begin : begin + window]
            order[begin : begin + window] = part[np.argsort(length[first[part]], kind="stable")]
    sizes = size[order]
    begins = np.cumsum(sizes) - sizes
    rows = np.repeat(first[order] - begins, sizes) + np.arange(len(group))
    # A batch ends with the group that reaches a multiple of the batch size.
    number = begins // batch_size
    cuts = begins[np.flatnonzero(np.diff(number)) + 1]
    batches = np.split(rows, cuts)
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches
