"""Spark against DuckDB: the same files, byte for byte, from the same store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig, SourceConfig, SparkConfig
from feature_store.engines import open_engine
from feature_store.engines.spark_session import EngineFailed
from feature_store.features.historical_features import features_for
from feature_store.features.negative_sampling import CandidateConfig
from feature_store.features.training_set import assemble
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import EntityFacts, StorageError
from tests.feature_store.logs import START, Event, at, write_store
from tests.odd_names import ODD_COLUMNS, odd_folder
from tests.sparks import local_spark

FILES = ("rows.parquet", "clicks.parquet", "items.parquet", "users.parquet", "vocabulary.json", "summary.json")
EMBEDDED = FeatureStoreConfig(threads=1, memory="500MB")


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStoreConfig]:
    with local_spark(tmp_path_factory.mktemp("spark")) as settings:
        yield FeatureStoreConfig(engine="spark", spark=settings)


def log_of(has_impressions: bool) -> list[Event]:
    """Late clicks, ties, duplicates, unknown times, context that is missing here and there."""
    rng = np.random.default_rng(5)
    log = [
        Event(
            user=int(rng.integers(0, 12)),
            item=int(rng.zipf(1.4) % 15),
            minute=int(rng.integers(0, 90)) * 10,
            clicked=int(rng.random() < 0.4) if has_impressions else 1,
            delay=int(rng.integers(1, 30)) * 10 if rng.random() < 0.2 else 0,
            request=int(rng.integers(0, 3)) if has_impressions and rng.random() < 0.8 else None,
            device=[None, "phone", "it's a \\desk"][rng.integers(0, 3)],
        )
        for _ in range(220)
    ]
    log += [
        replace(e, clicked=1, delay=10 * (n % 3), device=None) for n, e in enumerate(log[:40]) if not e.clicked
    ]  # clicked in a second row
    return [*log, *log[:20], *(Event(user, user % 3, -5, time_known=False) for user in range(4))]


def declared(*of: dict[str, Any]) -> dict[str, Any]:
    """The block ``statistics`` with these declarations."""
    return {"windows": ["1h", "3h"], "of": of}


BY_DEVICE = {"by": ["item", "device"], "count": "clicks", "windows": ["1h", "6h"], "share_of": ["item"], "trend": True, "age_of_last": True}


def settings(**changes: Any) -> AssemblyConfig:
    base: dict[str, Any] = {
        "split": {"fractions": [0.6, 0.2, 0.2]},
        "history": {"max_length": 4},
        "statistics": {"windows": ["1h", "3h"], "co_clicks": {"window": "2h", "history": 3}},
        "vocabulary": {"min_count": 1},
    }
    return AssemblyConfig.model_validate({**base, **changes})


def check_same_files(store: Store, config: AssemblyConfig, spark: FeatureStoreConfig, folder: Path, **how: Any) -> None:
    for name, engine in (("embedded", EMBEDDED), ("spark", spark)):
        assemble(store, config, engine, how.get("as_of"), folder / name)
    for file in FILES:
        assert (folder / "embedded" / file).read_bytes() == (folder / "spark" / file).read_bytes(), file
    assert sorted(path.name for path in (folder / "spark").iterdir()) == sorted(FILES)  # the scratch folder is gone


def test_a_log_of_impressions_with_attributes(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    items = pa.table({"item_id": ["1", "2", "never shown"], "category": ["a", None, "b"]})
    users = pa.table({"user_id": ["0", "1", "é"], "town": ["x", "y", None]})
    store = write_store(tmp_path / "store", log_of(True), True, items=items, users=users, ids=str, dense=["position"])
    of_attributes = {"by": ["town", "category"], "count": ["clicks", "impressions"], "rate": True, "windows": "2h", "age_of_first": True}
    statistics = declared(BY_DEVICE, of_attributes, {"by": ["user", "position"], "count": "impressions"})
    config = settings(history={"max_length": 4, "min_length": 1}, statistics=statistics)
    check_same_files(store, config, spark, tmp_path, as_of=at(800))


def test_tables_of_items_and_users_as_of_a_request(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    times = pa.array([at(minute) for minute in (0, 300, 500, 100)], pa.timestamp("us", "UTC"))
    items = pa.table({"item_id": [1, 1, 1, 2], "timestamp": times, "shelf": ["a", None, "b's", "a"], "price": [1.5, 2.0, None, None]})
    users = pa.table({"user_id": [0, 1], "town": ["x", None], "age": [30.0, None]})
    facts = {
        "item_facts": EntityFacts(categorical=["shelf"], dense=["price"], dated=True),
        "user_facts": EntityFacts(categorical=[], dense=["age"], dated=False),
    }
    store = write_store(tmp_path / "store", log_of(True), True, items=items, users=users, **facts)
    check_same_files(store, settings(), spark, tmp_path)
    frame = pa.table({"user_id": [0, 1, None], "item_id": [1, 2, 1], "timestamp": [at(301), at(70), at(600)]})
    found = features_for(store, frame, settings(), spark)
    assert found.equals(features_for(store, frame, settings(), EMBEDDED)) and found["price"].to_pylist() == [2.0, None, 2.0]
    (tmp_path / "other").mkdir()
    empty = write_store(tmp_path / "other", log_of(True), True, **facts)  # no file of items or users came yet
    assert (
        features_for(empty, frame, settings(), spark)["shelf"].null_count
        == features_for(empty, frame, settings(), EMBEDDED)["price"].null_count
    )


def test_a_log_of_several_types_with_weights(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    rows = [
        (
            int(rng.integers(0, 12)),
            int(rng.integers(0, 9)),
            START // 10**6 + 600 * int(rng.integers(0, 90)),
            kind,
            round(float(rng.random()), 3),
        )
        for kind in rng.choice(["click", "view", "cart", "purchase"], 300)
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "kind", "weight"]).drop_duplicates(["user", "item", "time", "kind"])
    frame.to_csv(tmp_path / "log.csv", index=False)
    kinds = {"column": "kind", "label": "click", "shown": "view", "history": ["click", "purchase"], "counted": ["cart"]}
    events = {"path": "log.csv", "user": "user", "item": "item", "time": "time", "weight": "weight", "type": kinds}
    store = Store(tmp_path / "store")
    ingest(SourceConfig.model_validate({"reader": "tabular", "events": events}), tmp_path, store, tmp_path / "failed")
    of = {"by": "item", "count": ["clicks", "purchase", "cart"], "windows": ["1h", "6h"]}
    check_same_files(store, settings(statistics=declared(of)), spark, tmp_path)


def test_no_name_of_a_folder_or_a_column_means_anything(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    folder, names = odd_folder(tmp_path), (*ODD_COLUMNS, "a\\b", "end\\", "`")
    items = pa.table({"item_id": ["1", "2"], **{name: ["a", None] for name in names[::2]}})
    store = write_store(folder / "store", log_of(True), True, items=items, ids=str, dense=names[1::2])
    check_same_files(store, settings(statistics=declared({"by": names, "count": "clicks"})), spark, folder)
    assert Store(folder / "store").dates() == ["2024-01-01"]


def test_a_log_of_clicks_in_chunks_with_candidates_by_popularity(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", log_of(False), False)
    # chunks this small are not allowed in a configuration
    check_same_files(store, settings(statistics=declared(BY_DEVICE)), spark.model_copy(update={"chunk": 150}), tmp_path)


def test_candidates_drawn_uniformly(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", log_of(False), False)
    check_same_files(store, settings(candidates=CandidateConfig(by="uniform", per_click=2, window="2h").model_dump()), spark, tmp_path)


def test_features_of_a_frame(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", log_of(True), True, dense=["minutes"])
    frame = {"user_id": [1, 5, None, 99], "item_id": [1, 2, 1, 99], "timestamp": [at(500), at(70), at(300), at(900)]}
    frame |= {"device": ["phone", None, "never seen", "phone"], "minutes": [60.0, 10.0, None, 0.5]}
    config = settings(statistics=declared(BY_DEVICE, {"by": "minutes", "rate": True}))
    assert features_for(store, pa.table(frame), config, spark).equals(features_for(store, pa.table(frame), config, EMBEDDED))


def test_a_result_is_streamed_in_order(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    with open_engine(spark, tmp_path / "scratch") as engine:
        engine.upload("numbers", pa.table({"n": np.arange(250_000)[::-1]}))
        batches = [batch["n"].to_numpy() for batch in engine.stream("select n from numbers order by n")]
        assert [len(batch) for batch in batches] == [122_880, 122_880, 4_240]
        assert np.array_equal(np.concatenate(batches), np.arange(250_000))
        assert list(engine.stream("select n from numbers where n < 0 order by n")) == []
        assert engine.fetch("select n from numbers where n < 0").num_rows == 0


def test_tables_are_replaced_appended_to_and_dropped(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    with open_engine(spark, tmp_path / "scratch") as engine:
        engine.table("t", "select 1 as n")
        engine.view("doubled", "select 2 * n as n from t")
        engine.append("t", "select n + 1 as n from t")
        engine.renew("t", "select n * 10 as n from t")
        assert engine.rows("select n from t order by n") == [(10,), (20,)]
        assert engine.rows("select n from doubled order by n") == [(20,), (40,)]  # a view reads what the table holds now
        assert len(list((tmp_path / "scratch").iterdir())) == 1  # what was replaced takes no space
        engine.drop("t", "never made")
        assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "scratch").exists()


def test_a_full_disk_is_said_in_one_line(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    with open_engine(spark, tmp_path / "scratch") as engine, pytest.raises(StorageError, match="scratch: the disk is full; free space"):
        engine.rows("select raise_error('java.io.IOException: No space left on device')")


def test_a_query_that_fails_is_one_line(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    with open_engine(spark, tmp_path / "scratch") as engine, pytest.raises(EngineFailed) as error:
        engine.rows("select n from no_such_table")
    assert "no_such_table" in str(error.value) and "\n" not in str(error.value)


def test_a_context_is_coded_by_its_values_and_nothing_else_is(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [Event(0, 1, 0, device="b"), Event(0, 2, 1, device="a"), Event(0, 3, 2)], False)
    with open_engine(spark, tmp_path / "scratch") as engine:
        engine.load_events(store.event_files(), ["device"], [], (), None)
        found = engine.fetch("select timestamp, context_0, 'text' as other from events", by=["timestamp"])
    assert found["context_0"].chunk(0).dictionary.to_pylist() == ["a", "b"] and found["context_0"].to_pylist() == ["b", "a", None]
    assert found["other"].type == pa.string()


def test_settings_of_the_session_reach_it(spark: FeatureStoreConfig, tmp_path: Path) -> None:
    options = {**spark.spark.options, "spark.sql.shuffle.partitions": 3}
    config = FeatureStoreConfig(engine="spark", spark=SparkConfig(master="local[2]", options=options))
    with open_engine(config, tmp_path / "scratch") as engine:
        assert engine.rows("set spark.sql.shuffle.partitions") == [("spark.sql.shuffle.partitions", "3")]
