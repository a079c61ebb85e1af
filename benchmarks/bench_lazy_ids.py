"""Milliseconds of an optimizer's step over one table of ids, of which a batch reads few rows, by the size of the table.

    python benchmarks/bench_lazy_ids.py [--rows 100000 1000000 10000000]

Four ways, by turns on one thread, median of some steps: `lazy_ids` of this project, torch's SparseAdam, torch's fused AdamW over the whole
table (what happens without `lazy_ids`), and the fused pass over a table that has no more rows than the step reads: what those would cost if
they lay side by side in memory. The gradient is made before the clock runs; that rows read twice are merged counts. Ids are as uneven as
those of a news log (Zipf, exponent 1).

Writes results/lazy_ids.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.models.threads import one_thread
from ctr_kd.training.lazy_adam import LazyAdam

WIDTH, READS = 16, 61_440  # 1,024 rows of 60 ids
STEPS, WARM_UP = 20, 3
FUSED = ("whole table", "rows side by side")


def reads(rows: int, rng: np.random.Generator) -> Tensor:
    """Ids that a batch reads, (READS,): popular ones often."""
    share = np.cumsum(1 / np.arange(1, rows + 1))
    drawn = np.searchsorted(share, rng.random(READS) * share[-1])
    return torch.from_numpy(rng.permutation(rows)[drawn])  # popular rows lie anywhere


def step_of(way: str, rows: int, ids: Tensor, rng: np.random.Generator) -> Any:
    """A function that takes one step of a table, whose gradient is given to it before."""
    if way == "rows side by side":
        rows = len(torch.unique(ids))
    table = torch.nn.Parameter(torch.zeros(rows, WIDTH))
    optimizer: torch.optim.Optimizer
    if way in FUSED:
        optimizer = torch.optim.AdamW([table], lr=1e-3, fused=True)
        table.grad = torch.from_numpy(rng.standard_normal((rows, WIDTH), np.float32))
        return optimizer.step
    optimizer = LazyAdam([table]) if way == "lazy_ids" else torch.optim.SparseAdam([table])
    values = torch.from_numpy(rng.standard_normal((READS, WIDTH), np.float32))

    def step() -> None:
        table.grad = torch.sparse_coo_tensor(ids.unsqueeze(0), values, table.shape, check_invariants=False)
        optimizer.step()

    return step


def measure(rows: int) -> dict[str, Any]:
    """Median milliseconds of each way, and how many rows a step moves."""
    rng = np.random.default_rng(0)
    ids = reads(rows, rng)
    ways = {way: step_of(way, rows, ids, rng) for way in ("lazy_ids", "SparseAdam", *FUSED)}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(WARM_UP + STEPS):
        for way, step in ways.items():
            began = time.perf_counter()
            step()
            took[way].append(1000 * (time.perf_counter() - began))
    return {"rows": rows, "rows moved": len(torch.unique(ids))} | {
        f"{way} ms": round(statistics.median(of[WARM_UP:]), 2) for way, of in took.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "lazy_ids.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"command": "python benchmarks/bench_lazy_ids.py", "load_before": round(os.getloadavg()[0], 1), "runs": []}
    with one_thread():
        for rows in options.rows:
            result["runs"].append(measure(rows))
            print(result["runs"][-1], flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
