"""Vectors of items and users through every student and its exported graph, those of items younger than the export too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.export.click_scorer import ClickRowsError, ClickScorer
from ctr_kd.export.exported_graph import ExportedGraph
from ctr_kd.export.onnx_export import export_student, narrow
from ctr_kd.models.layers import GivenVectors
from ctr_kd.models.students import STUDENTS
from ctr_kd.models.teachers import build_teacher
from ctr_kd.retrieval.candidates import ItemEmbeddings
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder
from ctr_kd.training.student_checks import check_export, rows_to_check
from feature_store.features.summary import ClickSummary
from feature_store.tables.vectors import STORED
from tests.ctr_kd.drawn_weights import where_order_counts
from tests.ctr_kd.worlds import raw_frame, write_assembly

ITEMS, USERS, WIDTH = 30, 40, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny assembly, whose items and users have vectors, most of them."""
    directory = write_assembly(tmp_path_factory.mktemp("vectors"), users=USERS, items=ITEMS)
    rng = np.random.default_rng(5)
    for kind, rows, name in (("item", ITEMS, "title"), ("user", USERS, "taste")):
        lists = [None if place % 5 == 4 else (1000 * rng.standard_normal(WIDTH)).tolist() for place in range(rows)]
        pq.write_table(pa.table({name: pa.array(lists, STORED)}), directory / f"{kind}_vectors.parquet")
    summary = json.loads((directory / ClickSummary.FILE).read_text())
    (directory / ClickSummary.FILE).write_text(json.dumps(summary | {"item_vectors": {"title": WIDTH}, "user_vectors": {"taste": WIDTH}}))
    return directory


@pytest.fixture(scope="module")
def assembly(folder: Path) -> Assembly:
    return Assembly(folder, 5)


def student_of(kind: str, assembly: Assembly) -> torch.nn.Module:
    torch.manual_seed(2)
    model = where_order_counts(STUDENTS[kind](assembly.signature(), StudentConfig(kind=kind, width=8, hidden=12))).eval()
    for given in (module for module in model.modules() if isinstance(module, GivenVectors)):
        for parameter in given.parameters():
            torch.nn.init.normal_(parameter)  # much of what it says
    return model


def raw_rows(folder: Path, split: str) -> pa.Table:
    """What production sends, with the vector of the user."""
    rows = pq.read_table(folder / "rows.parquet", filters=[("split", "=", split)])
    tastes = pq.read_table(folder / "user_vectors.parquet")["taste"]
    return raw_frame(folder, split).append_column("taste", tastes.take(rows["user"]))


@pytest.mark.parametrize("kind", STUDENTS)
def test_raw_rows_score_as_the_trained_model_does(kind: str, folder: Path, assembly: Assembly, tmp_path: Path) -> None:
    model = student_of(kind, assembly)
    export_student(model, assembly.signature(), assembly, tmp_path)
    scorer = ClickScorer(tmp_path)
    samples, rows = assembly.samples("test"), raw_rows(folder, "test")
    expected = predict(model, samples)[:, 0].astype(np.float64)
    np.testing.assert_allclose(scorer.score(rows), 1 / (1 + np.exp(-expected)), atol=2e-3)  # vectors are kept in half precision
    graph = ExportedGraph(tmp_path / "student.onnx", assembly.signature().vectors)
    np.testing.assert_allclose(graph.logits(samples)[:, 0], expected, rtol=1e-3, atol=1e-3)
    order = np.random.default_rng(0).permutation(rows.num_rows)
    np.testing.assert_allclose(scorer.score(rows.take(order)), scorer.score(rows)[order], atol=1e-6)
    np.testing.assert_allclose(scorer.score(rows.slice(3, 1)), scorer.score(rows)[3:4], atol=1e-6)


