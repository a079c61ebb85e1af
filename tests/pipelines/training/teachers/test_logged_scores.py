"""Scores that another model gave, as a teacher: found by row, known in time, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_store.tables.contracts import DataError
from pipelines.stages import PIPELINE
from pipelines.tasks.logits import read_predictions
from pipelines.training.facts import DistillationFacts
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from tests.pipelines.training.teachers.shop import Shop

COLUMN = {"column": "p_click", "known": "scored_at"}
BY_REQUEST = {"path": "scores/*.parquet", "score": "p_click", "request": "request", "item": "item"}
BY_TIME = {"path": "scores.csv", "score": "p_click", "user": "user", "item": "item", "time": "time"}


def logged(**scores: Any) -> list[dict[str, Any]]:
    return [{"name": "production", "scores": scores}]


def said(context: RunContext, split: str = "test") -> pd.Series:
    """What the teacher said of the rows of a split, by request and item."""
    folder = context.artifacts["distill"].path
    row_id, logits = read_predictions(folder / f"predictions_teacher_production_{split}.parquet", folder.name)
    return pd.Series(1 / (1 + np.exp(-logits[:, 0].astype(float))), row_id)


def expected(context: RunContext, log: pd.DataFrame) -> pd.Series:
    """The log's own scores of the test rows, by a second way: rows are in the order of time, and ids say which is which."""
    ingest = context.artifacts["ingest"].path
    rows = pq.read_table(ingest / "rows.parquet").to_pandas()
    rows = rows[rows["split"] == "test"]
    items, users = (pq.read_table(ingest / f"{kind}s.parquet").to_pandas()[f"{kind}_id"] for kind in ("item", "user"))
    known = {(one.user, one.item, one.time): one.p_click for one in log.itertuples()}
    seconds = rows["timestamp"] // 10**6
    keys = zip(rows["user"].map(users), rows["item"].map(items), seconds, strict=True)
    return pd.Series([known[key] for key in keys], rows["row_id"])


def write_files(shop: Shop, log: pd.DataFrame) -> None:
    (shop.data / "scores").mkdir()
    half = len(log) // 2
    log[["request", "item", "p_click"]][:half].to_parquet(shop.data / "scores" / "a.parquet")
    log[["request", "item", "p_click"]][half:].to_parquet(shop.data / "scores" / "b.parquet")
    log[["user", "item", "time", "p_click"]].sample(frac=1, random_state=1).to_csv(shop.data / "scores.csv", index=False)


@pytest.mark.parametrize("scores", [COLUMN, BY_REQUEST, BY_TIME], ids=["column", "by request", "by time"])
def test_each_row_has_the_score_that_was_logged_for_it(shop: Shop, scores: dict[str, Any]) -> None:
    write_files(shop, shop.log)
    context = shop.run(logged(**scores))
    np.testing.assert_allclose(said(context), expected(context, shop.log).loc[said(context).index], atol=1e-6)
    (facts,) = DistillationFacts.read(context.artifacts["distill"].path).teachers.teachers.values()
    assert facts.coverage == {"train": 1.0, "validation": 1.0, "test": 1.0} and facts.kind == "scores"


def test_a_score_that_was_known_after_its_request_teaches_nothing(shop: Shop) -> None:
    late = shop.log.assign(known=np.where(np.arange(len(shop.log)) % 4 == 0, shop.log["time"] + 1, shop.log["time"]))
    late[["user", "item", "time", "p_click", "known"]].to_csv(shop.data / "scores.csv", index=False)
    context = shop.run(logged(**BY_TIME, known="known"))
    (facts,) = DistillationFacts.read(context.artifacts["distill"].path).teachers.teachers.values()
    assert facts.coverage["train"] == pytest.approx(0.75, abs=0.01)
    assert "scores were known after their request, or nobody knows when, and are left out" in shop.said.getvalue()
    assert "rows without one learn from the labels and the other teachers" in shop.said.getvalue()
    whole = said(context)
    missing = ~np.isclose(whole, expected(context, shop.log).loc[whole.index], atol=1e-6)
    assert missing.mean() == pytest.approx(0.25, abs=0.02) and whole[missing].nunique() == 1  # the mean of what is said of training rows


def test_scores_of_other_rows_are_passed_over(shop: Shop) -> None:
    more = pd.concat([shop.log, shop.log.assign(user="nobody", p_click=0.001)])
    more[["user", "item", "time", "p_click"]].to_csv(shop.data / "scores.csv", index=False)
    context = shop.run(logged(**BY_TIME))
    np.testing.assert_allclose(said(context), expected(context, shop.log).loc[said(context).index], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "scores", "line"),
    [
        ({"p_click": 1.3}, BY_TIME, "scores.csv, row 2: 1.3 is no probability; correct it, or set scale: logit"),
        ({"p_click": "much"}, BY_TIME, "scores.csv, row 2: the score is no number"),
        ({"user": "nobody"}, BY_TIME | {"min_coverage": 0.1}, "0.0% of the training rows have a score"),
        ({"time": "soon"}, BY_TIME, "scores.csv, row 2: column 'time' holds no time"),
        ({"item": None}, BY_TIME, "scores.csv, row 2: column 'item' holds no id"),
        ({"p_click": 0.25}, BY_TIME, "says the same of all"),
        ({"p_click": [0, 1] * 750}, BY_TIME, "all scores are 0 or 1, which are classes"),
        ({"p_click": 0.25}, BY_TIME | {"score": "click"}, "column 'click' is missing"),
        ({}, BY_TIME | {"path": "*.nothing"}, "no file matches '*.nothing'"),
        ({"request": "other"}, BY_REQUEST | {"path": "scores.csv"}, "no score is of a request and item of the log: request 'other'"),
    ],
)
def test_what_cannot_teach_is_one_line(shop: Shop, change: dict[str, Any], scores: dict[str, Any], line: str) -> None:
    shop.log.assign(**change).to_csv(shop.data / "scores.csv", index=False)
    before = sorted(path.name for path in shop.workspace.rglob("_manifest.json"))
    with pytest.raises(DataError) as error:
        shop.run(logged(**scores))
    assert line in str(error.value) and "\n" not in str(error.value)
    assert sorted(path.name for path in shop.workspace.rglob("_manifest.json")) == before


