"""How fast the simulated log is made: impressions per second, linear cost, bounded memory.

python benchmarks/bench_simulator.py                       1 and 10 million impressions
python benchmarks/bench_simulator.py 1000000 100000000     other sizes, in impressions
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CANDIDATES = 6
REQUESTS_PER_USER, IMPRESSIONS_PER_ITEM = 20, 180  # as in the standard settings
GOAL_SECONDS = 5.0  # for the first million


def measure(impressions: int) -> dict[str, Any]:
    """Make one log as Arrow tables, in this process, and throw it away batch by batch."""
    from feature_store.config import SimulatorConfig, SourceConfig
    from feature_store.readers.simulated import SimulatedReader

    requests = impressions // CANDIDATES
    settings = SimulatorConfig(
        requests=requests, candidates=CANDIDATES, users=requests // REQUESTS_PER_USER, items=max(10, impressions // IMPRESSIONS_PER_ITEM)
    )
    source = SourceConfig(reader="simulated", simulator=settings)
    started = time.perf_counter()
    rows = clicks = 0
    for batch in SimulatedReader(source, None).read([]):
        if batch.kind == "events":
            rows += len(batch.lines)
            clicks += int(batch.table["clicked"].to_numpy().sum())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"impressions": rows, "clicks": clicks, "seconds": round(seconds, 2), "peak_memory_bytes": peak}


def main(sizes: list[int]) -> None:
    """Measure each size in a process of its own, so that its peak memory is its own."""
    runs = []
    for size in sizes:
        answer = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        ).stdout
        run = json.loads(answer.splitlines()[-1])
        runs.append(run)
        print(
            f"simulator: {run['impressions']:,} impressions ({run['clicks']:,} clicks) in {run['seconds']:.1f} s, "
            f"{run['impressions'] / run['seconds']:,.0f}/s, peak {run['peak_memory_bytes'] / 2**20:,.0f} MB"
        )
    result: dict[str, Any] = {"runs": runs, "goal_ratio": GOAL_SECONDS / (runs[0]["seconds"] * 1e6 / runs[0]["impressions"])}
    print(f"simulator: {result['goal_ratio']:.1f} x the speed of {GOAL_SECONDS:.0f} s a million")
    if len(runs) > 1:
        small, big = runs[0], runs[-1]
        result["linear_ratio"] = (big["seconds"] / big["impressions"]) / (small["seconds"] / small["impressions"])
        print(f"simulator: an impression of the biggest log costs {result['linear_ratio']:.2f} x one of the smallest (1 is linear)")
    path = Path(__file__).parent / "results" / "simulator.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(int(sys.argv[2]))))
    else:
        main([int(size) for size in sys.argv[1:]] or [1_000_000, 10_000_000])
