"""Logits on disk: what one label stores is what it was, and several are asked for by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr_kd.data import disk_arrays
from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.training.errors import TrainingError
from feature_store.tables.contracts import DataError
from pipelines.tasks.logits import read_predictions, stored_probabilities, write_predictions
from pipelines.training.students import stored_logits
from tests.ctr_kd.worlds import write_assembly


def test_several_labels_are_read_one_by_one_and_classes_together(tmp_path: Path) -> None:
    file = tmp_path / "model" / "predictions_test.parquet"
    file.parent.mkdir()
    row_id, logits = np.array([2, 0, 1]), np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0], [1.0, -2.0, 3.0]], np.float32)
    write_predictions(file, row_id, logits, "model", ["bought", "kept"])
    by_row = 1 / (1 + np.exp(-logits[[1, 2, 0]].astype(np.float64)))
    for place, label in enumerate((None, "bought", "kept")):
        np.testing.assert_allclose(stored_probabilities(file, label=label), by_row[:, place])
    np.testing.assert_array_equal(read_predictions(file, "model")[1], logits)
    with pytest.raises(ValueError, match="not in list"):
        stored_probabilities(file, label="liked")
    write_predictions(file, row_id, logits, "model")
    np.testing.assert_allclose(stored_probabilities(file).sum(axis=1), 1)  # classes under a softmax
    assert pq.read_schema(file).metadata == {b"model": b"model"}


def test_many_logits_are_written_and_read_a_piece_at_a_time_and_are_the_same(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(0).normal(size=(len(samples), 2)).astype(np.float16)
    whole, pieces = tmp_path / "whole.parquet", tmp_path / "pieces.parquet"
    write_predictions(whole, samples.row_id, logits, "model")
    expected = stored_logits(whole, "model", samples, tmp_path)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
    monkeypatch.setattr(disk_arrays, "PIECE", 7)
    write_predictions(pieces, samples.row_id, logits, "model")
    assert pq.read_table(pieces).equals(pq.read_table(whole)) and pq.read_schema(pieces).metadata == {b"model": b"model"}
    found = stored_logits(pieces, "model", samples, tmp_path)
    assert isinstance(found, np.memmap) and not isinstance(expected, np.memmap)
    assert found.dtype == np.float32 and np.array_equal(found, expected) and np.array_equal(found, logits.astype(np.float32))
    with pytest.raises(DataError, match="holds logits of model model, not of other"):
        stored_logits(pieces, "other", samples, tmp_path)


def test_what_is_missing_or_not_finite_is_counted_over_all_pieces(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
    monkeypatch.setattr(disk_arrays, "PIECE", 7)
    file, logits = tmp_path / "pieces.parquet", np.zeros((len(samples), 1), np.float32)
    write_predictions(file, np.delete(samples.row_id, [3, 4, 20, 100]), np.delete(logits, [3, 4, 20, 100], axis=0), "model")
    with pytest.raises(TrainingError, match=f"miss 4 of {len(samples)} rows .first: row {samples.row_id[3]}."):
        stored_logits(file, "model", samples, tmp_path)
    logits[[8, 30, 31]] = [[np.nan], [np.inf], [np.nan]]
    write_predictions(file, samples.row_id, logits, "model")
    with pytest.raises(TrainingError, match=f"row {samples.row_id[8]} is not finite .3 such rows."):
        stored_logits(file, "model", samples, tmp_path)
    with pytest.raises(TrainingError, match=f"row {samples.row_id[30]} is not finite .1 such rows."):
        stored_logits(file, "model", samples, tmp_path, partial=True)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return Assembly(write_assembly(tmp_path / "assembly"), 5).samples("train")
