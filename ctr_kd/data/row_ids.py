"""Where rows stand among others, by their ids."""

from __future__ import annotations

import numpy as np


def places_of(wanted: np.ndarray, row_id: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
    """Where some rows stand among stored ones.

    Parameters
    ----------
    wanted, row_id : int64 arrays (rows,) and (stored,)

    Returns
    -------
    places : int64 array (rows,) or slice
        The slice of all where both are the same ids in one order: of a large log any other order takes more memory than all else.
    missing : int64 array
        Ids of the wanted rows that are not stored; where there are any, the places say nothing.

    Examples
    --------
    >>> places_of(np.array([7, 5]), np.array([5, 6, 7]))[0].tolist(), places_of(np.array([7, 8]), np.array([7]))[1].tolist()
    ([2, 0], [8])
    """
    if np.array_equal(row_id, wanted):
        return slice(None), wanted[:0]
    if not len(row_id):
        return slice(None), wanted
    order = np.argsort(row_id, kind="stable")
    places = order[np.searchsorted(row_id[order], wanted).clip(max=len(row_id) - 1)]
    return places, wanted[row_id[places] != wanted]
