"""What teacher states give, what they cost, and what it costs when they are old.

    python benchmarks/bench_teacher_state.py --workspace FOLDER                                           the simulated log
    python benchmarks/bench_teacher_state.py --workspace FOLDER --conf conf/mind.yaml --data FOLDER       another one
    python benchmarks/bench_teacher_state.py --workspace FOLDER --set history.max_length=5                a student that reads less

Four runs of each seed learn the same rows: without states, and with states that are at least 1, 7 and 24 hours old (`delay`) and an hour
more at most (`every: 1h`), in training as in the test window. All states are of one encoder. Differences are paired by row and seed, their
intervals resample users and seeds. A workspace that stays goes on where it was. Writes results/teacher_state_NAME.json.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd.evaluation.several_seeds import Seeded, measure_seeds, seed_differences, seed_means
from ctr_kd.metrics.bootstrap import Bootstrap
from ctr_kd.teacher_states.encoder import load_encoder
from feature_store.config import FeatureStoreConfig
from feature_store.features.click_sequences import read_click_sequences
from feature_store.features.summary import ClickSummary
from feature_store.store.store import Store
from pipelines.config.run import load
from pipelines.stages import PIPELINE
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import stored_probabilities
from pipelines.training.costs import student_rows_per_second
from pipelines.training.students import EXPORTS
from pipelines.workspace.context import RunContext
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.runner import Runner

ROOT = Path(__file__).resolve().parent.parent
WITHOUT = "without"
ARMS = {WITHOUT: ["teacher_state=null"]} | {
    f"state_{age}": ["teacher_state.every=1h", f"teacher_state.delay={age}"] for age in ("1h", "7h", "24h")
}
MODELS = ("student", "student_alone")


def trained(arguments: argparse.Namespace, arm: str, seed: int) -> dict[str, Path]:
    """Artifacts of a run up to its students, by stage."""
    overrides = [*arguments.set, *ARMS[arm], f"seed={seed}"]
    run = RunContext(load(arguments.conf, overrides), arguments.workspace, data=arguments.data)
    with workspace_lock(arguments.workspace, "bench_teacher_state"):
        Runner(run, PIPELINE).run(last="distill")
    return {name: artifact.path for name, artifact in run.artifacts.items()}


def users_per_second(workspace: Path, assembly: Path) -> dict[str, float]:
    """How fast an encoder makes states of whole histories, and how long they are on average."""
    settings = ClickSummary.read(assembly).teacher_state
    assert settings is not None and settings.encoder is not None
    clicks = read_click_sequences(Store(workspace / "store"), FeatureStoreConfig(), None)
    encoder, known = load_encoder(workspace / "teacher_states" / settings.encoder, clicks), np.arange(len(clicks.item))
    began = time.perf_counter()
    users, _ = encoder.states(clicks, known)
    seconds = time.perf_counter() - began
    return {"users_per_second": round(len(users) / seconds), "clicks_per_user": round(len(known) / len(users), 1)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All arms on the test rows."""
    runs = {arm: [trained(arguments, arm, seed) for seed in range(arguments.seeds)] for arm in ARMS}
    tests = {arm: ClickRows(of_arm[0]["ingest"]) for arm, of_arm in runs.items()}
    rows = tests[WITHOUT].evaluation_rows()
    bootstrap = Bootstrap(rows.user, len(rows.label), replicates=arguments.replicates)

    def figures(arm: str, model: str) -> dict[str, Seeded]:
        rate = tests[arm].negative_sampling_rate
        files = [one["distill"] / f"predictions_{model}_test.parquet" for one in runs[arm]]
        return measure_seeds(rows.label, [[stored_probabilities(file, rate) for file in files]], bootstrap, rows.weight, rows.row_weight)

    measured = {arm: {model: figures(arm, model) for model in MODELS} for arm in ARMS}
    result: dict[str, Any] = {}
    for arm, of_models in measured.items():
        export = runs[arm][0]["distill"] / EXPORTS["student"]
        known = 0.0 if arm == WITHOUT else 1 - tests[arm].read("test")["teacher_state_0"].null_count / len(rows.label)
        result[arm] = {
            "rows_with_a_state": round(known, 3),
            "rows_per_second": round(student_rows_per_second(export, tests[arm]) or 0),
            "bytes": (export / "student.onnx").stat().st_size,
        }
        for model, of_seeds in of_models.items():
            mean = seed_means(of_seeds, 0)["auc"]
            result[arm][model] = {"auc": [round(float(x), 4) for x in (mean.value, mean.low or 0, mean.high or 0)]}
            if arm != WITHOUT:
                gain = seed_differences(of_seeds, measured[WITHOUT][model], 0)["auc"]
                result[arm][model]["gain"] = [round(float(x), 4) for x in (gain.difference, gain.low or 0, gain.high or 0)]
                result[arm][model]["gain_by_seed"] = [round(x, 4) for x in gain.by_seed.seeds]
    return {"arms": result, "encoder": users_per_second(arguments.workspace, runs["state_1h"][0]["ingest"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf", type=Path, default=ROOT / "conf" / "simulated.yaml")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the log that it reads")
    parser.add_argument("--workspace", type=Path, metavar="FOLDER", help="which stays [default: none stays]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=300, help="resamples of users")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the configuration, in all arms")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        arguments.workspace = arguments.workspace or Path(scratch)
        found = measure(arguments)
    asked = "".join(f" --set {one}" for one in arguments.set) + (" --data FOLDER" if arguments.data else "")
    of_conf = "" if arguments.conf.stem == "simulated" else f" --conf conf/{arguments.conf.name}"
    command = f"python benchmarks/bench_teacher_state.py{of_conf}{asked} --seeds {arguments.seeds}"
    report = {"command": command, "seeds": list(range(arguments.seeds)), "units": "users and seeds", **found}
    print(json.dumps(report, indent=1))
    output = ROOT / "benchmarks" / "results" / f"teacher_state_{arguments.conf.stem}.json"
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
