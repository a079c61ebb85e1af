"""What the tables of items and users say, as of a request: of dated ones the newest row before it, and nothing of later ones."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features.historical_features import features_for
from feature_store.features.summary import ClickSummary
from feature_store.features.training_set import assemble
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError, EntityFacts
from tests.feature_store.logs import FEW, MINUTE, START, Event, at, random_event, write_store

ENGINE = FeatureStoreConfig(threads=1, memory="500MB")
CONFIG = AssemblyConfig.model_validate(
    {
        "split": {"fractions": [0.5, 0.25, 0.25]},
        "candidates": {"per_click": 2, "window": "2h"},
        "history": {"max_length": 3},
        "vocabulary": {"min_count": 1},
    }
)
STAMP = pa.timestamp("us", "UTC")
ITEMS = EntityFacts(categorical=["shelf"], dense=["price"], dated=True)
USERS = EntityFacts(categorical=[], dense=["age"], dated=False)
Row = tuple[int, int, str | None, float | None]  # item, minute, shelf, price


def items_of(rows: list[Row]) -> pa.Table:
    """One row for each item and minute, in the order of a store."""
    unique = {(item, minute): (shelf, price) for item, minute, shelf, price in rows}
    keys = sorted(unique)
    return pa.table(
        {
            "item_id": pa.array([item for item, _ in keys], pa.int64()),
            "timestamp": pa.array([START + minute * MINUTE for _, minute in keys], pa.int64()).cast(STAMP),
            "shelf": pa.array([unique[key][0] for key in keys], pa.string()),
            "price": pa.array([unique[key][1] for key in keys], pa.float64()),
        }
    )


def said(table: pa.Table, item: int, time: int, column: str) -> object:
    """The newest value before a time; what a row leaves out, the one before it said."""
    rows = zip(table["item_id"].to_pylist(), table["timestamp"].cast(pa.int64()).to_pylist(), table[column].to_pylist(), strict=True)
    known = [(moment, value) for one, moment, value in rows if one == item and moment < time and value is not None]
    return max(known)[1] if known else None


def test_literal_rows(tmp_path: Path) -> None:
    items = items_of([(1, 10, "a", 5.0), (1, 20, None, 4.0), (1, 30, "b", None), (2, 0, None, None)])
    users = pa.table({"user_id": [7], "age": [41.0]})
    log = [Event(7, 1, 1), Event(8, 2, 2)]
    store = write_store(tmp_path, log, False, items, users, item_facts=ITEMS, user_facts=USERS)
    minutes = [10, 11, 20, 21, 31, 31, 31]
    frame = pa.table(
        {
            "user_id": [7, 8, 7, 7, 7, None, 99],
            "item_id": [1, 1, 1, 1, 1, 2, 99],
            "timestamp": pa.array([START + minute * MINUTE for minute in minutes]).cast(STAMP),
        }
    )
    found = features_for(store, frame, CONFIG, ENGINE)
    assert found["price"].to_pylist() == [None, 5.0, 5.0, 4.0, 4.0, None, None]  # what begins at a moment is known after it
    assert found["shelf"].to_pylist() == [None, "a", "a", "a", "b", None, None]
    assert found["age"].to_pylist() == [41.0, None, 41.0, 41.0, 41.0, None, None]


def test_what_begins_at_the_logical_time_or_later_is_not_known(tmp_path: Path) -> None:
    items = items_of([(1, 10, "a", 5.0), (1, 300, "b", 4.0)])
    store = write_store(tmp_path, [Event(7, 1, 1)], False, items, item_facts=ITEMS)
    frame = pa.table({"user_id": [7], "item_id": [1], "timestamp": [at(500)]})
    for minute, price in ((100, 5.0), (300, 5.0), (301, 4.0)):
        assert features_for(store, frame, CONFIG, ENGINE, as_of=at(minute))["price"].to_pylist() == [price]


def test_a_number_that_is_called_as_a_statistic_takes_its_place(tmp_path: Path) -> None:
    users = pa.table({"user_id": [7], "user_clicks": [1000.0], "hour": [77.0]})
    facts = EntityFacts(categorical=[], dense=["user_clicks", "hour"], dated=False)
    store = write_store(tmp_path / "store", [Event(7, n % 3, 10 * n) for n in range(60)], False, users=users, user_facts=facts)
    assemble(store, CONFIG, ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert set(rows["user_clicks"].to_pylist()) == {1000.0} and set(rows["hour"].to_pylist()) == {77.0}
    frame = pa.table({"user_id": [7], "item_id": [1], "timestamp": [at(500)]})
    assert features_for(store, frame, CONFIG, ENGINE)["user_clicks"].to_pylist() == [1000.0]


def test_scores_of_a_date_depend_on_what_their_rows_could_read(tmp_path: Path) -> None:
    digests = {}
    facts = EntityFacts(categorical=["shelf", "source", "line"], dense=["price"], dated=True)
    for name, rows in (("one", [(1, 10, "a", 5.0)]), ("later", [(1, 10, "a", 5.0), (1, 500, "b", 1.0)]), ("other", [(1, 10, "a", 6.0)])):
        items = items_of(rows)
        for column in ("source", "line"):
            items = items.append_column(column, pa.nulls(len(rows), pa.string()))
        store = write_store(tmp_path / name, [Event(7, 1, 1)], False, items, item_facts=facts)
        digests[name] = store.described_digest("items", at(100))
    assert digests["one"] == digests["later"] != digests["other"]


@pytest.mark.slow
@pytest.mark.parametrize("has_impressions", [False, True])
def test_rows_of_training_and_of_scoring_know_what_was_said_before_them(has_impressions: bool) -> None:
    minute = st.integers(-2, 24).map(lambda n: 20 * n)
    row = st.tuples(st.integers(0, 4), minute, st.sampled_from([None, "a", "b"]), st.sampled_from([None, 1.0, 2.5]))
    event = random_event(has_impressions, users=3, items=4, times=25)

    @FEW
    @given(log=st.lists(event, min_size=50, max_size=90), rows=st.lists(row, max_size=25), chunk=st.sampled_from([1000, 200_000]))
    def check(log: list[Event], rows: list[Row], chunk: int) -> None:
        items, users = items_of(rows), pa.table({"user_id": pa.array([0, 2]), "age": pa.array([30.0, None])})
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            store = write_store(Path(folder) / "store", log, has_impressions, items, users, item_facts=ITEMS, user_facts=USERS)
            try:
                summary = assemble(store, CONFIG, ENGINE.model_copy(update={"chunk": chunk}), None, out)
            except DataError as error:
                assert "split" in str(error) or "holds no click" in str(error)  # all events of so small a log may be of one moment
                reject()
            assembled = pq.read_table(out / "rows.parquet")
            codes = {kind: pq.read_table(out / f"{kind}s.parquet")[f"{kind}_id"].to_numpy() for kind in ("item", "user")}
            vocabulary = json.loads((out / "vocabulary.json").read_text())
            frame = pa.table(
                {
                    "user_id": codes["user"][assembled["user"].to_numpy()],
                    "item_id": codes["item"][assembled["item"].to_numpy()],
                    "timestamp": assembled["timestamp"].cast(STAMP),
                }
            )
            scored = features_for(store, frame, CONFIG, ENGINE)
        times = assembled["timestamp"].to_pylist()
        for column in ("price", "shelf"):
            expected = [said(items, item, time, column) for item, time in zip(frame["item_id"].to_pylist(), times, strict=True)]
            assert assembled[column].to_pylist() == scored[column].to_pylist() == expected
        ages = [30.0 if user == 0 else None for user in frame["user_id"].to_pylist()]
        assert assembled["age"].to_pylist() == scored["age"].to_pylist() == ages
        assert {"price", "age"} <= set(summary.statistics) and summary.categorical_facts == ["shelf"]
        assert summary.context.categorical == ["device", "shelf"] and set(vocabulary["shelf"]) <= {"a", "b"}
        assert "shelf" not in summary.item_attributes

    check()


@pytest.mark.slow
def test_a_price_of_tomorrow_moves_no_row_of_today_and_no_vocabulary(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = [Event(int(user), int(item), 10 * n) for n, (user, item) in enumerate(rng.integers(0, 4, (80, 2)))]
    before: list[Row] = [(item, 0, "a", 1.0) for item in range(4)]
    later: list[Row] = [(item, 500, "later", 9.0) for item in range(4)]
    made = {}
    for name, rows in (("without", before), ("with", [*before, *later])):
        store = write_store(tmp_path / name / "store", log, False, items_of(rows), item_facts=ITEMS)
        assemble(store, CONFIG, ENGINE, None, tmp_path / name / "out")
        made[name] = pq.read_table(tmp_path / name / "out" / "rows.parquet")
        assert json.loads((tmp_path / name / "out" / "vocabulary.json").read_text())["shelf"] == ["a"]  # training ends before
        assert ClickSummary.read(tmp_path / name / "out").split.train_until.timestamp() * 1e6 < START + 500 * MINUTE
    store = Store(tmp_path / "with" / "store")
    assemble(store, CONFIG, ENGINE.model_copy(update={"chunk": 7}), None, tmp_path / "chunks")  # files do not depend on the chunks
    assert (tmp_path / "chunks" / "rows.parquet").read_bytes() == (tmp_path / "with" / "out" / "rows.parquet").read_bytes()
    early = [table.filter(pa.compute.less_equal(table["timestamp"], START + 500 * MINUTE)) for table in made.values()]
    assert early[0].num_rows and early[0].equals(early[1])
    assert pa.compute.sum(pa.compute.equal(made["with"]["price"], 9.0)).as_py()


@pytest.mark.slow
def test_a_table_that_begins_after_the_log_is_said(tmp_path: Path) -> None:
    log = [Event(n % 3, n % 4, 10 * n) for n in range(60)]
    store = write_store(tmp_path / "store", log, False, items_of([(1, 590, "a", 1.0)]), item_facts=ITEMS)
    lines: list[str] = []
    assemble(store, CONFIG, ENGINE, None, tmp_path / "out", report=lines.append)
    assert any("60 of 60 rows of the log are before the first row of the table of items" in line for line in lines)
