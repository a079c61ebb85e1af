"""Rows per second of the students end to end, Parquet of raw ids to Parquet of scores, on one thread; teachers beside them.

The teachers are the default one (2 layers of 64 units) and one of BERT's base size (12 of 768), row by row and with the history of a
request encoded once for its candidates.

    python benchmarks/bench_scoring.py [--rows 300000]

The weights are untrained: speed does not depend on them. Prints rows/s and ratios, writes results/scoring.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.summaries import columns_alone
from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.evaluation.throughput import rows_per_second
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.pretrain import build_encoder

STATISTICS = [
    "item_age",
    "item_clicks_1h",
    "item_clicks_1d",
    "user_clicks",
    "user_gap",
    "user_item_clicks",
    "transition_clicks",
    "hour",
]
TEACHERS = (("teacher", EncoderConfig(), 8192), ("bert_base", EncoderConfig(width=768, layers=12, heads=12), 256))  # rows timed of each
CONTEXT = ["environment", "device_group", "os", "country", "region", "referrer"]


def write_log(directory: Path, rows: int, seed: int = 0) -> Assembly:
    """Rows in the shape of the Globo hours: 8,930 items, 5 candidates a request, histories of 7.5 clicks on average, at most 20."""
    rng = np.random.default_rng(seed)
    items, requests = 8930, rows // 5
    length = np.minimum(rng.geometric(1 / 7.5, requests), 20)
    total = int(length.sum())
    popular = lambda n: np.minimum((rng.pareto(0.8, n) * 20).astype(np.int64), items - 1).astype(np.int32)  # noqa: E731
    time_ = np.sort(rng.integers(0, 10**12, total))
    user = np.repeat(np.arange(requests), length).astype(np.int32)
    clicks = {"item": popular(total), "timestamp": time_, "time_known": np.ones(total, bool), "user": user, "known_at": time_}
    pq.write_table(pa.table({**clicks, "canonical": np.ones(total, bool)}), directory / "clicks.parquet")
    end = np.repeat(np.cumsum(length), 5)
    columns = {
        "row_id": np.arange(requests * 5),
        "request": np.repeat(np.arange(requests), 5),
        "user": np.repeat(np.arange(requests), 5).astype(np.int32),
        "item": popular(requests * 5),
        "timestamp": np.repeat(np.sort(rng.integers(10**12, 2 * 10**12, requests)), 5),
        "label": (np.arange(requests * 5) % 5 == 0).astype(np.int8),
        "history_start": end - np.repeat(length, 5),
        "history_end": end,
        **{name: rng.exponential(100, requests * 5).astype(np.float32) for name in STATISTICS},
        **{name: np.repeat(rng.integers(0, 8, requests), 5).astype(str) for name in CONTEXT},
    }
    test = pa.table({**columns, "split": pa.repeat("test", requests * 5)})
    train = test.slice(0, 50_000).set_column(test.column_names.index("split"), "split", pa.repeat("train", 50_000))
    pq.write_table(pa.concat_tables([test, train]), directory / "rows.parquet")
    pq.write_table(pa.table({"item_id": np.arange(items) * 37 + 1000}), directory / "items.parquet")
    pq.write_table(pa.table({"user_id": np.arange(requests)}), directory / "users.parquet")
    vocabulary = {"item": [str(i * 37 + 1000) for i in range(items)], **{name: [str(i) for i in range(8)] for name in CONTEXT}}
    (directory / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    columns_alone(statistics=STATISTICS, categorical=CONTEXT).write(directory)
    return Assembly(directory, 20)


def raw_rows(assembly: Assembly, path: Path) -> None:
    """The test rows with raw ids and histories as lists: what a batch job is given."""
    samples = assembly.samples("test")
    rows = pq.read_table(assembly.directory / "rows.parquet", filters=[("split", "=", "test")])
    items = pq.read_table(assembly.directory / "items.parquet")["item_id"].to_numpy()
    clicks = pq.read_table(assembly.directory / "clicks.parquet")
    length = samples.a.end - samples.a.start
    offsets = np.concatenate([[0], np.cumsum(length)])
    at = np.repeat(samples.a.start - offsets[:-1], length) + np.arange(offsets[-1])
    lists = {
        "history": pa.array(items[clicks["item"].to_numpy()[at]]),
        "history_timestamps": pa.array(clicks["timestamp"].to_numpy()[at]).cast(pa.timestamp("us")),
    }
    table = rows.select([*STATISTICS, *CONTEXT]).append_column("item_id", pa.array(items[rows["item"].to_numpy()]))
    table = table.append_column("timestamp", rows["timestamp"].cast(pa.timestamp("us")))
    for name, values in lists.items():
        table = table.append_column(name, pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values))
    pq.write_table(table, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    result: dict[str, float | str] = {
        "command": f"python benchmarks/bench_scoring.py --rows {rows}",
        "machine": platform.processor() or platform.machine(),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        assembly = write_log(root, rows)
        signature = assembly.signature()
        raw_rows(assembly, root / "raw.parquet")
        for kind, student in STUDENTS.items():
            torch.manual_seed(0)
            export_student(student(signature, StudentConfig(kind=kind)), signature, assembly, root / kind)
            scorer = ClickScorer(root / kind)
            best = 0.0
            for _ in range(3):
                began = time.perf_counter()
                frame = pq.read_table(root / "raw.parquet", use_threads=False)
                scores = scorer.score(frame)
                pq.write_table(frame.select(["item_id", "timestamp"]).append_column("score", pa.array(scores)), root / "out.parquet")
                best = max(best, len(scores) / (time.perf_counter() - began))
            result[kind] = round(best)
        samples = assembly.samples("test")
        for name, encoder, sample in TEACHERS:
            teacher = ClickBert(build_encoder(assembly, signature, encoder), signature, FinetuneConfig())
            for way, share in (("shared_histories", True), ("row_by_row", False)):
                result[f"{name}_{way}"] = speed = round(rows_per_second(teacher, samples, share, sample, seconds=5), 1)
                for kind in STUDENTS:
                    result[f"{kind}_over_{name}_{way}"] = round(float(result[kind]) / speed, 1)
    for name, value in result.items():
        print(f"{name:35} {value:>14,}" if not isinstance(value, str) else f"{name:35} {value}")
    Path(__file__).with_name("results").mkdir(exist_ok=True)
    (Path(__file__).with_name("results") / "scoring.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
