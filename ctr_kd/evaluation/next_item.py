"""Next-item evaluation: the place of the item that a user clicked next among all items. The ranking is full, never sampled: a
ranking among sampled items orders models differently (Krichene & Rendle 2020, doi:10.1145/3394486.3403226)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.config import NextItemConfig
from ctr_kd.data.batching import batch_plan, gather
from ctr_kd.data.samples import Assembly, Segment, gap_bucket
from ctr_kd.metrics import UndefinedMetric
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.threads import one_thread
from feature_store.special_tokens import SPECIALS
from feature_store.tables.parquet_files import read_parquet

CUTOFFS = (5, 10, 20)
MOST_SCORES = 1 << 26  # that are held at a time: 256 MiB, whatever the size of the vocabulary

# From histories, tokens (batch, longest, features) padded on the right and their length (batch,), 0 included, to a score of every
# index of the item vocabulary (batch, vocabulary), higher for a likelier next item.
Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class NextItems:
    """A window's last click of every user who clicked in it, and what was known of the user just before.

    Attributes
    ----------
    target : int32 array (users,)
        Index of the clicked item; below ``len(SPECIALS)`` where it is not in the vocabulary.
    history : Segment
        The newest clicks before the target, oldest first, at most as many as the model takes.
    begin : int64 array (users,)
        Where the whole history of each user starts in the pool of ``history``.
    """

    target: np.ndarray
    history: Segment
    begin: np.ndarray


def next_items(assembly: Assembly, start: int, end: int, longest: int) -> NextItems:
    """The targets of a window. For a leave-one-out split this is the classical protocol: one target per user.

    Parameters
    ----------
    assembly : Assembly
    start, end : int
        The window in microseconds since 1970 UTC, the end exclusive.
    longest : int
        Clicks of a history that the model takes.

    Notes
    -----
    A history holds the clicks that happened strictly before the target and were known before it, as everywhere else.
    """
    clicks = read_parquet(assembly.directory / "clicks.parquet", filters=[("canonical", "=", True)])  # each click once, in order
    user, time = clicks["user"].to_numpy(), clicks["timestamp"].to_numpy()
    known_at, time_known = clicks["known_at"].to_numpy(), clicks["time_known"].to_numpy()
    token = assembly.event_tokens({name: clicks[name].to_numpy() for name in ("item", *assembly.type_columns)})

    target = np.flatnonzero(time_known & (time >= start) & (time < end))
    target = target[np.append(user[target[1:]] != user[target[:-1]], True)[: len(target)]]  # the last of each user
    first = np.searchsorted(user, user[target])
    owner, position = _members(first, target)
    before = (time[position] < time[target][owner]) & (known_at[position] < time[target][owner])
    position, owner = position[before], owner[before]

    length = np.bincount(owner, minlength=len(target))
    stop = np.cumsum(length)
    begins = np.concatenate([[True], owner[1:] != owner[:-1]])[: len(owner)]
    gap = gap_bucket(time[position], time_known[position], begins)
    pool = np.concatenate([token[position], gap[:, None]], axis=1)  # (clicks, features)
    history = Segment(pool, np.maximum(stop - length, stop - longest), stop, gap_column=-1)
    return NextItems(token[target, 0], history, stop - length)


def next_item_score(model: MaskedItemModel) -> Score:
    """Score by what the encoder predicts to follow the history; the vectors of all items are computed once."""
    model.eval()
    with torch.no_grad():
        vector = model.bert.token(model.vocabulary)
    return lambda tokens, length: F.linear(model.history_state(tokens, length), vector, model.bias)


@torch.no_grad()
def target_ranks(score: Score, items: NextItems, vocabulary: int, config: NextItemConfig) -> np.ndarray:
    """Place of every target among all items of the vocabulary, 1 for the best.

    Parameters
    ----------
    score : Score
        Its answer may be overwritten.
    items : NextItems
    vocabulary : int
        Indices of the item vocabulary, special tokens included; these are never ranked.
    config : NextItemConfig

    Returns
    -------
    float64 array (users,)
        Items with the target's own score count as above it, so a model that scores all items alike gets the last place. Infinite
        where the target is not in the vocabulary, or is excluded because it is in the history.

    Raises
    ------
    ValueError
        When a score is not a number.
    """
    rank = np.full(len(items.target), np.inf)
    known = np.flatnonzero(items.target >= len(SPECIALS))
    start, end = items.history.start, items.history.end
    size = max(1, min(config.batch_size, MOST_SCORES // vocabulary))
    for batch in batch_plan((end - start)[known], np.arange(len(known)), size, None):
        rows = known[batch]
        tokens, length = gather(items.history, start[rows], end[rows])
        scores = score(torch.from_numpy(tokens), torch.from_numpy(length))  # (batch, vocabulary)
        if torch.isnan(scores).any():
            raise ValueError("the model scores items by values that are not numbers: its training diverged; lower its learning rate")
        scores[:, : len(SPECIALS)] = -torch.inf
        if config.exclude_history:
            scores[_clicked(items, rows)] = -torch.inf
        own = scores.gather(1, torch.from_numpy(items.target[rows].astype(np.int64))[:, None])  # (batch, 1)
        place = (scores >= own).sum(1).double()
        rank[rows] = place.masked_fill(own.squeeze(1) == -torch.inf, torch.inf).numpy()
    return rank


@torch.no_grad()
def histories_per_second(encode: Callable[[Tensor, Tensor], object], items: NextItems, batch: int = 256, seconds: float = 2.0) -> float:
    """How many histories become vectors, on one thread; their dot products with the items cost every model the same and are left out.

    Parameters
    ----------
    encode : callable
        Of tokens (batch, longest, features), padded on the right, and their length (batch,).
    items : NextItems
        Whose histories are read, again and again.
    batch : int
    seconds : float
        How long to measure, after a first batch.
    """
    start, end = items.history.start, items.history.end
    plan = batch_plan(end - start, np.arange(len(start)), batch, None)
    read = [tuple(map(torch.from_numpy, gather(items.history, start[rows], end[rows]))) for rows in plan[:: max(1, len(plan) // 16)]]
    if not read:
        return 0.0
    with one_thread():
        encode(*read[0])
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for tokens, length in read:
                encode(tokens, length)
                done += len(length)
        return done / (time.perf_counter() - began)


def _clicked(items: NextItems, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Row in the batch and item of every click in the whole histories of these users."""
    row, position = _members(items.begin[rows], items.history.end[rows])
    return torch.from_numpy(row), torch.from_numpy(items.history.pool[position, 0].astype(np.int64))


