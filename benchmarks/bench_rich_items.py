"""Rows per second of students whose items have three attributes of several values and a vector of 64 numbers, over those of bare items.

    python benchmarks/bench_rich_items.py [--rows 300000]

The log is that of bench_scoring.py; each attribute has three places, each item a vector. Both are scored in turns in one run, Parquet of
raw ids to Parquet of scores, on one thread. The weights are untrained: speed does not depend on them. Writes results/rich_items.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_scoring import CONTEXT, STATISTICS, raw_rows, write_log
from benchmarks.summaries import columns_alone
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from feature_store.features.summary import ClickSummary
from feature_store.tables.multi_values import place_name
from feature_store.tables.vectors import STORED

ATTRIBUTES, PLACES, VALUES, WIDTH, TURNS = ("genre", "brand", "color"), 3, 50, 64, 5


def enrich(directory: Path, seed: int = 1) -> Assembly:
    """Give the items of an assembly attributes of several values and vectors."""
    rng = np.random.default_rng(seed)
    items = pq.read_table(directory / "items.parquet")
    vocabulary = json.loads((directory / "vocabulary.json").read_text(encoding="utf-8"))
    names = [place_name(name, place) for name in ATTRIBUTES for place in range(1, PLACES + 1)]
    for name in names:
        items = items.append_column(name, pa.array([str(value) for value in rng.integers(0, VALUES, items.num_rows)]))
        vocabulary[name] = [str(value) for value in range(VALUES)]
    pq.write_table(items, directory / "items.parquet")
    (directory / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    vectors = rng.standard_normal((items.num_rows, WIDTH)).astype(np.float32)
    pq.write_table(pa.table({"picture": pa.array(list(vectors), STORED)}), directory / "item_vectors.parquet")
    summary = columns_alone(statistics=STATISTICS, categorical=CONTEXT, item_attributes=names).to_json()
    ClickSummary.from_json(summary | {"item_vectors": {"picture": WIDTH}}).write(directory)
    return Assembly(directory, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    result: dict[str, float | str] = {
        "command": f"python benchmarks/bench_rich_items.py --rows {rows}",
        "machine": platform.processor() or platform.machine(),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        assemblies = {}
        for name in ("bare", "rich"):
            (root / name).mkdir()
            assemblies[name] = write_log(root / name, rows)
        assemblies["rich"] = enrich(root / "rich")
        raw_rows(assemblies["bare"], root / "raw.parquet")
        for kind, student in STUDENTS.items():
            scorers = {}
            for name, assembly in assemblies.items():
                torch.manual_seed(0)
                signature = assembly.signature()
                export_student(student(signature, StudentConfig(kind=kind)), signature, assembly, root / f"{kind}_{name}")
                scorers[name] = ClickScorer(root / f"{kind}_{name}")
            speed: dict[str, list[float]] = {"bare": [], "rich": []}
            for _ in range(TURNS):
                for name, scorer in scorers.items():
                    began = time.perf_counter()
                    frame = pq.read_table(root / "raw.parquet", use_threads=False)
                    scores = scorer.score(frame)
                    pq.write_table(frame.select(["item_id", "timestamp"]).append_column("score", pa.array(scores)), root / "out.parquet")
                    speed[name].append(len(scores) / (time.perf_counter() - began))
            result |= {f"{kind}_{name}": round(max(found)) for name, found in speed.items()}
            ratios = [rich / bare for rich, bare in zip(speed["rich"], speed["bare"], strict=True)]
            result[f"{kind}_rich_over_bare"] = round(statistics.median(ratios), 2)
    for name, value in result.items():
        print(f"{name:35} {value:>14,}" if not isinstance(value, str) else f"{name:35} {value}")
    Path(__file__).with_name("results").mkdir(exist_ok=True)
    (Path(__file__).with_name("results") / "rich_items.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
