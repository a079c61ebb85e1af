"""The exported student of texts: it answers as the trained one does, from raw texts, without torch and without this project."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.texts import TextAssembly
from ctr_kd.export.onnx_export import export_student, packages_of
from ctr_kd.export.text_scorer import TextRowsError, TextScorer
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.loop import predict
from ctr_kd.training.student_checks import check_export, rows_to_check
from tests.ctr_kd.text_worlds import CLASSES, write_texts
from tests.programs import HANGS


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def texts(request, tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"), pair=request.param)


def export(texts, directory, kind):
    assembly = TextAssembly(texts, "student")
    torch.manual_seed(1)
    signature = assembly.signature()
    model = STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, hidden=12)).eval()
    export_student(model, signature, assembly, directory)
    return model, assembly


def softmax(logit):
    odds = np.exp(logit.astype(np.float64))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", STUDENTS)
def test_the_exported_student_answers_as_the_trained_one(texts, tmp_path, kind):
    model, assembly = export(texts, tmp_path / "export", kind)
    expected = softmax(predict(model, assembly.samples("test")))
    rows = pq.read_table(texts / "texts.parquet", filters=[("split", "=", "test")])
    scorer = TextScorer(tmp_path / "export")
    np.testing.assert_allclose(scorer.score(rows), expected, atol=1e-6)
    np.testing.assert_allclose(scorer.score(rows.slice(7, 1)), expected[7:8], atol=1e-6)
    answer = scorer.predict(rows.select(["text", "text_b"]).to_pandas().set_index(np.arange(rows.num_rows) + 100))
    assert list(answer) == ["label", "score", *CLASSES] and answer.index[0] == 100
    assert answer["label"].tolist() == [CLASSES[i] for i in expected.argmax(1)]
    np.testing.assert_allclose(answer["score"], expected.max(1), atol=1e-6)
    samples = assembly.samples("test")
    check_export(model, assembly.signature(), assembly, samples, rows.take(pa.array(rows_to_check(samples))))


def test_loading_leaves_the_folder_as_it_was(texts, tmp_path, monkeypatch):
    """Also where Python keeps what it compiles."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    export(texts, tmp_path / "export", "pooled")
    TextScorer(tmp_path / "export")
    assert not list((tmp_path / "export").rglob("__pycache__"))


def test_strange_texts_are_scored_and_wrong_columns_named(texts, tmp_path):
    export(texts, tmp_path / "export", "pooled")
    scorer = TextScorer(tmp_path / "export")
    strange = ["", None, "\ud83d", "\x00", "🙂", "x" * 10_000, "ﬁ\n\t"]
    answer = scorer.predict(pd.DataFrame({"text": pd.Series(strange, dtype=object)}))
    assert np.allclose(answer[CLASSES].sum(axis=1), 1) and np.isfinite(answer["score"]).all()
    assert scorer.score(pa.table({"text": pa.array([], pa.string())})).shape == (0, 3)
    with pytest.raises(TextRowsError, match="column text is missing"):
        scorer.predict(pd.DataFrame({"title": ["a"]}))
    with pytest.raises(TextRowsError, match="column text must hold text, not int"):
        scorer.predict(pd.DataFrame({"text": [1, 2]}))
    with pytest.raises(TextRowsError, match="column text_b must hold text, not int64"):
        scorer.score(pa.table({"text": ["a"], "text_b": [1]}))


def test_the_export_needs_neither_torch_nor_this_project(texts, tmp_path):
    model, assembly = export(texts, tmp_path / "export", "pooled")
    rows = pq.read_table(texts / "texts.parquet", filters=[("split", "=", "test")]).slice(0, 4)
    code = f"""
import importlib.util, json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'ctr_kd', 'feature_store', 'pipelines', 'tests'):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
spec = importlib.util.spec_from_file_location('scorer', {str(tmp_path / "export" / "scorer.py")!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
import pandas as pd
frame = pd.DataFrame(json.loads(sys.stdin.read()))
print(json.dumps(module.SCORER({str(tmp_path / "export")!r}).predict(frame)["score"].tolist()))
"""
    given = json.dumps({name: rows[name].to_pylist() for name in ("text", "text_b")})
    said = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, cwd=tmp_path, check=True, timeout=HANGS
    )
    np.testing.assert_allclose(json.loads(said.stdout), softmax(predict(model, assembly.samples("test"))).max(1)[:4], atol=1e-6)


def test_a_tokenizer_that_needs_this_project_is_refused(tmp_path):
    file = tmp_path / "tokenizer.py"
    file.write_text("import json\nimport numpy as np\ndef f():\n    import jieba.posseg\n")
    assert packages_of(file) == ["jieba"]
    file.write_text("from feature_store.tables.contracts import DataError\n")
    with pytest.raises(ValueError, match="imports feature_store"):
        packages_of(file)


def test_a_class_may_bear_the_name_of_a_column(tmp_path):
    texts = write_texts(tmp_path / "texts")
    (texts / "classes.json").write_text(json.dumps(["label", "score", "text"]))
    export(texts, tmp_path / "export", "pooled")
    answer = TextScorer(tmp_path / "export").predict(pd.DataFrame({"text": ["abc"]}))
    assert list(answer) == ["label", "score", "class label", "class score", "class text"]
