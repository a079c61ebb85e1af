"""What a billion events a day take, extrapolated from what was measured: the tables of docs/how-to/sizing.md.

    python benchmarks/sizing.py                            1 billion events a day
    python benchmarks/sizing.py --events 5e7 --ram 32      another log, another machine
    python benchmarks/sizing.py --write                    puts the first one into the page, after new results

Reads results/assembly.json, scale.json and spark.json. Growth between the smallest and the largest simulated log that were measured
is taken to go on as a power of the size. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "sizing.md"
MARK = "<!-- python benchmarks/sizing.py -->\n"

# Assumptions. An event is a row of the log of impressions: an item that was shown.
CLICK_RATE = 0.05  # clicks per event
KEPT_DAYS = 30  # of clicks that histories and statistics reach back to
LABEL_ROWS = 100e6  # rows that a night learns from: `split.train_from` is as short as that demands
NIGHT_HOURS = 8.0  # in which everything must be done
CORE_HOUR_DOLLARS = 0.05  # of a rented machine with 4 to 8 GB per core
EXECUTOR_EFFICIENCY = 0.7  # of many executors, against two cores of one machine
# Of conf/globo.yaml, by hand: 2.6 million events, 2.86 million rows, of which 2.4 million are learned from.
STORE_BYTES = 12.9  # per event, of store/events
ROW_BYTES = 17.1  # per row, of rows.parquet
LEARNING_MICROSECONDS = 255.0  # per training row on two cores: the 673 s of results/pipeline.json without the 60 s of ingestion


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def exponent(small: float, large: float, size_ratio: float) -> float:
    """Power of the size by which a cost per unit grows.

    Examples
    --------
    >>> exponent(2.0, 4.0, 16.0)
    0.25
    """
    return math.log(large / small) / math.log(size_ratio)


def sizes(events: float, ram: float, cores: int) -> dict[str, float]:
    """Core hours of a day's work, memory and disk, by name; ``ram`` in GB."""
    runs = [run for run in load("assembly.json")["runs"] if run["log"] == "simulated"]
    small, middle, large = runs[0], runs[-2], runs[-1]
    grows = exponent(small["microseconds_per_row"], large["microseconds_per_row"], large["rows"] / small["rows"])
    microseconds = large["microseconds_per_row"] * max(1.0, events / large["rows"]) ** grows
    ingestion = large["ingestion_seconds"] / large["clicks"] * 1e6
    scored = load("scale.json")["runs"][-1]
    joined = scored["scores_seconds"] / scored["scores"] * 1e6
    spark = load("spark.json")
    slower = spark["spark"]["assembly_seconds"] / spark["embedded"]["assembly_seconds"]
    bytes_per_click = (large["peak_memory_gb"] - middle["peak_memory_gb"]) * 1e9 / (large["clicks"] - middle["clicks"])
    hours = {
        "ingestion": 2 * events * ingestion / 3.6e9,  # the benchmarks ran on two cores
        "rows": 2 * events * microseconds / 3.6e9,
        "scores": 2 * events * joined / 3.6e9,
        "learning": 2 * LABEL_ROWS * LEARNING_MICROSECONDS / 3.6e9,
    }
    driver = events * joined / 3.6e9  # one process reads and joins all rows to be scored, however many score them
    one_machine = (sum(hours.values()) - hours["scores"]) / cores + driver
    clicks_held = (ram - 2) * 1e9 / bytes_per_click  # 2 GB are the engine's own
    on_spark = hours["rows"] * slower / EXECUTOR_EFFICIENCY
    total_on_spark = sum(hours.values()) - hours["rows"] + on_spark
    return {
        **hours,
        "growth_exponent": grows,
        "microseconds_per_row": microseconds,
        "ingestion_microseconds": ingestion,
        "scoring_microseconds": joined,
        "bytes_per_click": bytes_per_click,
        "clicks": events * CLICK_RATE * KEPT_DAYS,
        "memory_gb": 2 + events * CLICK_RATE * KEPT_DAYS * bytes_per_click / 1e9,
        "events_held": clicks_held / KEPT_DAYS / CLICK_RATE,
        "driver_hours": driver,
        "one_machine_hours": one_machine,
        "disk_gb": events * (KEPT_DAYS * STORE_BYTES + ROW_BYTES) / 1e9,
        "spark_over_embedded": slower,
        "rows_on_spark": on_spark,
        "spark_cores": math.ceil(total_on_spark / NIGHT_HOURS),
        "dollars_one_machine": one_machine * cores * CORE_HOUR_DOLLARS,
        "dollars_on_spark": total_on_spark * CORE_HOUR_DOLLARS,
    }


