"""AUC of ours and of every click model that torch-rechub offers for it, on the same rows: differences with intervals, over seeds.

    make bench-quality GLOBO=FOLDER ML100K=FOLDER MIND=FOLDER          any of them; the others are skipped
    python benchmarks/bench_quality.py --ml100k FOLDER --seeds 3 --trials 8 --workspaces FOLDER

Ours: the stages up to `distill`, pretraining and all, for every seed. Peers: DIN, DeepFM and DCNv2 as `benchmarks/peers.py` describes them,
on the rows and features of that workspace. All are tuned on every data set, within the same number of trials: seed 0 trains the first
--trials settings of `peers.trials_beside` for each peer and of `OUR_TRIALS` for our teacher (the first is the configuration as it is in
conf/, of a peer the epochs, batches and rate of our student there), the best AUC on validation decides, and that setting trains with every
seed. The student is not tuned: it learns from the teacher that was chosen. Test labels choose nothing. Differences are paired and resampled
by user; the mean over seeds has an interval of its own, from the mean of the seeds' differences in each resample.

What has been trained is kept in the workspace, so that a benchmark that was stopped goes on, and one with more trials trains only
those (remove WORKSPACE/peers after a change of `peers.py`). Writes results/quality_NAME.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.tree_teacher import tree_logits
from ctr_kd.data.samples import Assembly, Samples, Signature
from ctr_kd.evaluation.throughput import parameter_count, rows_per_second
from ctr_kd.metrics import auc_score
from ctr_kd.metrics.bootstrap import AucStatistic, Bootstrap, paired_difference, percentile_interval
from ctr_kd.training.distill import align_logits, combine_logits
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.loop import predict
from feature_store.tables.json_files import digest_of
from pipelines.cli.options import Options
from pipelines.config.run import RunConfig
from pipelines.stages import PIPELINE
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import read_predictions
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.runner import Runner

SETS = {"globo": "conf/globo.yaml", "ml100k": "conf/ml100k.yaml", "mind": "conf/mind.yaml"}
SPLITS = ("validation", "test")
# Overrides of a configuration that the teacher is tuned over.
OUR_TRIALS: tuple[tuple[str, ...], ...] = (
    (),
    ("distill.teachers={bert: 0.7, boosted_trees: 0.3}",),
    ("finetune.head_dropout=0.3", "finetune.embedding_std=0.0001", "finetune.training.unknown_rate=0.4"),
    ("finetune.rate_ratio=0.3",),
    ("distill.teachers={bert: 0.5, boosted_trees: 0.5}",),
    ("finetune.cross_layers=2", "finetune.head_dropout=0.3"),
    ("finetune.training.learning_rate=0.004",),
    ("finetune.training.epochs=1",),
)
OURS = ("teacher", "student")  # whose differences to the peers are reported

COSTS = ("rows_per_second", "parameters", "bytes")  # of a peer: on one thread from mapped indices; of its weights

Logits = dict[str, np.ndarray]  # by split, (rows,) in the order of the samples


def say(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What all models of a data set read."""

    fingerprint: str
    signature: Signature
    samples: dict[str, Samples]


