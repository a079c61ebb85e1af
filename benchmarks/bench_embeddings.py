"""Clicks per second of learning item vectors in the order of time, beside the same learning with torch's own sparse embeddings.

    python benchmarks/bench_embeddings.py                          simulated clicks, popular items as in news
    python benchmarks/bench_embeddings.py --globo FOLDER --hours 72     those of Globo

Both learn the same blocks with the same passes, negatives and batches on one thread, one after the other in turns: this project's walk,
which gathers the rows that a step reads, and a plain loop with `nn.Embedding(sparse=True)` and `SparseAdam`. The BERT's walk is timed
beside them. Writes results/embeddings.json, or results/embeddings_globo.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.embeddings.encoder import PooledEncoder
from ctr_kd.embeddings.facts import FactsFolder
from ctr_kd.embeddings.walk import BATCH, Block, Walk, windows
from ctr_kd.models.threads import one_thread
from feature_store.config import EmbeddingsConfig, FeatureStoreConfig, SourceConfig
from feature_store.features.click_sequences import ClickSequences, read_click_sequences
from feature_store.store.ingest import ingest
from feature_store.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
LENGTH, HOUR = 20, 3600 * 10**6
CONFIG = EmbeddingsConfig.model_validate({"block": "10m"})


def simulated(clicks: int = 400_000, users: int = 50_000, hours: int = 24) -> ClickSequences:
    """Clicks of users who come back, on items that live for some hours, few of them popular."""
    rng = np.random.default_rng(0)
    time_of = np.sort(rng.integers(0, hours * HOUR, clicks))
    item = (time_of // HOUR * 50 + np.minimum(rng.zipf(1.3, clicks), 400)).astype(np.int32)
    user = np.minimum(rng.zipf(1.2, clicks), users).astype(np.int32) - 1
    order = np.lexsort([time_of, user])
    user, item, time_of = user[order], np.unique(item[order], return_inverse=True)[1].astype(np.int32), time_of[order]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    return ClickSequences(
        item=item,
        user=user,
        first=np.repeat(begins, np.diff(np.append(begins, len(user)))),
        known_at=time_of,
        items=pa.table({"item_id": pa.array([f"i{n}" for n in range(item.max() + 1)])}),
        users=pa.array([f"u{n}" for n in range(user.max() + 1)]),
    )


def of_globo(folder: Path, hours: int) -> ClickSequences:
    """The last hours of Globo's clicks."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store")
        ingest(SourceConfig(reader="globo"), folder, store, Path(scratch) / "failed", lambda line: None)
        clicks = read_click_sequences(store, FeatureStoreConfig(), None)
    end = np.quantile(clicks.known_at, 0.999)  # a few are of days later
    kept = (clicks.known_at >= end - hours * HOUR) & (clicks.known_at < end)
    user = clicks.user[kept]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    first = np.repeat(begins, np.diff(np.append(begins, len(user))))
    return clicks._replace(item=clicks.item[kept], user=user, first=first, known_at=clicks.known_at[kept])


def walk_of(clicks: ClickSequences, config: EmbeddingsConfig, folder: Path) -> Walk:
    newest = int(clicks.known_at.max())
    return Walk(clicks, config, LENGTH, FactsFolder(folder, "bench"), newest, changes_from=newest)


def ours(clicks: ClickSequences, config: EmbeddingsConfig) -> float:
    """Clicks per second of the walk, files included."""
    with tempfile.TemporaryDirectory() as folder:
        walk = walk_of(clicks, config, Path(folder))
        wanted, began = walk.clicks_to_learn, time.perf_counter()
        walk.learn()
        return wanted / (time.perf_counter() - began)


