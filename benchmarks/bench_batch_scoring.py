"""`ctr-kd score --input`, Parquet to Parquet: rows per second per core, memory, and what one request costs in process.

    python benchmarks/bench_batch_scoring.py [--rows 1000000 ...] [--workers 1 2]

A small real run on a simulated log registers `pooled`. Its rows, as raw ids with histories, times and statistics, are repeated into a
file, which the command scores, all columns kept. Seconds are those of the scoring; from the processor's, what a run on one row
takes (start-up, model, lock) is subtracted. Memory is the largest sum of what all processes hold at one moment; what they share
counts for each. Writes results/batch_scoring.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipelines.config.run import load
from pipelines.registry.loaded_model import load_model_folder
from pipelines.registry.registry import Registry
from pipelines.tasks.click_rows import ClickRows
from pipelines.tracking.client import tracking_uri

ROOT = Path(__file__).resolve().parent.parent
CONF = """
source: {reader: simulated, simulator: {requests: 20000, users: 2000, items: 9000}}
split: {fractions: [0.8, 0.1, 0.1]}
pretrain: {training: {epochs: 1}}
finetune: {members: 1, training: {epochs: 1}}
distill: {student: {kind: pooled}, training: {epochs: 1}}
evaluate: {bootstrap: 20}
"""
REQUESTS, CANDIDATES = 3000, 100
GROUP = 200_000  # rows of a row group of the input


def command(*arguments: str) -> dict[str, float]:
    """Run `ctr-kd`; its seconds, its processors' seconds, and its peak of memory in bytes."""
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", "pipelines", *arguments], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit((process.stderr.read() if process.stderr else b"").decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - began, "processor_seconds": spent, "peak_memory_bytes": peak}


def memory(pid: int) -> int:
    """Resident bytes of a process and its children."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(memory(int(child)) for child in children)


def write_rows(table: Any, rows: int, path: Path) -> None:
    """So many rows of a table, over and over."""
    with pq.ParquetWriter(path, table.schema) as writer:
        while rows > 0:
            part = table.slice(0, rows)
            writer.write_table(part)
            rows -= part.num_rows


def request_latency(model: Path, table: Any) -> dict[str, float]:
    """Milliseconds of requests of one history and many candidates, one after the other, on one thread: passed, and the processor's."""
    scorer = load_model_folder(model).scorer
    rng, items = np.random.default_rng(0), table["item_id"]
    passed, spent = [], []
    for n in rng.integers(0, table.num_rows, REQUESTS):
        request = table.take([n] * CANDIDATES).set_column(
            table.column_names.index("item_id"), "item_id", items.take(rng.integers(0, len(items), CANDIDATES))
        )
        began, used = time.perf_counter(), time.process_time()
        scorer.score(request)
        spent.append(1000 * (time.process_time() - used))
        passed.append(1000 * (time.perf_counter() - began))
    named = {"p50_ms": (passed, 50), "p99_ms": (passed, 99), "p50_processor_ms": (spent, 50), "p99_processor_ms": (spent, 99)}
    return {name: round(float(np.percentile(values, share)), 3) for name, (values, share) in named.items()}


def measure(root: Path, table: Any, sizes: list[int], workers: list[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    spent: dict[int, float] = {}
    for rows in (1, *sizes):
        write_rows(table, rows, root / "in.parquet")
        for count in workers:
            paths = ["--input", str(root / "in.parquet"), "--output", str(root / "out.parquet")]
            used = command("score", str(root / "bench.yaml"), *paths, "--workspace", str(root / "w"), "--set", f"score.workers={count}")
            report = json.loads((root / "out.scoring.json").read_text(encoding="utf-8"))
            assert pq.read_metadata(root / "out.parquet").num_rows == rows
            if rows == 1:
                spent[count] = used["processor_seconds"]
                continue
            working = used["processor_seconds"] - spent[count]
            found.append(
                {
                    "rows": rows,
                    "workers": count,
                    "seconds": round(report["seconds"], 1),
                    "rows_per_second": round(rows / report["seconds"]),
                    "rows_per_second_per_core": round(rows / report["seconds"] / count),
                    "rows_per_processor_second": round(rows / working),
                    "command_seconds": round(used["seconds"], 1),
                    "peak_memory_bytes": used["peak_memory_bytes"],
                }
            )
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "bench.yaml").write_text(CONF, encoding="utf-8")
        command("promote", str(root / "bench.yaml"), "--workspace", str(root / "w"))
        raw = ClickRows(next((root / "w" / "artifacts" / "ingest").glob("*/_manifest.json")).parent)
        table = raw.raw(pq.read_table(next((root / "w" / "artifacts" / "ingest").glob("*/rows.parquet"))).slice(0, GROUP)).combine_chunks()
        config = load(root / "bench.yaml", ())
        model = Registry(tracking_uri(config, root / "w"), config.name).download(f"models:/{config.name}@champion")
        result = {
            "command": f"python benchmarks/bench_batch_scoring.py --rows {' '.join(map(str, options.rows))}",
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 1),
            "columns": table.num_columns,
            "clicks_per_history": round(float(np.diff(table["history"].chunk(0).offsets.to_numpy()).mean()), 1),
            "request": {"candidates": CANDIDATES, **request_latency(model, table)},
            "runs": measure(root, table, options.rows, options.workers),
        }
    print(json.dumps(result, indent=1))
    Path(__file__).with_name("results").joinpath("batch_scoring.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
