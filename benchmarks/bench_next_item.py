"""Full-ranking HR@10 and NDCG@10 on public leave-one-out sets, several seeds, one configuration, beside what S3-Rec's paper gives.

    python benchmarks/bench_next_item.py FOLDER                          Beauty and LastFM, three seeds
    python benchmarks/bench_next_item.py FOLDER --sets Yelp --seeds 1    another set of that collection
    python benchmarks/bench_next_item.py FOLDER --sets Beauty --seeds 1 --set pretrain.items=sampled --output FILE

FOLDER holds NAME.txt and NAME_item2attributes.json as published with S3-Rec (Zhou et al. 2020, arXiv:2008.07873, table 2). Runs
``next-item conf/s3rec.yaml`` through the real program in a fresh workspace per set; every choice in that file was made on the
validation items. Writes results/next_item.json, or another file under --output; without a folder it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ("hr@10", "ndcg@10")
PUBLISHED = {
    "Beauty": {"SASRec": (0.0605, 0.0318), "BERT4Rec": (0.0347, 0.0170), "S3-Rec": (0.0647, 0.0327)},
    "LastFM": {"SASRec": (0.0688, 0.0390), "BERT4Rec": (0.0633, 0.0337), "S3-Rec": (0.0743, 0.0427)},
}


def measure(name: str, data: Path, seeds: int, workspace: Path, options: list[str]) -> dict[str, Any]:
    """One set: the figures of every seed, their means and the standard error of a mean over the set's users."""
    runs = []
    for seed in range(seeds):
        command = [sys.executable, "-m", "pipelines", "next-item", "conf/s3rec.yaml", "--data", str(data), "--workspace", str(workspace)]
        command += ["--set", f"source.name={name}", "--set", f"seed={seed}", *(part for option in options for part in ("--set", option))]
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        found = json.loads((workspace / "reports" / "latest" / "next_item.json").read_text(encoding="utf-8"))
        runs.append(
            {
                "seed": seed,
                **{figure: round(found[figure], 5) for figure in FIGURES},
                **{f"validation_{figure}": round(found["validation"][figure], 5) for figure in FIGURES},
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
        print(json.dumps({"set": name, **runs[-1]}), flush=True)
    mean = {figure: round(statistics.mean(run[figure] for run in runs), 5) for figure in FIGURES}
    hit = mean["hr@10"]
    return {
        "set": name,
        "users": found["users"],
        "items": found["items"],
        "mean": mean,
        # Seeds share the users, so their spread says nothing of this.
        "standard_error_of_hr@10_over_users": round(math.sqrt(hit * (1 - hit) / found["users"]), 4),
        "published": {model: dict(zip(FIGURES, values, strict=True)) for model, values in PUBLISHED.get(name, {}).items()},
        "seeds": runs,
    }


def table(result: dict[str, Any]) -> str:
    """Ours and the published figures of one set."""
    lines = [f"{result['set']}: {result['users']:,} users, {result['items']:,} items" + " " * 4 + "HR@10    NDCG@10"]
    rows = {f"ctr_kd (mean of {len(result['seeds'])})": result["mean"], **result["published"]}
    return "\n".join([*lines, *(f"  {model:<32}{values['hr@10']:>8.4f}{values['ndcg@10']:>10.4f}" for model, values in rows.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="holds NAME.txt and NAME_item2attributes.json")
    parser.add_argument("--sets", nargs="+", default=list(PUBLISHED))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="options", action="append", default=[], metavar="key.path=value", help="as of `ctr-kd next-item`")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "next_item.json")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("skipped: name the folder that holds Beauty.txt and LastFM.txt")
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            results.append(measure(name, arguments.folder.resolve(), arguments.seeds, Path(folder) / name, arguments.options))
            print(table(results[-1]), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    document = {"command": f"python benchmarks/bench_next_item.py FOLDER {chr(32).join(sys.argv[2:])}".rstrip(), "sets": results}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
