"""The table of `ctr-kd score --profile`: what each part of a scoring cost."""

from __future__ import annotations

import time

import numpy as np

from pipelines.workspace.stopwatch import Stopwatch
from pipelines.workspace.tables import text_table

PARTS = {
    "reading": "rows out of files, and their way to whoever scores them",
    "joining": "histories and statistics out of the store",
    "mapping": "raw values to numbers: ids to their places in tables",
    "gathering": "rows of tables, looked up and added",
    "head": "the graph, from what was gathered to scores",
    "scoring": "all that the scorer of an earlier release does",
    "counting": "what the report says of the rows",
    "writing": "answers into files, and files into one",
    "waiting": "for a disk, for a processor that others use, for another process or its start",
}

_COPIED = 1 << 27  # bytes, which no cache holds


def profile_table(stopwatch: Stopwatch, bandwidth: float | None = None) -> str:
    """What every part cost, as a text.

    Waiting is what is left of the time of all cores, on the clock.

    Parameters
    ----------
    stopwatch : Stopwatch
    bandwidth : float, optional
        Bytes a second that a core moves; by default it is measured.
    """
    if not stopwatch.rows:
        return "profile: nothing was scored"
    bandwidth = memory_bandwidth() if bandwidth is None else bandwidth
    rows, elapsed, cores = stopwatch.rows, stopwatch.elapsed, stopwatch.cores
    worked = sum(seconds for seconds, _ in stopwatch.costs.values())
    costs = stopwatch.costs | {"waiting": (max(0.0, elapsed * cores - worked), 0)}
    together = sum(seconds for seconds, _ in costs.values()), sum(moved for _, moved in costs.values())
    lines = [["part", "core seconds", "share", "us per row", "bytes per row", "of the bandwidth", ""]]
    for name, (seconds, moved) in [*((name, costs[name]) for name in PARTS if name in costs), ("together", together)]:
        of_bandwidth = f"{moved / seconds / bandwidth:.1%}" if moved and seconds else "-"
        facts = [f"{seconds:.3f}", f"{seconds / together[0]:.1%}", f"{seconds / rows * 1e6:.3f}", f"{moved / rows:,.0f}"]
        lines.append([name, *facts, of_bandwidth, PARTS.get(name, "")])
    of = "one core" if cores == 1 else f"{cores} cores"
    return "\n".join(
        [
            text_table(lines, right=range(1, 6)),
            f"{rows:,} rows on {of} in {elapsed:.2f} s: {rows / elapsed / cores:,.0f} rows per second and core, start and model aside.",
            f"The bandwidth of memory is {bandwidth / 1e9:.1f} GB/s, measured as one core copies an array. Bytes are counted: of the",
            "columns and arrays that a part takes and gives, and of the rows that it looks up, each once.",
        ]
    )


def memory_bandwidth() -> float:
    """Bytes a second that one core reads and writes while it copies an array that no cache holds, the best of five copies."""
    source, target = np.ones(_COPIED, np.uint8), np.ones(_COPIED, np.uint8)
    fastest = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * _COPIED / fastest
