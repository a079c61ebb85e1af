"""Sentences a second of a BERT-base teacher and of the averaged-vector student, on one thread at equal batches.

    python benchmarks/bench_text_speed.py [--titles 4096] [--batch 64]

The teacher has 12 layers of 768 units with random weights: it is there for the time that it takes. The student is that of
conf/tnews5.yaml. Both are measured from token indices to logits, the student a second time as it ships: from raw texts to probabilities
by student.onnx and its tokenizer. Titles are made, of 22 characters on average, as those of the news portal of TNEWS. Times are
those of the process alone, which other programs on the machine disturb least. Writes results/text_speed.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.samples import Samples
from ctr_kd.data.texts import TextAssembly
from ctr_kd.evaluation.throughput import parameter_count
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from ctr_kd.models.teachers import build_teacher
from ctr_kd.training.pretrain import build_encoder
from feature_store.config import SourceConfig
from feature_store.store.store import Store
from feature_store.text.dataset import assemble_texts
from feature_store.text.ingest import ingest_texts
from pipelines.config.run import load
from pipelines.registry.model_package import scorer_in

GOAL = 746  # times the teacher, as the averaged-vector student of the starting documents
TEACHER = EncoderConfig(width=768, layers=12, heads=12)
CONFIGURED = load(Path(__file__).parent.parent / "conf" / "tnews5.yaml")
STUDENT = CONFIGURED.distill.student


def made_titles(count: int, seed: int) -> list[str]:
    """Titles of 14 to 30 characters from a Zipf law of ideographs."""
    rng = np.random.default_rng(seed)
    return ["".join(chr(0x4E00 + int(place) % 5000) for place in rng.zipf(1.3, length)) for length in rng.integers(14, 31, count)]


def assembled(folder: Path, titles: int) -> Path:
    """An assembly of made titles, as many to learn the vocabularies from as to be scored; labels are chance."""
    rng = np.random.default_rng(2)
    for name, seed in (("train", 0), ("test", 1)):
        lines = [f"{title}\t{label}" for title, label in zip(made_titles(titles, seed), rng.integers(0, 5, titles), strict=True)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    store = Store(folder / "store")
    ingest_texts(SourceConfig(reader="text", train="train.tsv", test="test.tsv"), folder, store, folder / "failed")
    assemble_texts(store, CONFIGURED.tokens, folder / "assembly")
    return folder / "assembly"


def rate(work: Callable[[slice], object], rows: int, batch: int, seconds: float) -> float:
    """Rows per second of the process's own time, batch after batch, after one to warm up."""
    work(slice(0, batch))
    done, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        first = done % max(1, rows - batch + 1)
        work(slice(first, first + batch))
        done += batch
    return done / spent


@torch.no_grad()
def of_graph(model: nn.Module, samples: Samples, batch: int, seconds: float) -> float:
    """Rows per second from token indices to logits."""
    model.eval()
    return rate(lambda rows: model(*make_batch(samples, np.arange(rows.start, rows.stop))), len(samples), batch, seconds)


def measure(folder: Path, titles: int, batch: int, seconds: float, teacher: EncoderConfig = TEACHER) -> dict[str, Any]:
    """Rates of teacher and student, and their ratios."""
    torch.manual_seed(0)
    directory = assembled(folder, titles)
    own, other = TextAssembly(directory, "teacher"), TextAssembly(directory, "student")
    bert = build_teacher([build_encoder(own, own.signature(), teacher)], own.signature(), FinetuneConfig())
    student = STUDENTS[STUDENT.kind](other.signature(), STUDENT).eval()
    export_student(student, other.signature(), other, folder / "export")
    scorer, texts = scorer_in(folder / "export" / "scorer.py", folder / "export"), pa.table({"text": made_titles(titles, 1)})
    rates = {
        "teacher": of_graph(bert, own.samples("test"), batch, seconds),
        "student": of_graph(student, other.samples("test"), batch, seconds),
        "student_from_raw_texts": rate(lambda rows: scorer.score(texts.slice(rows.start, batch)), titles, batch, seconds),
        "student_from_raw_texts_in_large_batches": rate(lambda rows: scorer.score(texts), titles, titles, seconds),
    }
    ratios = {name: value / rates["teacher"] for name, value in rates.items() if name != "teacher"}
    parameters = {"teacher": parameter_count(bert), "student": parameter_count(student)}
    return {"rows_per_second": rates, "ratio_to_teacher": ratios, "parameters": parameters}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.titles, options.batch, options.seconds)
    for name, value in found["rows_per_second"].items():
        times = found["ratio_to_teacher"].get(name, 1.0)
        print(f"{name.replace('_', ' '):<42} {value:>12,.1f} sentences/s {times:>9,.0f} x")
    goal = found["ratio_to_teacher"]["student"] / GOAL
    print(f"the averaged-vector student is {goal:.2f} times as far ahead as the {GOAL} that were to be passed")
    result = {
        "command": " ".join(["python", *sys.argv]),
        "batch": options.batch,
        **found,
        "goal_ratio": goal,
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1},
    }
    output = Path(__file__).parent / "results" / "text_speed.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
