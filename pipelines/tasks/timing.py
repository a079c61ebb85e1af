"""Rows per second of whatever scores tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from threadpoolctl import threadpool_limits

TIMED_ROWS, TIMED_SECONDS = 20_000, 1.0
_WARMED_UP = 10  # on one in so many of the rows


def rate_of(score: Callable[[Any], Any], rows: pa.Table) -> float | None:
    """Rows per second of a function over rows on one thread, after a few; what scores with ONNX Runtime sees to its threads itself."""
    count = min(rows.num_rows, TIMED_ROWS)
    if not count:
        return None
    rows = rows.slice(0, count)
    with threadpool_limits(1):
        score(rows.slice(0, -(-count // _WARMED_UP)))
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < TIMED_SECONDS:
            score(rows)
            done += count
        return done / (time.perf_counter() - began)
