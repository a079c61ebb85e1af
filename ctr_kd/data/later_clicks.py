"""Clicks that came after a request: what a teacher that reads both ways may see of training rows, and nobody else of any."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from feature_store.special_tokens import MASK, PAD

HIDDEN = 0.5  # share of the histories of a training step whose later clicks are hidden, so that the teacher can do without them


def later_positions(
    clicks: Mapping[str, np.ndarray],
    *,
    request: np.ndarray,
    user: np.ndarray,
    timestamp: np.ndarray,
    item: np.ndarray,
    until: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The clicks of a user that follow each request, soonest first, up to ``most`` of them.

    A click follows a request when its time is known and later than that of the request. It must have happened, and have been known, before
    training ends. A click on any candidate of the request is left out, whatever its time: the click that is a label may be stored at a
    later time than its impression, or twice, and would give the label away; and one on a candidate that was not clicked would say so.

    Parameters
    ----------
    clicks : mapping of str to array (clicks,)
        ``item``, ``timestamp``, ``time_known``, ``known_at``, ``user`` and ``canonical`` of the pool, as in ``clicks.parquet``.
    request, user, timestamp, item : int arrays (rows,)
        Of the rows; those of one request are adjacent. Times are in microseconds UTC.
    until : int
        When training ends, exclusive, microseconds UTC.
    most : int

    Returns
    -------
    position : int64 array (later clicks,)
        Places in the pool, request by request.
    bounds : int64 array (2, rows)
        Start and end of each row among those; rows of a request have the same.
    """
    seen = clicks["canonical"] & clicks["time_known"] & (clicks["timestamp"] < until) & (clicks["known_at"] < until)
    place = np.flatnonzero(seen)  # in order of user and time
    of_user, of_item, at = (clicks[name][place].astype(np.int64) for name in ("user", "item", "timestamp"))
    first = np.flatnonzero(np.concatenate([[True], request[1:] != request[:-1]])) if len(request) else np.zeros(0, np.int64)
    number = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(request))))  # of each row's request

    moments = np.unique(at)
    rank = len(moments) + 1
    asked = user[first].astype(np.int64) * rank + np.searchsorted(moments, timestamp[first], side="right")
    following = np.searchsorted(of_user * rank + np.searchsorted(moments, at), asked)
    end = np.searchsorted(of_user, user[first], side="right")

    items = 1 + max(int(item.max(initial=0)), int(of_item.max(initial=0)))
    candidates = np.unique(number * items + item)
    chosen, taken = np.full((len(first), most), -1, np.int64), np.zeros(len(first), np.int64)
    asking = np.flatnonzero(following < end)
    while len(asking):  # one click of each request at a time
        click = following[asking]
        others = ~np.isin(asking * items + of_item[click], candidates)
        given = asking[others]
        chosen[given, taken[given]] = place[click[others]]
        taken[given] += 1
        following[asking] += 1
        asking = asking[(following[asking] < end[asking]) & (taken[asking] < most)]
    start = np.cumsum(taken) - taken
    return chosen[chosen >= 0], np.stack([start[number], (start + taken)[number]])


def put_behind(tokens: np.ndarray, length: np.ndarray, later: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put later clicks behind histories, with a [MASK] between them that stands for the request; none where nothing follows.

    Parameters
    ----------
    tokens : int32 array (sequences, longest, features)
        Right-padded histories.
    length : int64 array (sequences,)
    later : int32 array (sequences, most, features)
        Right-padded.
    count : int64 array (sequences,)
        Later clicks of each.

    Returns
    -------
    tokens : int32 array (sequences, new longest, features)
    length : int64 array (sequences,)

    Examples
    --------
    >>> tokens, length = put_behind(np.array([[[5]], [[6]]]), np.array([1, 1]), np.array([[[7], [8]], [[0], [0]]]), np.array([2, 0]))
    >>> tokens[:, :, 0].tolist(), length.tolist()
    ([[5, 2, 7, 8], [6, 0, 0, 0]], [4, 1])
    """
    whole = length + np.where(count > 0, 1 + count, 0)
    joined = np.full((len(tokens), max(int(whole.max(initial=0)), 1), tokens.shape[2]), PAD, tokens.dtype)
    joined[:, : tokens.shape[1]] = tokens[:, : joined.shape[1]]
    followed = np.flatnonzero(count)
    joined[followed, length[followed], 0] = MASK
    row, place = np.nonzero(np.arange(later.shape[1]) < count[:, None])
    joined[row, length[row] + 1 + place] = later[row, place]
    return joined, whole
