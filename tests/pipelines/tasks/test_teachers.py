"""What the teachers that are no network say, and of which rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.baselines.texts import LinearModel
from ctr_kd.config import TEXT_TEACHERS
from feature_store.features.summary import ClickSummary
from pipelines.tasks.click_rows import ClickRows
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


def test_boosted_trees_have_a_fit_of_their_own_for_each_label(tmp_path: Path, make_assembly: Callable[[Path], None]) -> None:
    make_assembly(tmp_path)
    file, lines = tmp_path / "rows.parquet", []
    rows = pq.read_table(file)
    clicked = rows["label"].to_numpy()
    unknown = np.arange(len(clicked)) % 2 == 0
    rows = rows.append_column("label_same", rows["label"])
    pq.write_table(rows.append_column("label_other", pa.array((1 - clicked).astype(np.int8), mask=unknown)), file)
    plain = TEACHERS["boosted_trees"](ClickRows(tmp_path), 0, lines.append).logits
    ClickSummary.read(tmp_path).model_copy(update={"labels": ["same", "other"]}).write(tmp_path)
    several = TEACHERS["boosted_trees"](ClickRows(tmp_path), 0, lines.append).logits
    for split, (row_id, logits) in several.items():
        assert np.array_equal(row_id, plain[split][0]) and logits.shape == (len(row_id), 3)
        assert np.array_equal(logits[:, 0], plain[split][1][:, 0]) and np.array_equal(logits[:, 0], logits[:, 1])
        assert np.corrcoef(logits[:, 0], logits[:, 2])[0, 1] < 0
    assert [line.partition(":")[0] for line in lines[2:]] == ["same", "other"]