class SparseTables(nn.Module):
    """The same model with torch's own sparse embeddings."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.read, self.target = (nn.Embedding(items, CONFIG.width, sparse=True) for _ in range(2))
        self.encoder = PooledEncoder(LENGTH, CONFIG.width)

    def loss(self, history: np.ndarray, seen: np.ndarray, wanted: np.ndarray, others: np.ndarray) -> torch.Tensor:
        vectors = self.read(torch.from_numpy(history).long())
        weight = torch.exp(self.encoder.recency) * torch.from_numpy(seen)
        mean = (vectors * (weight / weight.sum(1, keepdim=True).clamp(min=1e-6)).unsqueeze(-1)).sum(1)
        state = mean + torch.tanh(self.encoder.layer(mean))
        right = (state * self.target(torch.from_numpy(wanted).long())).sum(1, keepdim=True)
        wrong = state @ self.target(torch.from_numpy(others).long()).T
        wrong = wrong.masked_fill(torch.from_numpy(wanted[:, None] == others[None]), -torch.inf)
        return F.cross_entropy(torch.cat([right, wrong], 1), torch.zeros(len(wanted), dtype=torch.int64))


def theirs(clicks: ClickSequences) -> float:
    """Clicks per second of a plain loop with sparse gradients."""
    model = SparseTables(clicks.items.num_rows)
    optimizers = [
        torch.optim.SparseAdam([*model.read.parameters(), *model.target.parameters()], lr=0.01),
        torch.optim.Adam(model.encoder.parameters(), lr=0.01),
    ]
    with tempfile.TemporaryDirectory() as folder, one_thread():
        walk = walk_of(clicks, CONFIG, Path(folder))
        wanted, began = walk.clicks_to_learn, time.perf_counter()
        for block in walk.blocks():
            rng = np.random.default_rng(block.number)
            for _ in range(CONFIG.passes):
                learned = to_learn(clicks, block, rng)
                for begin in range(0, len(learned), BATCH):
                    some = learned[begin : begin + BATCH]
                    position, seen = windows(some, clicks.first[some], LENGTH)
                    others = clicks.item[rng.choice(block.recent, CONFIG.negatives)]
                    for optimizer in optimizers:
                        optimizer.zero_grad()
                    model.loss(clicks.item[position], seen, clicks.item[some], others).backward()
                    for optimizer in optimizers:
                        optimizer.step()
        return wanted / (time.perf_counter() - began)


def to_learn(clicks: ClickSequences, block: Block, rng: np.random.Generator) -> np.ndarray:
    again = rng.choice(block.replay, min(len(block.replay), len(block.clicks) // 2)) if len(block.replay) else block.replay
    learned = np.concatenate([block.clicks, again])
    learned = learned[block.history_from[learned] < block.until]
    rng.shuffle(learned)
    return learned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--globo", type=Path, help="folder of Globo's clicks [default: simulated ones]")
    parser.add_argument("--hours", type=int, default=72, help="of Globo's log, the last ones")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    clicks = of_globo(arguments.globo, arguments.hours) if arguments.globo else simulated()
    bert = CONFIG.model_copy(update={"encoder": "bert"})
    turns = [{"walk": ours(clicks, CONFIG), "sparse": theirs(clicks), "bert": ours(clicks, bert)} for _ in range(arguments.turns)]
    of_globo_hours = f" --globo FOLDER --hours {arguments.hours}" if arguments.globo else ""
    report: dict[str, Any] = {
        "command": f"python benchmarks/bench_embeddings.py --turns {arguments.turns}{of_globo_hours}",
        "clicks": len(clicks.item),
        "items": len(np.unique(clicks.item)),
        "clicks_per_second": {name: round(float(np.median([turn[name] for turn in turns]))) for name in turns[0]},
        "walk_to_sparse": sorted(round(turn["walk"] / turn["sparse"], 2) for turn in turns),
        "walk_to_bert": sorted(round(turn["walk"] / turn["bert"], 2) for turn in turns),
    }
    print(json.dumps(report, indent=1))
    name = "embeddings_globo.json" if arguments.globo else "embeddings.json"
    (ROOT / "benchmarks" / "results" / name).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
