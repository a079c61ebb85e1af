"""AUC of a student against the amount of its transfer set, over several seeds, under one teacher.

    python benchmarks/bench_transfer.py                                                  the simulated log
    python benchmarks/bench_transfer.py CONF --data DATA --workspace WORKSPACE --seeds 3

Brings the road up to date until finetune, then trains students at each amount (rows without labels as a share of the training rows) for
each seed, from 0 on, and the same student alone. Steps and labelled rows are the same at every amount; the rows of an amount are the same
for every seed. Differences to amount 0 are paired on the rows and resampled by user. Choose an amount by validation; test is to report.
Writes results/transfer_NAME_KIND.json.
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
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.distilling import align_logits, combine_logits, train_student
from ctr_kd.evaluation import EvaluationRows, evaluate
from ctr_kd.samples import Assembly, Samples
from ctr_kd.training import predict
from ctr_kd.transfer import join_rows
from pipelines.config import load
from pipelines.lock import workspace_lock
from pipelines.raw_rows import RawRows
from pipelines.runner import RunContext, Runner
from pipelines.stages import ROAD
from pipelines.stages.baselines import tree_logits
from pipelines.stages.training import load_teacher, probabilities, read_predictions
from pipelines.stages.transfer import bert_logits, write_transfer_set

WINDOWS = ("validation", "test")


def name_of(amount: float) -> str:
    return f"amount {amount:g}"


def transfer_tables(
    amounts: list[float], assembly: Assembly, finetune: Path, context: RunContext, folder: Path
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """The rows of each amount above zero, and how many were asked for and made."""
    tables, facts = {}, {}
    for amount in (amount for amount in amounts if amount > 0):
        file, name = folder / f"{amount:g}.parquet", name_of(amount)
        distill = context.config.distill
        distill = distill.model_copy(update={"transfer": distill.transfer.model_copy(update={"amount": amount})})
        asking = replace(context, config=context.config.model_copy(update={"distill": distill}))
        facts[name] = write_transfer_set(file, assembly, finetune, asking, print)
        tables[name] = pq.read_table(file)
    return tables, facts


def teach(
    context: RunContext, assembly: Assembly, finetune: Path, train: Samples, tables: dict[str, pa.Table]
) -> dict[str, tuple[Samples, np.ndarray]]:
    """Training rows and the combined teachers' logits (rows, 1) of each amount."""
    config = context.config
    rows = {"train": train, **{name: assembly.samples_of(table) for name, table in tables.items()}}
    logits: dict[str, dict[str, np.ndarray]] = {name: {} for name in rows}
    if "bert" in config.distill.teachers:
        logits["train"]["bert"] = align_logits(*read_predictions(finetune / "predictions_train.parquet", finetune.name), train)
        for name in tables:
            logits[name]["bert"] = bert_logits(finetune, assembly, config, rows[name])
    if "boosted_trees" in config.distill.teachers:
        trees, _ = tree_logits(RawRows(assembly.directory), config.seed, print, tables)
        for name in rows:
            logits[name]["boosted_trees"] = align_logits(*trees[name], rows[name])
    combined = {name: combine_logits(members, config.distill.teachers) for name, members in logits.items()}
    taught = {name_of(0): (train, combined["train"])}
    for name in tables:
        joined = join_rows(train, rows[name])
        row_id = np.concatenate([train.row_id, rows[name].row_id])
        taught[name] = joined, align_logits(row_id, np.concatenate([combined["train"], combined[name]]), joined)
    return taught


def measure(samples: Samples, scores: dict[str, np.ndarray], replicates: int) -> dict[str, Any]:
    """AUC of every student, and its paired difference to amount 0."""
    zero = name_of(0)
    pairs = tuple((name, zero) for name in scores if name != zero)
    rows = EvaluationRows(samples.label.astype(np.int8), samples.user, samples.group)
    measured = evaluate(rows, scores, replicates=replicates, pairs=pairs)
    return {
        name: {"auc": measured["models"][name]["auc"], "over_amount_0": measured["comparisons"].get(f"{name}-{zero}", {}).get("auc")}
        for name in scores
    }


