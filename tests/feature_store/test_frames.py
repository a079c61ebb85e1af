"""Features of frames: those of an assembly, nothing of the future, and one line for what is wrong."""

from __future__ import annotations

import gc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_store import DataError, open_store, store_of_events
from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features.training_set import assemble
from tests.feature_store.logs import Event, Naive, at, write_store

CONFIG = AssemblyConfig.model_validate({"split": {"fractions": [0.6, 0.2, 0.2]}, "history": {"max_length": 3}})
ENGINE = {"threads": 1}


def impressions(count: int = 120) -> list[Event]:
    """Each at a minute of its own, so that all of them are rows of an assembly."""
    rng = np.random.default_rng(0)
    return [
        Event(int(rng.integers(0, 5)), int(rng.integers(0, 6)), 7 * n, clicked=int(rng.random() < 0.5), device="ab"[n % 2])
        for n in range(count)
    ]


def frame_of(events: list[Event]) -> pd.DataFrame:
    columns = {"user_id": [e.user for e in events], "item_id": [e.item for e in events], "timestamp": [at(e.minute) for e in events]}
    return pd.DataFrame(columns | {"clicked": [e.clicked for e in events], "device": [e.device for e in events]})


def test_features_are_those_of_the_rows_to_learn_from(tmp_path: Path) -> None:
    events = impressions()
    store = write_store(tmp_path / "store", events, True)
    summary = assemble(store, CONFIG, FeatureStoreConfig(threads=1), None, tmp_path / "rows")
    rows = pq.read_table(tmp_path / "rows" / "rows.parquet").to_pandas()
    for name, column in (("user", "user_id"), ("item", "item_id")):
        ids = pq.read_table(tmp_path / "rows" / f"{name}s.parquet")[column].to_numpy()
        rows[column] = ids[rows[name]]
    rows["timestamp"] = pd.to_datetime(rows["timestamp"], unit="us", utc=True)
    clicks, items = (
        pq.read_table(tmp_path / "rows" / "clicks.parquet"),
        pq.read_table(tmp_path / "rows" / "items.parquet")["item_id"].to_numpy(),
    )
    histories = [[str(items[i]) for i in clicks["item"].to_numpy()[a:b]] for a, b in zip(rows.history_start, rows.history_end, strict=True)]

    asked = rows[["user_id", "item_id", "timestamp"]].sample(frac=1, random_state=0)  # any order, an index of its own
    found = open_store(tmp_path / "store", history=CONFIG.history, engine=ENGINE).features(asked)
    assert found.index.equals(asked.index) and list(found.columns[:3]) == list(asked.columns)
    for name in summary.statistics:
        np.testing.assert_array_equal(found[name].to_numpy(), rows.loc[asked.index, name].to_numpy(), name)
    assert [list(map(str, history)) for history in found.sort_index()["history"]] == histories
    assert max(map(len, histories)) == 3


def test_a_store_of_events_gives_what_a_store_on_disk_gives(tmp_path: Path) -> None:
    events = impressions()
    write_store(tmp_path / "store", events, True)
    asked = frame_of(events)[["user_id", "item_id", "timestamp"]]
    from_disk = open_store(tmp_path / "store", engine=ENGINE).features(asked)
    from_frame = store_of_events(frame_of(events), context={"categorical": ["device"]}, engine=ENGINE).features(asked)
    pd.testing.assert_frame_equal(from_frame.drop(columns=["history_timestamps"]), from_disk.drop(columns=["history_timestamps"]))
    naive = Naive(events, CONFIG, True)
    for event, clicks in zip(events, from_frame["user_clicks"], strict=True):
        assert clicks == len(naive.clicks(naive.visible(event.time), event.user))


