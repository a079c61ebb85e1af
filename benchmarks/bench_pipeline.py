"""Seconds and peak memory of the whole pipeline, raw log to scores, through the real program in a fresh workspace.

    python benchmarks/bench_pipeline.py                          the simulated log (goal: 10 minutes)
    python benchmarks/bench_pipeline.py --globo FOLDER           the Globo log besides (goal: 30 minutes and 6 GB)

Then the same run again, which must find that nothing is to do (goal: 10 seconds). Writes results/pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def measure(conf: str, data: Path | None, folder: Path) -> dict[str, Any]:
    """One pipeline and its repetition, in a new workspace below a folder."""
    workspace = folder / Path(conf).stem
    if workspace.exists():
        sys.exit(f"{workspace} exists: the pipeline must begin in a fresh workspace")
    command = [sys.executable, "-m", "pipelines", "run", conf, "--workspace", str(workspace), *(["--data", str(data)] if data else [])]
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        seconds.append(round(time.perf_counter() - began, 1))
    metrics = json.loads((workspace / "reports" / "latest" / "metrics.json").read_text(encoding="utf-8"))
    auc = {name: round(model["auc"]["value"], 4) for name, model in metrics["models"].items()}
    # of all children so far; the larger log comes last
    peak = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2)
    return {
        "configuration": conf,
        "seconds": seconds[0],
        "seconds_of_a_second_run": seconds[1],
        "peak_memory_gb": peak,
        "auc_on_test": auc,
        "student_minus_student_alone": metrics["comparisons"]["student-student_alone"]["auc"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--globo", type=Path, help="folder that holds clicks/clicks_hour_*.csv.gz")
    parser.add_argument("--keep", type=Path, help="folder in which the workspaces stay [default: they are removed]")
    arguments = parser.parse_args()
    pipelines = [("conf/simulated.yaml", None)] + ([("conf/globo.yaml", arguments.globo.resolve())] if arguments.globo else [])
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for conf, data in pipelines:
            results.append(measure(conf, data, arguments.keep.resolve() if arguments.keep else Path(folder)))
            print(json.dumps(results[-1]), flush=True)
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    command = "python benchmarks/bench_pipeline.py" + (" --globo FOLDER" if arguments.globo else "")
    (folder / "pipeline.json").write_text(json.dumps({"command": command, "runs": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
