"""One question per task: what a run is about, what its rows are, and what a registered student answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ctr_kd.data.samples import Assembly
from ctr_kd.data.texts import TextAssembly
from feature_store.tables.contracts import DataError
from pipelines.config.run import RunConfig
from pipelines.tasks import task_of
from pipelines.tasks.answers import ClickAnswers, TextAnswers, answers_of
from pipelines.tasks.baselines import BASELINES
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.texts import TextRows
from tests.ctr_kd.text_worlds import write_texts

TEXTS = RunConfig.model_validate({"name": "t", "source": {"reader": "text", "train": "a.tsv", "test": "b.tsv"}})
CLICK_SIGNATURE = {
    "inputs": {},
    "output": "logit",
    "special_tokens": [],
    "outputs": 1,
    "max_length": 9,
    "max_length_b": 1,
    "gap_buckets": 16,
    "tokens": {"item": 9},
    "dense": {"item_age": [0.0, 1.0]},
    "categorical": {},
    "user_attributes": ["age"],
    "columns": {"required": ["history", "item_id", "timestamp"], "optional": ["item_age"], "answer": {"score": "double"}},
}


def click_scorer() -> Any:
    known = {10: 5, 11: 6}
    lookup = lambda column: np.array([known.get(item, 1) for item in column.to_pylist()])  # noqa: E731
    return SimpleNamespace(signature=CLICK_SIGNATURE, lookups={"item": lookup})


def text_scorer() -> Any:
    tokenizer = SimpleNamespace(encode=lambda texts: (np.array([5 if letter in "ab" else 1 for text in texts for letter in text]), None))
    return SimpleNamespace(signature={"classes": ["no", "yes"]}, classes=["no", "yes"], columns=["no", "yes"], tokenizer=tokenizer)


def test_the_reader_decides_what_a_run_is_about(config: RunConfig, tmp_path: Path, make_assembly: Callable[[Path], None]) -> None:
    (tmp_path / "clicks").mkdir()
    make_assembly(tmp_path / "clicks")
    clicks, texts = task_of(config), task_of(TEXTS)
    assert isinstance(clicks.assembly(tmp_path / "clicks", "teacher"), Assembly)
    assert isinstance(clicks.rows(tmp_path / "clicks"), ClickRows)
    folder = write_texts(tmp_path / "texts")
    views = {view: texts.assembly(folder, view) for view in ("teacher", "student")}
    assert all(isinstance(one, TextAssembly) and one.view == folder / view for view, one in views.items())
    assert isinstance(texts.rows(folder), TextRows)


def test_texts_are_the_same_rows_when_text_and_label_are(tmp_path: Path) -> None:
    rows = TextRows(write_texts(tmp_path / "texts")).identities("test")
    assert rows.column_names[0] == "row_id" and {"text", "label"} <= set(rows.column_names) and rows.num_rows


def test_rows_say_where_their_window_ends_and_which_baselines_they_have(tmp_path: Path, make_assembly: Callable[[Path], None]) -> None:
    make_assembly(tmp_path)
    clicks, texts = ClickRows(tmp_path), TextRows(write_texts(tmp_path / "texts"))
    assert (clicks.window_end(), texts.window_end()) == ("2023-11-16T02:05:00+00:00", None)
    assert set(clicks.baselines) | set(texts.baselines) == BASELINES.keys()
    assert clicks.facts()["users"] == 20 and "users" not in texts.facts() and texts.facts()["classes"] == len(texts.classes)


def test_a_signature_decides_what_a_student_answers() -> None:
    clicks, texts = answers_of(click_scorer()), answers_of(text_scorer())
    assert (type(clicks), clicks.task, clicks.classes) == (ClickAnswers, "clicks", None)
    assert (type(texts), texts.task, texts.classes) == (TextAnswers, "texts", ["no", "yes"])
    assert (clicks.joined(), texts.joined()) == (["history", "item_age", "age"], [])


def test_an_answer_has_a_score_and_of_classes_a_label_and_each_probability() -> None:
    assert answers_of(click_scorer()).columns(np.array([0.2, 0.7]))["score"].to_pylist() == [0.2, 0.7]
    answer = answers_of(text_scorer()).columns(np.array([[0.8, 0.2], [0.1, 0.9]]))
    assert {name: column.to_pylist() for name, column in answer.items()} == {
        "label": ["no", "yes"],
        "score": [0.8, 0.9],
        "no": [0.8, 0.1],
        "yes": [0.2, 0.9],
    }


def test_what_a_student_does_not_know_is_counted() -> None:
    assert answers_of(click_scorer()).unseen(pa.table({"item_id": [10, 12, 11]})).tolist() == [1, 3]
    assert answers_of(text_scorer()).unseen(pa.table({"text": ["abx", None], "text_b": ["y", "b"]})).tolist() == [2, 5]


def test_labels_are_those_of_the_task() -> None:
    assert answers_of(click_scorer()).labels(pa.chunked_array([[1, 0]])).tolist() == [1, 0]
    assert answers_of(click_scorer()).labels(pa.chunked_array([["1.0", "False"]])).tolist() == [1, 0]  # as ingestion reads clicks
    assert answers_of(text_scorer()).labels(pa.chunked_array([["yes", "no"]])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="must hold 0 and 1 and nothing else"):
        answers_of(click_scorer()).labels(pa.chunked_array([[1, None]]))
    with pytest.raises(ValueError, match="expected 0 or 1"):
        answers_of(click_scorer()).labels(pa.chunked_array([[[1]]]))
    with pytest.raises(ValueError, match="holds 'maybe', which is none of the model's classes: no, yes"):
        answers_of(text_scorer()).labels(pa.chunked_array([["maybe"]]))


@pytest.mark.parametrize(
    ("names", "missing"), [(["timestamp"], "item_id"), (["item_id"], "timestamp"), (["item_id", "timestamp"], "history")]
)
def test_a_file_of_clicks_needs_items_times_and_a_history_or_a_user(names: list[str], missing: str) -> None:
    with pytest.raises(DataError, match=f"rows.parquet: column {missing} is missing"):
        answers_of(click_scorer()).check_columns(names, Path("rows.parquet"))
    answers_of(click_scorer()).check_columns(["item_id", "timestamp", "user_id"], Path("rows.parquet"))
    answers_of(text_scorer()).check_columns([], Path("rows.parquet"))
