"""What somebody would use instead of a student: boosted trees of both libraries on all rows and columns of a log.

    python benchmarks/bench_boosted_trees.py                                                                      the simulated log
    python benchmarks/bench_boosted_trees.py --globo FOLDER --ml100k FOLDER --mind FOLDER --workspaces FOLDER     and real ones

Rows come from stage `ingest`; in a workspace that stays they are not made again. Each library grows its trees in a process of its own, on
one thread: seconds of the fit, rows per second from the assembly's rows to probabilities, and the largest memory of the process, in which
the rows themselves lie too. AUC on validation, by which the number of trees is chosen, and on test with a 95 % interval over users.
Writes results/boosted_trees.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SETS = {"simulated": "conf/simulated.yaml", "globo": "conf/globo.yaml", "ml100k": "conf/ml100k.yaml", "mind": "conf/mind.yaml"}
LIBRARIES = ("lightgbm", "scikit-learn")
SEED = 0


def make_rows(name: str, data: Path | None, workspace: Path) -> Path:
    """The artifact of stage `ingest`."""
    from pipelines.config.run import load
    from pipelines.stages import PIPELINE
    from pipelines.workspace.context import RunContext
    from pipelines.workspace.lock import workspace_lock
    from pipelines.workspace.runner import Runner

    run = RunContext(load(Path(SETS[name])), workspace, data=data)
    with workspace_lock(workspace, "bench_boosted_trees"):
        Runner(run, PIPELINE).run(last="ingest")
    return run.artifacts["ingest"].path


def measure(assembly: Path, library: str) -> dict[str, Any]:
    """Trees of one library on the rows of an artifact."""
    from ctr_kd.baselines.boosted_trees import BoostedTrees
    from ctr_kd.evaluation.evaluate import evaluate_models
    from ctr_kd.metrics import auc_score
    from pipelines.tasks.click_rows import ClickRows
    from pipelines.tasks.timing import rate_of
    from pipelines.workspace.resources import peak_memory_bytes, reset_peak_memory

    log = ClickRows(assembly)
    train, validation = log.read("train"), log.read("validation")
    columns = {"numeric": log.numeric, "categorical": log.categorical}
    reset_peak_memory()
    held, began = peak_memory_bytes(), time.perf_counter()
    train_rows, label = log.described(train), train["label"].to_numpy()
    beside, beside_label = log.described(validation), validation["label"].to_numpy()
    trees = BoostedTrees.fit(train_rows, label, beside, beside_label, **columns, library=library, seed=SEED)
    seconds, peak = time.perf_counter() - began, peak_memory_bytes()
    test = log.read("test")
    figures = evaluate_models(log.evaluation_rows(), {"trees": trees.predict(log.described(test))}).models["trees"]["auc"]
    return {
        "library": library,
        "training_rows": train.num_rows,
        "columns": len(trees.columns),
        "trees": trees.trees.count,
        "auc_on_validation": round(float(auc_score(beside_label, trees.predict(beside))), 4),
        "auc_on_test": round(figures.value, 4),
        "interval": [round(figures.low or 0.0, 4), round(figures.high or 0.0, 4)],
        "fit_seconds": round(seconds, 1),
        "rows_per_second": round(rate_of(lambda part: trees.predict(log.described(part)), validation) or 0),
        "rows_in_memory_mb": held // 1_000_000,
        "peak_memory_mb": peak // 1_000_000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in list(SETS)[1:]:
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=f"the log that {SETS[name]} reads")
    parser.add_argument("--workspaces", type=Path, help="folder of one workspace per log, which stays [default: none stays]")
    parser.add_argument("--one", nargs=2, metavar=("ASSEMBLY", "LIBRARY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(Path(arguments.one[0]), arguments.one[1])))
        return
    from ctr_kd.baselines.tree_libraries import installed_library

    asked = {name: getattr(arguments, name) for name in list(SETS)[1:] if getattr(arguments, name)}
    libraries = [name for name in LIBRARIES if name != "lightgbm" or installed_library().name == name]
    environment, runs = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}, []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("simulated", *asked):
            data = asked[name].resolve() if name in asked else None
            assembly = make_rows(name, data, (arguments.workspaces or Path(scratch)) / f"trees_{name}")
            for library in libraries:
                command = [sys.executable, __file__, "--one", str(assembly), library]
                done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8")
                runs.append({"configuration": name, **json.loads(done.stdout.splitlines()[-1])})
                print(", ".join(f"{key} {value}" for key, value in runs[-1].items()), flush=True)
    seconds = {run["library"]: run["fit_seconds"] for run in runs[:2]}
    if len(seconds) == 2:
        print(f"lightgbm: {seconds['scikit-learn'] / seconds['lightgbm']:.1f} x as fast as scikit-learn on the simulated log")
    folders = "".join(f" --{name} FOLDER" for name in asked)
    result = {"command": f"python benchmarks/bench_boosted_trees.py{folders}", "seeds": [SEED], "units": "users", "runs": runs}
    output = Path(__file__).parent / "results" / "boosted_trees.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
