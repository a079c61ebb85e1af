"""What the teachers that are no network say, and of which rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.baselines.texts import LinearModel
from ctr_kd.config_teachers import TEXT_TEACHERS
from feature_store.features.summary import ClickSummary
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import SPLITS
from pipelines.tasks.texts import TextRows
from pipelines.training.teachers import fitted
from pipelines.training.teachers.fitted import LinearTeacher, TreesTeacher
from tests.ctr_kd.text_worlds import write_texts


@pytest.fixture
def context_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What such a teacher asks of its stage: the rows and the seed."""
    monkeypatch.setattr(fitted, "fitted_digest", lambda *_: "d" * 32)

    def made(rows: Path, seed: int, lines: list[str]) -> Any:
        return SimpleNamespace(inputs={"ingest": rows}, config=SimpleNamespace(seed=seed), report=lines.append)

    return made


@pytest.mark.parametrize("kind", TEXT_TEACHERS)
def test_all_rows_training_rows_too_are_judged_by_the_machine_that_learned_them_all(
    tmp_path: Path, kind: str, context_of: Callable[..., Any]
) -> None:
    """Out of fold a teacher is wrong where labels are right, and a student believes it."""
    rows = TextRows(write_texts(tmp_path / "texts"))
    train, test = rows.read("train"), rows.read("test")
    label = train["label"].to_numpy().astype(np.int64)
    model = LinearModel.fit(*rows.text_lists(train), label, 3, kind)
    teacher = LinearTeacher(kind, context_of(tmp_path / "texts", 3, []), rows)
    teacher.fit(train, test)
    for table in (train, test, train.slice(0, 10)):
        np.testing.assert_allclose(teacher.logits(table), model.predict(*rows.text_lists(table)), atol=1e-5)
    assert (teacher.logits(train).argmax(1) == label).mean() > model.out_of_fold + 0.05
    assert (teacher.facts().rows_per_second or 0) > 0


def test_boosted_trees_have_a_fit_of_their_own_for_each_label(
    tmp_path: Path, make_assembly: Callable[[Path], None], context_of: Callable[..., Any]
) -> None:
    make_assembly(tmp_path)
    file, lines = tmp_path / "rows.parquet", list[str]()

    def judged() -> dict[str, np.ndarray]:
        log = ClickRows(tmp_path)
        teacher = TreesTeacher("boosted_trees", context_of(tmp_path, 0, lines), log)
        teacher.fit(log.read("train"), log.read("validation"))
        return {split: teacher.logits(log.read(split)) for split in SPLITS}

    rows = pq.read_table(file)
    clicked = rows["label"].to_numpy()
    unknown = np.arange(len(clicked)) % 2 == 0
    rows = rows.append_column("label_same", rows["label"])
    pq.write_table(rows.append_column("label_other", pa.array((1 - clicked).astype(np.int8), mask=unknown)), file)
    plain = judged()
    ClickSummary.read(tmp_path).model_copy(update={"labels": ["same", "other"]}).write(tmp_path)
    for split, logits in judged().items():
        assert logits.shape == (len(plain[split]), 3)
        assert np.array_equal(logits[:, 0], plain[split][:, 0]) and np.array_equal(logits[:, 0], logits[:, 1])
        assert np.corrcoef(logits[:, 0], logits[:, 2])[0, 1] < 0
    assert [line.partition(":")[0] for line in lines[2:]] == ["same", "other"]
