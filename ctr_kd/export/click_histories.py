"""The histories of rows: each distinct one once, its newest clicks one after the other, and sums over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from ctr_kd.export.click_values import NO_TIME, PAD, TYPES, ClickRowsError

BATCH = 2048  # rows whose working set in the graph fits the cache
HISTORIES = 512  # the same of histories whose clicks the graph reads one by one


class Histories:
    """Distinct histories: item, gap and type of every click (clicks,), one history after the other, and the clicks of each."""

    def __init__(self, items: np.ndarray, gaps: np.ndarray, types: np.ndarray, length: np.ndarray) -> None:
        self.items, self.gaps, self.types, self.length = items, gaps, types, length
        self.start: np.ndarray = np.cumsum(length) - length  # where the clicks of each begin

    def batches(self, history: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows whose ``history`` (rows,) are about as long, those histories, and which of them each row has."""
        order = np.argsort(self.length[history], kind="stable")  # neighbours of one length need no padding
        ordered = history[order]
        run = np.cumsum(ordered != np.roll(ordered, 1))  # grows where a history ends
        begin = 0
        while begin < len(order):
            end = min(begin + BATCH, int(np.searchsorted(run, run[begin] + HISTORIES)))
            yield order[begin:end], *renumbered(ordered[begin:end])
            begin = end

    def padded(self, clicks: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """What is said of the clicks, (clicks, ...), of the histories that are ``asked`` for: (asked, longest, ...), with zeros behind."""
        length = self.length[asked]
        offset = np.arange(max(int(length.max(initial=0)), 1))
        inside = offset < length[:, None]
        if not len(clicks):
            return np.zeros((*inside.shape, *clicks.shape[1:]), clicks.dtype)
        padded: np.ndarray = clicks[np.where(inside, self.start[asked][:, None] + offset, 0)]
        padded[~inside] = PAD
        return padded


def renumbered(history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which histories stand there, each run of one once, and of which run each row (rows,) is."""
    begins = np.ones(len(history), bool)
    begins[1:] = history[1:] != history[:-1]
    return history[begins], np.cumsum(begins) - 1


def sums_of(rows: np.ndarray, index: np.ndarray, ways: Iterable[np.ndarray], length: np.ndarray) -> np.ndarray:
    """Sums (sums, ways * width) of rows (rows, width): of the first ``length`` of ``index`` (entries,), of the next, and so on; for each
    way to weigh the entries, (entries,), one beside the other."""
    ends = np.zeros(len(length) + 1, np.int32)
    np.cumsum(length, out=ends[1:])
    picked = csr_array((np.ones(len(index), rows.dtype), index, ends), shape=(len(length), len(rows)))
    sums = []
    for weight in ways:
        picked.data = weight  # a matrix of its own would be checked anew
        sums.append(picked @ rows)
    return np.concatenate(sums, axis=1)


def differs_from_last(lists: list[pa.Array]) -> np.ndarray:
    """Which rows (rows,) list anything else than the row before, in any of some columns of lists, of which the first decides most.

    Whoever has as many values and the same newest one as its neighbours is compared with them: all that stand together at once, and one by
    one where that tells a difference.
    """
    lists = [type(one).from_arrays(one.offsets, one.values.indices) if pa.types.is_dictionary(one.values.type) else one for one in lists]

    def repeat(begin: int, rows: int) -> bool:
        return all(one.slice(begin, rows - 1).equals(one.slice(begin + 1, rows - 1)) for one in lists)

    differs = np.ones(len(lists[0]), bool)
    if len(differs) < 2 or not len(lists[0].values) or repeat(0, len(differs)):
        differs[1:] = False  # all of them are empty, or of one request
        return differs
    last, length = ends_of(lists[0])
    newest = lists[0].values.take(pa.array(np.maximum(last - 1, 0)))
    same = pc.fill_null(pc.equal(newest.slice(1), newest.slice(0, len(newest) - 1)), True).to_numpy(zero_copy_only=False)
    differs[1:] = (length[1:] != length[:-1]) | ~(same | (length[1:] == 0))
    begins = np.flatnonzero(differs)
    count = np.diff(begins, append=len(differs))
    for begin, rows in zip(begins[count > 1].tolist(), count[count > 1].tolist(), strict=True):
        if not repeat(begin, rows):
            differs[begin + 1 : begin + rows] = [not repeat(row, 2) for row in range(begin, begin + rows - 1)]
    return differs


def ends_of(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's list ends among the values of a column of lists, and its length; a null is an empty list."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    length = np.diff(offsets)
    return offsets[1:], np.where(column.is_null().to_numpy(zero_copy_only=False), 0, length) if column.null_count else length


def newest_values(column: pa.Array, last: np.ndarray, kept: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """The last ``kept`` (rows,) values of lists that end at ``last`` (rows,), one row after the other; null for rows not ``known``."""
    shift = np.repeat(last - np.cumsum(kept), kept)
    if known is None and len(shift) and shift[0] >= 0 and (shift == shift[0]).all():  # nothing lies between them
        return column.values.slice(shift[0], len(shift))
    unknown = None if known is None else ~np.repeat(known, kept)
    return column.values.take(pa.array(shift + np.arange(len(shift)), mask=unknown))


def of_clicks(told: pa.Array, name: str, length: np.ndarray, kept: np.ndarray) -> pa.Array:
    """What lists tell of the ``kept`` (rows,) newest clicks of histories of some ``length``; null where the row lists nothing at all.

    Raises
    ------
    ClickRowsError
        When a row lists more or fewer values than clicks.
    """
    last, listed = ends_of(told)
    known = told.is_valid().to_numpy(zero_copy_only=False) if told.null_count else None
    if not np.array_equal(length if known is None else np.where(known, length, 0), listed):
        what = "type" if name == TYPES else "time"
        raise ClickRowsError(f"column {name} must have one {what} for every item of history")
    return newest_values(told, last, kept, known)


def gap_buckets(moments: np.ndarray, first: np.ndarray, buckets: int) -> np.ndarray:
    """Logarithmic buckets of the time (int64 microseconds) between neighbours; 0 where unknown, and at the first click of a history."""
    known = moments != NO_TIME
    time = np.where(known, moments, 0)
    if not len(time):
        return np.zeros(0, np.int32)
    seconds = np.maximum(np.diff(time, prepend=time[:1]), 0) / 1e6
    bucket = np.minimum(np.frexp(1 + seconds)[1], buckets - 1)  # 1 + floor(log2(1 + seconds))
    bucket[~(known & np.concatenate([known[:1], known[:-1]]))] = 0
    bucket[first] = 0
    return bucket.astype(np.int32)
