"""Ranges of positions, spelled out."""

from __future__ import annotations

import numpy as np


def ranges(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all elements of half-open ranges, one after the other, and the offsets at which each range begins among them.

    Examples
    --------
    >>> position, offsets = ranges(np.array([4, 7, 0]), np.array([6, 7, 2]))
    >>> position.tolist(), offsets.tolist()
    ([4, 5, 0, 1], [0, 2, 2, 4])
    """
    length = end - start
    offsets = np.concatenate([[0], np.cumsum(length)])
    position = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
    return position, offsets
