import json

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
import torch

from ctr_kd.config import StudentConfig
from ctr_kd.export import export_student
from ctr_kd.models import STUDENTS
from ctr_kd.scorer import ScoringError, StudentScorer
from ctr_kd.training import predict
from tests.ctr_kd.worlds import raw_frame


@pytest.fixture(scope="module", params=list(STUDENTS))
def exported(request, assembly, signature, tmp_path_factory):
    torch.manual_seed(2)
    model = STUDENTS[request.param](signature, StudentConfig(kind=request.param, width=8, hidden=12)).eval()
    directory = tmp_path_factory.mktemp(request.param)
    export_student(model, signature, assembly, directory)
    return model, StudentScorer(directory), directory


def test_raw_ids_score_as_the_trained_model_does(exported, assembly, directory):
    model, scorer, _ = exported
    for split in ("train", "test"):
        expected = 1 / (1 + np.exp(-predict(model, assembly.samples(split))[:, 0].astype(np.float64)))
        np.testing.assert_allclose(scorer.score(raw_frame(directory, split)), expected, atol=1e-6)


def test_one_row_equals_many_and_order_is_kept(exported, directory):
    _, scorer, _ = exported
    frame = raw_frame(directory, "train")
    scores = scorer.score(frame)
    shuffled = np.random.default_rng(0).permutation(frame.num_rows)
    np.testing.assert_allclose(scorer.score(frame.take(shuffled)), scores[shuffled], atol=1e-7)
    many = pa.concat_tables([frame] * 120)  # beyond the chunk and beyond the hash lookup's threshold
    np.testing.assert_allclose(scorer.score(many), np.tile(scores, 120), atol=1e-7)
    for row in (0, 5):
        np.testing.assert_allclose(scorer.score(frame.slice(row, 1)), scores[row : row + 1], atol=1e-7)


def test_pandas_equals_arrow(exported, directory):
    _, scorer, _ = exported
    frame = raw_frame(directory, "test")
    np.testing.assert_allclose(scorer.predict(frame.to_pandas())["score"], scorer.score(frame), atol=1e-7)
    text = frame.to_pandas().assign(item_id=lambda f: f.item_id.astype(str), history=lambda f: [[str(i) for i in h] for h in f.history])
    np.testing.assert_allclose(scorer.predict(text)["score"], scorer.score(frame), atol=1e-7)


def test_sparse_rows_are_scored(exported):
    """Unknown ids, empty and null histories, null statistics and missing optional columns."""
    _, scorer, _ = exported
    frame = pd.DataFrame(
        {"history": [[], None, ["nobody knows this"]], "item_id": ["100", "unseen", None], "timestamp": pd.Timestamp("2024-01-01")}
    )
    assert np.isfinite(scorer.predict(frame)["score"]).all()
    assert len(scorer.predict(frame.iloc[:0])) == 0
    with_null = frame.assign(item_age=[None, 1.0, 2.0], device=[None, "d0", "what"])
    assert np.isfinite(scorer.predict(with_null)["score"]).all()


def test_long_histories_keep_their_newest_clicks(exported):
    _, scorer, _ = exported
    row = {"item_id": [101], "timestamp": [pd.Timestamp("2024-01-01")]}
    long = scorer.predict(pd.DataFrame({**row, "history": [list(range(100, 115))]}))
    cut = scorer.predict(pd.DataFrame({**row, "history": [list(range(110, 115))]}))
    assert long["score"].iloc[0] == pytest.approx(cut["score"].iloc[0], abs=1e-7)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"item_id": None}, "column item_id is missing"),
        ({"history": None}, "column history is missing"),
        ({"history": 3}, "history must hold lists"),
        ({"item_age": "old"}, "item_age must be numeric"),
        ({"timestamp": None}, "column timestamp is missing"),
        ({"timestamp": 1.5}, "timestamp must hold times"),
        ({"item_id": 1.5}, "item_id must hold text or integer ids"),
        ({"history_timestamps": [[]]}, "one time for every item"),
    ],
)
def test_mistakes_are_named(exported, change, message):
    _, scorer, _ = exported
    columns = {"history": [[100]], "item_id": ["100"], "timestamp": [pd.Timestamp("2024-01-01")]}
    for name, value in change.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = value if isinstance(value, list) else [value]
    with pytest.raises(ScoringError, match=message):
        scorer.predict(pd.DataFrame(columns))


def test_the_graph_is_the_student_alone(exported):
    model, _, directory = exported
    graph = onnx.load(str(directory / "student.onnx")).graph
    stored = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
    own = sum(value.numel() for value in model.state_dict().values())
    assert stored <= own * 1.1 + 64
    listed = json.loads((directory / "signature.json").read_text())["inputs"]
    assert {node.name for node in graph.input} <= set(listed)


def test_sampled_negatives_are_corrected_back(exported, directory):
    _, scorer, _ = exported
    frame = raw_frame(directory, "test")
    plain = scorer.score(frame)
    scorer.signature["negative_sampling_rate"] = 0.25
    try:
        np.testing.assert_allclose(scorer.score(frame), plain / (plain + (1 - plain) / 0.25), atol=1e-9)
    finally:
        scorer.signature["negative_sampling_rate"] = None
