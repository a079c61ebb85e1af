"""The whole pipeline over texts, single ones and pairs, through the real program: what it writes, and what its champion answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.ctr_kd.text_worlds import CLASSES, make_texts
from tests.programs import run_program

pytestmark = pytest.mark.slow

TINY = """
source: {{reader: text, train: train.tsv, test: test.tsv, text: 0, text_b: {text_b}, label: {label}}}
tokens: {{teacher: {{kind: characters, max_length: 16}}, student: {{kind: ngrams, min_count: 1, max_length: 48}}}}
pretrain: {{encoder: {{width: 16, layers: 1}}, training: {{epochs: 1, batch_size: 64}}}}
finetune: {{members: 1, training: {{epochs: 2, batch_size: 32}}}}
distill:
  teachers: {{bert: 0.2, linear: 0.4, linear_words: 0.3, naive_bayes: 0.1}}
  transfer: {{augmentation: {{amount: 0.5, mask_rate: 0.2, replace_rate: 0.5}}}}
  student: {{kind: {kind}, combiner: {combiner}, width: 16}}
  training: {{epochs: 12, batch_size: 16, learning_rate: 1.0e-2}}
  ship: {ship}
evaluate: {{bootstrap: 20, text_gcn: {gcn}}}
register: {{auc_min: 0, calibration_error_max: 1}}
"""


class SmallPipeline:
    def __init__(self, folder: Path, database: Path, pair: bool) -> None:
        self.folder, self.workspace, self.conf = folder, folder / "workspace", folder / "texts.yaml"
        self.data = folder / "data"
        self.workspace.mkdir()
        self.data.mkdir()
        shutil.copyfile(database, self.workspace / "mlflow.db")
        self.conf.write_text(
            TINY.format(
                text_b=1 if pair else "null",
                label=2 if pair else 1,
                kind="bilstm_pair" if pair else "pooled",
                combiner="mean" if pair else "sqrtn",
                gcn="false" if pair else "true",
                ship="alone" if pair else "better",
            )
        )
        texts, texts_b, label = make_texts(500, seed=3, pair=pair)
        texts[400:404], texts_b[400:404], label[400:404] = texts[:4], texts_b[:4], label[:4]  # four test rows are in training too
        columns = [texts, texts_b] if pair else [texts]
        lines = ["\t".join([*row, CLASSES[y]]) for *row, y in zip(*columns, label.tolist(), strict=True)]
        (self.data / "train.tsv").write_text("\n".join(lines[:400]) + "\n")
        (self.data / "test.tsv").write_text("\n".join(lines[400:]) + "\n")
        self.test = pa.table(
            {
                "text": texts[400:],
                **({"text_b": texts_b[400:]} if pair else {}),
                "label": [CLASSES[y] for y in label[400:]],
                "own": range(100),
            }
        )

    def __call__(self, *arguments: str) -> tuple[int, str]:
        where = ["--data", str(self.data), "--workspace", str(self.workspace)]
        code, out, err = run_program(arguments[0], str(self.conf), *arguments[1:], *where)
        return code, out if code == 0 else err.splitlines()[-1]


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> SmallPipeline:
    made = SmallPipeline(tmp_path_factory.mktemp("texts"), mlflow_database, request.param)
    code, said = made("run")
    assert code == 0, said
    return made


def test_metrics_are_as_the_contract_has_them(pipeline: SmallPipeline) -> None:
    metrics = json.loads((pipeline.workspace / "reports" / "latest" / "metrics.json").read_text())
    added = metrics["models"]["student"]["transfer"]
    assert 0 < added["augmented"] == added["rows"] <= added["wanted"]
    graph = set() if "text_b" in pipeline.test.column_names else {"text_gcn"}
    assert set(metrics["models"]) == {
        "teacher",
        "teacher/bert",
        "teacher/linear",
        "teacher/linear_words",
        "teacher/naive_bayes",
        "student",
        "student_alone",
        "linear",
        *graph,
    }
    for model in metrics["models"].values():
        assert set(model["accuracy"]) >= {"value", "low", "high"} and set(model["macro_f1"]) >= {"value", "low", "high"}
        assert set(model["report"]) == set(CLASSES) and model["averages"]["macro"]["support"] == 100
    assert metrics["models"]["student"]["accuracy"]["value"] > 0.5  # a letter tells the class
    for pair in ("student-student_alone", "student-linear", "student_alone-linear"):  # whichever ships is measured beside linear
        assert "accuracy" in metrics["comparisons"][pair]
    assert metrics["slices"]["leak/also in training"]["student"]["rows"] == 4
    assert metrics["importance"] is None  # a text is the one input
    assert metrics["shipping"]["metric"] == "accuracy" and "accuracy on validation" in metrics["verdict"]
    if "text_b" in pipeline.test.column_names:
        assert metrics["shipped"] == "student_alone" and "since distill.ship is alone" in metrics["verdict"]
    assert metrics["gate"]["passed"] and "accuracy" in {check["name"] for check in metrics["gate"]["checks"]}
    page = (pipeline.workspace / "reports" / "latest" / "report.html").read_text()
    assert "Confusion matrix" in page and "macro average" in page
    assert ("(transductive)" in page) == bool(graph)


def test_the_champion_scores_the_test_split_and_files_of_raw_texts(pipeline: SmallPipeline, tmp_path: Path) -> None:
    stored = pq.read_table(pipeline.workspace / "scores" / "split=test" / "scores.parquet")
    assert stored.num_rows == 100 and set(CLASSES) <= set(stored.column_names)
    source, target = tmp_path / "rows.parquet", tmp_path / "scored.parquet"
    pq.write_table(pipeline.test.drop_columns(["label"]), source)
    code, said = pipeline("score", "--input", str(source), "--output", str(target))
    assert code == 0, said
    scored = pq.read_table(target)
    assert scored.column_names[-6:] == ["label", "score", *CLASSES, "model_version"] and scored["own"].to_pylist() == list(range(100))
    np.testing.assert_allclose(scored["score"].to_numpy(), stored["score"].to_numpy(), atol=1e-6)
    assert scored["label"].to_pylist() == stored["label"].to_pylist()
    code, said = pipeline("score", "--date", "2024-01-01")
    assert code == 2 and "texts have no dates" in said


def page_of(said: str) -> Path:
    """Where a command says that its page is."""
    (line,) = (line for line in said.splitlines() if line.startswith("report: "))
    return Path(line.removeprefix("report: "))


def test_a_proof_and_a_sweep_of_classes_are_of_accuracy(pipeline: SmallPipeline) -> None:
    few = ("--set", "distill.training.epochs=1", "--set", "evaluate.bootstrap=20")
    code, said = pipeline("prove", "--seeds", "2", "--set", "prove.ablation=[transfer, hints]", "--set", "prove.amounts=[]", *few)
    assert code == 0 and "accuracy" in said.splitlines()[0], said
    proof = json.loads(page_of(said).with_suffix(".json").read_text())
    assert len(proof["models"]["student"]["accuracy"]["seeds"]) == 2
    assert set(proof["comparisons"]["student-student_alone"]) == {"auc", "log_loss", "accuracy"}
    assert {one["name"] for one in proof["ablation"]} == {"no transfer set"}
    assert "source.unlabelled" in proof["not_possible"]["transfer set"] and "one tokenizer" in proof["not_possible"]["relation hint"]
    code, said = pipeline("sweep", "--set", "sweep.kinds=[pooled]", "--set", "sweep.widths=[4, 8]", *few)
    assert code == 0 and said.splitlines()[0].split()[:2] == ["model", "accuracy"], said
    sweep = json.loads(page_of(said).with_suffix(".json").read_text())
    assert all(0 < one["validation_accuracy"] <= 1 and one["accuracy"]["value"] > 0 for one in sweep["students"])
    assert "accuracy" in page_of(said).read_text()
    latest = pipeline.workspace / "reports" / "latest"
    assert not (latest / "prove.json").exists() and not (latest / "sweep.json").exists()  # the run was of another configuration


@pytest.mark.parametrize("command", [("next-item",), ("neighbours", "a")])
def test_commands_of_clicks_say_that_there_are_none(pipeline: SmallPipeline, command: tuple[str, ...]) -> None:
    code, said = pipeline(*command)
    assert code == 2 and "source.reader text holds no click log, which this command needs" in said


def test_labelled_files_are_measured(pipeline: SmallPipeline, tmp_path: Path) -> None:
    source = tmp_path / "labelled.parquet"
    pq.write_table(pipeline.test, source)
    code, said = pipeline("evaluate", "--input", str(source))
    assert code == 0, said
    metrics = json.loads((pipeline.workspace / "reports" / "latest" / "metrics.json").read_text())
    measured = json.loads(said[said.index("{") :])
    assert measured["accuracy"]["value"] == pytest.approx(metrics["models"][metrics["shipped"]]["accuracy"]["value"])
    pq.write_table(pipeline.test.set_column(pipeline.test.column_names.index("label"), "label", pa.array(["nothing"] * 100)), source)
    code, said = pipeline("evaluate", "--input", str(source))
    assert code == 3 and "'nothing', which is none of the model's classes" in said
