"""Seconds and peak memory from a simulated log of impressions to point-in-time rows and to the scores of every date of it.

    python benchmarks/bench_scale.py                        1 and 10 million events
    python benchmarks/bench_scale.py --millions 1 100       other sizes (100 million events need 40 GB of disk)
    python benchmarks/bench_scale.py --declared             rows alone, with eighteen counts of three keys and the shares of both sides

Every event is an impression, one of six candidates of a request. All goes through the real program: `ingest` stores the log and builds the
rows of all splits, `backfill` scores each of the 14 dates with a champion that was trained on a small log before. Memory is that of all
processes of a command together; processor time is theirs too, and is what growth is measured by: other load stretches the clock.
Writes results/scale.json, or results/scale_declared.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from feature_store.features.summary import ClickSummary

ROOT = Path(__file__).resolve().parent.parent
CONF = "conf/simulated.yaml"
CANDIDATES, ITEMS, REQUESTS_PER_USER = 6, 20_000, 20
PAGES_PER_GB = 2**30 / 4096
DECLARED = ",".join(
    f"{{by: [item, {key}], count: [clicks], windows: [10m, 1h, 1d], share_of: [item, {key}]}}" for key in ("device", "category", "position")
)
QUICK = ("pretrain.training.epochs=1", "finetune.training.epochs=0.5", "distill.training.epochs=0.5", "distill.student.kind=pooled")


def resident_pages(root: int) -> int:
    """Resident pages of a process and its descendants, as Linux counts them now; shared pages count once per process."""
    parents, pages = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            pages[int(folder.name)] = int((folder / "statm").read_text(encoding="utf-8").split()[1])
        except OSError:  # it ended meanwhile
            continue
    family, found = [root], 0
    while family:
        one = family.pop()
        found += pages.get(one, 0)
        family += [child for child, parent in parents.items() if parent == one]
    return found


def command(name: str, workspace: Path, *more: str) -> tuple[float, float, float]:
    """Run a command of ctr-kd to its end; its seconds, its processors' seconds and its peak memory in GB."""
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", name, CONF, "--workspace", str(workspace), *more], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        peak = max(peak, resident_pages(process.pid))
        time.sleep(0.2)
    if process.returncode:
        sys.exit(f"ctr-kd {name} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds, memory = time.perf_counter() - began, peak / PAGES_PER_GB
    print(f"{name}: {seconds:.0f} s, {spent:.0f} s of the processors, {memory:.2f} GB", flush=True)  # the next one may take an hour
    return seconds, spent, memory


def overrides(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def measure(millions: float, champion: Path | None, folder: Path) -> dict[str, Any]:
    """The pipeline of one size in a new workspace; without a champion, which knows its own statistics, rows alone, with declared ones."""
    requests = int(millions * 1e6 / CANDIDATES)
    world = {"requests": requests, "users": requests // REQUESTS_PER_USER, "items": ITEMS, "candidates": CANDIDATES}
    settings = overrides(*(f"source.simulator.{key}={value}" for key, value in world.items()))
    settings += overrides(f"tracking.uri=sqlite:///{champion / 'mlflow.db'}" if champion else f"statistics.of=[{DECLARED}]")
    workspace = folder / f"{millions:g}"
    built = command("ingest", workspace, *settings)
    (summary,) = (ClickSummary.read(path.parent) for path in (workspace / "artifacts" / "ingest").glob("*/summary.json"))
    rows = sum(summary.rows.values())
    found = {"events": requests * CANDIDATES, "rows": rows, "statistics": len(summary.statistics), "rows_seconds": round(built[0], 1)}
    memory, seconds, spent = {"rows": round(built[2], 2)}, built[0], built[1]
    if champion:
        scored = command("backfill", workspace, *settings, "--start", "2024-01-01", "--end", "2024-01-14")
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in (workspace / "scores").glob("date=*/scoring.json")]
        found |= {"scores": sum(report["rows"] for report in reports), "scores_seconds": round(scored[0], 1)}
        memory["scores"] = round(scored[2], 2)
        seconds, spent = seconds + scored[0], spent + scored[1]
    return found | {
        "microseconds_per_event": round(seconds / (requests * CANDIDATES) * 1e6, 1),
        "processor_microseconds_per_event": round(spent / (requests * CANDIDATES) * 1e6, 1),
        "peak_memory_gb": memory,
        "load_average": round(os.getloadavg()[1], 1),  # of its last five minutes: more than the cores stretches the clock
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10], help="events of each log, in millions")
    parser.add_argument("--declared", action="store_true", help="rows alone, with eighteen declared counts")
    parser.add_argument("--folder", type=Path, help="where the workspaces lie while it runs [default: the system's temporary folder]")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        champion = None if arguments.declared else Path(folder) / "champion"
        if champion:
            command("run", champion, *overrides(*QUICK))
        for millions in arguments.millions:
            results.append(measure(millions, champion, Path(folder)))
            print(json.dumps(results[-1]), flush=True)
    cost = [result["processor_microseconds_per_event"] for result in results]
    growth = round(cost[-1] / cost[0], 2)
    print(f"an event of the largest log costs {growth} times one of the smallest")
    asked = " ".join(f"{millions:g}" for millions in arguments.millions)
    asked += " --declared" if arguments.declared else ""
    report = {"command": f"python benchmarks/bench_scale.py --millions {asked}", "growth_of_cost": growth, "runs": results}
    (ROOT / "benchmarks" / "results" / f"scale{'_declared' if arguments.declared else ''}.json").write_text(
        json.dumps(report, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
