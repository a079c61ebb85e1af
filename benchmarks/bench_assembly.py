"""Seconds and peak memory from a log of clicks to point-in-time rows with 4 sampled candidates per click.

    python benchmarks/bench_assembly.py                      simulated logs of 1, 3 and 10 million clicks
    python benchmarks/bench_assembly.py --globo FOLDER       the Globo log, raw files to rows, besides

Every size runs in a process of its own. Ingestion of a simulated log includes simulating it, which is reported apart.
Writes results/assembly.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from feature_store.config import AssemblyConfig, FeatureStoreConfig, SimulatorConfig, SourceConfig, SplitConfig
from feature_store.features.training_set import assemble
from feature_store.readers import READERS
from feature_store.store.ingest import ingest
from feature_store.store.store import Store

CLICKS_PER_REQUEST = 0.9


def measure(millions: float, globo: Path | None) -> dict[str, Any]:
    """Ingest and assemble one log in this process."""
    simulated_seconds = 0.0
    if globo:
        source = SourceConfig(reader="globo")
    else:
        requests = int(millions * 1e6 / CLICKS_PER_REQUEST)
        world = SimulatorConfig(requests=requests, users=requests // 20, items=20_000, clicks_only=True)
        source = SourceConfig(reader="simulated", simulator=world)
        began = time.perf_counter()
        for _ in READERS["simulated"](source, None).read([]):
            continue
        simulated_seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store(root / "store")
        began = time.perf_counter()
        stored = ingest(source, globo, store, root / "failed").rows_stored
        ingested = time.perf_counter()
        config = AssemblyConfig(split=SplitConfig(fractions=(0.8, 0.1, 0.1)))
        summary = assemble(store, config, FeatureStoreConfig(), None, root / "rows")
        done = time.perf_counter()
    return {
        "log": "globo" if globo else "simulated",
        "clicks": stored,
        "rows": sum(summary.rows.values()),
        "simulation_seconds": round(simulated_seconds, 1),
        "ingestion_seconds": round(ingested - began - simulated_seconds, 1),
        "assembly_seconds": round(done - ingested, 1),
        "microseconds_per_click": round((done - began - simulated_seconds) / stored * 1e6, 1),
        "microseconds_per_row": round((done - began - simulated_seconds) / sum(summary.rows.values()) * 1e6, 2),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 3, 10])
    parser.add_argument("--globo", type=Path, help="folder that holds clicks/clicks_hour_*.csv.gz")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.millions[0], arguments.globo)))
        return
    runs = [["--millions", str(millions)] for millions in arguments.millions]
    if arguments.globo:
        runs.append(["--globo", str(arguments.globo)])
    results = []
    for run in runs:
        process = subprocess.run([sys.executable, __file__, "--one", *run], check=True, capture_output=True, text=True, encoding="utf-8")
        results.append(json.loads(process.stdout.splitlines()[-1]))
        print(json.dumps(results[-1]), flush=True)
    simulated = [result for result in results if result["log"] == "simulated"]
    growth = {}
    if len(simulated) > 1:
        # A bigger log leaves out fewer clicks, because more items are live, so it makes more rows per click as well.
        growth = {
            per: round(simulated[-1][f"microseconds_per_{per}"] / simulated[0][f"microseconds_per_{per}"], 2) for per in ("click", "row")
        }
        sizes = f"{simulated[-1]['clicks']:,} over {simulated[0]['clicks']:,} clicks"
        print(f"cost at {sizes}: {growth['row']} times per row, {growth['click']} per click")
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    command = "python benchmarks/bench_assembly.py" + (" --globo FOLDER" if arguments.globo else "")
    report = {"command": command, "growth_of_cost": growth, "runs": results}
    (folder / "assembly.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