def means(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean AUC by window and student over the seeds, and mean and standard error of its difference to amount 0."""
    result: dict[str, Any] = {}
    for window in WINDOWS:
        for name in seeds[0][window]:
            entries = [seed[window][name] for seed in seeds]
            gains = [entry["over_amount_0"]["difference"] for entry in entries if entry["over_amount_0"]]
            result.setdefault(window, {})[name] = {
                "auc": float(np.mean([entry["auc"]["value"] for entry in entries])),
                "over_amount_0": float(np.mean(gains)) if gains else None,
                "standard_error": float(np.std(gains, ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else None,
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("conf", nargs="?", default="conf/simulated.yaml")
    parser.add_argument("--data", type=Path, help="folder of the raw log")
    parser.add_argument("--workspace", type=Path, help="folder in which all stays, for a later run to find [default: it is removed]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--amounts", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="besides 0")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY.PATH=VALUE", help="may be repeated")
    arguments = parser.parse_args()
    config = load(arguments.conf, arguments.overrides)
    if config.distill.weights[1] == 0:
        sys.exit("distill.alpha is 1: without a teacher nothing can be learned from rows without labels")
    seeds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = arguments.workspace or folder / "workspace"
        with workspace_lock(workspace, "bench_transfer.py"):
            context = RunContext(config, workspace, arguments.data)
            Runner(context, ROAD).run(last="finetune")
            ingest, finetune = (context.artifacts[stage].path for stage in ("ingest", "finetune"))
            assembly = Assembly(ingest, config.history.max_length)
            tables, facts = transfer_tables(arguments.amounts, assembly, finetune, context, folder)
        signature = assembly.signature()
        train, validation, test = (assembly.samples(split) for split in ("train", *WINDOWS))
        taught: dict[str, tuple[Samples, np.ndarray | None]] = {**teach(context, assembly, finetune, train, tables), "alone": (train, None)}
        encoder = load_teacher(finetune, assembly, config).pretrained if config.distill.needs_encoder else None
        for seed in range(arguments.seeds):
            scores: dict[str, dict[str, np.ndarray]] = {window: {} for window in WINDOWS}
            for name, (rows, logits) in taught.items():
                checkpoint = folder / f"{seed} {name}.pt"
                model, _ = train_student(
                    signature, rows, validation, logits, config.distill, seed, "benchmark", checkpoint, encoder=encoder
                )
                for window, samples in zip(WINDOWS, (validation, test), strict=True):
                    scores[window][name] = probabilities(predict(model, samples))
            measured = {
                window: measure(samples, scores[window], config.evaluate.bootstrap)
                for window, samples in zip(WINDOWS, (validation, test), strict=True)
            }
            seeds.append({"seed": seed, **measured})
            line = {window: {name: round(entry["auc"]["value"], 4) for name, entry in measured[window].items()} for window in WINDOWS}
            print(json.dumps({"seed": seed, **line}), flush=True)
    mean = means(seeds)
    print(f"\n{'mean of ' + str(len(seeds)) + ' seeds':16} {'validation':>10} {'over 0':>8} {'test':>8} {'over 0':>8}")
    for name in taught:
        cells = [mean[window][name] for window in WINDOWS]
        shown = [
            f"{cell['auc']:.4f} {'-' if cell['over_amount_0'] is None else format(cell['over_amount_0'], '+.4f'):>8}" for cell in cells
        ]
        print(f"{name:16} {shown[0]:>19} {shown[1]:>17}")
    options = [*(["--data DATA"] if arguments.data else []), f"--seeds {arguments.seeds}", *(f"--set {one}" for one in arguments.overrides)]
    amounts = " ".join(f"{amount:g}" for amount in arguments.amounts)
    result = {
        "command": f"python benchmarks/bench_transfer.py {arguments.conf} {' '.join(options)} --amounts {amounts}",
        "student": config.distill.student.kind,
        "training_rows": len(train),
        "transfer": facts,
        "mean": mean,
        "seeds": seeds,
    }
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    (results / f"transfer_{config.name}_{config.distill.student.kind}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
