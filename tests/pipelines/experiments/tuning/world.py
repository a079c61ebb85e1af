"""A log of a few requests in which some items are clicked far more than others, so that a student learns at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LOG = """
source: {reader: tabular, events: {path: log.parquet, user: user, item: item, time: time, clicked: clicked, request: request}}
split: {fractions: [0.6, 0.2, 0.2]}
statistics: {auto: false}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 1, batch_size: 128}}
distill: {teachers: {bert: 1}, student: {width: 4, hidden: 8}, training: {epochs: 1, batch_size: 128}}
"""


def write_log(folder: Path, flipped: bool = False, quiet: bool = False) -> Path:
    """A log of 300 requests; the last fifth has the other clicks where it is flipped, and the one before has none in a quiet log."""
    folder.mkdir()
    rng, requests = np.random.default_rng(0), 300
    request = np.repeat(np.arange(requests), 4)
    item = np.concatenate([rng.permutation(20)[:4] for _ in range(requests)])
    clicked = rng.random(len(request)) < np.where(item < 7, 0.5, 0.1)
    clicked = np.where(flipped & (request >= 0.8 * requests), ~clicked, clicked)
    clicked &= ~(quiet & (request >= 0.55 * requests) & (request < 0.85 * requests))
    table = {
        "user": request % 25,
        "item": item,
        "time": 1_700_000_000 + request * 600,
        "clicked": clicked.astype(np.int8),
        "request": request,
    }
    table["time"] = pa.array(table["time"] * 1_000_000, pa.timestamp("us"))
    pq.write_table(pa.table(table), folder / "log.parquet")
    (folder / "log.yaml").write_text(LOG)
    return folder
