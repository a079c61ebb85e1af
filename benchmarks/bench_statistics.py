"""What declared statistics cost: processor seconds of assembly, and of joining and scoring a date, with eighteen counts of three keys and
without.

    python benchmarks/bench_statistics.py                  a simulated log of a million clicks
    python benchmarks/bench_statistics.py --globo FOLDER   the Globo log, split as conf/globo.yaml does

One thread, processor seconds: other load on the machine counts little. Each measurement runs in a process of its own. The student is
that of conf/globo.yaml, untrained: speed does not depend on the weights.
Writes results/statistics.json, or results/statistics_globo.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from feature_store.config import AssemblyConfig, FeatureStoreConfig, SimulatorConfig, SourceConfig, SplitConfig
from feature_store.config_statistics import StatisticsConfig
from feature_store.features.historical_features import FeatureLookup, candidates_on
from feature_store.features.training_set import assemble
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from pipelines.config.run import load

ENGINE, BATCH = FeatureStoreConfig(threads=1), 200_000
WINDOWS = ["10m", "1h", "1d"]
DAYS = {"globo": date(2017, 10, 11), "simulated": date(2024, 1, 14)}  # a whole one near the end
KEYS = {"globo": ["referrer", "region", "os"], "simulated": ["device", "category", "position"]}


def declared(log: str) -> StatisticsConfig:
    """Eighteen counts: the item by each of three columns and each of them alone, in three windows, and the shares of both."""
    of = [{"by": ["item", column], "count": ["clicks"], "windows": WINDOWS, "share_of": ["item", column]} for column in KEYS[log]]
    return StatisticsConfig.model_validate({"windows": WINDOWS, "of": of})


def settings(log: str) -> AssemblyConfig:
    """How the rows of a log are made, with the statistics that every log has."""
    plain = StatisticsConfig.model_validate({"windows": WINDOWS})
    if log == "globo":
        return load(Path(__file__).parent.parent / "conf" / "globo.yaml").assembly.model_copy(update={"statistics": plain})
    return AssemblyConfig(split=SplitConfig(fractions=(0.8, 0.1, 0.1)), statistics=plain)


def measure(log: str, store: Store, with_declared: bool) -> dict[str, Any]:
    """Assemble the log, and join and score the rows of its last date, in this process."""
    config = settings(log)
    if with_declared:
        config = config.model_copy(update={"statistics": declared(log)})
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        summary = assemble(store, config, ENGINE, None, Path(folder) / "rows")
        assembled = time.process_time() - began
        assembly = Assembly(Path(folder) / "rows", config.history.max_length)
        signature, kind = assembly.signature(), StudentConfig(kind="dcn", width=64)
        export_student(STUDENTS[kind.kind](signature, kind).eval(), signature, assembly, Path(folder) / "student")
        scorer = ClickScorer(Path(folder) / "student")
        rows = candidates_on(store, DAYS[log], config, ENGINE)
        with FeatureLookup(store, config, ENGINE) as lookup:
            scorer.score(lookup.of(rows.slice(0, 1000)))  # the log is read once, whatever is joined
            began = time.process_time()
            whole = lookup.of(rows)
            joined = time.process_time() - began
        began = time.process_time()
        for first in range(0, whole.num_rows, BATCH):
            scorer.score(whole.slice(first, BATCH))
        scored = time.process_time() - began
    return {
        "statistics": len(summary.statistics),
        "rows": sum(summary.rows.values()),
        "assembly_seconds": round(assembled, 2),
        "joined_rows": rows.num_rows,
        "joined_rows_per_second": round(rows.num_rows / joined),
        "scored_rows_per_second": round(rows.num_rows / scored),
        "joined_and_scored_rows_per_second": round(rows.num_rows / (joined + scored)),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--globo", type=Path, help="folder that holds clicks/clicks_hour_*.csv.gz")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        log, store, which = arguments.one
        print(json.dumps(measure(log, Store(Path(store)), which == "declared")))
        return
    log = "globo" if arguments.globo else "simulated"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        world = SimulatorConfig(requests=1_100_000, users=55_000, items=20_000, clicks_only=True)
        source = SourceConfig(reader="globo") if arguments.globo else SourceConfig(reader="simulated", simulator=world)
        ingest(source, arguments.globo, Store(store), Path(folder) / "failed")
        found = {}
        for which in ("plain", "declared"):
            command = [sys.executable, __file__, "--one", log, str(store), which]
            process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
            found[which] = json.loads(process.stdout.splitlines()[-1])
            print(which, json.dumps(found[which]), flush=True)
    plain, more = found["plain"], found["declared"]
    ratio = more["assembly_seconds"] / plain["assembly_seconds"]
    report = {
        "command": "python benchmarks/bench_statistics.py" + (" --globo FOLDER" if arguments.globo else ""),
        "runs": [{"declared": which == "declared"} | run for which, run in found.items()],
        "assembly_ratio": round(ratio, 2),
        "assembly_share_per_count": round((ratio - 1) / 18, 4),
        "assembly_share_per_column": round((ratio - 1) / (more["statistics"] - plain["statistics"]), 4),
        **{
            f"{what}_ratio": round(more[f"{what}_rows_per_second"] / plain[f"{what}_rows_per_second"], 2)
            for what in ("joined", "scored", "joined_and_scored")
        },
    }
    print(json.dumps({name: value for name, value in report.items() if name != "runs"}))
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    (results / f"statistics{'_globo' if arguments.globo else ''}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
