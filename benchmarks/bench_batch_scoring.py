"""`ctr-kd score --input`, Parquet to Parquet: rows per second and core, memory, and what one request costs in process.

    python benchmarks/bench_batch_scoring.py [--rows 2000000] [--workers 1 2] [--kinds pooled dcn din bilstm] [--against CHECKOUT]

A small real run on a simulated log registers a student of each kind. Its rows, as raw ids, times and statistics, are repeated into two
files: `own`, in which each row has a history of its own, 14.5 clicks on average, half of them on items that the student does not know; and
`shared`, in which requests of 20 candidates share one. The command scores them, all columns kept, `CHECKOUT` (another release, run by the
same Python) by turns with this one. Seconds are those of the scoring; from the processor's, what a run on one row takes (start-up, model,
lock) is subtracted. Memory is the largest sum of what all processes hold at one moment; what they share counts for each.

Writes results/batch_scoring.json.
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
import pyarrow as pa
import pyarrow.compute as pc
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
distill: {student: {kind: KIND}, training: {epochs: 1}}
evaluate: {bootstrap: 20}
"""
REQUESTS, CANDIDATES = 3000, 100
GROUP = 200_000  # rows of a row group of the input
CLICKS, UNKNOWN_ITEMS = 14.5, 200_000
TURNS = 3


def command(tree: Path, *arguments: str) -> dict[str, float]:
    """Run `ctr-kd` of a checkout; its seconds, its processors' seconds, and its peak of memory in bytes."""
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    asked = [sys.executable, "-m", "pipelines", *arguments]
    process = subprocess.Popen(
        asked, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
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


def log_of(table: pa.Table, rows: int, candidates: int) -> pa.Table:
    """So many rows of a table, with histories that ``candidates`` neighbours share."""
    rng = np.random.default_rng(0)
    requests = -(-rows // candidates)
    length = rng.poisson(CLICKS, requests)
    known = pc.unique(table["item_id"]).to_pylist()
    unknown = [f"not-in-the-log-{number:06d}" for number in range(UNKNOWN_ITEMS)]
    clicks = int(length.sum())
    picked = np.where(rng.random(clicks) < 0.5, rng.integers(0, len(known), clicks), len(known) + rng.integers(0, len(unknown), clicks))
    newest = int(pc.min(table["timestamp"]).cast(pa.int64()).as_py())
    gaps = rng.exponential(3600e6, clicks).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    before = np.concatenate([[0], np.cumsum(gaps)])
    moments = newest - (np.repeat(before[ends[1:]], length) - before[:-1])
    history = pa.ListArray.from_arrays(pa.array(ends), pa.array([*known, *unknown], pa.string()).take(pa.array(picked)))
    times = pa.ListArray.from_arrays(pa.array(ends), pa.array(moments).cast(table["timestamp"].type))
    found = table.take(pa.array(rng.integers(0, table.num_rows, rows)))
    of_row = pa.array(np.repeat(np.arange(requests), candidates)[:rows])
    for name, lists in (("history", history), ("history_timestamps", times)):
        found = found.set_column(found.column_names.index(name), name, lists.take(of_row))
    return found


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


def scored(tree: Path, folder: Path, source: Path, workers: int) -> dict[str, float]:
    """Score a file by the champion of a folder."""
    paths = ["--input", str(source), "--output", str(folder / "out.parquet"), "--workspace", str(folder / "w")]
    used = command(tree, "score", str(folder / "bench.yaml"), *paths, "--set", f"score.workers={workers}")
    report = json.loads((folder / "out.scoring.json").read_text(encoding="utf-8"))
    assert pq.read_metadata(folder / "out.parquet").num_rows == pq.read_metadata(source).num_rows
    return used | {"scoring_seconds": report["seconds"]}


def measure(trees: dict[str, Path], root: Path, kind: str, logs: dict[str, Path], rows: int, workers: list[int]) -> list[dict[str, Any]]:
    """Each log by each tree in turns, three times, of which the fastest counts."""
    found = []
    for log, count in ((log, count) for log in logs if log != "one" for count in workers):
        runs: dict[str, list[dict[str, float]]] = {tree: [] for tree in trees}
        spent = {tree: scored(path, root / tree / kind, logs["one"], count)["processor_seconds"] for tree, path in trees.items()}
        for tree, path in [*trees.items()] * TURNS:
            runs[tree].append(scored(path, root / tree / kind, logs[log], count))
        for tree, own in runs.items():
            working = min(run["processor_seconds"] for run in own) - spent[tree]
            seconds = min(run["scoring_seconds"] for run in own)
            found.append(
                {
                    "release": tree,
                    "kind": kind,
                    "log": log,
                    "rows": rows,
                    "workers": count,
                    "seconds": round(seconds, 1),
                    "rows_per_second_per_core": round(rows / seconds / count),
                    "rows_per_processor_second": round(rows / working),
                    "peak_memory_bytes": max(run["peak_memory_bytes"] for run in own),
                }
            )
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--kinds", nargs="+", default=["pooled", "dcn", "din", "bilstm"])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another release")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "batch_scoring.json")
    options = parser.parse_args()
    trees = {"this": ROOT} | ({} if options.against is None else {"other": options.against.absolute()})
    result: dict[str, Any] = {
        "command": f"python benchmarks/bench_batch_scoring.py --rows {options.rows} --kinds {' '.join(options.kinds)}"
        + ("" if options.against is None else " --against CHECKOUT"),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "requests": {},
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        root, logs = Path(folder), {}
        for kind in options.kinds:
            for tree, path in trees.items():
                own = root / tree / kind
                own.mkdir(parents=True)
                (own / "bench.yaml").write_text(CONF.replace("KIND", kind), encoding="utf-8")
                command(path, "promote", str(own / "bench.yaml"), "--workspace", str(own / "w"))
            place = root / "this" / kind / "w"
            if not logs:
                raw = ClickRows(next((place / "artifacts" / "ingest").glob("*/_manifest.json")).parent)
                table = raw.raw(pq.read_table(next((place / "artifacts" / "ingest").glob("*/rows.parquet")))).combine_chunks()
                result["columns"] = table.num_columns
                logs = {name: root / f"{name}.parquet" for name in ("own", "shared", "one")}
                for name, rows, candidates in (("own", options.rows, 1), ("shared", options.rows, 20), ("one", 1, 1)):
                    pq.write_table(log_of(table, rows, candidates), logs[name], row_group_size=GROUP)
            result["runs"] += measure(trees, root, kind, logs, options.rows, options.workers)
            config = load(root / "this" / kind / "bench.yaml", ())
            model = Registry(tracking_uri(config, place), config.name).download(f"models:/{config.name}@champion")
            result["requests"][kind] = {"candidates": CANDIDATES, **request_latency(model, table.slice(0, GROUP))}
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