def test_an_item_that_came_later_is_told_to_the_scorer(folder: Path, assembly: Assembly, tmp_path: Path) -> None:
    export_student(student_of("pooled", assembly), assembly.signature(), assembly, tmp_path)
    scorer = ClickScorer(tmp_path)
    rows = raw_rows(folder, "test").slice(0, 1).drop_columns("item_id")
    titles = pq.read_table(folder / "item_vectors.parquet")["title"].to_pylist()

    def score(item: int) -> float:
        return float(scorer.score(rows.append_column("item_id", pa.array([item])))[0])

    assert score(900) == score(901)  # nothing is known of either
    new = pa.table({"item_id": [900, 901, 100], "topic": ["topic1", None, "topic2"], "title": pa.array([titles[0], None, None], STORED)})
    before = score(100)
    scorer.describe(new)
    assert score(900) != score(901) and score(100) == before  # what the student knows itself stays
    vectors, known = ItemEmbeddings(tmp_path, scorer).of(pa.array([900, 901, 902]))
    assert known.tolist() == [True, False, False] and not np.allclose(vectors[0], vectors[1])
    np.testing.assert_allclose(vectors[1], vectors[2])
    with pytest.raises(ClickRowsError, match="column title must hold lists of 3 numbers"):
        scorer.describe(pa.table({"item_id": [903], "title": pa.array([[1.0]], STORED)}))


@pytest.mark.parametrize("taste", [[[1.0, 2.0]], [[1.0, 2.0, None]], [[1.0, 2.0, float("inf")]], ["1"], [[["a"]]]])
def test_vectors_that_do_not_fit_are_named(taste: list, folder: Path, assembly: Assembly, tmp_path: Path) -> None:
    export_student(student_of("pooled", assembly), assembly.signature(), assembly, tmp_path)
    scorer = ClickScorer(tmp_path)
    rows = raw_rows(folder, "test").slice(0, 1).drop_columns("taste")
    assert scorer.score(rows.append_column("taste", pa.nulls(1))) == scorer.score(rows)
    with pytest.raises(ClickRowsError, match="column taste must hold lists of 3 numbers"):
        scorer.score(rows.append_column("taste", pa.array(taste)))


def test_a_teacher_reads_them_and_its_weights_do_not_hold_them(assembly: Assembly) -> None:
    torch.manual_seed(0)
    signature = assembly.signature()
    encoder = build_encoder(assembly, signature, EncoderConfig(width=8, layers=1, heads=2))
    teacher = build_teacher([encoder], signature, FinetuneConfig()).eval()
    samples = assembly.samples("test")
    before = predict(teacher, samples)
    assert not any(value.shape == (len(signature.vectors["title"]), WIDTH) for value in teacher.state_dict().values())
    with torch.no_grad():
        for module in teacher.modules():
            if getattr(module, "name", None) == "title":
                module.values = module.values * 2  # type: ignore[assignment, operator]
    assert not np.allclose(predict(teacher, samples), before)


@pytest.mark.parametrize("size, half", [(1.0, True), (1e-7, False), (1e5, False)])
def test_vectors_are_halved_where_that_loses_little(size: float, half: bool) -> None:
    vectors = pa.array([[size, -size / 3], None, [size / 7, 0.0]], STORED)
    kept = narrow(pa.chunked_array([vectors]))
    assert (kept.type == pa.list_(pa.float16())) == half and kept.is_null().to_pylist() == [False, True, False]
    for one, other in zip(kept.to_pylist(), vectors.to_pylist(), strict=True):
        assert one is other is None or np.allclose(np.array(one, float), other, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", STUDENTS)
def test_the_checks_before_a_training_know_that_vectors_are_in_half_precision(kind: str, folder: Path, assembly: Assembly) -> None:
    samples = assembly.samples("test")
    raw = raw_rows(folder, "test").take(pa.array(rows_to_check(samples)))
    check_export(student_of(kind, assembly), assembly.signature(), assembly, samples, raw)


def test_a_student_that_does_not_read_the_vectors_is_told_how(assembly: Assembly) -> None:
    signature = assembly.signature()
    blind = STUDENTS["pooled"](replace(signature, vectors={}), StudentConfig(kind="pooled", width=8, hidden=12))
    with pytest.raises(TrainingError, match=r"does not read the vectors taste: TokenEmbedding\(..., vectors=signature.vectors\)"):
        check_export(blind.eval(), signature, assembly, assembly.samples("test"))