def test_two_scores_of_one_row_are_refused_and_the_same_one_twice_is_not(shop: Shop) -> None:
    twice = pd.concat([shop.log, shop.log.head(5)])
    twice.to_csv(shop.data / "scores.csv", index=False)
    shop.run(logged(**BY_TIME))
    pd.concat([shop.log, shop.log.head(5).assign(p_click=0.5)]).to_csv(shop.data / "scores.csv", index=False)
    with pytest.raises(DataError, match=r"have two scores at one time, .* \(5 such rows\): keep one of them"):
        shop.run(logged(**BY_TIME))


def test_a_changed_file_of_scores_is_another_teacher(shop: Shop) -> None:
    shop.log.to_csv(shop.data / "scores.csv", index=False)
    one = shop.run(logged(**BY_TIME)).artifacts["distill"].path
    assert shop.run(logged(**BY_TIME)).artifacts["distill"].path == one
    shop.log.assign(p_click=1 - shop.log["p_click"]).to_csv(shop.data / "scores.csv", index=False)
    assert shop.run(logged(**BY_TIME)).artifacts["distill"].path != one


def test_a_column_of_the_log_that_is_out_of_range_is_one_line(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.log.assign(p_click=shop.log["p_click"] + 1).to_parquet(shop.data / "events.parquet")
    with pytest.raises(DataError, match=r"column 'p_click' of the log, item 'i\d+': 1\.\d+ is no probability"):
        shop.run(logged(**COLUMN))


def test_no_model_reads_the_scores(shop: Shop) -> None:
    """A score of the model in production among the inputs of a student would be a column that production must make first."""
    context = shop.run(logged(**COLUMN))
    export = context.artifacts["distill"].path / "export"
    assert not any("p_click" in file.read_text() or "model_score" in file.read_text() for file in export.glob("*.json"))


def test_a_score_of_which_nobody_knows_when_it_was_known_teaches_nothing(shop: Shop) -> None:
    """Files that were filled in later lack the time as often as not."""
    half = shop.log.assign(known=[time if place % 2 else None for place, time in enumerate(shop.log["time"])])
    half[["user", "item", "time", "p_click", "known"]].to_csv(shop.data / "scores.csv", index=False)
    context = shop.run(logged(**BY_TIME, known="known", min_coverage=0.4))
    (facts,) = DistillationFacts.read(context.artifacts["distill"].path).teachers.teachers.values()
    assert facts.coverage["train"] == pytest.approx(0.5, abs=0.01)


def test_the_time_that_the_log_names_holds_where_the_teacher_names_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.log.assign(scored_at=shop.log["time"] + 3600).to_parquet(shop.data / "events.parquet")
    with pytest.raises(DataError, match=r"0\.0% of the training rows have a score that was known in time"):
        shop.run(logged(column="p_click"))


def test_of_two_equal_scores_the_one_that_was_known_first_holds(shop: Shop) -> None:
    both = pd.concat([shop.log.assign(known=shop.log["time"] + 9), shop.log.assign(known=shop.log["time"] - 9)])
    both.to_csv(shop.data / "scores.csv", index=False)
    context = shop.run(logged(**BY_TIME, known="known"))
    (facts,) = DistillationFacts.read(context.artifacts["distill"].path).teachers.teachers.values()
    assert facts.coverage["train"] == 1


def test_a_model_of_the_full_stream_teaches_the_rows_that_a_thinned_log_kept_on_their_own_scale(shop: Shop) -> None:
    """The student's labels are of the kept rows; what is measured is put back to the full stream, the teacher's figures too."""
    shop.log.to_csv(shop.data / "scores.csv", index=False)
    config = shop.config(logged(**BY_TIME))
    rate = 0.25
    source = config.source.model_dump(by_alias=True, exclude_unset=True) | {"negative_sampling_rate": rate}
    thinned = type(config).model_validate(config.model_dump(by_alias=True, exclude_unset=True) | {"source": source})
    context = RunContext(thinned, shop.workspace, shop.data, console=Console(shop.said))
    Runner(context, PIPELINE).run(last="distill")
    own = said(context)
    full = 1 / (1 + (1 - own) / own / rate)
    np.testing.assert_allclose(full, expected(context, shop.log).loc[own.index], atol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(own, expected(context, shop.log).loc[own.index], atol=1e-2)
