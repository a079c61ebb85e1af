"""Spark against DuckDB on the first three days of the Globo log: the same rows, and the seconds that they take.

    python benchmarks/bench_spark.py --globo FOLDER                                local[2], the hours of 1 to 3 October 2017
    python benchmarks/bench_spark.py --globo FOLDER --hours 6 --master local[8]

The partitions are ingested once by each engine and compared, then training rows with 4 sampled candidates per click are assembled by each
and compared: file by file, and row by row where a file differs. Ends with an error if anything differs. Writes results/spark.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow.parquet as pq

from feature_store.config import AssemblyConfig, FeatureStoreConfig, SourceConfig, SparkConfig, SplitConfig
from feature_store.features.summary import ClickSummary
from feature_store.features.training_set import assemble
from feature_store.store.ingest import ingest
from feature_store.store.store import Store

FILES = ("rows.parquet", "clicks.parquet", "items.parquet", "users.parquet", "vocabulary.json", "summary.json")
HOURS = 72


def linked(globo: Path, hours: int, folder: Path) -> Path:
    """A folder with the first hours of the log alone."""
    (folder / "clicks").mkdir(parents=True)
    for hour in range(hours):
        name = next((globo / "clicks").glob(f"clicks_hour_{hour:03d}.csv*"))
        (folder / "clicks" / name.name).symlink_to(name.resolve())
    return folder


def build(engine: FeatureStoreConfig, data: Path, folder: Path) -> dict[str, float]:
    """Ingest and assemble with one engine; seconds of each."""
    store = Store(folder / "store")
    began = time.perf_counter()
    ingest(SourceConfig(reader="globo"), data, store, folder / "failed")
    ingested = time.perf_counter()
    assemble(store, AssemblyConfig(split=SplitConfig(fractions=(0.8, 0.1, 0.1))), engine, None, folder / "rows")
    return {"ingestion_seconds": round(ingested - began, 1), "assembly_seconds": round(time.perf_counter() - ingested, 1)}


def compare(one: Path, other: Path) -> tuple[int, list[str]]:
    """Rows that were compared, and what differs."""
    differing, rows = [], 0
    for path in (one / "rows" / file for file in FILES):
        twin = other / "rows" / path.name
        same = path.read_bytes() == twin.read_bytes()
        if path.suffix == ".parquet":
            rows += pq.read_metadata(path).num_rows
            same = same or pq.read_table(path).equals(pq.read_table(twin))
        differing += [] if same else [path.name]
    return rows, differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--globo", type=Path, help="folder that holds clicks/clicks_hour_*.csv.gz")
    parser.add_argument("--hours", type=int, default=HOURS)
    parser.add_argument("--master", default="local[2]")
    arguments = parser.parse_args()
    if arguments.globo is None:
        print("nothing is measured: name the folder of the Globo log with --globo")
        return
    session = SparkConfig(master=arguments.master, options={"spark.driver.memory": "3g", "spark.sql.shuffle.partitions": 4})
    engines = {"embedded": FeatureStoreConfig(), "spark": FeatureStoreConfig(engine="spark", spark=session)}
    with tempfile.TemporaryDirectory() as folder:
        data = linked(arguments.globo, arguments.hours, Path(folder) / "data")
        seconds: dict[str, Any] = {name: build(engine, data, Path(folder) / name) for name, engine in engines.items()}
        rows, differing = compare(Path(folder) / "embedded", Path(folder) / "spark")
        summary = ClickSummary.read(Path(folder) / "embedded" / "rows")
    results = {
        "command": f"python benchmarks/bench_spark.py --globo FOLDER --hours {arguments.hours} --master {arguments.master}",
        "clicks": summary.clicks,
        "training_rows": sum(summary.rows.values()),
        "rows_compared": rows,
        "files_that_differ": differing,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[2], 1),
        **seconds,
    }
    print(json.dumps(results, indent=1))
    target = Path(__file__).with_name("results") / "spark.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if differing:
        raise SystemExit(f"{', '.join(differing)}: Spark and DuckDB differ")


if __name__ == "__main__":
    main()
