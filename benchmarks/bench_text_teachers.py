"""Accuracy of mixtures of the teachers of texts that are no network, out of fold on the training rows.

    python benchmarks/bench_text_teachers.py conf/tnews5.yaml --data DATA

Where validation has a thousand rows, it cannot tell mixtures apart; the training rows are ten times as many, each judged by models that
were not trained on it, nor on an equal text. Validation is shown beside it; test is not read. Every mixture weighs its members alike,
and the last is the configured one without the BERT. Writes results/text_teachers_NAME.json.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.baselines.texts import LinearModel, folds
from ctr_kd.config_teachers import TEXT_TEACHERS
from ctr_kd.metrics.classification import class_log_losses
from ctr_kd.training.distill import combine_logits
from pipelines.config.run import load
from pipelines.stages import PIPELINE
from pipelines.tasks.logits import probabilities
from pipelines.tasks.texts import TextRows
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

Logits = dict[str, np.ndarray]  # (rows, classes) by split


def judge(rows: TextRows, seed: int, kind: str) -> Logits:
    """Logits of the training rows, out of fold, and of the validation rows, by a model of one kind."""
    train, validation = rows.read("train"), rows.read("validation")
    label = train["label"].to_numpy().astype(np.int64)
    logits = np.zeros((len(label), len(rows.classes)), np.float32)
    for learned, asked in folds(train["text"].to_pylist()):
        model = LinearModel.fit(*rows.text_lists(train.take(learned)), label[learned], seed, kind)
        logits[asked] = model.predict(*rows.text_lists(train.take(asked)))
    model = LinearModel.fit(*rows.text_lists(train), label, seed, kind)
    return {"out_of_fold": logits, "validation": model.predict(*rows.text_lists(validation))}


def mixtures(configured: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Weights of each mixture by its name: all sets of teachers, weighed alike, and the configured one without the BERT."""
    sets = [one for size in range(1, len(TEXT_TEACHERS) + 1) for one in combinations(TEXT_TEACHERS, size)]
    own = {name: weight for name, weight in configured.items() if name in TEXT_TEACHERS}
    total = sum(own.values())
    alike = {" + ".join(one): dict.fromkeys(one, 1 / len(one)) for one in sets}
    return alike | ({"as configured": {name: weight / total for name, weight in own.items()}} if own else {})


def measure(said: Mapping[str, Logits], label: Mapping[str, np.ndarray], configured: Mapping[str, float]) -> dict[str, Any]:
    """Accuracy and log loss of each mixture, by split."""
    found: dict[str, Any] = {}
    for name, weights in mixtures(configured).items():
        for split, truth in label.items():
            score = probabilities(combine_logits({kind: said[kind][split] for kind in weights}, weights))
            figures = {"accuracy": float((score.argmax(axis=1) == truth).mean()), "log_loss": float(class_log_losses(truth, score).mean())}
            found.setdefault(name, {})[split] = figures
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conf")
    parser.add_argument("--data", type=Path, required=True, help="folder of the texts")
    options = parser.parse_args()
    config = load(options.conf)
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext(config, Path(folder) / "workspace", options.data, console=Console(io.StringIO()))
        Runner(context, PIPELINE).run(last="ingest")
        rows = TextRows(context.artifacts["ingest"].path)
        of_split = {"out_of_fold": "train", "validation": "validation"}
        label = {name: rows.read(split)["label"].to_numpy().astype(np.int64) for name, split in of_split.items()}
        said = {}
        for kind in TEXT_TEACHERS:
            said[kind] = judge(rows, config.seed, kind)
            print(f"{kind} is done", flush=True)
    found = measure(said, label, config.distill.teacher_weights)
    print(f"\n{'':<42}" + "".join(f"{name.replace('_', ' ') + f' ({len(truth):,})':>24}" for name, truth in label.items()))
    for name, splits in found.items():
        print(f"{name:<42}" + "".join(f"{one['accuracy']:>14.4f} ({one['log_loss']:.4f}) " for one in splits.values()))
    result = {"command": " ".join(["python", "benchmarks/bench_text_teachers.py", options.conf, "--data DATA"])}
    result |= {"rows": {name: len(truth) for name, truth in label.items()}, "mixtures": found}
    output = Path(__file__).parent / "results" / f"text_teachers_{config.name}.json"
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
