"""What a column gives that the teacher alone reads, beside a log in which nobody reads it: the place of a candidate, on the simulated log.

    python benchmarks/bench_privileged.py --workspace FOLDER [--seeds 5]

Whether something is clicked depends on its place, and nobody knows the place of a candidate that is yet to be ranked. The same events are
read twice by the reader `tabular`, with and without the column `position`; with it, `teacher_only` gives it to the teacher. Both runs have
the settings of conf/simulated.yaml, one teacher, and students of the same seeds, and are tested on the same rows. The students alone learn
from the same inputs, so they must be equal: that is checked. Differences are paired by row and seed, their intervals resample users and
seeds. A workspace that stays goes on where it was. Writes results/privileged.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.click_worlds import EVENTS
from ctr_kd.evaluation.several_seeds import Seeded, measure_seeds, seed_differences, seed_means
from ctr_kd.metrics.bootstrap import Bootstrap
from feature_store.readers import any_reader
from feature_store.tables.json_files import load_json, write_json
from pipelines.config.run import load
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import stored_probabilities

ROOT = Path(__file__).resolve().parent.parent
COLUMN = "position"
TAUGHT, ALONE = "student", "student_alone"


def write_log(folder: Path) -> None:
    """The simulated log as files, without what only its maker knows."""
    tables: dict[str, list[pa.Table]] = {}
    for batch in any_reader(load(ROOT / "conf" / "simulated.yaml").source, None).read([]):
        tables.setdefault(batch.kind, []).append(batch.table)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, parts in tables.items():
        table = pa.concat_tables(parts)
        table = table.drop_columns(["click_probability"]) if kind == "events" else table
        pq.write_table(table, folder / f"{kind}.parquet")


def configuration(read: bool) -> dict[str, Any]:
    """That of conf/simulated.yaml for these files, with the column for the teacher alone, or without it."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "simulated.yaml").read_text(encoding="utf-8"))
    settings["source"] = {
        "reader": "tabular",
        "events": EVENTS,
        "items": {"path": "items.parquet", "item": "item_id", "categorical": ["category", "subcategory"]},
        "users": {"path": "users.parquet", "user": "user_id", "categorical": ["segment"]},
        "context": {"categorical": ["device"], "dense": [COLUMN] if read else []},
    }
    settings["statistics"] = {"auto": False}  # a trial would read the column, and choose by it
    return settings | ({"teacher_only": {"context": [COLUMN]}} if read else {})


def proved(folder: Path, read: bool, seeds: int) -> tuple[Path, Path]:
    """Prove a configuration; returns its workspace and its artifact of rows."""
    name = "teacher_reads_it" if read else "nobody_reads_it"
    conf, workspace = folder / f"{name}.yaml", folder / name
    conf.write_text(yaml.safe_dump(configuration(read), sort_keys=False), encoding="utf-8")
    words = ["prove", str(conf), "--data", str(folder / "log"), "--workspace", str(workspace), "--seeds", str(seeds)]
    subprocess.run([sys.executable, "-m", "pipelines", *words, "--set", "prove.ablation=[]"], cwd=ROOT, check=True)
    (rows,) = (path for path in (workspace / "artifacts" / "ingest").iterdir() if (path / "_manifest.json").is_file())
    return workspace, rows


def students(workspace: Path, rows: ClickRows, bootstrap: Bootstrap, seeds: int) -> dict[str, dict[str, Seeded]]:
    """Figures of the students of a proof, taught and alone, by seed."""
    of = rows.evaluation_rows()
    found: dict[str, dict[int, Path]] = {TAUGHT: {}, ALONE: {}}
    for manifest in (workspace / "artifacts" / "student").glob("*/_manifest.json"):
        made_with = load_json(manifest)["config"]
        name = ALONE if made_with["distill.alpha"] == 1 else TAUGHT
        found[name][made_with["seed"]] = manifest.parent / "predictions_student_test.parquet"
    return {
        name: measure_seeds(of.label, [[stored_probabilities(by_seed[seed]) for seed in range(seeds)]], bootstrap)
        for name, by_seed in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="folder for the log and both runs")
    parser.add_argument("--seeds", type=int, default=5, help="of the students")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "privileged.json")
    arguments = parser.parse_args()
    if not (arguments.workspace / "log" / "events.parquet").is_file():
        write_log(arguments.workspace / "log")
    places = {read: proved(arguments.workspace.absolute(), read, arguments.seeds) for read in (False, True)}
    rows = {read: ClickRows(place[1]) for read, place in places.items()}
    if not rows[False].identities("test").equals(rows[True].identities("test")):
        raise SystemExit("the two logs are tested on other rows")
    of, settings = rows[False].evaluation_rows(), load(ROOT / "conf" / "simulated.yaml").evaluate
    bootstrap = Bootstrap(of.user, len(of.label), replicates=settings.bootstrap, seed=settings.seed)
    measured = {read: students(place[0], rows[read], bootstrap, arguments.seeds) for read, place in places.items()}
    alone = {read: found[ALONE]["auc"].value for read, found in measured.items()}
    result = {
        "command": f"python benchmarks/bench_privileged.py --workspace FOLDER --seeds {arguments.seeds}",
        "column": COLUMN,
        "rows": len(of.label),
        "seeds": arguments.seeds,
        "alone_differs_by": float(abs(alone[True] - alone[False]).max()),
        "auc": {
            ("teacher reads it" if read else "nobody reads it"): {
                name: seed_means(one, settings.seed)["auc"].to_json() for name, one in found.items()
            }
            for read, found in measured.items()
        },
        "gain": seed_differences(measured[True][TAUGHT], measured[False][TAUGHT], settings.seed)["auc"].to_json(),
    }
    write_json(arguments.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
