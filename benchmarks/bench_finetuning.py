"""What each strategy of fine-tuning destroys of pretraining, and what it buys: the same pretrained encoder under all of them.

    python benchmarks/bench_finetuning.py                                                  the simulated log
    python benchmarks/bench_finetuning.py CONF --data DATA --workspace WORKSPACE --seeds 3
    python benchmarks/bench_finetuning.py conf/tnews5.yaml --data DATA                     texts: accuracy in place of AUC

Runs the stages of the program: ingestion once, then for each seed pretraining once and one fine-tuning per strategy. In a workspace that
stays, what is there is not made again. Masked-item accuracy and loss are of held-out sequences (the last item from those before it), before
and after; a fifth of the users is held out where that is not too many sequences, since a twentieth tells little on a small log. AUC, or
accuracy where there are classes, on the test rows has 95 % intervals, and a paired difference to the lowest rate, resampled by user (texts
by row). Writes results/finetuning_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.evaluation.evaluate import evaluate_models
from pipelines.config.run import RunConfig, load
from pipelines.stages import PIPELINE
from pipelines.tasks import task_of
from pipelines.tasks.logits import stored_probabilities
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.runner import Runner

LOWEST = 0.01
FIGURES = ("auc", "accuracy")  # of clicks, and of classes
HELD_OUT = "pretrain.validation_share=0.2"


def strategies(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Settings of ``finetune`` by name: the lowest rate, a middle one (the configured, if it is none of the others), and the full one."""
    middle = config.finetune.rate_ratio if config.finetune.rate_ratio > LOWEST else 0.1
    full = config.finetune.training.learning_rate / config.pretrain.training.learning_rate
    lowest = {"strategy": "low_lr", "rate_ratio": LOWEST, "layer_decay": 1.0}
    return {
        f"low_lr {LOWEST:g}": lowest,
        f"low_lr {LOWEST:g}, layer_decay 0.5": lowest | {"layer_decay": 0.5},
        f"low_lr {middle:g}": lowest | {"rate_ratio": middle},
        f"full_rate (low_lr {full:g})": lowest | {"rate_ratio": full},
        "freeze": lowest | {"strategy": "freeze"},
        "freeze_then_unfreeze": lowest | {"strategy": "freeze_then_unfreeze"},
        "from_scratch": lowest | {"strategy": "from_scratch"},
    }


def fine_tune(config: RunConfig, data: Path | None, workspace: Path) -> tuple[Path, Path]:
    """Bring the pipeline up to date until ``finetune``; returns the artifacts of ingestion and fine-tuning."""
    runner = Runner(RunContext(config, workspace, data), PIPELINE)
    runner.run(last="finetune")
    return runner.context.artifacts["ingest"].path, runner.context.artifacts["finetune"].path


def figures(finetune: Path) -> dict[str, Any]:
    """What fine-tuning left of pretraining, and its AUC or accuracy on validation."""
    training = read_json(finetune / "training.json") or {}
    accuracy, loss = training["masked_item_accuracy"], training["masked_item_loss"]
    began_knowing = training["strategy"] != "from_scratch"
    return {
        "masked_item_accuracy": accuracy,
        "masked_item_loss": loss,
        "share_destroyed": 1 - accuracy["after"] / accuracy["before"] if began_knowing and accuracy["before"] else None,
        "held_out_sequences": training["held_out_sequences"],
        **{f"validation_{figure}": training[figure] for figure in FIGURES if figure in training},
        "training_seconds": round(training["curve"]["seconds"], 1),
    }


def measure(conf: str, overrides: list[str], data: Path | None, workspace: Path, seed: int, without: list[str]) -> dict[str, Any]:
    """All strategies but those under one seed."""
    overrides = [HELD_OUT, *overrides]
    config = load(conf, overrides)
    measured, scores = {}, {}
    chosen = {name: settings for name, settings in strategies(config).items() if name not in without}
    for name, settings in chosen.items():
        varied = [f"seed={seed}", *(f"finetune.{key}={value}" for key, value in settings.items())]
        ingest, finetune = fine_tune(load(conf, [*overrides, *varied]), data, workspace)
        measured[name], scores[name] = figures(finetune), stored_probabilities(finetune / "predictions_test.parquet")
    rows = replace(task_of(config).rows(ingest).evaluation_rows(), request=None, slices={})
    lowest, *others = scores
    evaluated = evaluate_models(rows, scores, replicates=config.evaluate.bootstrap, pairs=tuple((name, lowest) for name in others))
    for name in scores:
        figure = next(figure for figure in FIGURES if f"validation_{figure}" in measured[name])
        measured[name][f"test_{figure}"] = evaluated.models[name][figure].to_json()
        over_lowest = evaluated.comparisons.get(f"{name}-{lowest}", {}).get(figure)
        measured[name][f"test_{figure}_over_lowest"] = over_lowest.to_json() if over_lowest else None
    return measured


