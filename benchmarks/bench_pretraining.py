"""Sequences per second of masked item training, ours against transformers' BertForMaskedLM, on the same sequences.

    ctr-kd run conf/globo.yaml --data DATA --workspace WORKSPACE --until ingest
    python benchmarks/bench_pretraining.py --workspace WORKSPACE                   the log's items, softmax over all
    python benchmarks/bench_pretraining.py --workspace WORKSPACE --items 100000    as if there were more: sampled negatives

Both start from the same weights (2 layers of 128) and hide the same positions, so their loss on the same batches is the same,
which is checked first. Then each trains, with AdamW and batches of 128: transformers on batches in random order, padded to their longest
sequence, with logits for every position and every item; ours on batches of similar length, with logits of hidden positions. Writes
results/pretraining_ITEMS.json; without a workspace it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.batching import batch_plan, gather
from ctr_kd.data.samples import Assembly, Segment
from ctr_kd.huggingface.convert import export_bert
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.objectives.masked_item import Masked, mask_items
from ctr_kd.objectives.sampled_softmax import NegativeSampler, item_loss_kind, sampled_softmax_loss, softmax_loss
from ctr_kd.training.optimizer import Optimizer, ParameterGroup
from ctr_kd.training.pretrain import item_counts
from feature_store.special_tokens import SPECIALS

BATCH, LONGEST, MASK_RATE = 128, 50, 0.2
SHAPE = EncoderConfig(width=128, layers=2, heads=2, dropout=0.0, positions="from_start")


def sequences_of(workspace: Path, items: int | None) -> tuple[Segment, int]:
    """Item ids alone, and the vocabulary; with ``items``, every item becomes several, and a user's clicks are on one kind of them."""
    manifests = list((workspace / "artifacts" / "ingest").glob("*/_manifest.json"))
    if not manifests:
        print(f"skipped: {workspace} holds no ingest; run `ctr-kd run CONF --workspace {workspace} --until ingest` first")
        sys.exit(0)
    assembly = Assembly(max(manifests, key=lambda path: path.stat().st_mtime).parent, LONGEST)
    sequences = assembly.sequences(None)
    ids, vocabulary = np.array(sequences.pool[:, :1]), len(SPECIALS) + len(assembly.vocabulary["item"])
    if items is not None:
        # As if so many towns read the same portal, each its own copy of every story: the shape of popularity is kept, and what follows
        # what can be learned as before, from as many clicks the fewer.
        towns = -(-items // (vocabulary - len(SPECIALS)))
        of_sequence = np.random.default_rng(0).integers(towns, size=len(sequences.start) + 1)
        town = of_sequence[np.searchsorted(np.sort(sequences.start), np.arange(len(ids)), side="right")][:, None]
        known = ids >= len(SPECIALS)
        spread = (ids - len(SPECIALS)) * towns + town + len(SPECIALS)
        ids = np.where(known, np.minimum(spread, items + len(SPECIALS) - 1), ids)
        vocabulary = len(SPECIALS) + items
    return Segment(np.ascontiguousarray(ids, np.int32), sequences.start, sequences.end), vocabulary


def ours(vocabulary: int, sparse: bool) -> MaskedItemModel:
    torch.manual_seed(0)
    model = MaskedItemModel(Bert({"item": vocabulary}, LONGEST, SHAPE), torch.arange(vocabulary, dtype=torch.int32)[:, None])
    if sparse:
        model.bert.token.step_by_rows()
    return model


def theirs(model: MaskedItemModel) -> Any:
    """transformers' model with the same weights."""
    from transformers import BertForMaskedLM

    with tempfile.TemporaryDirectory() as folder:
        export_bert(model, Path(folder) / "bert")
        return BertForMaskedLM.from_pretrained(Path(folder) / "bert")


def their_loss(model: Any, masked: Masked) -> torch.Tensor:
    labels = torch.full(masked.tokens.shape[:2], -100)
    labels.view(-1)[masked.position] = masked.target
    seen = (torch.arange(masked.tokens.shape[1]) < masked.length[:, None]).long()
    return model(input_ids=masked.tokens[:, :, 0].long(), attention_mask=seen, labels=labels).loss


def masked_batches(sequences: Segment, grouped: bool, seed: int) -> Iterator[Masked]:
    rng = np.random.default_rng(seed)
    length = sequences.end - sequences.start
    while True:
        if grouped:
            plan = batch_plan(length, np.arange(len(length)), BATCH, rng)
        else:
            plan = np.array_split(rng.permutation(len(length)), len(length) // BATCH)
        for rows in plan:
            yield mask_items(*gather(sequences, sequences.start[rows], sequences.end[rows]), rng, mask_rate=MASK_RATE, last_item_rate=0.0)


def speed(step: Callable[[Masked], None], batches: Iterator[Masked], seconds: float) -> tuple[float, float]:
    """Sequences and tokens per second, once warm."""
    for _ in range(3):
        step(next(batches))
    sequences = tokens = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        masked = next(batches)
        step(masked)
        sequences, tokens = sequences + len(masked.length), tokens + int(masked.length.sum())
    return sequences / passed, tokens / passed


def measure(who: str, workspace: Path, items: int | None, seconds: float) -> dict[str, Any]:
    """One side's figures, in this process."""
    torch.set_num_threads(os.cpu_count() or 1)
    sequences, vocabulary = sequences_of(workspace, items)
    kind = item_loss_kind(PretrainConfig(), vocabulary)
    mine = ours(vocabulary, sparse=who == "ours" and kind == "sampled")
    figures: dict[str, Any] = {"who": who, "vocabulary": vocabulary, "loss_over_items": kind if who == "ours" else "softmax"}
    if who == "transformers":
        model = theirs(mine)
        check = next(masked_batches(sequences, grouped=False, seed=1))
        with torch.no_grad():
            same = softmax_loss(mine, mine.states(check.tokens, check.length, check.position), check.target)
            figures["loss_difference"] = abs(their_loss(model.eval(), check).item() - same.item())
        model.train()
        optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def loss_of(masked: Masked) -> torch.Tensor:
            return their_loss(model, masked)
    else:
        model = mine
        optimizer = Optimizer(mine, [ParameterGroup(list(mine.parameters()))], TrainingConfig())
        draws = np.random.default_rng(2)
        sampler = NegativeSampler(item_counts(sequences, vocabulary), PretrainConfig().negatives) if kind == "sampled" else None

        def loss_of(masked: Masked) -> torch.Tensor:
            state = mine.states(masked.tokens, masked.length, masked.position)
            if sampler is None:
                return softmax_loss(mine, state, masked.target)
            return sampled_softmax_loss(mine, state, masked.target, sampler.draw(draws))

    def step(masked: Masked) -> None:
        optimizer.zero_grad()
        loss_of(masked).backward()
        optimizer.step()

    rates = speed(step, masked_batches(sequences, who == "ours", 0), seconds)
    figures["sequences_per_second"], figures["tokens_per_second"] = (round(rate, 1) for rate in rates)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    figures["peak_memory_gb"] = round(int(status.split("VmHWM:")[1].split()[0]) / 2**20, 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--items", type=int, help="as if the log had so many items [default: its own]")
    parser.add_argument("--seconds", type=float, default=30.0, help="of training that is timed, each side")
    parser.add_argument("--one", choices=("ours", "transformers"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.workspace, arguments.items, arguments.seconds)))
        return
    sequences, vocabulary = sequences_of(arguments.workspace, arguments.items)
    length = sequences.end - sequences.start
    print(f"{len(length):,} sequences of {length.mean():.1f} items on average, {vocabulary - len(SPECIALS):,} items")
    results = {}
    for who in ("transformers", "ours"):
        command = [sys.executable, __file__, "--one", who, "--workspace", str(arguments.workspace), "--seconds", str(arguments.seconds)]
        command += ["--items", str(arguments.items)] if arguments.items else []
        output = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
        results[who] = json.loads(output.splitlines()[-1])
        print(json.dumps(results[who]), flush=True)
    ratio = results["ours"]["sequences_per_second"] / results["transformers"]["sequences_per_second"]
    print(f"ours over transformers: {ratio:.1f} times the sequences per second")
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    name = "log" if arguments.items is None else str(arguments.items)
    options = " --workspace WORKSPACE" + (f" --items {arguments.items}" if arguments.items else "")
    report = {"command": f"python benchmarks/bench_pretraining.py{options}", "ratio": round(ratio, 1), **results}
    (folder / f"pretraining_{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
