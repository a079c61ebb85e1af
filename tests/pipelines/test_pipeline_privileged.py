"""Inputs of the teachers alone, from the raw log to scores: the student never sees them, and no figure of the teacher hides that it did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.training.distill import align_logits
from ctr_kd.training.loop import predict
from pipelines.config.run import load
from pipelines.tasks import task_of
from pipelines.tasks.logits import read_predictions
from pipelines.training.bert import load_teacher
from tests.pipelines.tiny_workspace import Workspace

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "events.parquet", user: user, item: item, time: time, clicked: clicked, request: request}
  items: {path: "items.parquet", item: item, categorical: [topic, grade], multi: [tags]}
  context: {categorical: [device, place], dense: [dwell]}
split: {fractions: [0.6, 0.2, 0.2]}
history: {max_length: 6}
statistics: {of: [{by: [item, place], count: clicks}]}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 64, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 4, batch_size: 64, learning_rate: 1.0e-2}}
distill:
  teachers: {bert: 0.5, boosted_trees: 0.5}
  student: {width: 4, hidden: 8}
  training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2}
evaluate: {bootstrap: 20, importance_rows: 100}
register: {auc_min: 0, calibration_error_max: 1, champion_margin: 0.1}  # which of two students is better is chance here
"""
TEACHER_ONLY = "teacher_only: {context: [place, dwell], statistics: [user_item_clicks], categorical: [grade], multi: [tags]}\n"
HIDDEN = ["place", "dwell", "user_item_clicks", "grade", "tags", "item_place_clicks"]
REQUESTS, SHOWN, ITEMS = 900, 3, 12


def write_log(folder: Path) -> None:
    """Who clicked stayed: the time that was spent, which nobody knows before the click, tells it."""
    rng = np.random.default_rng(5)
    request = np.arange(REQUESTS).repeat(SHOWN)
    item = (rng.integers(0, ITEMS, REQUESTS)[:, None] + np.arange(SHOWN)) % ITEMS
    clicked = rng.random(REQUESTS * SHOWN) < np.where(item.ravel() < 6, 0.5, 0.2)
    events = pd.DataFrame({"user": rng.integers(0, 60, REQUESTS)[request], "item": item.ravel(), "time": 1_704_067_200 + request * 300})
    place = np.tile([f"place{n}" for n in range(SHOWN)], REQUESTS)
    dwell = np.where(clicked, 30.0, 1.0) + rng.random(len(events))
    events = events.assign(request=request, clicked=clicked.astype(int), device=request % 2, place=place, dwell=dwell)
    events.to_parquet(folder / "events.parquet")
    items = pd.DataFrame({"item": np.arange(ITEMS), "topic": [f"topic{n % 3}" for n in range(ITEMS)]})
    items = items.assign(grade=[f"grade{n % 2}" for n in range(ITEMS)], tags=[f"tag{n % 4}|tag{n % 5}" for n in range(ITEMS)])
    items.to_parquet(folder / "items.parquet")


@pytest.fixture
def workspace(tmp_path: Path, mlflow_database: Path) -> Workspace:
    made = Workspace.new(tmp_path / "workspace", mlflow_database)
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data")
    return made


def start(workspace: Workspace, more: str, *command: str) -> tuple[int, str, str]:
    workspace.conf.write_text(CONF + more)
    ended = workspace.start(*command, "--data", str(workspace.path.parent / "data"))
    return ended.code, ended.out, ended.err


def test_a_student_is_served_without_what_its_teacher_read(workspace: Workspace) -> None:
    code, out, err = start(workspace, TEACHER_ONLY, "run")
    assert code == 0, err
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    models = metrics["models"]
    assert {name for name, model in models.items() if "privileged" in model} == {"teacher", "teacher/bert", "teacher/boosted_trees"}
    assert models["teacher"]["privileged"] == HIDDEN
    for name in ("teacher", "teacher/bert", "teacher/boosted_trees"):
        assert models[name]["auc"]["value"] > 0.95, name  # it knows who stayed
    for name in ("student", "student_alone", "boosted_trees", "popularity"):
        assert models[name]["auc"]["value"] < 0.8, name
    assert not [name for name in HIDDEN if f'"{name}"' in json.dumps(metrics["importance"])]

    # every table says so, and no sentence measures the student by a figure that no production will have
    said = (
        "The teacher read place, dwell, user_item_clicks, grade, tags and item_place_clicks, which are not there when a student is served"
    )
    assert said in metrics["verdict"].replace("the teacher read", "The teacher read") or said in _text(workspace, "report.html")
    assert "Teacher (privileged)" in _text(workspace, "report.html") and "Teacher (privileged)" in out
    assert "of the teacher's AUC" not in _text(workspace, "report.html")
    (card,) = workspace.path.glob("artifacts/register/*/model/model_card.md")
    assert "| teacher (privileged) |" in card.read_text() and "which this model does not" in card.read_text()

    # nothing of what is exported names or holds them
    folders = [*workspace.path.glob("artifacts/distill/*/export*"), card.parent]
    for folder in folders:
        for file in (one for one in folder.rglob("*") if one.is_file() and one != card):
            content = _content(file)
            found = [name for name in (*HIDDEN, "grade0", "tag1", "place1") if name in content and not file.name.endswith(".py")]
            assert not found or file.name == "lineage.json", (file, found)
    assert len(folders) == 3

    # and the store is not asked for them
    scored = pq.read_table(next(workspace.path.glob("scores/date=*/scores.parquet")))
    assert scored.num_rows and not set(HIDDEN) & set(scored.column_names)

    # other names retrain students, and no BERT
    teachers = set(workspace.path.glob("artifacts/*/*/teacher.pt"))
    code, out, err = start(workspace, "teacher_only: {context: [place, dwell]}\n", "run")
    assert code == 0, err
    assert set(workspace.path.glob("artifacts/*/*/teacher.pt")) == teachers
    assert len(list(workspace.path.glob("artifacts/distill/*/student.pt"))) == 2


