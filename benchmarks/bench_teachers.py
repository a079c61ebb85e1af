"""What teachers from outside give a student: the scores that a model in production logged, and a ranker of an MLflow registry.

    python benchmarks/bench_teachers.py conf/simulated.yaml --workspace DIR [--data DIR] [--seeds 3] [--set KEY=VALUE]...

Both are LightGBM rankers of the log's raw numeric columns, as a team has them, trained on the older half of the training rows, so that
neither saw a label of the newer half that it teaches beside it. The one has scored every row (scores/production.parquet below the data
folder, known a second before the request), the other is registered as models:/ranker@champion. `ctr-kd prove` then compares students under
the BERT, under each of them, and under all three, with the same seeds and paired intervals. Writes results/teachers_NAME.json.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from feature_store.tables.json_files import load_json, write_json
from pipelines.config.run import load
from pipelines.stages import PIPELINE
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import SPLITS
from pipelines.tracking.client import connect, quieten_mlflow, sqlite_uri
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

RESULTS = Path(__file__).resolve().parent / "results"
SCORES = "scores/production.parquet"
PRODUCTION = {"name": "production", "scores": {"path": SCORES, "score": "p_click", "known": "scored_at"}}
RANKER = {"name": "ranker", "model": "models:/ranker@champion", "trust": True}
BERT = {"name": "bert"}
ARMS = {"production": [PRODUCTION], "ranker": [RANKER], "bert and production": [BERT, PRODUCTION], "all three": [BERT, PRODUCTION, RANKER]}


def rankers(rows: ClickRows, seed: int) -> tuple[Any, Any, list[str]]:
    """Two LightGBM models of the raw numeric columns, of every second one each, on the older half of the training rows."""
    import lightgbm

    train = rows.read("train")
    older = train.filter(pa.array(train["timestamp"].to_numpy() < np.median(train["timestamp"].to_numpy())))
    frame = rows.asked(older)
    numeric = [name for name in frame.column_names if pa.types.is_floating(frame.schema.field(name).type)]
    options = {"objective": "binary", "verbose": -1, "num_leaves": 31, "learning_rate": 0.05, "min_data_in_leaf": 100, "seed": seed}
    fitted = []
    for place in (0, 1):
        own = numeric[place::2]
        fitted.append(lightgbm.train(options, lightgbm.Dataset(frame.select(own).to_pandas(), older["label"].to_numpy()), 150))
    return fitted[0], fitted[1], numeric


def write_scores(rows: ClickRows, model: Any, names: list[str], file: Path) -> None:
    """Score every row of every split, as a model in production had."""
    parts = []
    for split in SPLITS:
        asked = rows.asked(rows.read(split))
        score = model.predict(asked.select(names).to_pandas())
        known = asked["timestamp"].cast(pa.int64()).to_numpy() - 1_000_000
        part = asked.select(["user_id", "item_id", "timestamp"]).append_column("p_click", pa.array(score))
        parts.append(part.append_column("scored_at", pa.array(known).cast(pa.timestamp("us", "UTC"))))
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(parts), file)


def register(model: Any, example: pd.DataFrame, workspace: Path) -> None:
    """Keep a model in the workspace's registry, as its team would."""
    quieten_mlflow()
    import mlflow.lightgbm
    from mlflow.models import infer_signature

    folder = workspace / "ranker"
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.lightgbm.save_model(model, str(folder), signature=infer_signature(example, model.predict(example)))
    client = connect(sqlite_uri(workspace / "mlflow.db"))
    if not client.search_registered_models("name = 'ranker'"):
        client.create_registered_model("ranker")
    version = client.create_model_version("ranker", str(folder))
    client.set_registered_model_alias("ranker", "champion", version.version)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of the log, beside whose files the scores are written; by default one of its own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the configuration, in all arms")
    options = parser.parse_args()
    config, data = load(options.configuration, options.set), options.data or options.workspace / "data"
    data.mkdir(parents=True, exist_ok=True)
    context = RunContext(config, options.workspace, data, console=Console(io.StringIO()))
    Runner(context, PIPELINE).run(last="ingest")
    rows = ClickRows(context.artifacts["ingest"].path)
    production, ranker, numeric = rankers(rows, config.seed)
    write_scores(rows, production, numeric[0::2], data / SCORES)
    example = rows.asked(rows.read("train").slice(0, 100)).select(numeric[1::2]).to_pandas().astype(np.float64)
    register(ranker, example, options.workspace)
    arms = [{"name": name, "set": {"distill.teachers": teachers}} for name, teachers in ARMS.items()]
    words = [
        *("ctr-kd", "prove", str(options.configuration), "--workspace", str(options.workspace), "--data", str(data)),
        *("--seeds", str(options.seeds), "--set", "prove.ablation=[]", "--set", "distill.transfer.amount=0"),
        *("--set", "distill.teachers={bert: 1}", "--set", f"prove.arms={json.dumps(arms)}"),
        *(word for one in options.set for word in ("--set", one)),
    ]
    from pipelines.cli.main import cli

    state = {"debug": True, "workspace": None, "log_format": "text"}
    cli.main(args=words[1:], prog_name="ctr-kd", standalone_mode=False, obj=state)
    proof = options.workspace / "reports" / "latest" / "prove.json"
    RESULTS.mkdir(exist_ok=True)
    said = "".join(f" --set {one}" for one in options.set)
    command = f"python benchmarks/bench_teachers.py conf/{config.name}.yaml --data FOLDER --workspace FOLDER --seeds {options.seeds}{said}"
    found = load_json(proof)
    del found["run"]["configuration"]  # the command says it: with files of scores that it made
    write_json(RESULTS / f"teachers_{config.name}.json", {"command": command, **found})
    print(f"results: {RESULTS / f'teachers_{config.name}.json'}")


if __name__ == "__main__":
    main()
