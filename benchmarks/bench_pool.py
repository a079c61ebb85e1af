"""Memory and speed of reading click sequences: tokens mapped from their file against tokens held in memory.

    python benchmarks/bench_pool.py                      20 million clicks

Either way runs in a process of its own: it cuts the sequences and gathers batches of 256 of them in random order. Memory is
what the process owns (anonymous pages); pages of a mapped file belong to the system, which takes them back when it needs them.
Writes results/pool.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.summaries import columns_alone
from ctr_kd.data.batching import batch_plan, gather
from ctr_kd.data.samples import CLICK_CHUNK, POOL, Assembly

ITEMS, PER_USER, LONGEST, BATCH = 50_000, 15, 50, 256


def write_assembly(directory: Path, clicks: int) -> None:
    """An assembly of random clicks, in the layout of the feature store."""
    rng = np.random.default_rng(0)
    schema = {"item": pa.int32(), "timestamp": pa.int64(), "time_known": pa.bool_(), "known_at": pa.int64(), "user": pa.int32()}
    with pq.ParquetWriter(directory / "clicks.parquet", pa.schema([*schema.items(), ("canonical", pa.bool_())])) as writer:
        for begin in range(0, clicks, CLICK_CHUNK):
            position = np.arange(begin, min(begin + CLICK_CHUNK, clicks))
            time_, yes = position * 1_000_000, np.ones(len(position), bool)
            columns = [
                rng.integers(0, ITEMS, len(position)).astype(np.int32),
                time_,
                yes,
                time_,
                (position // PER_USER).astype(np.int32),
                yes,
            ]
            writer.write_table(pa.table(columns, schema=writer.schema))
    pq.write_table(pa.table({"item_id": np.arange(ITEMS), "topic": np.arange(ITEMS) % 300}), directory / "items.parquet")
    pq.write_table(pa.table({"user_id": np.arange(clicks // PER_USER + 1)}), directory / "users.parquet")
    vocabulary = {"item": [str(i) for i in range(ITEMS)], "topic": [str(i) for i in range(300)]}
    (directory / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    columns_alone(item_attributes=["topic"]).write(directory)


def owned_mb(figure: str = "RssAnon") -> float:
    """Memory that belongs to this process alone, in megabytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{figure}:")).split()[1]) / 1024


def measure(directory: Path, batches: int) -> dict[str, Any]:
    """Read sequences in this process."""
    assembly = Assembly(directory, LONGEST)
    before = owned_mb()
    began = time.perf_counter()
    pool = assembly.clicks
    opened = time.perf_counter()
    opened_mb = owned_mb() - before
    sequences = assembly.sequences(None)
    cut = time.perf_counter()
    plan = batch_plan(sequences.end - sequences.start, np.arange(len(sequences.start)), BATCH, np.random.default_rng(0))
    planned = time.perf_counter()
    for rows in plan[:batches]:
        gather(sequences, sequences.start[rows], sequences.end[rows])
    seconds = time.perf_counter() - planned
    return {
        "tokens": "mapped" if isinstance(pool, np.memmap) else "in memory",
        "clicks": len(pool),
        "pool_mb": round(pool.nbytes / 2**20, 1),
        "open_seconds": round(opened - began, 2),
        "owned_mb_of_pool": round(opened_mb, 1),
        "cut_seconds": round(cut - opened, 2),
        "owned_mb_while_reading": round(owned_mb() - before, 1),
        "mapped_mb_resident": round(owned_mb("RssFile"), 1),
        "sequences": len(sequences.start),
        "sequences_per_second": round(min(batches, len(plan)) * BATCH / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=20)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.batches)))
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_assembly(directory, int(arguments.millions * 1e6))
        Assembly(directory, LONGEST).write_pool()
        command = [sys.executable, __file__, "--one", folder, "--batches", str(arguments.batches)]
        runs = []
        for _ in range(2):
            process = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
            runs.append(json.loads(process.stdout.splitlines()[-1]))
            print(json.dumps(runs[-1]), flush=True)
            (directory / POOL).unlink(missing_ok=True)
    mapped, held = runs
    saved = held["owned_mb_while_reading"] - mapped["owned_mb_while_reading"]
    speed = mapped["sequences_per_second"] / held["sequences_per_second"]
    print(f"mapped tokens save {saved:.0f} MB (pool: {mapped['pool_mb']:.0f} MB), at {speed:.2f} times the speed")
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    report = {"command": "python benchmarks/bench_pool.py", "saved_mb": round(saved, 1), "runs": runs}
    (results / "pool.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
