"""Candidates beside the others of their request: literal ones, and random logs against a loop over the rows of each request."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.config_statistics import Statistic, StatisticsConfig
from feature_store.features.event_log import offered
from feature_store.features.historical_features import FeatureLookup, features_for
from feature_store.features.listwise_context import listwise_columns, listwise_statistics, request_codes
from feature_store.features.statistics import UndeclarableStatistic, displaced, statistic_meanings, statistic_names, statistics_of
from feature_store.features.training_set import assemble
from feature_store.tables.contracts import DataError, log_contract
from tests.feature_store.logs import FEW, MINUTE, START, Event, at, random_event, short_or_long, write_store

ALL = ("size", "share", "rank")
ENGINE = FeatureStoreConfig(threads=1, memory="500MB").model_copy(update={"chunk": 20})
CATEGORIES = pa.table({"item_id": [0, 1, 2, 3], "category": ["a", "b", "a", None]})
CLICKS = Statistic("item_clicks", "clicks", "count", ("item",))


def config(**statistics: Any) -> AssemblyConfig:
    of = [{"by": ["category"], "count": ["clicks"]}, {"by": ["device"], "count": ["clicks"]}]
    settings = {
        "split": {"fractions": [0.5, 0.25, 0.25]},
        "statistics": {"windows": ["1h"], "of": of, "listwise_context": ALL, **statistics},
        "vocabulary": {"min_count": 1},
    }
    return AssemblyConfig.model_validate(settings)


def compared(values: list[float | None], request: list[int]) -> dict[str, list[float | None]]:
    statistics = [CLICKS, *listwise_statistics(ALL, [CLICKS], {"item"})]
    found = listwise_columns(statistics, {"item_clicks": pa.array(values, pa.float32())}, np.array(request, np.int64))
    return {name: column.to_pylist() for name, column in found.items()}


def test_literal_requests() -> None:
    found = compared([3, 5, 1, None, 1], [7, 9, 7, 7, 7])
    assert found["request_size"] == [4, 1, 4, 4, 4]
    assert found["item_clicks_of_request"] == [pytest.approx(0.6), 1, pytest.approx(0.2), None, pytest.approx(0.2)]
    assert found["item_clicks_rank"] == [1, None, pytest.approx(1 / 3), None, pytest.approx(1 / 3)]  # of equals none has less


def test_a_sum_of_zero_has_no_shares_and_no_rows_have_no_columns() -> None:
    found = compared([0, 0, None], [1, 1, 1])
    assert found["item_clicks_of_request"] == [None, None, None]
    assert found["item_clicks_rank"] == [0.5, 0.5, None]
    assert compared([], []) == {"request_size": [], "item_clicks_of_request": [], "item_clicks_rank": []}
    assert listwise_columns([CLICKS], {}, np.zeros(0, np.int64)) == {}


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 4)), max_size=30),
    seed=st.integers(0, 99),
)
def test_any_request_equals_a_loop_in_any_order(rows: list[tuple[int, int | None]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    found = compared([rows[i][1] for i in order], [rows[i][0] for i in order])
    for place, i in enumerate(order):
        request, value = rows[i]
        others = [v for j, (r, v) in enumerate(rows) if r == request and j != i]
        total = sum(v or 0 for v in [value, *others])
        assert found["request_size"][place] == len(others) + 1
        share = None if value is None or not total else pytest.approx(value / total)
        assert found["item_clicks_of_request"][place] == share
        less = None if value is None or not others else pytest.approx(sum(v is None or v < value for v in others) / len(others))
        assert found["item_clicks_rank"][place] == less


def test_times_are_compared_and_not_how_they_are_written() -> None:
    times = ["2024-01-01T09:00:00", "2024-01-01T09:00:00Z", "2024-01-01T09:00:00.0"]
    assert request_codes(pa.table({"request_id": ["1"] * 3, "timestamp": times})).tolist() == [0, 0, 0]


def test_rows_of_one_time_user_and_request_id_are_one_request() -> None:
    table = pa.table(
        {
            "request_id": ["1", "1", None, None, "1", "1", "2"],
            "timestamp": [5, 5, 5, 5, 6, 5, 5],
            "user_id": [8, 8, 8, 8, 8, 9, 8],
        }
    )
    codes = request_codes(table)
    assert codes[0] == codes[1] and len(set(codes.tolist())) == 6
    without_users = request_codes(table.drop_columns("user_id"))
    assert without_users[0] == without_users[1] == without_users[5] and len(set(without_users.tolist())) == 5
    assert len(request_codes(table.slice(0, 0))) == 0


def naive(rows: list[dict[str, Any]], request: list[Any], names: list[str]) -> list[dict[str, float | None]]:
    groups = defaultdict(list)
    for row, key in zip(rows, request, strict=True):
        groups[key].append(row)
    found = []
    for row, key in zip(rows, request, strict=True):
        together, values = groups[key], {"request_size": float(len(groups[key]))}
        for name in names:
            known = [one[name] for one in together]
            total, own = sum(v or 0 for v in known), row[name]
            less = sum(v is None or (own is not None and v < own) for v in known) - (own is None)
            values[f"{name}_of_request"] = None if own is None or not total else own / total
            values[f"{name}_rank"] = None if own is None or len(known) == 1 else less / (len(known) - 1)
        found.append(values)
    return found


@pytest.mark.slow
def test_an_assembly_and_a_join_equal_the_naive_ones() -> None:
    """Whatever the chunks of an assembly are, and in whatever order the rows come from elsewhere."""
    names = ["item_age", "item_clicks_1h", "item_ctr", "user_item_clicks", "transition_clicks", "category_clicks"]

    @FEW
    @given(log=short_or_long(random_event(True, users=2, items=4, times=12)), seed=st.integers(0, 99))
    def check(log: list[Event], seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store, out = write_store(Path(folder) / "store", log, True, CATEGORIES), Path(folder) / "out"
            try:
                assemble(store, config(), ENGINE, None, out)
            except DataError as error:
                assert "split" in str(error) or "holds no click" in str(error)
                if not (out / "rows.parquet").exists():
                    return
            rows = pq.read_table(out / "rows.parquet")
            if not rows.num_rows:
                return
            users, items = (pq.read_table(out / f"{kind}s.parquet")[f"{kind}_id"].to_pylist() for kind in ("user", "item"))
            table = rows.to_pylist()
            requests = [row["request"] for row in table]
            for row, found in zip(table, naive(table, requests, names), strict=True):
                for name, value in found.items():
                    assert row[name] == (None if value is None else pytest.approx(value, rel=1e-6)), (name, row)
            order = np.random.default_rng(seed).permutation(len(table))
            frame = {
                "user_id": [users[table[i]["user"]] for i in order],
                "item_id": [items[table[i]["item"]] for i in order],
                "timestamp": pa.array([table[i]["timestamp"] for i in order], pa.int64()).cast(pa.timestamp("us", "UTC")),
                "request_id": [table[i]["request"] for i in order],
                "device": [table[i]["device"] for i in order],
            }
            with FeatureLookup(store, config(), ENGINE) as lookup:
                joined = lookup.of(pa.table(frame)).to_pylist()
            for i, row in zip(order, joined, strict=True):
                assert {name: row[name] for name in found} == {name: table[i][name] for name in found}

    check()


def test_requests_are_those_of_the_log(tmp_path: Path) -> None:
    """One (time, user, request id) is a request; an impression that lies there twice, with its click and without, is one candidate."""
    shown = [Event(0, item, 20 * n, clicked=int(item == n % 3), request=n) for n in range(12) for item in range(3)]
    twice = [*shown, Event(0, 1, 200, clicked=0, request=10), Event(1, 1, 200, clicked=0, request=10), Event(0, 2, 200, clicked=0)]
    assemble(write_store(tmp_path / "store", twice, True), config(of=[]), ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    at_200 = rows[rows["timestamp"] == START + 200 * MINUTE]
    assert sorted(zip(at_200["user"], at_200["item"], at_200["request_size"], strict=True)) == [
        *((0, item, 3.0) for item in (0, 1)),
        *((0, 2, size) for size in (1.0, 3.0)),
        (1, 1, 1.0),
    ]


def test_no_label_of_a_request_is_seen_in_it(tmp_path: Path) -> None:
    """The clicks of the last request, turned round, change nothing in its own rows."""
    rng = np.random.default_rng(4)
    log = [Event(n % 3, item, 10 * n, clicked=int(rng.integers(0, 2)), request=n) for n in range(40) for item in range(4)]
    turned = [replace(e, clicked=1 - e.clicked) if e.request == 39 else e for e in log]
    last = []
    for name, events in (("log", log), ("turned", turned)):
        assemble(write_store(tmp_path / name, events, True), config(of=[]), ENGINE, None, tmp_path / f"rows_{name}")
        rows = pq.read_table(tmp_path / f"rows_{name}" / "rows.parquet").to_pandas()
        last.append(rows[rows["timestamp"] == START + 390 * MINUTE].drop(columns=["label"]).reset_index(drop=True))
    assert len(last[0]) == 4 and last[0].equals(last[1])


def test_what_is_compared() -> None:
    impressions = offered(log_contract(has_impressions=True, categorical=["device"], item_attributes=["category"]))
    names = statistic_names(config().statistics, impressions)
    assert "category_clicks_rank" in names and "device_clicks_rank" not in names and "user_clicks_of_request" not in names
    assert "hour_rank" not in names and names.index("request_size") > names.index("device_clicks")
    assert statistic_names(StatisticsConfig(listwise_context="share"), impressions)[-1] == "transition_clicks_of_request"  # type: ignore[arg-type]
    assert statistic_names(StatisticsConfig(), impressions) == statistic_names(StatisticsConfig(listwise_context=()), impressions)
    assert set(names) <= set(statistic_meanings(config().statistics))
    with_column = offered(log_contract(has_impressions=True, dense=["request_size", "item_age", "item_clicks_1h_rank"]))
    statistics = StatisticsConfig(listwise_context=ALL)
    named = statistic_names(statistics, with_column)
    assert {"request_size", "item_age_rank", "item_age_of_request", "item_clicks_1h_rank"}.isdisjoint(named)
    assert "item_clicks_1h_of_request" in named and displaced(statistics, with_column) == ["request_size", "item_clicks_1h_rank"]


def test_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UndeclarableStatistic, match=r"listwise_context: this log holds clicks only.*: remove it"):
        statistics_of(config(of=[]).statistics, offered(log_contract(has_impressions=False)))
    with pytest.raises(ValidationError, match="names one of size, share, rank twice"):
        StatisticsConfig(listwise_context=("size", "size"))
    log = [Event(0, item, 20 * n, clicked=item, request=n) for n in range(9) for item in range(2)]
    store = write_store(tmp_path / "store", log, True)
    frame = pa.table({"item_id": [1], "timestamp": [at(60) + timedelta(hours=1)]})
    with pytest.raises(DataError, match=r"column request_id is missing; statistics\.listwise_context compares"):
        features_for(store, frame, config(of=[]), ENGINE)
    with pytest.raises(DataError, match=r"column request_id must hold text or integer ids; row 1 of 1 that do not holds 1\.5"):
        features_for(store, frame.append_column("request_id", pa.array([1.5])), config(of=[]), ENGINE)


def test_a_log_without_requests_is_told_that_nothing_is_compared(tmp_path: Path) -> None:
    log = [Event(n % 3, n % 4, 10 * n, clicked=n % 2) for n in range(40)]
    said: list[str] = []
    assemble(write_store(tmp_path / "store", log, True), config(of=[]), ENGINE, None, tmp_path / "rows", report=said.append)
    assert "warning: statistics.listwise_context says nothing: no request has two candidates; does the log have a request_id?" in said


def test_a_log_whose_clicks_stand_apart_is_told_that_it_knows_them(tmp_path: Path) -> None:
    shown = [Event(0, item, 20 * n, clicked=0, request=n) for n in range(20) for item in range(3)]
    later = [Event(0, n % 3, 20 * n + 1, request=n) for n in range(20)]
    said: list[str] = []
    assemble(write_store(tmp_path / "store", shown + later, True), config(of=[]), ENGINE, None, tmp_path / "rows", report=said.append)
    assert any(line.startswith("warning: 100% of the 20 rows that are alone in their request are clicked") for line in said)
    beside = [replace(e, minute=e.minute - 1) for e in later]
    said.clear()
    assemble(
        write_store(tmp_path / "other", shown + beside, True), config(of=[]), ENGINE, None, tmp_path / "other_rows", report=said.append
    )
    assert not any("alone in their request" in line or "says nothing" in line for line in said)
