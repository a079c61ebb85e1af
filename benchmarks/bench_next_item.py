"""Full-ranking HR@10 and NDCG@10 on public leave-one-out sets, several seeds, one configuration, beside published figures.

    python benchmarks/bench_next_item.py FOLDER                          Beauty and LastFM, three seeds
    python benchmarks/bench_next_item.py FOLDER --sets Yelp --seeds 1    another set of that collection
    python benchmarks/bench_next_item.py FOLDER --sets Beauty --seeds 1 --set pretrain.items=sampled --output FILE

FOLDER holds NAME.txt and NAME_item2attributes.json as published with S3-Rec (Zhou et al. 2020, arXiv:2008.07873, table 2). Runs
``next-item conf/s3rec.yaml --student`` through the real program in a workspace per set; every choice in that file was made on the
validation items. Published figures are single seeds and the best of grids. Writes results/next_item.json after every seed, or another file
under --output; with --workspace a benchmark that was stopped goes on. Without a folder it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ("hr@10", "ndcg@10")
PUBLISHED = {
    "Beauty": {
        "WEARec (AAAI 2026)": (0.1041, 0.0614),
        "TV-Rec (NeurIPS 2025)": (0.1017, 0.0608),
        "BSARec (AAAI 2024)": (0.1008, 0.0611),
        "SASRec with sampled softmax (eSASRec)": (0.0921, 0.0531),
        "S3-Rec": (0.0647, 0.0327),
        "SASRec": (0.0605, 0.0318),
        "BERT4Rec": (0.0347, 0.0170),
    },
    "LastFM": {
        "WEARec (AAAI 2026)": (0.0899, 0.0465),
        "TV-Rec (NeurIPS 2025)": (0.0853, 0.0484),
        "BSARec (AAAI 2024)": (0.0807, 0.0435),
        "S3-Rec": (0.0743, 0.0427),
        "SASRec": (0.0688, 0.0390),
        "BERT4Rec": (0.0633, 0.0337),
    },
    "Sports_and_Outdoors": {"WEARec (AAAI 2026)": (0.0631, 0.0367), "TV-Rec (NeurIPS 2025)": (0.0635, 0.0363)},
    "Toys_and_Games": {"BSARec (AAAI 2024)": (0.1081, 0.0679), "SASRec with sampled softmax (eSASRec)": (0.0970, 0.0580)},
}


def measure(name: str, data: Path, seeds: int, students: int, workspace: Path, options: list[str]) -> Iterator[dict[str, Any]]:
    """One set after each of its seeds: encoder and student, their means, and the standard error of a mean over the set's users."""
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        command = [sys.executable, "-m", "pipelines", "next-item", "conf/s3rec.yaml", "--data", str(data), "--workspace", str(workspace)]
        command += ["--set", f"source.name={name}", "--set", f"seed={seed}", *(["--student"] if seed < students else [])]
        subprocess.run(
            [*command, *(part for option in options for part in ("--set", option))], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        reports = workspace / "reports" / "latest"
        found = json.loads((reports / "next_item.json").read_text(encoding="utf-8"))
        runs.append({"seed": seed, **of_one(found), "seconds": round(found["training_seconds"], 1)})
        if seed < students:
            student = json.loads((reports / "next_item_student.json").read_text(encoding="utf-8"))
            speed = student["histories_per_second"]
            runs[-1]["student"] = {
                **of_one(student),
                "times_as_many_histories": round(speed["student"] / speed["teacher"], 1),
                "seconds": round(student["training_seconds"], 1),
            }
        print(json.dumps({"set": name, **runs[-1]}), flush=True)
        mean = {figure: round(statistics.mean(run[figure] for run in runs), 5) for figure in FIGURES}
        hit, taught = mean["hr@10"], [run for run in runs if "student" in run]
        yield {
            "set": name,
            "users": found["users"],
            "items": found["items"],
            "mean": mean,
            "student": {figure: round(statistics.mean(run["student"][figure] for run in taught), 5) for figure in FIGURES}
            if taught
            else {},
            # Seeds share the users, so their spread says nothing of this.
            "standard_error_of_hr@10_over_users": round(math.sqrt(hit * (1 - hit) / found["users"]), 4),
            "published": {model: dict(zip(FIGURES, values, strict=True)) for model, values in PUBLISHED.get(name, {}).items()},
            "seeds": list(runs),
        }


def of_one(found: dict[str, Any]) -> dict[str, float]:
    """Figures of the test items, and of the validation items."""
    test = {figure: round(found[figure], 5) for figure in FIGURES}
    return test | {f"validation_{figure}": round(found["validation"][figure], 5) for figure in FIGURES}


def table(result: dict[str, Any]) -> str:
    """Ours and the published figures of one set."""
    lines = [f"{result['set']}: {result['users']:,} users, {result['items']:,} items" + " " * 10 + "HR@10    NDCG@10"]
    taught = sum("student" in run for run in result["seeds"])
    rows = {f"ctr_kd (mean of {len(result['seeds'])})": result["mean"]}
    rows |= {f"its light student (mean of {taught})": result["student"]} if taught else {}
    rows |= result["published"]
    return "\n".join([*lines, *(f"  {model:<40}{values['hr@10']:>8.4f}{values['ndcg@10']:>10.4f}" for model, values in rows.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="holds NAME.txt and NAME_item2attributes.json")
    parser.add_argument("--sets", nargs="+", default=["LastFM", "Beauty"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, metavar="SEEDS", help="train the light student under the first seeds alone [default: all]")
    parser.add_argument("--set", dest="options", action="append", default=[], metavar="key.path=value", help="as of `ctr-kd next-item`")
    parser.add_argument("--workspace", type=Path, help="folder in which all runs lie [default: one that is removed]")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "next_item.json")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("skipped: name the folder that holds Beauty.txt and LastFM.txt")
        return
    earlier = json.loads(arguments.output.read_text(encoding="utf-8"))["sets"] if arguments.output.exists() else []
    results: dict[str, dict[str, Any]] = {one["set"]: one for one in earlier}  # a set that is not measured keeps what is known of it
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.sets:
            place = (arguments.workspace or Path(temporary)).resolve() / name
            students = arguments.seeds if arguments.students is None else arguments.students
            for result in measure(name, arguments.folder.resolve(), arguments.seeds, students, place, arguments.options):
                results[name] = result
                write(results, arguments.output)
            print(table(results[name]), flush=True)


def write(results: dict[str, dict[str, Any]], output: Path) -> None:
    """What is known so far, and the command that makes it again."""
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {"command": f"python benchmarks/bench_next_item.py FOLDER {' '.join(sys.argv[2:])}".rstrip(), "sets": list(results.values())}
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
