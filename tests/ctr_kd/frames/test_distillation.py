"""Distil on arrays: a student that knows what its teacher knows, calibrated, exported, and loaded again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ctr_kd import DistilledStudent, distill, load_student
from ctr_kd.training.loop import predict
from feature_store.tables.contracts import DataError
from tests.ctr_kd.frames.rows import ITEMS, rows

TRAIN, VALIDATION, TEST = rows(3000, 0), rows(600, 1), rows(900, 2)
FEW = {"training": {"epochs": 1}}


@pytest.fixture(scope="module")
def made() -> DistilledStudent:
    settings = {"alpha": 0.1, "training": {"epochs": 8, "batch_size": 256}}
    torch.set_num_threads(1)
    return distill(TRAIN, "logit", VALIDATION, categorical=["device"], dense=["price"], items=ITEMS, settings=settings)


def test_a_student_learns_from_its_teacher_more_than_from_labels_alone(made: DistilledStudent) -> None:
    figures = made.evaluate(TEST, "logit", replicates=50)
    assert list(figures.index) == ["student", "student_alone", "teacher"]
    assert figures.loc["teacher", "auc"] > figures.loc["student", "auc"] > figures.loc["student_alone", "auc"] > 0.6
    gain = made.gain(TEST, replicates=50)
    assert gain.loc["auc", "difference"] == pytest.approx(figures.loc["student", "auc"] - figures.loc["student_alone", "auc"])


def test_the_export_scores_as_what_was_trained_and_as_what_is_loaded(made: DistilledStudent, tmp_path: Path) -> None:
    folder = made.export(tmp_path / "student")
    scores = made.predict(TEST)["score"]
    assert load_student(folder).predict(TEST)["score"].equals(scores)  # bit for bit
    files = {path.name for path in folder.iterdir()}
    assert files == {
        "student.onnx",
        "signature.json",
        "scorer.py",
        "casting.py",
        "vocabulary.parquet",
        "items.parquet",
        "scoring.onnx",
        "tables.parquet",
    }
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        made.export(folder)

    trained = distill(TRAIN, "logit", VALIDATION, alone=False, settings=FEW)  # whose validation rows are at hand
    from ctr_kd.frames.assembly import FrameColumns, assemble_frames
    from feature_store.config import HistoryConfig, VocabularyConfig

    settings: dict[str, Any] = {"columns": FrameColumns(), "items": None, "history": HistoryConfig(), "vocabulary": VocabularyConfig()}
    samples = assemble_frames(TRAIN, VALIDATION, tmp_path / "rows", **settings).samples("validation")
    expected = 1 / (1 + np.exp(-predict(trained.model, samples)[:, 0].astype(np.float64)))
    np.testing.assert_allclose(trained.predict(VALIDATION)["score"], expected, atol=1e-6)
    assert trained.alone is None
    with pytest.raises(ValueError, match="no student alone was trained"):
        trained.gain(TEST)


def test_it_repeats_bit_for_bit_and_the_form_of_the_teacher_does_not_matter() -> None:
    one = distill(TRAIN, "logit", VALIDATION, alone=False, settings=FEW).predict(TEST)
    probability = 1 / (1 + np.exp(-TRAIN["logit"].to_numpy()))
    for teacher in (TRAIN["logit"].to_numpy(), TRAIN["logit"].to_numpy()[:, None]):
        assert distill(TRAIN, teacher, VALIDATION, alone=False, settings=FEW).predict(TEST).equals(one)
    other = distill(TRAIN, probability, VALIDATION, scale="probability", alone=False, settings=FEW).predict(TEST)
    np.testing.assert_allclose(other["score"], one["score"], atol=1e-4)
    assert not distill(TRAIN, "logit", VALIDATION, alone=False, settings=FEW, seed=1).predict(TEST).equals(one)


def test_the_rest_of_a_block_keeps_its_defaults(caplog: pytest.LogCaptureFixture) -> None:
    """``training: {epochs: 1}`` leaves the student's batch size to the log: that of a bare training loop is another."""
    with caplog.at_level(logging.INFO, "ctr_kd"):
        distill(TRAIN, "logit", VALIDATION, alone=False, settings=FEW)
    assert "of 12: " in caplog.text  # 3,000 rows in batches of 256


def test_strange_teachers_and_rows_are_said(caplog: pytest.LogCaptureFixture) -> None:
    distill(TRAIN, np.linspace(0, 1, len(TRAIN)), TRAIN, alone=False, settings=FEW)
    assert "if they are probabilities, say scale='probability'" in caplog.text and "validation ends before training does" in caplog.text


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"teacher": "nothing"}, DataError, "column nothing of the teacher is missing"),
        ({"teacher": np.zeros(7)}, DataError, "one number of each of the 3,000 rows; its array has the shape (7,)"),
        ({"teacher": np.full(3000, np.inf)}, DataError, "the teacher's number of row 1 is not finite"),
        ({"teacher": np.full(3000, 0.5)}, DataError, "the teacher says the same of all rows, which teaches nothing"),
        ({"teacher": np.full(3000, np.nan)}, DataError, "the teacher says nothing of any row, which teaches nothing"),
        ({"teacher": TRAIN["logit"].rename(lambda row: row + 1)}, DataError, "a Series of another index than the rows"),
        ({"scale": "probability"}, DataError, "which is no probability; say scale='logit'"),
        ({"settings": {"alfa": 1}}, ValueError, "distill.alfa: extra inputs are not permitted"),
        ({"settings": {"embeddings": "teacher"}}, ValueError, "an array has logits alone"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        distill(**{"train": TRAIN, "teacher": "logit", "validation": VALIDATION} | given)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_figures_need_labels(made: DistilledStudent) -> None:
    with pytest.raises(DataError, match="column label is missing"):
        made.evaluate(TEST.drop(columns="label"))
    assert isinstance(made.predict(TEST.drop(columns=["label", "device"])), pd.DataFrame)


def test_a_row_of_which_the_teacher_says_nothing_learns_from_its_label(made: DistilledStudent) -> None:
    partial = TRAIN["logit"].where(np.arange(len(TRAIN)) % 3 > 0)
    student = distill(TRAIN, partial, VALIDATION, alone=False, settings=FEW)
    whole = distill(TRAIN, "logit", VALIDATION, alone=False, settings=FEW)
    found, other = (one.predict(TEST)["score"] for one in (student, whole))
    assert np.isfinite(found).all() and not np.allclose(found, other, atol=1e-4)
    with pytest.raises(DataError, match="the teacher says nothing of 1 rows"):
        made.evaluate(TEST, teacher=np.where(np.arange(len(TEST)) == 0, np.nan, 0.25 * np.arange(len(TEST))))
