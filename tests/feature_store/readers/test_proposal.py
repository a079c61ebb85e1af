"""What is guessed of a folder: roles by name and by content, tables by the ids that they describe, windows by the clicks they hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import SourceConfig, SplitConfig
from feature_store.readers.proposal import known_layout, propose
from feature_store.readers.proposed_split import propose_split
from feature_store.tables.contracts import DataError, DataFolderError, RawBatch

START = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp())


def events(rows: int, days: float = 20, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer_id": rng.integers(0, 300, rows),
            "sku": [f"p{n}" for n in rng.integers(0, 50, rows)],
            "event_time": pd.to_datetime(START + np.sort(rng.integers(0, int(days * 86_400), rows)), unit="s"),
            "clicked": (rng.random(rows) < 0.3).astype(int),
            "impression_id": np.arange(rows) // 3,
            "device": rng.choice(["phone", "desk"], rows),
            "hour_of_day": rng.integers(0, 24, rows),
            "position": rng.random(rows),
            "dwell_seconds": rng.random(rows),
            "tags": [["a", "b"]] * rows,
            "country": "de",
            "cookie": [f"c{n}" for n in range(rows)],
        }
    )


def names(columns: Sequence[Any]) -> list[str]:
    return [column.name for column in columns]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "log").mkdir(parents=True)
    log = events(6000)
    for n in range(3):
        log.iloc[2000 * n : 2000 * (n + 1)].to_parquet(folder / "log" / f"part-{n}.parquet")
    of_items = [(f"p{n}", since, f"Thing number {n}", "low" if n % 2 else "high", 1.5 * n + day) for n in range(60) for day, since in DAYS]
    pd.DataFrame(of_items, columns=["product", "valid_from", "title", "shelf", "price"]).to_csv(folder / "prices.csv", index=False)
    people = pd.DataFrame({"id": range(300), "group": ["a", "b", "c"] * 100, "years": np.arange(300) / 7})
    people.to_csv(folder / "people.tsv", index=False, sep="\t")
    (folder / "readme.txt").write_text("no data")
    return folder


DAYS = [(0, "2024-04-01"), (1, "2024-05-05")]


def test_a_folder_is_taken_apart(shop: Path) -> None:
    found = propose(shop)
    roles = {role: column.name for role, column in found.roles.items()}
    assert roles == {"user": "customer_id", "item": "sku", "time": "event_time", "clicked": "clicked", "request": "impression_id"}
    assert found.events.pattern == "log/*.parquet" and len(found.events.files) == 3
    assert names(found.categorical) == ["device", "hour_of_day"] and names(found.dense) == ["position"]
    left = {column.name: column.why for column in found.left}
    assert left["dwell_seconds"].startswith("looks like something that is known after the click")
    assert "several values" in left["tags"] and "one value" in left["country"] and "too many" in left["cookie"]
    assert found.items is not None and found.items.key.name == "product" and found.items.table.pattern == "prices.csv"
    assert found.items.time is not None and found.items.time.name == "valid_from"
    assert found.items.text == "title" and names(found.items.categorical) == ["shelf"] and names(found.items.dense) == ["price"]
    assert found.users is not None and found.users.key.name == "id" and found.users.time is None
    assert names(found.users.categorical) == ["group"] and names(found.users.dense) == ["years"]
    assert found.split == {"train": "14d", "validation": "3d", "test": "3d"}
    SplitConfig.model_validate(found.split)
    source = {
        "reader": "tabular",
        "events": {"path": found.events.pattern, **roles},
        "context": {"categorical": names(found.categorical), "dense": names(found.dense)},
    }
    SourceConfig.model_validate(source)


def test_a_column_that_is_filled_where_a_row_was_clicked_is_left_out(tmp_path: Path) -> None:
    log = events(500)
    log["answer"] = np.where(log["clicked"] == 1, np.arange(500) % 7, np.nan)
    log.to_csv(tmp_path / "log.csv", index=False)
    left = {column.name: column.why for column in propose(tmp_path).left}
    assert "it knows the answer" in left["answer"]


def test_clicks_and_times_are_told_by_what_they_hold(tmp_path: Path) -> None:
    log = events(500)[["customer_id", "sku"]].assign(was_it=[0, 1] * 250, moment=pd.date_range("2024-01-01", periods=500, freq="h"))
    log.to_parquet(tmp_path / "log.parquet")
    roles = propose(tmp_path).roles
    assert (roles["clicked"].name, roles["time"].name) == ("was_it", "moment")
    assert roles["clicked"].why == "the only column of zeros and ones"


def test_small_numbers_are_ids_of_anything_so_names_decide(tmp_path: Path) -> None:
    log = events(300).assign(user_id=lambda frame: frame["customer_id"] % 20, product_id=np.arange(300) % 20)
    log[["user_id", "product_id", "event_time", "clicked"]].to_csv(tmp_path / "log.csv")  # with the number of the row, which has no name
    pd.DataFrame({"user_id": range(20), "plan": ["a", "b"] * 10}).to_csv(tmp_path / "accounts.csv", index=False)
    pd.DataFrame({"product_id": range(20), "category": ["x", "y"] * 10}).to_csv(tmp_path / "products.csv", index=False)
    found = propose(tmp_path)
    assert found.items is not None and found.users is not None
    assert (found.items.table.pattern, found.users.table.pattern) == ("products.csv", "accounts.csv")
    assert found.dense == [] and "a column without a name" in names(found.left)


def test_a_row_holds_from_its_beginning_and_its_end_is_no_input(tmp_path: Path) -> None:
    events(300).to_parquet(tmp_path / "log.parquet")
    prices = [(f"p{n}", f"2024-0{m + 1}-01", f"2024-0{m}-01", n + m) for n in range(50) for m in (3, 4)]
    pd.DataFrame(prices, columns=["sku", "valid_to", "valid_from", "price"]).to_csv(tmp_path / "prices.csv", index=False)
    items = propose(tmp_path).items
    assert items is not None and items.time is not None and items.time.name == "valid_from"
    assert "valid_to" in names(items.left) and names(items.categorical) in (["price"], [])


def test_files_of_one_table_may_have_other_types(tmp_path: Path) -> None:
    log = events(400)
    log.iloc[:200].to_parquet(tmp_path / "a.parquet")
    log.iloc[200:].assign(customer_id=lambda frame: "u" + frame["customer_id"].astype(str)).to_parquet(tmp_path / "b.parquet")
    assert propose(tmp_path).roles["user"].name == "customer_id"


def test_folders_are_columns(tmp_path: Path) -> None:
    log = events(400).drop(columns="event_time")
    for day in range(1, 5):
        (tmp_path / f"dt=2024-05-0{day}").mkdir()
        log.iloc[100 * day - 100 : 100 * day].to_parquet(tmp_path / f"dt=2024-05-0{day}" / "x.parquet")
    found = propose(tmp_path)
    assert found.roles["time"].name == "dt" and found.events.pattern == "**/*.parquet" and "dt" not in names(found.categorical)


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="holds no file that ends in"):
        propose(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"no table of events.*a\.csv has no user and no item and no time"):
        propose(tmp_path)
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(DataError, match=r"b\.csv: is empty"):
        propose(tmp_path)


def batch(times: np.ndarray) -> RawBatch:
    return RawBatch("events", "x", pa.table({"timestamp": times}), np.arange(len(times)), [])


def test_windows_hold_enough_clicks_and_stray_events_move_none() -> None:
    even = START + np.arange(0, 40 * 86_400, 60)  # a click a minute, for forty days
    assert propose_split([batch(even)])[0] == {"train": "30d", "validation": "1d", "test": "1d"}
    late = np.append(even, START + 400 * 86_400)
    split, why = propose_split([batch(late[:30_000]), batch(late[30_000:])])
    assert split["train_from"] == "30d" and split["test_until"] == "2024-06-09T23:00" and "all but a few" in why
    SplitConfig.model_validate({**split, "train_from": "30d"})
    assert propose_split([batch(even[:1])])[0] == {"fractions": "[0.8, 0.1, 0.1]"}
    assert propose_split([])[0] == {"fractions": "[0.8, 0.1, 0.1]"}


@pytest.mark.parametrize(
    ("file", "reader"), [("behaviors.tsv", "mind"), ("u.data", "movielens"), ("clicks/clicks_hour_001.csv.gz", "globo"), ("log.csv", None)]
)
def test_known_layouts(tmp_path: Path, file: str, reader: str | None) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert known_layout(tmp_path) == reader


def test_a_label_that_is_none_does_not_make_a_log_of_clicks(tmp_path: Path) -> None:
    log = events(300).rename(columns={"clicked": "Is Click?"})
    log["Is Click?"] = np.where(log["Is Click?"] == 1, "yes", "no")
    log.to_csv(tmp_path / "log.csv", index=False)
    found = propose(tmp_path)
    assert found.no_clicks == ["Is Click?"] and "clicked" not in found.roles and "request" not in found.roles
    assert "Is Click?" not in names(found.categorical)


def test_files_of_events_with_other_columns_are_no_table_of_users(tmp_path: Path) -> None:
    events(4000).drop(columns="tags").to_csv(tmp_path / "log_1.csv", index=False)
    events(200, seed=1).drop(columns="tags").rename(columns={"device": "device_type"}).to_csv(tmp_path / "log_2.csv", index=False)
    found = propose(tmp_path)
    assert found.users is None and found.items is None and found.events.pattern == "log_1.csv"
    assert "log_2.csv" in found.unknown[0].name and "lacks device; has device_type more" in found.unknown[0].why


def test_a_column_that_tells_the_click_is_left_out(tmp_path: Path) -> None:
    log = events(600)
    log["state"], log["watch"] = np.where(log["clicked"] == 1, "landed", "bounced"), log["clicked"] * np.random.default_rng(0).random(600)
    log.to_csv(tmp_path / "log.csv", index=False)
    found = propose(tmp_path)
    left = {column.name: column.why for column in found.left}
    assert "all by itself" in left["state"] and "all by itself" in left["watch"]


def test_a_catalogue_is_preferred_to_a_history_of_prices(tmp_path: Path) -> None:
    events(600).to_parquet(tmp_path / "log.parquet")
    pd.DataFrame({"sku": [f"p{n}" for n in range(50)], "brand": ["a", "b"] * 25}).to_csv(tmp_path / "z_products.csv", index=False)
    prices = [(f"p{n}", f"2024-0{m}-01", n + m / 10) for n in range(50) for m in (3, 4)]
    pd.DataFrame(prices, columns=["sku", "valid_from", "price"]).to_csv(tmp_path / "prices.csv", index=False)
    found = propose(tmp_path)
    assert found.items is not None and found.items.table.pattern == "z_products.csv" and names(found.items.categorical) == ["brand"]
    assert "only one table of each kind is read" in found.unknown[0].why


def test_rows_of_the_future_move_no_window() -> None:
    even = START + np.arange(0, 40 * 86_400, 60)
    ahead = int(datetime.now(UTC).timestamp()) + 10 * 365 * 86_400
    assert propose_split([batch(np.append(even, ahead))])[0] == {"train": "30d", "validation": "1d", "test": "1d"}


def test_lists_of_fractions_that_are_all_as_long_are_vectors(tmp_path: Path) -> None:
    events(2000).to_parquet(tmp_path / "log.parquet")
    rng = np.random.default_rng(0)
    items = {"sku": [f"p{n}" for n in range(50)], "title": rng.random((50, 3)).tolist(), "ragged": [[0.5] * (1 + n % 3) for n in range(50)]}
    codes = pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 9, 100)), 2)
    pq.write_table(pa.table({**items, "codes": codes, "tags": [["a", "b"]] * 50}), tmp_path / "items.parquet")
    found = propose(tmp_path)
    assert found.items is not None
    assert names(found.items.vector) == ["title", "codes"] and names(found.items.multi) == ["tags"]
    assert found.items.vector[0].why == "a vector of 3 numbers each row"
    assert "ragged" in names(found.items.left)