def table(events: float, ram: float, cores: int) -> str:
    """The sizes as Markdown."""
    found = sizes(events, ram, cores)
    rows = [
        ("events a day", f"{events:,.0f}", f"clicks {CLICK_RATE:.0%} of them, kept {KEPT_DAYS} days: {found['clicks'] / 1e6:,.0f} million"),
        (
            "ingestion",
            f"{found['ingestion']:.1f} core h",
            f"{found['ingestion_microseconds']:.2f} us per event on two cores, which does not grow",
        ),
        (
            "point-in-time rows",
            f"{found['rows']:.1f} core h",
            f"{found['microseconds_per_row']:.2f} us per row on two cores: as measured, times (size ratio)^{found['growth_exponent']:.3f}",
        ),
        (
            "scores",
            f"{found['scores']:.1f} core h",
            f"{found['scoring_microseconds']:.2f} us per row on two cores (`pooled`), histories and statistics joined from the store",
        ),
        (
            "learning",
            f"{found['learning']:.1f} core h",
            f"{LABEL_ROWS / 1e6:.0f} million rows, {LEARNING_MICROSECONDS:.0f} us each on two cores",
        ),
        ("memory", f"{found['memory_gb']:.0f} GB", f"{found['bytes_per_click']:.0f} bytes per kept click, and 2 GB of the engine"),
        ("disk", f"{found['disk_gb']:,.0f} GB", f"{KEPT_DAYS} days of {STORE_BYTES} bytes per event, a day of {ROW_BYTES} bytes per row"),
        (
            f"one machine, {cores} cores",
            f"{found['one_machine_hours']:.1f} h",
            f"{found['driver_hours']:.1f} h of them for one process that joins what is scored; ${found['dollars_one_machine']:.2f} a day",
        ),
        (
            f"what {ram:.0f} GB hold",
            f"{found['events_held'] / 1e6:,.0f} million events a day",
            "beyond it the clicks do not fit: fewer days, or Spark",
        ),
        (
            "the rows on Spark",
            f"{found['rows_on_spark']:.1f} core h",
            f"{found['spark_over_embedded']:.0f} times the embedded engine's on two cores, at {EXECUTOR_EFFICIENCY:.0%} efficiency",
        ),
        (
            f"cores for {NIGHT_HOURS:.0f} hours",
            f"{found['spark_cores']}",
            f"with the rows on Spark; ${found['dollars_on_spark']:.2f} a day",
        ),
    ]
    return "\n".join(["| what | how much | from |", "| --- | --- | --- |", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, default=1e9, help="a day")
    parser.add_argument("--ram", type=float, default=128, help="GB of the one machine")
    parser.add_argument("--cores", type=int, default=32, help="of the one machine")
    parser.add_argument("--write", action="store_true", help="replace the table of docs/how-to/sizing.md")
    arguments = parser.parse_args()
    found = table(arguments.events, arguments.ram, arguments.cores)
    if arguments.write:
        before, _, after = PAGE.read_text(encoding="utf-8").partition(MARK)
        rest = after.partition("\n\n")[2]
        PAGE.write_text(f"{before}{MARK}{found}\n\n{rest}", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