def mean_over(seeds: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Means over the seeds of what was measured of a strategy."""
    entries = [seed[name] for seed in seeds]
    before, after = (float(np.mean([entry["masked_item_accuracy"][when] for entry in entries])) for when in ("before", "after"))
    known = entries[0]["share_destroyed"] is not None and before > 0
    figure = next(figure for figure in FIGURES if f"validation_{figure}" in entries[0])
    return {
        "masked_item_accuracy": {"before": before, "after": after},
        "masked_item_loss": {when: float(np.mean([entry["masked_item_loss"][when] for entry in entries])) for when in ("before", "after")},
        "share_destroyed": 1 - after / before if known else None,
        f"validation_{figure}": float(np.mean([entry[f"validation_{figure}"] for entry in entries])),
        f"test_{figure}": float(np.mean([entry[f"test_{figure}"]["value"] for entry in entries])),
        "training_seconds": float(np.mean([entry["training_seconds"] for entry in entries])),
    }


def show(title: str, measured: dict[str, dict[str, Any]]) -> None:
    """Print one table."""
    figure = next(figure for figure in FIGURES if any(f"validation_{figure}" in entry for entry in measured.values()))
    print(f"\n{title} ({figure})")
    print(f"{'strategy':32} {'masked-item accuracy':>20} {'destroyed':>10} {'its loss':>16} {'val':>8} {'test':>7}  {'95 %':15} {'s':>5}")
    for name, entry in measured.items():
        accuracy, loss, share = (entry[key] for key in ("masked_item_accuracy", "masked_item_loss", "share_destroyed"))
        tested = entry[f"test_{figure}"]
        value, interval = (tested["value"], f"{tested['low']:.4f} - {tested['high']:.4f}") if isinstance(tested, dict) else (tested, "")
        kept = f"{accuracy['before']:.4f} -> {accuracy['after']:.4f}"
        destroyed = "-" if share is None else f"{100 * share:.1f} %"
        losses = f"{loss['before']:.3f} -> {loss['after']:.3f}"
        seconds = entry["training_seconds"]
        print(
            f"{name:32} {kept:>20} {destroyed:>10} {losses:>16} {entry[f'validation_{figure}']:>8.4f} {value:.4f}  {interval:15} "
            f"{seconds:>5.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("conf", nargs="?", default="conf/simulated.yaml")
    parser.add_argument("--data", type=Path, help="folder of the raw log")
    parser.add_argument("--workspace", type=Path, help="folder in which all stays, for a later run to find [default: it is removed]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY.PATH=VALUE", help="may be repeated")
    parser.add_argument("--without", action="append", default=[], metavar="STRATEGY", help="one to leave out; may be repeated")
    arguments = parser.parse_args()
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = arguments.workspace or Path(folder) / "workspace"
        with workspace_lock(workspace, "bench_finetuning.py"):
            for seed in range(arguments.seeds):
                seeds.append(measure(arguments.conf, arguments.overrides, arguments.data, workspace, seed, arguments.without))
                show(f"seed {seed}", seeds[-1])
                sys.stdout.flush()
    means = {name: mean_over(seeds, name) for name in seeds[0]}
    if len(seeds) > 1:
        show(f"mean of {len(seeds)} seeds", means)
    name = load(arguments.conf).name
    options = [*(["--data DATA"] if arguments.data else []), f"--seeds {arguments.seeds}", *(f"--set {one}" for one in arguments.overrides)]
    options += [f'--without "{one}"' for one in arguments.without]
    result = {
        "command": f"python benchmarks/bench_finetuning.py {arguments.conf} {' '.join(options)}",
        "mean": means,
        "seeds": [{"seed": seed, "strategies": measured} for seed, measured in enumerate(seeds)],
    }
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / f"finetuning_{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
