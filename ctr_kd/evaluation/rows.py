"""The labelled rows that models are measured on, and the usual parts of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluationRows:
    """The labelled rows that every model has scored.

    Attributes
    ----------
    label : array, shape (rows,)
        0 or 1 for clicks, class codes for classes.
    user : array of integers or strings, shape (rows,), optional
        Unit of resampling and of GAUC. Without it rows are resampled and there is no GAUC.
    request : array of integers or strings, shape (rows,), optional
        Candidates shown together, all to one user; gives `request_auc`, the AUC inside a request averaged over requests.
    slices : mapping of str to bool array, shape (rows,)
        Named parts of the rows, as GROUP/PART; `standard_slices` makes the usual ones.
    classes : list of str, optional
        Names of the classes, for classifiers.
    negative_sampling_rate : float, optional
        Share of the rows without a click that the log kept. Scores are then those of the full stream, and so are the figures about
        probabilities, in which each such row stands for several; a ranking among clicks and others is the same in both.
    row_weight : array, shape (rows,), optional
        How much each row counts in every figure; None where all count alike.
    """

    label: NDArray
    user: NDArray | None = None
    request: NDArray | None = None
    slices: Mapping[str, Mask] = field(default_factory=dict)
    classes: list[str] | None = None
    negative_sampling_rate: float | None = None
    row_weight: NDArray | None = None

    @property
    def metric(self) -> str:
        """The figure by which one model is better than another: ``accuracy`` of classes, else ``auc``."""
        return "auc" if self.classes is None else "accuracy"

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """How much each row counts in figures about probabilities: as many rows of the full stream as it stands for, times its own weight.

        None where each stands for itself.
        """
        if self.negative_sampling_rate is None:
            return None if self.row_weight is None else np.asarray(self.row_weight, np.float64)
        stands_for = np.where(np.asarray(self.label) == 1, 1.0, 1 / self.negative_sampling_rate)
        return stands_for if self.row_weight is None else stands_for * self.row_weight


def standard_slices(
    *,
    history_length: ArrayLike | None = None,
    unseen_item: ArrayLike | None = None,
    timestamp: ArrayLike | None = None,
    cutoff: int | None = None,
) -> dict[str, Mask]:
    """The usual parts of the test rows: cold users, unseen items, and time since the cut-off.

    Parameters
    ----------
    history_length : array of integers, shape (rows,), optional
        Clicks in the history; gives ``history_length/0``, ``/1-2``, ``/3-10`` and ``/11+``.
    unseen_item : bool array, shape (rows,), optional
        Whether the candidate is missing from the vocabulary; gives ``item/seen`` and ``item/unseen``.
    timestamp : array of integers, shape (rows,), optional
        Time of the row in microseconds; with `cutoff` gives ``hours_after_cutoff/0-1`` and so on, in days where the
        rows span more than twelve hours, and in at most eight pieces of whole days where they span more than twelve days.
    cutoff : int, optional
        End of the training window in microseconds.

    Returns
    -------
    dict of str to bool array
        Parts without rows are left out.

    Examples
    --------
    >>> masks = standard_slices(history_length=[0, 5], timestamp=[5_400_000_000, 9_000_000_000], cutoff=0)
    >>> list(masks)
    ['history_length/0', 'history_length/3-10', 'hours_after_cutoff/1-2', 'hours_after_cutoff/2-3']
    """
    masks: dict[str, Mask] = {}
    if history_length is not None:
        length = np.asarray(history_length)
        for name, low, high in (("0", 0, 0), ("1-2", 1, 2), ("3-10", 3, 10), ("11+", 11, np.inf)):
            masks[f"history_length/{name}"] = (length >= low) & (length <= high)
    if unseen_item is not None:
        unseen = np.asarray(unseen_item, bool)
        masks |= {"item/seen": ~unseen, "item/unseen": unseen}
    if timestamp is not None and cutoff is not None and np.size(timestamp):
        hours = (np.asarray(timestamp, np.int64) - cutoff) // 3_600_000_000
        unit, passed = ("hours", hours) if hours.max() - hours.min() < 12 else ("days", hours // 24)
        first, step = int(passed.min()), -(-int(passed.max() - passed.min() + 1) // 12)
        if step > 1:
            step = -(-int(passed.max() - passed.min() + 1) // 8)
        for start in range(first, int(passed.max()) + 1, step):
            masks[f"{unit}_after_cutoff/{start}-{start + step}"] = (passed >= start) & (passed < start + step)
    return {name: mask for name, mask in masks.items() if mask.any()}
