"""How far a seed, and rounding, move the teacher, by what is kept of a fine-tuning: last weights, chosen ones, averaged ones.

    python benchmarks/bench_stability.py                                                                the simulated log
    python benchmarks/bench_stability.py conf/globo.yaml --data DATA --workspace WORKSPACE --seeds 3 --threads 1 2
    python benchmarks/bench_stability.py conf/globo.yaml --data DATA --set split.train_from=12h --setting finetune.training.epochs=2

Neither a validation nor an average of the weights moves a step. So one training tells of every way to keep its weights: as they are, or
averaged over shares of the steps (``training.average``); those of the lowest validation loss among four or eight validations, or the last.
There is a training for each ``--setting`` (none: as configured), seed and number of threads, which changes rounding alone. Every seed
pretrains an encoder of its own, unless ``--one-encoder``. Validation and test are a fixed part of the requests, about ``--rows`` rows each;
the teacher is BERT and boosted trees by their weights, where those teach.

A training that is measured is kept in the workspace and not made again. Writes results/stability_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.tree_teacher import tree_logits
from ctr_kd.data.samples import Samples
from ctr_kd.metrics import auc_score
from ctr_kd.training import finetune as finetuning
from ctr_kd.training.distill import align_logits
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.loop import predict
from ctr_kd.training.weight_average import WeightAverage
from feature_store.tables.json_files import digest_of, load_json, write_json
from pipelines.config.run import RunConfig, load
from pipelines.stages import PIPELINE
from pipelines.tasks import task_of
from pipelines.tasks.clicks import ClickRows
from pipelines.training.bert import load_encoders
from pipelines.workspace.context import RunContext
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.runner import Runner

AVERAGES = (0.1, 0.3)
VALIDATIONS = 8
SPLITS = ("validation", "test")
FIGURES = tuple(f"{split}_{model}" for split in SPLITS for model in ("bert", "teacher"))


class Measured:
    """Validation and test rows of a log, with what its trees say of them."""

    def __init__(self, samples: Mapping[str, Samples], trees: Mapping[str, np.ndarray] | None, weight: float) -> None:
        self.samples, self.trees, self.weight = samples, trees, weight

    def figures(self, model: torch.nn.Module) -> dict[str, float]:
        """AUC of the BERT and of the teacher on both splits, and the BERT's log loss on validation."""
        found: dict[str, float] = {}
        for split, rows in self.samples.items():
            logit = predict(model, rows)[:, 0].astype(np.float64)
            teacher = logit if self.trees is None else self.weight * logit + (1 - self.weight) * self.trees[split]
            found |= {f"{split}_bert": auc_score(rows.label, logit), f"{split}_teacher": auc_score(rows.label, teacher)}
            if split == "validation":
                found["loss"] = float(np.mean(np.logaddexp(0, logit) - rows.label * logit))
        return found


def some_requests(samples: Samples, rows: int) -> Samples:
    """Requests drawn with a fixed seed, until they are about so many rows."""
    requests = np.unique(samples.group)
    drawn = np.random.default_rng(0).permutation(requests)[: max(1, int(len(requests) * min(1.0, rows / len(samples))))]
    kept = np.flatnonzero(np.isin(samples.group, drawn))
    return samples.take(kept)


@cache
def measured_rows(ingest: Path, conf: str, overrides: tuple[str, ...], rows: int) -> Measured:
    """The rows that all trainings on an assembly are measured on; its trees are those of the configured seed."""
    config = load(conf, overrides)
    assembly = task_of(config).assembly(ingest, "teacher")
    samples = {split: some_requests(assembly.samples(split), rows) for split in SPLITS}
    weight = config.distill.teacher_weights.get("bert", 1.0)
    if "boosted_trees" not in config.distill.teacher_weights:
        return Measured(samples, None, weight)
    judged = tree_logits(ClickRows(ingest), config.seed, print)
    trees = {split: align_logits(*judged[split], samples[split])[:, 0] for split in SPLITS}
    return Measured(samples, trees, weight)


@contextmanager
def measuring(rows: Measured, steps: int, points: list[dict[str, Any]]) -> Iterator[None]:
    """Note, at every validation, figures of the weights as they are and of each average of them."""
    averages: dict[str, WeightAverage] = {}
    models: list[torch.nn.Module] = []
    taken = 0

    def remember(*arguments: Any) -> Any:
        models.append(build(*arguments))
        return models[-1]

    def after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal taken
        if not isinstance(optimizer, torch.optim.AdamW):  # lazy tables step beside it
            return
        taken += 1
        if not averages:
            averages.update({f"{share:g}": WeightAverage(models[-1], share * steps) for share in AVERAGES})
        for average in averages.values():
            average.update(taken)

    def validate(model: torch.nn.Module, _: Samples) -> dict[str, float]:
        found = {"0": rows.figures(model)}
        for share, average in averages.items():
            with average.in_place():
                found[share] = rows.figures(model)
        points.append({"step": taken, **found})
        return {"auc": found["0"]["validation_bert"], "log_loss": found["0"]["loss"], "score": -found["0"]["loss"]}

    build = finetuning.build_member
    hook = register_optimizer_step_post_hook(after_step)
    try:
        with mock.patch.object(finetuning, "build_member", remember), mock.patch.object(finetuning, "validation_figures", validate):
            yield
    finally:
        hook.remove()


