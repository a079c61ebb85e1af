"""Student against the same student alone, over several seeds, under one teacher: AUC on the test window with intervals.

    ctr-kd run CONF --data DATA --workspace WORKSPACE --until finetune
    python benchmarks/bench_distillation.py CONF --workspace WORKSPACE --seeds 3

Rows and BERT are those of the workspace; boosted trees are fitted where the configuration names them as a teacher. Each seed
trains both students anew. Differences are paired and resampled by user, every checkpoint is chosen on validation. Writes
results/distillation_NAME_KIND.json; without a workspace it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.distilling import align_logits, combine_logits, train_student
from ctr_kd.evaluation import EvaluationRows, evaluate
from ctr_kd.samples import Assembly
from ctr_kd.training import predict
from pipelines.config import load
from pipelines.stages.distill import boosted_trees, teacher_encoder
from pipelines.stages.evaluate import sigmoid
from pipelines.stages.training import read_predictions

PAIRS = (("student", "student_alone"), ("student", "teacher"))


def newest(workspace: Path, stage: str) -> Path:
    """The stage's artifact that was finished last."""
    manifests = list((workspace / "artifacts" / stage).glob("*/_manifest.json"))
    if not manifests:
        print(f"skipped: {workspace} holds no {stage}; run `ctr-kd run CONF --workspace {workspace} --until finetune` first")
        sys.exit(0)
    return max(manifests, key=lambda path: path.stat().st_mtime).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("conf", nargs="?", default="conf/simulated.yaml")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--student", help="kind of student; default: the configuration's")
    arguments = parser.parse_args()
    overrides = [f"distill.student.kind={arguments.student}"] if arguments.student else []
    config = load(arguments.conf, overrides)
    finetune = newest(arguments.workspace, "finetune")
    manifest = json.loads((finetune / "_manifest.json").read_text())
    assembly = Assembly(
        arguments.workspace / "artifacts" / "ingest" / manifest["inputs"]["ingest"]["fingerprint"], config.history.max_length
    )
    signature = assembly.signature()
    train, validation, test = (assembly.samples(split) for split in ("train", "validation", "test"))
    splits = {"train": train, "test": test}
    stored = {"bert": {split: read_predictions(finetune / f"predictions_{split}.parquet", finetune.name) for split in splits}}
    if "boosted_trees" in config.distill.teachers:
        stored["boosted_trees"], _ = boosted_trees(assembly, config.seed, print)
    members = {
        split: {name: align_logits(*stored[name][split], rows) for name in config.distill.teachers} for split, rows in splits.items()
    }
    combined = {split: combine_logits(logits, config.distill.teachers) for split, logits in members.items()}
    teacher = combined["train"]
    encoder = teacher_encoder(finetune, assembly, config) if config.distill.needs_encoder else None
    scores = {"teacher": sigmoid(combined["test"][:, 0])}
    rows = EvaluationRows(test.label.astype(np.int8), test.user, test.group)
    seeds = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for name, target in (("student", teacher), ("student_alone", None)):
                model, _ = train_student(
                    signature, train, validation, target, config.distill, seed, "benchmark", Path(folder) / f"{name}.pt", encoder=encoder
                )
                scores[name] = sigmoid(predict(model, test)[:, 0])
        measured = evaluate(rows, scores, replicates=config.evaluate.bootstrap, pairs=PAIRS)
        aucs = {name: round(measured["models"][name]["auc"]["value"], 4) for name in scores}
        entry = {"seed": seed, "auc": aucs, "student-student_alone": measured["comparisons"]["student-student_alone"]["auc"]}
        seeds.append(entry)
        print(json.dumps(entry), flush=True)
    gains = np.array([entry["student-student_alone"]["difference"] for entry in seeds])
    result = {
        "command": f"python benchmarks/bench_distillation.py {' '.join(sys.argv[1:])}",
        "student": config.distill.student.kind,
        "test_rows": len(test),
        "mean_gain": round(float(gains.mean()), 5),
        "standard_error_over_seeds": round(float(gains.std(ddof=1) / np.sqrt(len(gains))), 5) if len(gains) > 1 else None,
        "seeds": seeds,
    }
    print(f"student - student alone: {result['mean_gain']:+.4f} AUC on average over {len(gains)} seeds")
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / f"distillation_{config.name}_{config.distill.student.kind}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
