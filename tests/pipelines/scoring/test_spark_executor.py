"""Scoring on a Spark session of two cores: the same files as the local engine writes, and faults that end in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.tables.contracts import DataError
from pipelines.registry.champion import load_chosen_model
from pipelines.scoring.files import score_file
from pipelines.scoring.parts import Part, ScoringStopped
from pipelines.scoring.spark_executor import SparkPool, packed
from pipelines.scoring.spark_task import open_shipped
from pipelines.workspace.artifacts import ArtifactError, files_of
from tests.pipelines.served import IN_PARTS, ITEMS, Served, copied
from tests.sparks import local_spark


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with local_spark(tmp_path_factory.mktemp("spark")) as settings:
        yield {"score": {"engine": "spark"}, "feature_store": {"spark": settings.model_dump()}}


@pytest.fixture
def spark(served_template: Path, tmp_path: Path, session: dict[str, Any]) -> Served:
    """A workspace whose scores come from Spark in several parts, beside the one of ``served`` whose scores come from here."""
    found = copied(served_template, tmp_path / "spark")
    found.change(**session)
    found.change(score=IN_PARTS)
    return found


def rows(count: int) -> pa.Table:
    """Rows of types that Spark has none of, or reads as others: unsigned ids, dictionaries, nanoseconds, times of day without a zone."""
    rng = np.random.default_rng(4)
    return pa.table(
        {
            "row": np.arange(count, dtype=np.uint64),
            "item_id": pa.array(rng.choice(ITEMS, count).astype(np.uint64)),
            "timestamp": pa.array(
                [datetime(2024, 1, 2) + timedelta(minutes=int(m)) for m in rng.integers(0, 900, count)], pa.timestamp("ns")
            ),
            "history": [[int(i) for i in rng.choice(ITEMS, rng.integers(0, 4))] or None for _ in range(count)],
            "item_age": pa.array(rng.random(count), mask=rng.random(count) < 0.2),
            "device": pa.array(rng.choice(["phone", "desk", "tv"], count)).dictionary_encode(),
            "user_id": [f"u{n % 9}" for n in range(count)],
            "at": pa.array([timedelta(seconds=n % 60) for n in range(count)], pa.duration("us")),
        }
    )


def score(served: Served, source: Path, target: Path, **keys: Any) -> tuple[pa.Table, dict[str, Any]]:
    served.change(score=keys) if keys else None
    score_file(served.context(), source, target)
    return pq.read_table(target), json.loads(target.with_name(f"{target.stem}.scoring.json").read_text())


def without_speed(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in ("seconds", "rows_per_second")}


def test_a_file_comes_back_row_for_row_as_the_local_engine_gives_it(served: Served, spark: Served, tmp_path: Path) -> None:
    pq.write_table(rows(300), tmp_path / "rows.parquet", row_group_size=70)
    (local, told), (remote, reported) = (
        score(one, tmp_path / "rows.parquet", tmp_path / f"{n}.parquet") for n, one in enumerate((served, spark))
    )
    assert remote.num_rows == 300 and remote.schema == local.schema
    assert remote.drop_columns(["score"]).equals(local.drop_columns(["score"]))  # the order and every other column
    np.testing.assert_allclose(remote["score"], local["score"], atol=1e-6)
    assert set(remote["model_version"].to_pylist()) == {"1"}
    assert without_speed(reported) == without_speed(told)
    assert not list(tmp_path.glob(".*.parts"))


def test_what_a_file_lacks_is_joined_and_the_best_of_each_user_are_kept(served: Served, spark: Served, tmp_path: Path) -> None:
    pq.write_table(rows(100).select(["row", "item_id", "timestamp", "user_id"]), tmp_path / "rows.parquet")
    for one in (served, spark):
        one.run()  # the log is in the store
    found = [score(one, tmp_path / "rows.parquet", tmp_path / f"{n}.parquet", top=3)[0] for n, one in enumerate((served, spark))]
    assert found[1].num_rows == 27
    assert found[1].drop_columns(["score"]).equals(found[0].drop_columns(["score"]))


def test_a_date_becomes_the_same_partition(served: Served, spark: Served) -> None:
    paths = [one.run()[1] for one in (served, spark)]
    local, remote = (pq.read_table(path / "scores.parquet") for path in paths)
    assert remote.num_rows == 30 and remote.drop_columns(["score"]).equals(local.drop_columns(["score"]))
    np.testing.assert_allclose(remote["score"], local["score"], atol=1e-6)
    told, reported = (without_speed(json.loads((path / "scoring.json").read_text())) for path in paths)
    assert reported == told
    assert spark.run()[0] == ()
    served.change(score={"engine": "spark"})
    assert served.run()[0] == ()  # who scored is no part of what a partition was made from


def test_rows_that_cannot_be_scored_are_named(spark: Served, tmp_path: Path) -> None:
    pq.write_table(rows(40).set_column(1, "item_id", pa.array(np.linspace(0, 1, 40))), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows.parquet, rows from 1 on: column item_id must hold text or integer ids") as error:
        score_file(spark.context(), tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.glob("*out*")] == []


def test_finished_parts_are_taken_over(spark: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(rows(100), tmp_path / "rows.parquet")
    monkeypatch.setattr("pipelines.scoring.spark_executor._AHEAD", 2)  # times two cores: 4 of the 8 parts lie ready at a time
    lay, laid = SparkPool._hand_over, []

    def lay_some(pool: SparkPool, part: Part) -> int:
        if part.number == 6 and len(laid) == 6:
            raise ScoringStopped("the lights went out")
        laid.append(part.number)
        return lay(pool, part)

    monkeypatch.setattr(SparkPool, "_hand_over", lay_some)
    with pytest.raises(ScoringStopped):
        score_file(spark.context(), tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    score_file(spark.context(), tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert laid == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
    assert pq.read_table(tmp_path / "out.parquet")["row"].to_pylist() == list(range(100))


def test_an_executor_opens_no_other_model_than_the_one_it_was_told(served: Served, tmp_path: Path) -> None:
    model = load_chosen_model(served.context()).loaded
    files = {name: model.path / name for name in files_of(model.path)}
    (tmp_path / "model.zip").write_bytes(packed(files))
    assert open_shipped(tmp_path / "model.zip", tmp_path / "there", model.digest).digest == model.digest
    (tmp_path / "model.zip").write_bytes(packed(files | {"data/student/vocabulary.parquet": other_vocabulary(tmp_path)}))
    with pytest.raises(ArtifactError, match=r"model.zip is not the model that was sent to this executor"):
        open_shipped(tmp_path / "model.zip", tmp_path / "elsewhere", model.digest)


def other_vocabulary(folder: Path) -> Path:
    """A vocabulary in another order: every id would be scored as another one."""
    vocabulary = {"feature": ["item"] * 4 + ["device"] * 2, "token": ["13", "12", "11", "10", "desk", "phone"]}
    pq.write_table(pa.table(vocabulary), folder / "vocabulary.parquet")
    return folder / "vocabulary.parquet"


def test_equal_files_are_shipped_as_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("text")
    assert packed({"x": tmp_path / "a"}) == packed({"x": tmp_path / "b"}) != packed({"y": tmp_path / "a"})
