"""What the teachers of texts that are no network say, and of which rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctr_kd.baselines.texts import LinearModel
from ctr_kd.config import TEXT_TEACHERS
from pipelines.tasks.teachers import TEACHERS
from pipelines.tasks.texts import TextRows
from tests.ctr_kd.text_worlds import write_texts


@pytest.mark.parametrize("kind", TEXT_TEACHERS)
def test_all_rows_training_rows_too_are_judged_by_the_machine_that_learned_them_all(tmp_path: Path, kind: str) -> None:
    """Out of fold a teacher is wrong where labels are right, and a student believes it."""
    rows = TextRows(write_texts(tmp_path / "texts"))
    train, test = rows.read("train"), rows.read("test")
    label = train["label"].to_numpy().astype(np.int64)
    model = LinearModel.fit(*rows.text_lists(train), label, 3, kind)
    stored = TEACHERS[kind](rows, 3, lambda text: None, {"transfer": train.slice(0, 10)}).logits
    for split, table in (("train", train), ("test", test), ("transfer", train.slice(0, 10))):
        row_id, logits = stored[split]
        assert np.array_equal(row_id, table["row_id"].to_numpy())
        np.testing.assert_allclose(logits, model.predict(*rows.text_lists(table)), atol=1e-5)
    assert (stored["train"][1].argmax(1) == label).mean() > model.out_of_fold + 0.05
