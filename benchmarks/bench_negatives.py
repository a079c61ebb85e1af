"""What sampled negatives cost in ranking at 100,000 items: full-ranking HR@10 after equally many sequences, against the full softmax.

    ctr-kd run conf/globo.yaml --data DATA --workspace WORKSPACE --until ingest
    python benchmarks/bench_negatives.py --workspace WORKSPACE

The log's users are spread over towns, each with its own copy of every item (see bench_pretraining.py). Every loss trains the same model (2
layers of 128) from the same weights on the same batches with the same hidden positions and the same rates; then each ranks all items for
what held-out users clicked last. The interval is of the difference, by resampling these users. Writes results/negatives.json; without a
workspace it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_pretraining import BATCH, MASK_RATE, ours, sequences_of

from ctr_kd.config import NextItemConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.batching import batch_plan, gather
from ctr_kd.data.samples import Segment
from ctr_kd.evaluation.next_item import NextItems, hit_rate_score, ndcg_score, next_item_score, target_ranks
from ctr_kd.objectives.masked_item import mask_items
from ctr_kd.objectives.sampled_softmax import NegativeSampler, gbce_loss, sampled_softmax_loss, softmax_loss
from ctr_kd.training.optimizer import Optimizer, ParameterGroup
from ctr_kd.training.pretrain import item_counts

LAST_ITEM_RATE = 0.5  # next-item prediction needs the last position hidden often
CALIBRATION = PretrainConfig().gbce_calibration


def held_out(sequences: Segment, users: int) -> tuple[Segment, NextItems]:
    """The sequences that are trained on, and what some other users clicked last after all that they clicked before."""
    order = np.random.default_rng(3).permutation(len(sequences.start))
    order = order[(sequences.end - sequences.start)[order] > 1]
    chosen, rest = order[:users], order[users:]
    start, end = sequences.start[chosen], sequences.end[chosen] - 1
    target = sequences.pool[end, 0].astype(np.int32)
    history = Segment(sequences.pool, start, end)
    return Segment(sequences.pool, sequences.start[rest], sequences.end[rest]), NextItems(target, history, start)


def trained(kind: str, negatives: int, sequences: Segment, vocabulary: int, steps: int) -> tuple[Any, float]:
    """A model after so many steps, and its seconds."""
    model = ours(vocabulary, sparse=kind != "softmax")
    optimizer = Optimizer(model, [ParameterGroup(list(model.parameters()))], TrainingConfig())
    rng, draws = np.random.default_rng(0), np.random.default_rng(2)
    sampler = NegativeSampler(item_counts(sequences, vocabulary), max(negatives, 1))
    length = sequences.end - sequences.start
    done, began = 0, time.perf_counter()
    while done < steps:
        for rows in batch_plan(length, np.arange(len(length)), BATCH, rng)[: steps - done]:
            masked = mask_items(
                *gather(sequences, sequences.start[rows], sequences.end[rows]), rng, mask_rate=MASK_RATE, last_item_rate=LAST_ITEM_RATE
            )
            state = model.states(masked.tokens, masked.length, masked.position)
            if kind == "softmax":
                loss = softmax_loss(model, state, masked.target)
            elif kind == "sampled":
                loss = sampled_softmax_loss(model, state, masked.target, sampler.draw(draws))
            else:
                loss = gbce_loss(model, state, masked.target, sampler.draw(draws), CALIBRATION)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done % 250 == 0:
                print(f"{kind}: {done:,} of {steps:,} steps, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return model, time.perf_counter() - began


def interval(difference: np.ndarray) -> list[float]:
    """95 % of the mean of a value per user, by bootstrap."""
    rng = np.random.default_rng(4)
    means = [float(difference[rng.integers(len(difference), size=len(difference))].mean()) for _ in range(1000)]
    return [round(float(value), 4) for value in np.quantile(means, (0.025, 0.975))]


def write(arguments: argparse.Namespace, vocabulary: int, found: dict[str, Any]) -> None:
    """What was found so far: the softmax over all items takes an hour."""
    command = f"python benchmarks/bench_negatives.py --workspace WORKSPACE --items {arguments.items} --steps {arguments.steps}"
    report = {
        "command": f"{command} --negatives {chr(32).join(map(str, arguments.negatives))} --losses {chr(32).join(arguments.losses)}",
        "sequences_seen": arguments.steps * BATCH,
        "vocabulary": vocabulary,
        "users": arguments.users,
        "losses": found,
    }
    Path(__file__).with_name("results").joinpath("negatives.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=2000, help="batches of 128 sequences")
    parser.add_argument("--users", type=int, default=20_000, help="held out and ranked for")
    parser.add_argument("--negatives", type=int, nargs="+", default=[1024, PretrainConfig().negatives], help="that a batch shares")
    parser.add_argument("--losses", nargs="+", default=["softmax", "sampled", "gbce"], choices=["softmax", "sampled", "gbce"])
    arguments = parser.parse_args()
    sequences, vocabulary = sequences_of(arguments.workspace, arguments.items)
    sequences, users = held_out(sequences, arguments.users)
    found: dict[str, Any] = {}
    hits: dict[str, np.ndarray] = {}
    asked = [(kind, some) for kind in arguments.losses for some in ([0] if kind == "softmax" else arguments.negatives)]
    for kind, negatives in asked:
        name = f"{kind}, {negatives} negatives" if negatives else kind
        model, seconds = trained(kind, negatives, sequences, vocabulary, arguments.steps)
        rank = target_ranks(next_item_score(model), users, vocabulary, NextItemConfig(exclude_history=False))
        hits[name] = (rank <= 10).astype(float)
        found[name] = {
            "hr@10": round(hit_rate_score(rank, 10), 4),
            "ndcg@10": round(ndcg_score(rank, 10), 4),
            "training_seconds": round(seconds, 1),
        }
        if negatives and "softmax" in hits:
            difference = hits[name] - hits["softmax"]
            found[name]["hr@10_less_softmax"] = {"mean": round(float(difference.mean()), 4), "interval": interval(difference)}
        print(name, json.dumps(found[name]), flush=True)
        write(arguments, vocabulary, found)


if __name__ == "__main__":
    main()
