"""The exported student of next items against the trained one, and its search against all products."""

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


@pytest.mark.parametrize("name", ["student.onnx", "items.parquet"])
def test_another_file_than_the_signature_names_is_refused(exported, name):
    path = exported / name
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=rf"{name}: is missing, or not what signature.json says"):
        NextItemRetriever(exported)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: is missing"):
        NextItemRetriever(exported)
