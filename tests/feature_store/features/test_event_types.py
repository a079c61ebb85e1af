"""Events of several types: what is neither shown nor clicked makes no row, and stands in histories only where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig, SourceConfig
from feature_store.features.training_set import assemble
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json
from feature_store.tables.parquet_files import read_parquet

BEGIN = 1_704_067_200
Row = tuple[int, int, int, str, int | None]


def made(folder: Path, rows: list[Row], events: dict[str, Any], **keys: Any) -> Path:
    """The assembly of a log of (user, item, minute, type, request)."""
    folder.mkdir()
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "kind", "request"])
    frame["time"] = BEGIN + 60 * frame["time"]
    frame["clicked"] = (frame["kind"] == "click").astype(int)
    frame.to_csv(folder / "log.csv", index=False)
    columns = {"path": "log.csv", "user": "user", "item": "item", "time": "time", "request": "request"}
    source = SourceConfig.model_validate({"reader": "tabular", "events": columns | events})
    store = Store(folder / "store")
    ingest(source, folder, store, folder / "failed")
    config = AssemblyConfig.model_validate(
        {"split": {"fractions": [0.5, 0.25, 0.25]}, "vocabulary": {"min_count": 1}, "statistics": {"auto": False}} | keys
    )
    assemble(store, config, FeatureStoreConfig(), None, folder / "rows")
    return folder / "rows"


def shown_and_clicked(seed: int) -> list[Row]:
    """Impressions and clicks, some of them in two rows of one moment."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for request in range(60):
        user, items = int(rng.integers(0, 5)), rng.permutation(6)[:3]
        clicked = int(rng.integers(0, 3))
        rows += [(user, int(item), 20 * request, "view" if n != clicked else "click", request) for n, item in enumerate(items)]
        if rng.random() < 0.3:  # the click's own impression stands in the log too
            rows.append((user, int(items[clicked]), 20 * request, "view", request))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_types_that_are_only_counted_change_no_row(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(100 + seed)
    log = shown_and_clicked(seed)
    # carts lie everywhere: at the moment and request of impressions too
    carts = [(user, item, time, "cart", request) for user, item, time, _, request in log if rng.random() < 0.3]
    carts += [(int(rng.integers(0, 5)), int(rng.integers(0, 6)), int(rng.integers(0, 1200)), "cart", None) for _ in range(20)]
    carts = list(dict.fromkeys(carts))
    plain = made(tmp_path / "plain", log, {"clicked": "clicked"})
    typed = made(tmp_path / "typed", log + carts, {"type": {"column": "kind", "label": "click", "shown": "view", "counted": ["cart"]}})
    for file in ("rows.parquet", "clicks.parquet", "items.parquet", "users.parquet"):
        assert read_parquet(plain / file).equals(read_parquet(typed / file)), file
    assert (plain / "vocabulary.json").read_text() == (typed / "vocabulary.json").read_text()
    before, after = (load_json(folder / "summary.json") | {"as_of": None} for folder in (plain, typed))  # the newest event may be a cart
    assert before == after


def test_histories_hold_the_types_that_are_asked_for_and_counts_know_their_own(tmp_path: Path) -> None:
    rows: list[Row] = [
        *[(9, 0, minute, "click", minute) for minute in (0, 400)],  # so that every window has clicks
        *[(9, 1, minute, "view", minute) for minute in (0, 400)],
        (1, 2, 10, "purchase", None),
        (1, 3, 20, "cart", None),
        (1, 4, 30, "click", 30),
        (1, 5, 30, "view", 30),
        (1, 4, 31, "purchase", None),
        (1, 4, 40, "click", 40),
        (1, 5, 40, "view", 40),
        (1, 4, 41, "scroll", None),
        (1, 2, 500, "click", 500),
        (1, 4, 500, "view", 500),
    ]
    kinds = {"column": "kind", "label": "click", "shown": "view", "history": ["purchase", "click"], "counted": ["cart"]}
    of = [{"by": "item", "count": ["purchase", "cart", "clicks"]}]
    folder = made(tmp_path / "log", rows, {"type": kinds}, statistics={"auto": False, "of": of})
    pool = read_parquet(folder / "clicks.parquet").to_pandas()
    items = read_parquet(folder / "items.parquet")["item_id"].to_pylist()
    table = read_parquet(folder / "rows.parquet").to_pandas()
    last = table[table["request"] == table["request"].max()].set_index(table["item"].map(lambda code: items[code])[table["request"] == 4])
    start, end = int(last["history_start"].iloc[0]), int(last["history_end"].iloc[0])
    history = [(items[row.item], row.type_code) for row in pool.iloc[start:end].itertuples()]
    assert history == [(2, 2), (4, 1), (4, 2), (4, 1)]  # 1 is the label, the others follow in the order of the configuration
    assert last["label"].to_dict() == {2: 1, 4: 0}
    assert last["item_purchase"].to_dict() == {2: 1, 4: 1} and last["item_clicks"].to_dict() == {2: 0, 4: 2}
    assert (table["item_cart"] == 0).all()  # of item 3, which was never shown


def test_a_log_of_clicks_only_samples_what_was_not_clicked(tmp_path: Path) -> None:
    rows = [row for row in shown_and_clicked(0) if row[3] == "click"]
    carts = [(user, item, time + 1, "cart", None) for user, item, time, _, _ in rows]
    plain = made(tmp_path / "plain", rows, {}, candidates={"per_click": 2, "window": "10h"})
    typed = made(
        tmp_path / "typed",
        rows + carts,
        {"type": {"column": "kind", "label": "click", "counted": ["cart"]}},
        candidates={"per_click": 2, "window": "10h"},
    )
    assert read_parquet(plain / "rows.parquet").equals(read_parquet(typed / "rows.parquet"))


def test_rows_without_a_type_are_set_apart(tmp_path: Path) -> None:
    rows = [*shown_and_clicked(0), *((1, 1, minute, None, None) for minute in range(9))]
    with pytest.raises(DataError, match="event_type is null"):
        made(tmp_path / "log", rows, {"type": {"column": "kind", "label": "click", "shown": "view"}})


def test_rates_and_counts_of_clicks_are_those_of_the_label(tmp_path: Path) -> None:
    log = shown_and_clicked(1)
    carts = [(user, item, time + minute, "cart", None) for user, item, time, _, _ in log for minute in (1, 2, 3)]
    carts = list(dict.fromkeys(carts))
    kinds = {"column": "kind", "label": "click", "shown": "view"}
    counted = made(tmp_path / "counted", log + carts, {"type": kinds | {"counted": ["cart"]}})
    history = made(tmp_path / "history", log + carts, {"type": kinds | {"history": ["click", "cart"]}})
    one, other = (read_parquet(folder / "rows.parquet") for folder in (counted, history))
    for name in ("item_ctr", "item_clicks_1h", "item_clicks_1d", "user_item_clicks", "label"):
        assert one[name].equals(other[name]), name
    assert (other["user_clicks"].to_numpy() >= one["user_clicks"].to_numpy()).all()  # of the history


def test_candidates_of_a_log_of_clicks_only_are_drawn_from_the_label(tmp_path: Path) -> None:
    rows = [row for row in shown_and_clicked(0) if row[3] == "click"]
    carts = [(user, 9, time + 1, "cart", None) for user, _, time, _, _ in rows]
    kinds = {"column": "kind", "label": "click", "history": ["cart"]}  # the label is no part of the history
    folder = made(tmp_path / "log", rows + carts, {"type": kinds}, candidates={"per_click": 2, "window": "10h"})
    items = read_parquet(folder / "items.parquet")["item_id"].to_pylist()
    assert 9 not in {items[code] for code in read_parquet(folder / "rows.parquet")["item"].to_pylist()}
    assert {items[code] for code in read_parquet(folder / "clicks.parquet")["item"].to_pylist()} == {9}


def test_a_type_cannot_take_the_name_of_a_count() -> None:
    events = {"path": "*", "user": "u", "item": "i", "time": "t"}
    with pytest.raises(ValueError, match="a type beside the label cannot be called 'clicks'"):
        SourceConfig.model_validate(
            {"reader": "tabular", "events": events | {"type": {"column": "k", "label": "purchases", "counted": ["clicks"]}}}
        )


def test_what_is_not_learned_from_needs_no_weight(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    rows = [(1, item, BEGIN + item, kind, weight) for item, (kind, weight) in enumerate([("click", 2.0), ("view", 1.0), ("cart", None)])]
    pd.DataFrame(rows, columns=["u", "i", "t", "k", "w"]).to_csv(tmp_path / "log" / "log.csv", index=False)
    events = {"path": "log.csv", "user": "u", "item": "i", "time": "t", "weight": "w"}
    source = SourceConfig.model_validate(
        {"reader": "tabular", "events": events | {"type": {"column": "k", "label": "click", "shown": "view", "counted": ["cart"]}}}
    )
    store = Store(tmp_path / "store")
    ingest(source, tmp_path / "log", store, tmp_path / "failed")
    assert read_parquet(store.event_files()[0])["row_weight"].to_pylist() == [2.0, 1.0, 1.0]


def test_clicks_apart_from_their_impressions_are_said(tmp_path: Path) -> None:
    rows = shown_and_clicked(0)
    rows += [(user, item, time + 1, "click", request) for user, item, time, kind, request in rows[:30] if kind == "view"]
    (tmp_path / "log").mkdir()
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "kind", "request"])
    frame.assign(time=BEGIN + 60 * frame["time"]).to_csv(tmp_path / "log" / "log.csv", index=False)
    events = {"path": "log.csv", "user": "user", "item": "item", "time": "time", "request": "request"}
    source = SourceConfig.model_validate(
        {"reader": "tabular", "events": events | {"type": {"column": "kind", "label": "click", "shown": "view"}}}
    )
    store = Store(tmp_path / "store")
    ingest(source, tmp_path / "log", store, tmp_path / "failed")
    said: list[str] = []
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.5, 0.25, 0.25]}, "vocabulary": {"min_count": 1}})
    assemble(store, config, FeatureStoreConfig(), None, tmp_path / "rows", report=said.append)
    assert any(line.startswith("warning: ") and "clicks have another time than their impressions" in line for line in said), said