def test_a_click_that_comes_later_changes_nothing() -> None:
    events = frame_of(impressions())
    moment = at(400)
    asked = pd.DataFrame({"user_id": range(5), "item_id": range(5), "timestamp": [moment] * 5})
    before = store_of_events(events, engine=ENGINE).features(asked)
    later = pd.DataFrame({"user_id": range(5), "item_id": range(5), "timestamp": [moment] * 5, "clicked": 1})  # at that very moment
    told_late = later.assign(timestamp=moment - timedelta(hours=1), ingested_at=moment)  # it had happened, and nobody knew
    for more in (later, told_late):
        known = events.assign(ingested_at=events["timestamp"]) if "ingested_at" in more else events
        pd.testing.assert_frame_equal(store_of_events(pd.concat([known, more]), engine=ENGINE).features(asked), before)
    happened = later.assign(timestamp=moment - timedelta(microseconds=1))
    after = store_of_events(pd.concat([events, happened]), engine=ENGINE).features(asked)
    assert (after["user_clicks"] == before["user_clicks"] + 1).all()


def test_attributes_and_context_make_statistics(tmp_path: Path) -> None:
    events = pd.DataFrame(
        {
            "user_id": ["a", "b", "b"],
            "item_id": ["x", "x", "y"],
            "timestamp": ["2024-01-01T10", "2024-01-01T11", "2024-01-01T12"],
            "device": ["m", "d", "m"],
        }
    )
    prices = pd.DataFrame({"item_id": ["x", "x"], "timestamp": ["2024-01-01", "2024-01-01T12"], "price": [1.5, 2.5]})
    statistics = {"of": [{"by": ["item", "device"], "count": ["clicks"], "windows": ["1d"]}]}
    rows = pd.DataFrame({"user_id": "a", "item_id": "x", "timestamp": ["2024-01-01T11:30", "2024-01-01T12:30"], "device": ["m", "d"]})
    found = store_of_events(events, prices, context={"categorical": ["device"]}, statistics=statistics, engine=ENGINE).features(rows)
    assert found["price"].tolist() == [1.5, 2.5]  # what held at the time of the row
    (crossed,) = [name for name in found if "device" in name and name != "device"]
    assert found[crossed].tolist() == [1, 1]


def test_the_store_of_events_goes_with_its_object() -> None:
    store = store_of_events(frame_of(impressions(5)), engine=ENGINE)
    root = store._store.root
    assert root.is_dir()
    del store
    gc.collect()
    assert not root.exists()


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path) -> None:
    events = frame_of(impressions(5))
    write_store(tmp_path / "work" / "store", impressions(5), True)
    store = open_store(tmp_path / "work" / "store", engine=ENGINE)
    rows = events[["user_id", "item_id", "timestamp"]]
    for wrong, error, said in (
        (lambda: open_store(tmp_path / "work"), DataError, "is a workspace; its store is"),
        (lambda: open_store(tmp_path / "none"), DataError, "nothing was ingested yet"),
        (lambda: open_store(tmp_path / "work" / "store", history={"max_lenght": 3}), ValueError, "history.max_lenght: extra inputs"),
        (lambda: store.features(rows.drop(columns="item_id")), DataError, "column item_id is missing"),
        (lambda: store.features(rows.assign(timestamp="soon")), DataError, "column timestamp: row 1 holds no time"),
        (lambda: store.features(rows.assign(user_id=[1, "a", (2,), 4, 5])), DataError, "column user_id holds values of several types"),
        (lambda: store_of_events(events.drop(columns="user_id")), DataError, "events: column user_id is missing"),
        (lambda: store_of_events(events.assign(clicked=2)), DataError, "clicked"),
        (lambda: store_of_events(events, pd.DataFrame({"item": [1]})), DataError, "items: column item_id is missing"),
        (lambda: store_of_events(events, context={"categorical": ["device"], "dence": []}), ValueError, "context.dence: extra inputs"),
    ):
        with pytest.raises(error) as raised:
            wrong()
        assert said in str(raised.value) and "\n" not in str(raised.value)