def _text(workspace: Workspace, name: str) -> str:
    return (workspace.path / "reports" / "latest" / name).read_text().replace("&#39;", "'")


def _content(file: Path) -> str:
    """What a file says, a table's and a graph's names and values among it."""
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        columns = [column for column in table.columns if not pa.types.is_list(column.type)]  # of numbers
        return " ".join([*table.column_names, *(str(value) for column in columns for value in column.unique().to_pylist())])
    if file.suffix == ".onnx":
        graph = onnx.load(str(file)).graph
        names = [one.name for part in (graph.input, graph.initializer, graph.node) for one in part]
        return " ".join(names)
    return file.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "teacher_only: {context: [dwel]}\n",
            "teacher_only.context: 'dwel' is no such column of the log; the nearest existing name is 'dwell'",
        ),
        ("teacher_only: {multi: [topic]}\n", "teacher_only.multi: 'topic' is no such column of the log; existing names are 'tags'"),
        (
            "teacher_only: {statistics: [item_ctrr]}\n",
            "teacher_only.statistics: the rows have no such column 'item_ctrr'; the nearest existing",
        ),
        ("teacher_only: {multi: [tags]}\n", "tags is the teacher's alone: leave it out of teacher_only"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(workspace: Workspace, more: str, expected: str) -> None:
    embeddings = ["--set", "distill.embeddings=teacher"] if "tags" in more else []
    code, _, err = start(workspace, more, "run", *embeddings)
    assert code == 2, err
    assert expected in err.strip().splitlines()[-1]
    assert not list(workspace.path.glob("artifacts/*/*/pretrained.pt"))  # nothing was trained in vain


def test_a_reader_that_names_no_columns_is_checked_once_they_are_known(tmp_path: Path, mlflow_database: Path) -> None:
    """Of the simulated world the rows say which attributes there are; any of them may be of its items, whose tokens hints read."""
    made = Workspace.new(tmp_path / "workspace", mlflow_database)
    hints = ("--set", "distill.hints={hidden: 1.0}")
    ended = made.start("run", "--set", "teacher_only.categorical=[category]", *hints)
    assert ended.code == 2 and "category is the teacher's alone: leave it out of teacher_only" in ended.err.strip().splitlines()[-1]
    ended = made.start("run", "--set", "teacher_only.categorical=[categori]")
    assert ended.code == 2
    expected = "teacher_only.categorical: the rows have no such column 'categori'; the nearest existing name is 'category'"
    assert expected in ended.err.strip().splitlines()[-1]


def test_training_rows_are_labelled_with_what_came_after_and_no_others(tmp_path: Path, mlflow_database: Path) -> None:
    made = Workspace.new(tmp_path / "workspace", mlflow_database)
    future = "teacher_only.future_clicks=3"
    made.run("finetune", "--set", future)
    config = load(made.conf, [future])
    ingest, finetune = (next(made.path.glob(f"artifacts/{name}")).parent for name in ("ingest/*/rows.parquet", "finetune/*/teacher.pt"))
    teacher = task_of(config).assembly(ingest, "teacher")
    model = load_teacher(finetune, teacher, config)
    for split in ("train", "validation", "test"):
        samples = teacher.samples(split)
        stored = align_logits(*read_predictions(finetune / f"predictions_{split}.parquet", finetune.name), samples)
        said, plain = predict(model, samples), predict(model, replace(samples, later=None))
        assert np.allclose(said, stored, atol=1e-2)  # of training rows in half precision
        assert (said != plain).any() == (split == "train"), split
    assert task_of(config).assembly(ingest, "student").samples("train").later is None

    # nothing that it changes is trained again without it, and what came before is not trained again with it
    made.run("finetune")
    assert len(list(made.path.glob("artifacts/*/*/pretrained.pt"))) == 1 and len(list(made.path.glob("artifacts/*/*/teacher.pt"))) == 2
