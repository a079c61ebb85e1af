"""The pipeline from a BERT of Hugging Face: a small random one that ``transformers`` wrote teaches a student of pairs."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main as cli
from tests.ctr_kd.huggingface.test_folder import WORDS, write_checkpoint
from tests.ctr_kd.text_worlds import make_texts

CONFIGURATION = """
source: {reader: text, train: train.tsv, test: test.tsv, text: 0, text_b: 1, label: 2}
tokens: {teacher: {max_length: 16}, student: {kind: ngrams, min_count: 1, max_length: 48}}
pretrain: {checkpoint: models/bert}
finetune: {members: 1, encoder_learning_rate: 1.0e-3, training: {epochs: 1, batch_size: 32}}
distill: {teachers: {bert: 1},
  student: {kind: bilstm_pair, width: 8}, training: {epochs: 1, batch_size: 32}}
evaluate: {bootstrap: 20}
register: {auc_min: 0, calibration_error_max: 1}
"""


class SmallPipeline:
    def __init__(self, folder: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data, self.workspace, self.conf, self.capsys = folder / "data", folder / "workspace", folder / "pairs.yaml", capsys
        self.bert = self.data / "models" / "bert"
        self.workspace.mkdir()
        shutil.copyfile(database, self.workspace / "mlflow.db")
        self.conf.write_text(CONFIGURATION)
        write_checkpoint(self.bert, WORDS)
        texts, texts_b, label = make_texts(300, seed=3, pair=True)
        # WordPiece reads words: letters stand apart.
        lines = [f"{' '.join(a)}\t{' '.join(b)}\t{min(y, 1)}\n" for a, b, y in zip(texts, texts_b, label.tolist(), strict=True)]
        (self.data / "train.tsv").write_text("".join(lines[:220]))
        (self.data / "test.tsv").write_text("".join(lines[220:]))

    def __call__(self, command: str, *arguments: str) -> tuple[int, str]:
        """Exit code, and all that was said."""
        with pytest.raises(SystemExit) as end:
            cli.main([command, str(self.conf), "--workspace", str(self.workspace), *arguments])
        said = self.capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    def artifact(self, stage: str) -> Path:
        return max((self.workspace / "artifacts" / stage).glob("*/_manifest.json"), key=lambda path: path.stat().st_mtime_ns).parent


@pytest.fixture
def pipeline(tmp_path: Path, mlflow_database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> SmallPipeline:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    return SmallPipeline(tmp_path, mlflow_database, capsys)


def test_the_whole_pipeline_and_the_shortcut(pipeline: SmallPipeline) -> None:
    where = ("--data", str(pipeline.data))
    code, said = pipeline("run", *where)
    assert code == 0, said
    digests = {
        name: hashlib.sha256((pipeline.bert / name).read_bytes()).hexdigest() for name in ("config.json", "vocab.txt", "model.safetensors")
    }
    pretrained = json.loads((pipeline.artifact("pretrain") / "training.json").read_text())
    assert pretrained["checkpoint"] == digests and pretrained["untrained"] == [] and "curve" not in pretrained
    lineage = json.loads(next(pipeline.artifact("register").rglob("lineage.json")).read_text())
    assert lineage["teacher"]["checkpoint"] == digests
    metrics = json.loads((pipeline.workspace / "reports" / "latest" / "metrics.json").read_text())
    assert set(metrics["models"]) == {"teacher", "student", "student_alone", "linear"} and metrics["gate"]["passed"]

    # Later commands need no --data: the store has its own copy. The next-segment head teaches as it is.
    shutil.rmtree(pipeline.data)
    code, said = pipeline("finetune", "--set", "finetune.strategy=next_segment")
    assert code == 0, said
    finetuned = json.loads((pipeline.artifact("finetune") / "training.json").read_text())
    assert finetuned["strategy"] == "next_segment" and finetuned["curve"]["steps"] == 0
    assert finetuned["masked_item_accuracy"]["before"] == finetuned["masked_item_accuracy"]["after"]
    assert pq.read_table(pipeline.artifact("finetune") / "predictions_test.parquet")["logit_0"].to_pylist() == [0.0] * 80

    # Its copy is checked before it is read.
    (pipeline.workspace / "store" / "resources" / "models" / "bert" / "model.safetensors").write_bytes(b"other")
    code, said = pipeline("pretrain", "--force")
    assert code == 3 and "model.safetensors: its sha256 is not that of its manifest" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda bert: shutil.rmtree(bert), "is not a Hugging Face BERT folder: it has no config.json"),
        (
            lambda bert: (bert / "config.json").write_text('{"model_type": "gpt2"}'),
            "it describes a 'gpt2', and BERT alone is computed here",
        ),
        (lambda bert: (bert / "vocab.txt").unlink(), "has no vocab.txt"),
        (lambda bert: (bert / "model.safetensors").unlink(), "holds no weights"),
        (lambda bert: (bert / "model.safetensors").write_bytes(b"no"), "model.safetensors cannot be read"),
        (lambda bert: (bert / "vocab.txt").write_text("[PAD]\n[UNK]\n"), "2 tokens, but the embedding has 28 rows"),
        (
            lambda bert: (
                (bert / "tokenizer_config.json").write_text('{"do_lower_case": false}'),
                (bert / "vocab.txt").write_text("".join(f"{word}\n" for word in [*WORDS[:-1], "Word"])),
            ),
            "has learned capital letters, too: write tokens.teacher.lowercase: false",
        ),
        (lambda bert: write_checkpoint(bert, WORDS, positions=4), "4 positions, and the longest texts take"),
    ],
    ids=[
        "no folder",
        "no BERT",
        "no vocabulary",
        "no weights",
        "damaged weights",
        "another vocabulary",
        "capital letters",
        "few positions",
    ],
)
def test_what_is_no_bert_is_one_line(pipeline: SmallPipeline, damage, expected: str) -> None:
    damage(pipeline.bert)
    code, said = pipeline("pretrain", "--data", str(pipeline.data))
    last = said.splitlines()[-1]
    assert code == 3 and last.startswith("ctr-kd: pretrain.checkpoint: ") and expected in last, said


def test_another_shape_than_the_folder_has_is_refused(pipeline: SmallPipeline) -> None:
    write_checkpoint(pipeline.bert, WORDS, num_hidden_layers=1)
    code, said = pipeline("pretrain", "--data", str(pipeline.data), "--set", "pretrain.encoder.layers=2")
    assert code == 3 and "another shape: write pretrain.encoder: {width: 16, layers: 1, heads: 2}" in said.splitlines()[-1]
    code, said = pipeline("pretrain", "--data", str(pipeline.data))
    assert code == 0, said


def test_a_student_wider_than_the_bert_cannot_begin_with_its_embeddings(pipeline: SmallPipeline) -> None:
    reads = "tokens.student={kind: wordpiece, vocabulary: models/bert/vocab.txt, max_length: 16}"
    changes = ("distill.embeddings=teacher", "distill.student.width=17", reads)
    code, said = pipeline("distill", "--data", str(pipeline.data), *(part for change in changes for part in ("--set", change)))
    assert code == 2 and "a student of width 17 cannot begin with embeddings of width 16: lower its width" in said.splitlines()[-1]


def test_a_checkpoint_may_lie_in_an_installed_package(pipeline: SmallPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "installed" / "some_released_bert"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.move(pipeline.bert, package / "model")
    named = ("--set", "pretrain.checkpoint=package:some_released_bert/model", "--data", str(pipeline.data))
    code, said = pipeline("pretrain", *named)
    assert code == 3 and "some_released_bert, which is not installed here: install it with pip" in said.splitlines()[-1]
    monkeypatch.syspath_prepend(tmp_path / "installed")
    code, said = pipeline("pretrain", *named)
    assert code == 0, said
    assert set(json.loads((pipeline.artifact("pretrain") / "training.json").read_text())["checkpoint"]) == {
        "config.json",
        "vocab.txt",
        "model.safetensors",
    }


def test_a_checkpoint_without_a_next_segment_head_cannot_be_asked(pipeline: SmallPipeline) -> None:
    write_checkpoint(pipeline.bert, WORDS, "BertForMaskedLM")
    code, said = pipeline("finetune", "--data", str(pipeline.data), "--set", "finetune.strategy=next_segment")
    assert "has no pooler and no next_segment head: it begins at random" in said
    assert code == 3 and "holds no trained next_segment and no pooler head" in said.splitlines()[-1]
