"""Rows per second of a model, measured the way it would be used: batches of histories, one thread."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from ctr_kd.data.batching import make_batch
from ctr_kd.data.samples import Samples
from ctr_kd.models.threads import one_thread

TIMED_SECONDS = 1.0  # of a measurement, where the caller names no other


@torch.no_grad()
def rows_per_second(model: nn.Module, samples: Samples, share_histories: bool, rows: int = 8192, seconds: float | None = None) -> float:
    """Score batches of real rows on one thread for a while.

    Parameters
    ----------
    model : Module
    samples : Samples
    share_histories : bool
        True encodes a request's history once for its candidates; False encodes it once per row, as a server would that
        scores row by row.
    rows : int
        Rows of the sample, taken from the end.
    seconds : float, optional
        How long to measure, after a warm-up batch; :data:`TIMED_SECONDS` where nothing is given.

    Returns
    -------
    float
        Rows per second, batching included; 0 where there are no rows.
    """
    if not len(samples):
        return 0.0
    seconds = TIMED_SECONDS if seconds is None else seconds
    chosen = np.arange(max(0, len(samples) - rows), len(samples))
    if not share_histories:
        # One row's history is never next to an equal one, so that nothing is shared.
        chosen = chosen[np.argsort(np.arange(len(chosen)) % 97, kind="stable")]
    length = (samples.a.end - samples.a.start)[chosen]
    batches = np.array_split(chosen[np.argsort(length, kind="stable")] if share_histories else chosen, max(1, len(chosen) // 1024))
    was_training = model.training
    model.eval()
    try:
        with one_thread():
            model(*make_batch(samples, batches[0]))
            done, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds:
                for batch in batches:
                    model(*make_batch(samples, batch))
                    done += len(batch)
                    if time.perf_counter() - began > seconds:
                        break
            return done / (time.perf_counter() - began)
    finally:
        model.train(was_training)


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers of a model, tied ones once."""
    return sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())
