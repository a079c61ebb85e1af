"""Small logs of clicks for tests of vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from feature_store.features.click_sequences import ClickSequences

HOUR = 3600 * 10**6
START = 1_700_000_000 * 10**6 // HOUR * HOUR


def sequences(events: list[tuple[str, str, int, int]], categories: dict[str, str] | None = None) -> ClickSequences:
    """Clicks (user, item, time, known at) as the store gives them; ``categories`` is an attribute of items."""
    events = sorted(events, key=lambda one: (one[0], one[2], one[1], one[3]))
    users, items = (sorted({one[place] for one in events}) for place in (0, 1))
    user = np.array([users.index(one[0]) for one in events], np.int32)
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    columns = {"item_id": pa.array(items, pa.string())}
    if categories is not None:
        columns["category"] = pa.array([categories.get(one) for one in items], pa.string())
    return ClickSequences(
        item=np.array([items.index(one[1]) for one in events], np.int32),
        user=user,
        first=np.repeat(begins, np.diff(np.append(begins, len(user)))),
        known_at=np.array([one[3] for one in events], np.int64),
        items=pa.table(columns),
        users=pa.array(users, pa.string()),
    )


def random_events(seed: int, clicks: int = 400, hours: int = 60) -> list[tuple[str, str, int, int]]:
    """Users who follow one of two tastes, items that come and go, and clicks of which some become known late."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, hours * HOUR, clicks)) + START
    late = np.where(rng.random(clicks) < 0.1, rng.integers(0, 5 * HOUR, clicks), 0)
    user = rng.integers(0, 30, clicks)
    item = rng.integers(0, 8, clicks) * 2 + user % 2 + (time - START) // (20 * HOUR) * 16
    return [(f"u{u}", f"i{i:03d}", int(t), int(t + d)) for u, i, t, d in zip(user, item, time, late, strict=True)]


def known_before(events: list[tuple[str, str, int, int]], moment: int) -> list[tuple[str, str, int, int]]:
    """What was known before a time."""
    return [one for one in events if one[3] < moment]
