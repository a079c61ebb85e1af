"""Look-ups and sums outside the graph say what the whole graph says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly, Signature
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.export.scoring_graph import GRAPH, TABLES, _OwnBins, export_scoring_graph
from ctr_kd.models.calibrated import Calibrated, Temperature
from ctr_kd.models.layers import PiecewiseLinear
from ctr_kd.models.pooled import Pooled
from ctr_kd.models.students import STUDENTS
from tests.ctr_kd.drawn_weights import where_order_counts
from tests.ctr_kd.worlds import raw_frame

KINDS = [
    ("pooled", {}),
    ("pooled", {"hidden": 0}),
    ("pooled", {"combiner": "sqrtn", "recency": False}),
    ("pooled", {"combiner": "sqrtn"}),
    ("dcn", {}),
    ("bilstm", {}),
    ("din", {}),
]


def student(kind: str, settings: dict[str, Any], signature: Signature) -> torch.nn.Module:
    torch.manual_seed(4)
    model = where_order_counts(STUDENTS[kind](signature, StudentConfig(**{"kind": kind, "width": 8, "hidden": 12, **settings})))
    return Calibrated(model, Temperature(1.5, -0.25))


@pytest.mark.parametrize("kind, settings", KINDS)
def test_sums_say_what_the_whole_graph_says(
    kind: str, settings: dict[str, Any], assembly: Assembly, signature: Signature, directory: Path, tmp_path: Path
) -> None:
    export_student(student(kind, settings, signature), signature, assembly, tmp_path)
    rows = raw_frame(directory, "train")
    of_sums = ClickScorer(tmp_path)
    assert of_sums.tables
    (tmp_path / TABLES).unlink()
    whole = ClickScorer(tmp_path)
    assert not whole.tables and "segment_a" in whole.fed
    expected = whole.score(rows)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(of_sums.score(rows), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_sums.score(rows.slice(3, 1)), expected[3:4], rtol=1e-5, atol=1e-6)


def test_a_class_on_top_of_a_student_keeps_its_whole_graph(assembly: Assembly, signature: Signature, tmp_path: Path) -> None:
    class Mine(Pooled):
        def candidate(self, segment_b: torch.Tensor) -> torch.Tensor:
            return 2 * super().candidate(segment_b)

    export_scoring_graph(Mine(signature, StudentConfig(kind="pooled", width=8)).eval(), signature, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_student_of_ours_has_both_files(assembly: Assembly, signature: Signature, tmp_path: Path) -> None:
    export_student(student("pooled", {}, signature), signature, assembly, tmp_path)
    assert (tmp_path / GRAPH).exists() and (tmp_path / TABLES).exists()
    assert not {"segment_a", "segment_b"} & ClickScorer(tmp_path).fed


rising = st.lists(st.integers(-8000, 8000).map(lambda eighths: eighths / 8), min_size=1, max_size=6, unique=True).map(sorted)
numbers = st.one_of(st.floats(-1e7, 1e7, width=32), st.just(float("nan")))


@given(st.lists(rising, min_size=1, max_size=3), st.data())
def test_own_bins_are_those_of_the_whole_code(knots: list[list[float]], data: st.DataObject) -> None:
    """Bit for bit, at knots, between them, beyond them, and for nulls; what is left out is zero."""
    rows = data.draw(st.integers(1, 5))
    dense = np.array([data.draw(st.lists(st.one_of(numbers, st.sampled_from(k)), min_size=rows, max_size=rows)) for k in knots], np.float32)
    code = PiecewiseLinear(knots)
    whole = code(torch.from_numpy(dense.T.copy()))
    bins = code.low.shape[1]
    kept = [n * bins + b for n, own in enumerate(knots) for b in range(len(own) - 1)]
    nulls = [len(knots) * bins + n for n in range(len(knots))]
    assert torch.equal(_OwnBins(code)(torch.from_numpy(dense.T.copy())), whole[:, kept + nulls])
    assert whole.count_nonzero() == whole[:, kept + nulls].count_nonzero()


def test_a_literal_code() -> None:
    code = _OwnBins(PiecewiseLinear([[0.0, 2.0, 10.0], [5.0], [0.0, 1.0]]))
    found = code(torch.tensor([[6.0, 7.0, 0.25], [float("nan"), 1.0, float("nan")]]))
    assert found.tolist() == [[1.0, 0.5, 0.25, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]]


@pytest.mark.parametrize("index, values", [(pa.int8(), 128), (pa.uint8(), 256), (pa.int32(), 5)])
def test_ids_by_numbers_of_any_width(
    index: pa.DataType, values: int, assembly: Assembly, signature: Signature, directory: Path, tmp_path: Path
) -> None:
    export_student(student("pooled", {}, signature), signature, assembly, tmp_path)
    lookup = ClickScorer(tmp_path).lookups["item"]
    ids = [*lookup.tokens.to_pylist()[:3], *(f"none-{n}" for n in range(values - 3))]
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 2, None, values - 1, 1] * 60, index), pa.array(ids))
    assert (
        lookup(coded).tolist()
        == lookup(coded.dictionary_decode()).tolist()
        == [lookup.first, lookup.first + 2, 0, 1, lookup.first + 1] * 60
    )