def _members(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every position of half-open ranges, and the number of the range that it lies in.

    Examples
    --------
    >>> number, position = _members(np.array([4, 7, 0]), np.array([6, 7, 2]))
    >>> number.tolist(), position.tolist()
    ([0, 0, 2, 2], [4, 5, 0, 1])
    """
    length = end - start
    number = np.repeat(np.arange(len(start)), length)
    return number, np.arange(len(number)) + np.repeat(start - (np.cumsum(length) - length), length)


def hit_rate_score(rank: np.ndarray, k: int) -> float:
    """HR@k: share of users whose target is among the first k.

    Parameters
    ----------
    rank : array (users,)
        From 1; infinite for a miss.
    k : int

    Raises
    ------
    UndefinedMetric
        When there are no users.

    Examples
    --------
    >>> hit_rate_score(np.array([1, 3, 11, np.inf]), 10)
    0.5
    """
    return float(np.mean(_some(rank) <= k))


def ndcg_score(rank: np.ndarray, k: int) -> float:
    """NDCG@k with one relevant item per user: 1 / log2(1 + rank) among the first k, 0 behind.

    Parameters
    ----------
    rank : array (users,)
        From 1; infinite for a miss.
    k : int

    Examples
    --------
    >>> ndcg_score(np.array([1, 3, 11, np.inf]), 10)
    0.375
    """
    rank = _some(rank)
    return float(np.mean(np.where(rank <= k, 1 / np.log2(1 + rank), 0.0)))


def mrr_score(rank: np.ndarray) -> float:
    """MRR: mean of 1 / rank, not cut off.

    Examples
    --------
    >>> mrr_score(np.array([1, 4, np.inf, np.inf]))
    0.3125
    """
    return float(np.mean(1 / _some(rank)))


def _some(rank: np.ndarray) -> np.ndarray:
    if not len(rank):
        raise UndefinedMetric("no user clicked in the window")
    return rank


def evaluate_next_items(score: Score, items: NextItems, vocabulary: int, config: NextItemConfig) -> dict[str, float | int]:
    """Figures of one window; see :func:`target_ranks` for the parameters.

    Returns
    -------
    dict
        ``hr@k`` and ``ndcg@k`` for k in ``CUTOFFS``, ``mrr``; ``users``; of their targets ``unknown_targets`` that are not in the
        vocabulary and ``excluded_targets`` that are in the history (both are misses); ``empty_histories``; ``items`` that are ranked.

    Raises
    ------
    UndefinedMetric
        When no user clicked in the window.
    """
    rank = target_ranks(score, items, vocabulary, config)
    unknown = int((items.target < len(SPECIALS)).sum())
    figures: dict[str, float | int] = {}
    for k in CUTOFFS:
        figures |= {f"hr@{k}": hit_rate_score(rank, k), f"ndcg@{k}": ndcg_score(rank, k)}
    return figures | {
        "mrr": mrr_score(rank),
        "users": len(rank),
        "unknown_targets": unknown,
        "excluded_targets": int(np.isinf(rank).sum()) - unknown,
        "empty_histories": int((items.history.end == items.begin).sum()),
        "items": vocabulary - len(SPECIALS),
    }
