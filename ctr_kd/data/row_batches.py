"""Batches of the rows of a split, in an order that fits what memory holds of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ctr_kd.data.batching import Batch, batch_plan, make_batch
from ctr_kd.data.disk_arrays import let_go, read_ahead, rows_array
from ctr_kd.data.samples import Samples

MOST_SHUFFLED = 1 << 22  # rows that are put in order together
BLOCK = 1 << 17  # neighbouring rows of a larger split that stay together: what a disk reads in one go


def row_batches(samples: Samples, batch_size: int, rng: np.random.Generator | None) -> Sequence[np.ndarray]:
    """Batches of similar history length that keep every request whole; see :func:`ctr_kd.data.batching.batch_plan`.

    Parameters
    ----------
    samples : Samples
    batch_size : int
        Rows per batch.
    rng : numpy Generator or None
        Shuffles; None sorts by length, which suits inference.

    Returns
    -------
    sequence of int64 arrays
        Positions in the samples. Of a split of more than :data:`MOST_SHUFFLED` rows they are :class:`SectionBatches`.
    """
    if len(samples) <= MOST_SHUFFLED:
        return batch_plan(samples.a.end - samples.a.start, samples.group, batch_size, rng)
    return SectionBatches(samples, batch_size, rng)


def answers_of(
    samples: Samples,
    batch_size: int,
    answer: Callable[[Batch], np.ndarray],
    report: Callable[[int], object] = lambda done: None,
    folder: Path | None = None,
) -> np.ndarray:
    """What a model says of all rows, in their order, asked in batches; where there are none, one output of none.

    Parameters
    ----------
    samples : Samples
    batch_size : int
    answer : callable
        From a batch to an array (rows of the batch, outputs).
    report : callable
        Takes how many rows are done, after every batch.
    folder : Path, optional
        On its disk the answers lie where they are many; None: in memory.
    """
    answers: np.ndarray | None = None
    done = 0
    for rows in row_batches(samples, batch_size, None):
        of_batch = answer(make_batch(samples, rows))
        if answers is None:
            shape = len(samples), of_batch.shape[1]
            answers = np.empty(shape, of_batch.dtype) if folder is None else rows_array(shape, of_batch.dtype, folder)
        answers[rows] = of_batch
        done += len(rows)
        report(done)
    return np.zeros((0, 1), np.float32) if answers is None else answers


class SectionBatches(Sequence[np.ndarray]):
    """Batches of a large split, a section at a time: random blocks of neighbouring rows, shuffled together.

    The order of a section is drawn when the first of its batches is asked for, from a seed of its own, so that any batch can be had
    without those before it. Its rows are read from few places of the disk; those of the next one are fetched meanwhile, those of the last
    one let go.

    Parameters
    ----------
    samples : Samples
    batch_size : int
    rng : numpy Generator or None
        None takes the blocks in their order.

    Notes
    -----
    The number of batches follows from that of the rows, before any order is drawn. A section some of whose requests are longer than a batch
    has fewer, and repeats its first ones.
    """

    def __init__(self, samples: Samples, batch_size: int, rng: np.random.Generator | None) -> None:
        self._samples, self._batch_size, self._shuffles = samples, batch_size, rng is not None
        edges = block_edges(samples.group, BLOCK)
        order = np.arange(len(edges) - 1) if rng is None else rng.permutation(len(edges) - 1)
        blocks = MOST_SHUFFLED // BLOCK
        self._sections = [np.sort(order[begin : begin + blocks]) for begin in range(0, len(order), blocks)]
        self._begin, self._end = edges[:-1], edges[1:]
        rows = [int((self._end[section] - self._begin[section]).sum()) for section in self._sections]
        self._first = np.cumsum([0, *(-(-count // batch_size) for count in rows)])
        self._seeds = np.zeros(len(rows), np.int64) if rng is None else rng.integers(2**62, size=len(rows))
        self._number, self._batches = -1, [np.zeros(0, np.int64)]

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, place: int) -> np.ndarray:  # type: ignore[override]  # of slices nobody asks
        if not 0 <= place < len(self):
            raise IndexError(place)
        number = int(np.searchsorted(self._first, place, side="right")) - 1
        if number != self._number:
            self._number, self._batches = number, self._of_section(number)
        return self._batches[(place - int(self._first[number])) % len(self._batches)]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Every row exactly once."""
        for number in range(len(self._sections)):
            yield from self._of_section(number)

    def _of_section(self, number: int) -> list[np.ndarray]:
        samples = self._samples
        let_go([*samples.by_row.values(), samples.a.pool])
        if number + 1 < len(self._sections):
            for block in self._sections[number + 1]:
                for array in samples.by_row.values():
                    read_ahead(array, int(self._begin[block]), int(self._end[block]))
        ranges = [slice(int(self._begin[block]), int(self._end[block])) for block in self._sections[number]]
        length = np.concatenate([samples.a.end[one] - samples.a.start[one] for one in ranges])
        group = np.concatenate([samples.group[one] for one in ranges])
        position = np.concatenate([np.arange(one.start, one.stop) for one in ranges])
        rng = np.random.default_rng(self._seeds[number]) if self._shuffles else None
        return [position[rows] for rows in batch_plan(length, group, self._batch_size, rng)]


def block_edges(group: np.ndarray, block: int) -> np.ndarray:
    """Where blocks of about so many rows begin, and where the last one ends: none of them begins within a group.

    Examples
    --------
    >>> block_edges(np.array([0, 0, 1, 1, 1, 1, 2]), 3).tolist()
    [0, 6, 7]
    """
    edges = [0]
    while (at := _next_group(group, edges[-1] + block, block)) < len(group):
        edges.append(at)
    return np.array([*edges, len(group)])


def _next_group(group: np.ndarray, at: int, window: int) -> int:
    """The first row from ``at`` on with which a group begins, looked for in so many rows at a time; behind the last where none does."""
    while at < len(group):
        read = group[at - 1 : at + window]
        begins = np.flatnonzero(read[1:] != read[:-1])
        if len(begins):
            return at + int(begins[0])
        at += window
    return len(group)