def train(config: RunConfig, ingest: Path, pretrain: Path, rows: Measured, threads: int) -> list[dict[str, Any]]:
    """Fine-tune once; returns the figures of every validation."""
    assembly = task_of(config).assembly(ingest, "teacher")
    train_rows = assembly.samples("train")
    training = config.finetune.training.model_copy(update={"validations": VALIDATIONS, "average": 0.0})
    batches = len(finetuning.row_plan(train_rows, training.batch_size)(np.random.default_rng([config.seed, 0])))
    points: list[dict[str, Any]] = []
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, measuring(rows, round(training.epochs * batches), points):
        finetuning.finetune(
            load_encoders(pretrain, assembly, config)[0],
            TrainingRows(signature=assembly.signature(), train=train_rows, validation=rows.samples["validation"]),
            config.finetune.model_copy(update={"training": training}),
            TrainingJob(seed=config.seed, fingerprint="bench", folder=Path(folder), report=lambda text: print(text, flush=True)),
            pretraining_rate=config.pretrain.training.learning_rate,
        )
    return points


def kept(points: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By the name of each way to keep the weights of a training: its figures."""
    some = points[len(points) // 4 - 1 :: len(points) // 4]
    found = {}
    for share in ("0", *(f"{share:g}" for share in AVERAGES)):
        words = f"mean of {float(share):.0%} of the steps" if float(share) else "as they are"
        for way, among in ((f"best of {len(some)}", some), (f"best of {len(points)}", points), ("last", points[-1:])):
            found[f"{words}, {way}"] = min((point[share] for point in among), key=lambda figures: figures["loss"])
    return found


def spread(trainings: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Of every way to keep weights: mean, standard deviation and values of its figures over several trainings.

    Examples
    --------
    >>> one, other = ({"last": dict.fromkeys(FIGURES, value)} for value in (0.75, 0.77))
    >>> {name: round(value, 4) for name, value in spread([one, other])["last"]["test_bert"].items() if name != "values"}
    {'mean': 0.76, 'deviation': 0.0141}
    """
    return {
        way: {
            figure: {
                "mean": float(np.mean(values := [one[way][figure] for one in trainings])),
                "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "values": values,
            }
            for figure in FIGURES
        }
        for way in trainings[0]
    }


def show(setting: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one table."""
    print(f"\n{setting}\n{'weights':40} " + " ".join(f"{figure:>20}" for figure in FIGURES))
    for way, figures in found.items():
        cells = [f"{one['mean']:.4f}" + ("" if one["deviation"] is None else f" +- {one['deviation']:.4f}") for one in figures.values()]
        print(f"{way:40} " + " ".join(f"{cell:>20}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("conf", nargs="?", default="conf/simulated.yaml")
    parser.add_argument("--data", type=Path, help="folder of the raw log")
    parser.add_argument("--workspace", type=Path, help="folder in which all stays, for a later run to find [default: it is removed]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rows", type=int, default=50_000, help="about so many rows of validation and of test are measured")
    parser.add_argument("--one-encoder", action="store_true", help="all seeds fine-tune the encoder of the configured seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY.PATH=VALUE", help="may be repeated")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY.PATH=VALUE ...", help="of finetune; may be repeated")
    parser.add_argument("--name", help="of the file of results [default: that of the configuration]")
    arguments = parser.parse_args()
    settings = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace = arguments.workspace or Path(folder) / "workspace"
        with workspace_lock(workspace, "bench_stability.py"):
            for setting in arguments.setting or ["as configured"]:
                settings[setting] = spread([kept(points) for points in trainings(arguments, workspace, setting)])
                show(setting, settings[setting])
    write_result(arguments, settings)


def trainings(arguments: argparse.Namespace, workspace: Path, setting: str) -> Iterator[list[dict[str, Any]]]:
    """Figures of every validation of a training for each seed and number of threads, from the workspace where they are there."""
    own = [one for one in setting.split() if "=" in one]
    for seed in arguments.seeds:
        config = load(arguments.conf, [*arguments.overrides, *own, f"seed={seed}"])
        encoder = load(arguments.conf, arguments.overrides) if arguments.one_encoder else config
        runner = Runner(RunContext(encoder, workspace, arguments.data), PIPELINE)
        runner.run(last="pretrain")
        ingest, pretrain = (runner.context.artifacts[stage].path for stage in ("ingest", "pretrain"))
        for threads in arguments.threads:
            told = {"finetune": config.finetune.model_dump(mode="json"), "rows": arguments.rows, "threads": threads, "seed": seed}
            file = workspace / "stability" / f"{digest_of({**told, 'ingest': ingest.name, 'pretrain': pretrain.name})}.json"
            if not file.exists():
                print(f"{setting}, seed {seed}, threads {threads}", flush=True)
                rows = measured_rows(ingest, arguments.conf, tuple(arguments.overrides), arguments.rows)
                points = train(config, ingest, pretrain, rows, threads)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, {"points": points})
            yield load_json(file)["points"]


def write_result(arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Write the file of results, with the command that makes it again."""
    options = [*(["--data DATA"] if arguments.data else []), f"--seeds {' '.join(map(str, arguments.seeds))}"]
    options += [f"--threads {' '.join(map(str, arguments.threads))}", f"--rows {arguments.rows}"]
    options += ["--one-encoder"] * arguments.one_encoder + [f"--set {one}" for one in arguments.overrides]
    options += [f'--setting "{one}"' for one in arguments.setting] + ([f"--name {arguments.name}"] if arguments.name else [])
    result = {
        "command": f"python benchmarks/bench_stability.py {arguments.conf} {' '.join(options)}",
        "trainings": len(arguments.seeds) * len(arguments.threads),
        "settings": settings,
    }
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    name = arguments.name or load(arguments.conf).name
    (folder / f"stability_{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
