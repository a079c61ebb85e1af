"""How long a model takes for a request, measured so that other work on the machine does not decide.

The machine that trains at night is busy. So what is judged is the processor time of the thread that asks, which waiting for a processor
does not add to; what other programs do to caches and clock rates still adds to it, so the best of several rounds counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

ROUNDS = 5

Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """Milliseconds within which 99 % of a model's requests were answered, in the best of several rounds.

    Attributes
    ----------
    processor_ms : float
        Of processor time of the thread that asked: all of it, since a scorer answers on one thread.
    wall_ms : float
        Of time that passed, which grows with the load of the machine.
    rounds, requests : int
        Rounds, and requests of each.
    """

    processor_ms: float
    wall_ms: float
    rounds: int
    requests: int

    def __str__(self) -> str:
        return (
            f"processor time, best of {self.rounds} rounds of {self.requests} requests: {self.processor_ms:.6g} ms, "
            f"wall time {self.wall_ms:.6g} ms"
        )


def measure_latency(
    scorers: Sequence[Callable[[pa.Table], Any]],
    request: pa.Table,
    requests: int,
    *,
    rounds: int = ROUNDS,
    processor: Clock = time.thread_time,
    wall: Clock = time.perf_counter,
) -> list[Latency]:
    """Time the answers of models to one request, in turn, so that whatever slows the machine meets all of them.

    Parameters
    ----------
    scorers : sequence of callable
        Each answers ``request``; a first answer of each is not counted.
    request : pyarrow Table
    requests : int
        Counted requests of each model, over all rounds; rounded up to whole rounds.
    rounds : int
    processor, wall : callable
        Clocks in seconds.

    Returns
    -------
    list of Latency
        One of each scorer.
    """
    each = -(-requests // rounds)
    taken = np.zeros((rounds, each, len(scorers), 2))
    for scorer in scorers:
        scorer(request)
    for one in taken.reshape(-1, len(scorers), 2):
        for place, scorer in enumerate(scorers):
            began, spent = wall(), processor()
            scorer(request)
            one[place] = processor() - spent, wall() - began
    best = 1000 * np.quantile(taken, 0.99, axis=1).min(axis=0)  # (scorers, 2)
    return [Latency(float(spent), float(passed), rounds, each) for spent, passed in best]