@functools.cache
def trees(ingest: Path, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Row ids and logits of the boosted trees by split: they are the same in all trials."""
    return tree_logits(ClickRows(ingest), seed, say)


@dataclasses.dataclass(frozen=True)
class Ours:
    """Our models of one seed and trial: the runner that made them, the rows, and what each says of validation and test."""

    runner: Runner
    config: RunConfig
    rows: Rows
    scores: dict[str, Logits]

    def stored(self, stage: str, name: str = "") -> Logits:
        """Logits that a stage stored."""
        folder = self.runner.context.artifacts[stage].path
        files = {split: folder / f"predictions{name}_{split}.parquet" for split in SPLITS}
        return {split: align_logits(*read_predictions(file, folder.name), self.rows.samples[split])[:, 0] for split, file in files.items()}


def bring_up(runner: Runner, last: str) -> None:
    """Bring the stages up to date, the workspace being locked."""
    with workspace_lock(runner.context.workspace, "bench_quality"):
        runner.run(last=last)


def teacher(options: Options, seed: int, trial: tuple[str, ...]) -> Ours:
    """Our teacher, and those that it is made of; no student is trained."""
    options = dataclasses.replace(options, overrides=(*trial, *options.overrides, f"seed={seed}"))
    config = options.config()
    runner = Runner(options.context(config), PIPELINE)
    bring_up(runner, "finetune")
    ingest = runner.context.artifacts["ingest"].path
    assembly = Assembly(ingest, config.history.max_length)
    samples = {split: assembly.samples(split) for split in ("train", *SPLITS)}
    found = Ours(runner, config, Rows(ingest.name, assembly.signature(), samples), {})
    fitted = trees(ingest, config.seed)
    found.scores["bert"] = found.stored("finetune")
    found.scores["boosted_trees"] = {split: align_logits(*fitted[split], samples[split])[:, 0] for split in SPLITS}
    weights = config.distill.teacher_weights
    found.scores["teacher"] = {split: combine_logits({name: found.scores[name][split] for name in weights}, weights) for split in SPLITS}
    return found


def ours(options: Options, seed: int, trial: tuple[str, ...]) -> Ours:
    """Our teacher and its students."""
    found = teacher(options, seed, trial)
    bring_up(found.runner, "distill")
    found.scores.update({name: found.stored("distill", f"_{name}") for name in ("student", "student_alone")})
    return found


def peer(kind: str, trial: Any, seed: int, rows: Rows, folder: Path) -> tuple[Logits, dict[str, float]]:
    """Logits of a trained peer and what it costs, from the folder where they lie already."""
    from benchmarks.peers import train_peer

    file = folder / f"{kind}_{digest_of([rows.fingerprint, kind, trial.to_dict(), seed])[:16]}.npz"
    if file.exists():
        with np.load(file) as stored:
            return {split: stored[split] for split in SPLITS}, {name: float(stored[name]) for name in COSTS if name in stored}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        learned = TrainingRows(signature=rows.signature, train=rows.samples["train"], validation=rows.samples["validation"])
        job = TrainingJob(seed=seed, fingerprint=f"{kind} {trial} {seed}", folder=Path(scratch))
        model, _ = train_peer(kind, learned, trial, job)
        logits = {split: predict(model, rows.samples[split])[:, 0] for split in SPLITS}
        held = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        speed = rows_per_second(model, rows.samples["test"], share_histories=False)
        costs = dict(zip(COSTS, (speed, float(parameter_count(model)), float(held)), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, **logits, **costs)
    unfinished.replace(file)
    say(f"{kind}, seed {seed}: validation AUC {validation_auc(rows, logits):.4f} in {time.monotonic() - began:.0f} s, {trial}")
    return logits, costs


def validation_auc(rows: Rows, logits: Logits) -> float:
    return float(auc_score(rows.samples["validation"].label, logits["validation"]))


def compare(test: Samples, scores: dict[str, list[np.ndarray]], pairs: list[tuple[str, str]], config: RunConfig) -> dict[str, Any]:
    """AUC on test and the paired differences of some pairs, seed by seed and on average, each with its interval.

    Parameters
    ----------
    test : Samples
    scores : dict of str to list of array (rows,)
        What each model says of the test rows, one array per seed.
    pairs : list of (first, second)
    config : RunConfig
        Of the bootstrap.
    """
    bootstrap = Bootstrap(test.user, len(test), replicates=config.evaluate.bootstrap, seed=config.evaluate.seed)
    statistics = {
        (name, i): AucStatistic(test.label, score, bootstrap.unit) for name, by_seed in scores.items() for i, score in enumerate(by_seed)
    }
    resampled = bootstrap.values_of(statistics)
    auc = {name: [float(auc_score(test.label, score)) for score in by_seed] for name, by_seed in scores.items()}
    replicates = {name: [resampled[name, i] for i in range(len(by_seed))] for name, by_seed in scores.items()}

    def interval(name: str) -> dict[str, Any]:
        found = percentile_interval(float(np.mean(auc[name])), np.mean(replicates[name], axis=0))
        return {"mean": found.value, "low": found.low, "high": found.high, "seeds": auc[name]}

    def difference(first: str, second: str) -> dict[str, Any]:
        seeds = [paired_difference(*values) for values in zip(auc[first], auc[second], replicates[first], replicates[second], strict=True)]
        means = [np.mean(values, axis=0) for values in (auc[first], auc[second], replicates[first], replicates[second])]
        return {**dataclasses.asdict(paired_difference(*means)), "seeds": [dataclasses.asdict(one) for one in seeds]}

    return {
        "test_auc": {name: interval(name) for name in scores},
        "differences": {f"{first}-{second}": difference(first, second) for first, second in pairs},
    }


def measure(options: Options, seeds: int, trials: int) -> dict[str, Any]:
    """All models of one data set."""
    from benchmarks.peers import PEERS, trials_beside

    tried = []
    for trial in OUR_TRIALS[:trials]:
        found = teacher(options, 0, trial)
        tried.append(validation_auc(found.rows, found.scores["teacher"]))
        say(f"teacher, seed 0: validation AUC {tried[-1]:.4f}, {' '.join(trial) or 'as configured'}")
    chosen = OUR_TRIALS[int(np.argmax(tried))]
    tuning: dict[str, Any] = {"teacher": {"validation_auc": [round(value, 5) for value in tried], "chosen": list(chosen)}}
    scores: dict[str, list[Logits]] = {}
    for seed in range(seeds):
        found = ours(options, seed, chosen)
        config, rows = found.config, found.rows
        for name, logits in found.scores.items():
            scores.setdefault(name, []).append(logits)
    sizes = {f"{split}_rows": len(samples) for split, samples in rows.samples.items()}
    say(f"{config.name}: {sizes}")
    if set(config.distill.teacher_weights) == {"bert"}:
        del scores["bert"]  # it is the teacher
    folder, costs, settings = options.workspace / "peers", {}, trials_beside(config.distill.training)[:trials]
    for kind in PEERS:
        tried = [validation_auc(rows, peer(kind, trial, 0, rows, folder)[0]) for trial in settings]
        best = settings[int(np.argmax(tried))]
        tuning[kind] = {"validation_auc": [round(value, 5) for value in tried], "chosen": best.to_dict()}
        trained = [peer(kind, best, seed, rows, folder) for seed in range(seeds)]
        scores[kind], costs[kind] = [logits for logits, _ in trained], trained[0][1]
    pairs = [(mine, kind) for mine in OURS for kind in PEERS]
    tested = compare(
        rows.samples["test"], {name: [logits["test"] for logits in by_seed] for name, by_seed in scores.items()}, pairs, config
    )
    models = {
        name: {"validation_auc": [validation_auc(rows, logits) for logits in by_seed], "test_auc": tested["test_auc"][name]}
        for name, by_seed in scores.items()
    }
    return {
        "configuration": config.name,
        "overrides": list(options.overrides),
        **sizes,
        "seeds": seeds,
        "teachers": config.distill.teacher_weights,
        "student": config.distill.student.kind,
        "our_trials": [list(trial) for trial in OUR_TRIALS[:trials]],
        "trials": [trial.to_dict() for trial in settings],
        "tuning": tuning,
        "rows": rows.fingerprint,
        "points": [point(kind, models[kind], costs[kind]) for kind in PEERS],
        "models": dict(sorted(models.items(), key=lambda item: -item[1]["test_auc"]["mean"])),
        "differences": tested["differences"],
    }


def point(name: str, model: dict[str, Any], costs: dict[str, float]) -> dict[str, Any]:
    """A model on the axes of `ctr-kd sweep`, see `sweep.points`; a cost that was not measured is left out.

    Examples
    --------
    >>> model = {"validation_auc": [0.7, 0.8], "test_auc": {"mean": 0.7, "low": 0.6, "high": 0.8, "seeds": [0.7]}}
    >>> point("DIN", model, {"bytes": 12.0})
    {'name': 'DIN', 'auc': {'value': 0.7, 'low': 0.6, 'high': 0.8}, 'validation_auc': 0.75, 'bytes': 12}
    """
    test = model["test_auc"]
    auc = {"value": test["mean"], "low": test["low"], "high": test["high"]}
    whole = {name: value if name == "rows_per_second" else int(value) for name, value in costs.items()}
    return {"name": name, "auc": auc, "validation_auc": float(np.mean(model["validation_auc"])), **whole}


def rounded(value: Any) -> Any:
    """The same figures with five decimals."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(float(value), 5) if isinstance(value, float) else value


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: models, best first, then ours against each peer."""
    lines = [f"{result['configuration']}: {result['test_rows']:,} test rows, {result['seeds']} seeds", ""]
    lines += ["| model | AUC on validation | AUC on test | 95 % | by seed |", "| --- | --- | --- | --- | --- |"]
    for name, model in result["models"].items():
        test = model["test_auc"]
        by_seed = " ".join(f"{value:.4f}" for value in test["seeds"])
        validation = float(np.mean(model["validation_auc"]))
        lines.append(f"| {name} | {validation:.4f} | {test['mean']:.4f} | {test['low']:.4f} - {test['high']:.4f} | {by_seed} |")
    lines += ["", "| difference | mean of the seeds | by seed |", "| --- | --- | --- |"]
    shown = "{difference:+.4f} [{low:+.4f}, {high:+.4f}]"
    for name, found in result["differences"].items():
        by_seed = ", ".join(shown.format(**one) for one in found["seeds"])
        lines.append(f"| {name.replace('-', ' - ')} | {shown.format(**found)} | {by_seed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, conf in SETS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=f"the log that {conf} reads")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8, help="settings tried of our teacher and of each peer [default: %(default)s]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="override a key of the configurations")
    parser.add_argument("--workspaces", type=Path, default=Path("workspace"), help="folder of one workspace per data set")
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch_rechub") is None:
        print("skipped: torch-rechub is not installed; `make bench-quality` installs it (extra `peers`)")
        return
    for name, conf in SETS.items():
        data = getattr(arguments, name)
        if data is None:
            print(f"skipped: {name}, because --{name} names no folder")
            continue
        options = Options(Path(conf), data.resolve(), arguments.workspaces / f"quality_{name}", overrides=tuple(arguments.set))
        result = {
            "command": f"python benchmarks/bench_quality.py --{name} FOLDER --seeds {arguments.seeds} --trials {arguments.trials}",
            **rounded(measure(options, arguments.seeds, arguments.trials)),
        }
        print(table(result), flush=True)
        folder = Path(__file__).with_name("results")
        folder.mkdir(exist_ok=True)
        (folder / f"quality_{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
