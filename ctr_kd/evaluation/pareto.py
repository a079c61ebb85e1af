"""Which models are worth having: those that no other model beats in both quality and cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def on_frontier(quality: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Whether each model is Pareto optimal: no other is as good and cheaper, or better and no dearer.

    Parameters
    ----------
    quality : array (models,)
        Better when higher.
    cost : array (models,)
        Better when lower. Where either is nan, because it was not measured, the model is off the frontier.

    Returns
    -------
    bool array (models,)

    Examples
    --------
    >>> on_frontier([0.70, 0.72, 0.71, 0.70], [1.0, 5.0, 6.0, 2.0]).tolist()
    [True, True, False, False]
    """
    quality, cost = np.asarray(quality, np.float64), np.asarray(cost, np.float64)
    no_worse = (quality >= quality[:, None]) & (cost <= cost[:, None])  # (models, models): whether the second beats or equals the first
    better = (quality > quality[:, None]) | (cost < cost[:, None])
    return ~(no_worse & better).any(axis=1) & ~np.isnan(quality) & ~np.isnan(cost)
