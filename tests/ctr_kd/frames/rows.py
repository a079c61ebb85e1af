"""Rows in frames: two tastes, items of two kinds, and a teacher that knows the click probabilities."""

from __future__ import annotations

import numpy as np
import pandas as pd

ITEMS = pd.DataFrame({"item_id": [f"i{n}" for n in range(20)], "kind": ["a"] * 10 + ["b"] * 10})


def rows(count: int, day: int, seed: int = 0) -> pd.DataFrame:
    """Requests of five candidates; a user clicks on what is of the kind that he clicked before."""
    rng = np.random.default_rng([seed, day])
    requests = -(-count // 5)
    taste = rng.integers(0, 2, requests)
    histories = [[f"i{10 * kind + n}" for n in rng.integers(0, 10, rng.integers(0, 6))] for kind in taste]
    start = np.datetime64("2024-01-01", "us") + np.timedelta64(day, "D")
    time = start + np.sort(rng.integers(0, 86_400, requests)).astype("timedelta64[s]")
    request = np.repeat(np.arange(requests), 5)[:count]
    item, price = rng.integers(0, 20, count), rng.random(count)
    logit = 2.0 * ((item >= 10) == taste[request]) + price - 1.5
    return pd.DataFrame(
        {
            "history": [histories[n] for n in request],
            "history_timestamps": [list(time[n] - np.arange(len(histories[n]), 0, -1).astype("timedelta64[h]")) for n in request],
            "item_id": [f"i{n}" for n in item],
            "timestamp": time[request],
            "label": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int),
            "user_id": [f"u{n % 30}" for n in request],
            "request_id": request,
            "price": price,
            "device": rng.choice(["phone", "desk"], count),
            "logit": logit,
        }
    )
