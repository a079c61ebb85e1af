"""Logits on disk: what one label stores is what it was, and several are asked for by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.tasks.logits import read_predictions, stored_probabilities, write_predictions


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
