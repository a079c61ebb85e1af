"""The exported student of next items against the trained one, and its search against all products."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from ctr_kd.config import NextItemStudentConfig
from ctr_kd.export.next_item_export import export_next_item
from ctr_kd.models.next_item import NextItemStudent
from ctr_kd.retrieval.next_items import NextItemRetriever
from feature_store.tables.contracts import DataError


@pytest.fixture
def student(assembly, signature):
    torch.manual_seed(0)
    model = NextItemStudent(signature, torch.from_numpy(assembly.vocabulary_tokens()), 16, NextItemStudentConfig(hidden=24)).eval()
    with torch.no_grad():
        model.bias.normal_()
        for table in model.token.embeddings():
            table.weight.normal_()
            table.weight[0] = 0
    return model


@pytest.fixture
def exported(student, assembly, signature, tmp_path):
    export_next_item(student, assembly.vocabulary["item"], signature.max_length - 1, tmp_path / "student")
    return tmp_path / "student"


def test_the_files_say_what_the_student_says(student, exported, signature):
    retriever = NextItemRetriever(exported)
    length = np.array([signature.max_length - 1, 0, 2])
    items = np.random.default_rng(0).integers(5, len(student.vocabulary), (3, signature.max_length - 1))
    items = np.where(np.arange(items.shape[1]) < length[:, None], items, 0)
    tokens = torch.zeros(*items.shape, len(signature.tokens), dtype=torch.int32)
    tokens[:, :, 0] = torch.from_numpy(items)
    with torch.no_grad():
        expected = student.all_items(student.history_state(tokens, torch.from_numpy(length))).numpy()
    np.testing.assert_allclose(retriever.scores(items, length)[:, 5:], expected[:, 5:], atol=1e-4)


@pytest.mark.parametrize("exclude", [True, False])
def test_what_is_found_is_what_all_products_say(student, exported, assembly, signature, exclude):
    """Raw ids, unknown ones among them, a null and an empty history, and one longer than the student reads."""
    retriever, ids = NextItemRetriever(exported), assembly.vocabulary["item"]
    rng = np.random.default_rng(1)
    histories = [[ids[i] for i in rng.integers(0, len(ids), n)] for n in (3, 0, signature.max_length + 4, 1)] + [["nobody sells it"], None]
    found = retriever.find(pa.array(histories, pa.list_(pa.string())), 5, exclude=exclude)
    for history, items, scores in zip(histories, found.item.to_pylist(), found.score, strict=True):
        index = np.array([ids.index(item) + 5 if item in ids else 1 for item in (history or [])][1 - signature.max_length :], np.int64)
        all_scores = retriever.scores(index[None] if len(index) else np.zeros((1, 1), np.int64), np.array([len(index)]))[0, 5:]
        if exclude:
            all_scores[[ids.index(item) for item in (history or []) if item in ids]] = -np.inf
        best = np.argsort(-all_scores)[: min(5, int(np.isfinite(all_scores).sum()))]
        assert items == [ids[i] for i in best]
        np.testing.assert_allclose(scores, all_scores[best], rtol=1e-4, atol=1e-4)


def test_ids_of_another_type_are_found_as_text(student, exported, assembly):
    ids = assembly.vocabulary["item"]
    numbers = [i for i in ids if i.isdigit()][:2]
    if numbers:
        retriever = NextItemRetriever(exported)
        one = retriever.find(pa.array([[int(n) for n in numbers]], pa.list_(pa.int64())), 3).item.to_pylist()
        assert one == retriever.find(pa.array([numbers], pa.list_(pa.string())), 3).item.to_pylist()


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_histories_may_be_as_short_as_a_log_says(assembly, signature, tmp_path, longest):
    torch.manual_seed(0)
    short = replace(signature, max_length=longest + 1)
    model = NextItemStudent(short, torch.from_numpy(assembly.vocabulary_tokens()), 16, NextItemStudentConfig(hidden=24)).eval()
    export_next_item(model, assembly.vocabulary["item"], longest, tmp_path)
    items, length = np.array([[7] * longest, [0] * longest]), np.array([longest, 0])
    with torch.no_grad():
        expected = model(torch.from_numpy(items), torch.from_numpy(length), model.item_vectors()).numpy()
    np.testing.assert_allclose(NextItemRetriever(tmp_path).vectors_of(items, length)[:, :-1], expected, atol=1e-5)


def arrow(histories):
    return pa.array(histories, pa.list_(pa.string()))


def test_a_long_history_does_not_change_what_its_neighbours_find(exported, assembly, monkeypatch):
    ids = assembly.vocabulary["item"]
    histories = [[ids[0]], [ids[i % 9] for i in range(500)], [ids[3], "nobody sells it"] * 40, [ids[1]]]
    retriever = NextItemRetriever(exported)
    together = retriever.find(arrow(histories), 4).item.to_pylist()
    assert together == [retriever.find(arrow([one]), 4).item.to_pylist()[0] for one in histories]
    monkeypatch.setattr("ctr_kd.retrieval.next_items.HISTORIES", 1)
    assert together == retriever.find(arrow(histories), 4).item.to_pylist()
    assert retriever.find(arrow([]), 4).item.to_pylist() == []
    everything = retriever.find(arrow(histories[:1]), 10_000).item.to_pylist()[0]
    assert sorted(everything) == sorted(set(ids) - {ids[0]})
    with pytest.raises(ValueError, match="one item at least must be asked for, not -1"):
        retriever.find(arrow(histories), -1)


def test_production_needs_no_torch(exported):
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; import pyarrow as pa; "
        "from ctr_kd.retrieval.next_items import NextItemRetriever; "
        "print(len(NextItemRetriever(Path(sys.argv[1])).find(pa.array([[], ['x']], pa.list_(pa.string())), 3).item.to_pylist()[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"sha256": {}, "width": 3, "max_length": 2, "special_tokens": []}', None])
def test_a_signature_that_is_none_is_one_line(exported, content):
    path = exported / "signature.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=r"signature\.json: is not that of a student of next items"):
        NextItemRetriever(exported)


@pytest.mark.parametrize("name", ["student.onnx", "items.parquet"])
def test_another_file_than_the_signature_names_is_refused(exported, name):
    path = exported / name
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=rf"{name}: is missing, or not what signature.json says"):
        NextItemRetriever(exported)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: is missing"):
        NextItemRetriever(exported)
