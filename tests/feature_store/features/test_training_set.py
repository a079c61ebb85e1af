"""The assembly as a whole: its files, and that they depend on nothing but the log and the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features import row_writer as rows
from feature_store.features.event_log import offered
from feature_store.features.historical_features import features_for
from feature_store.features.statistics import statistic_names
from feature_store.features.summary import ClickSummary
from feature_store.features.training_set import assemble
from feature_store.store.store import Store
from feature_store.tables.column_names import RESERVED
from feature_store.tables.contracts import ContextNames, DataError
from tests.feature_store.logs import MINUTE, START, Event, write_store
from tests.odd_names import odd_folder

FILES = ("rows.parquet", "clicks.parquet", "items.parquet", "users.parquet", "vocabulary.json", "summary.json")
ENGINE = FeatureStoreConfig(threads=1, memory="500MB")


def settings(**changes: Any) -> AssemblyConfig:
    base: dict[str, Any] = {"split": {"fractions": [0.6, 0.2, 0.2]}, "history": {"max_length": 4}, "vocabulary": {"min_count": 1}}
    return AssemblyConfig.model_validate({**base, **changes})


def busy_log(has_impressions: bool, rows: int = 300) -> list[Event]:
    rng = np.random.default_rng(3)
    return [
        Event(
            user=int(rng.integers(0, 15)),
            item=int(rng.zipf(1.4) % 20),
            minute=int(rng.integers(0, 900)),
            clicked=int(rng.random() < 0.4) if has_impressions else 1,
            delay=int(rng.integers(1, 300)) if rng.random() < 0.15 else 0,
            request=int(rng.integers(0, 3)) if has_impressions and rng.random() < 0.8 else None,
            device=[None, "phone", "desktop"][rng.integers(0, 3)],
        )
        for _ in range(rows)
    ]


@pytest.mark.parametrize("has_impressions", [False, True])
def test_the_files_do_not_depend_on_chunks_or_threads(tmp_path: Path, has_impressions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROW_GROUP", 50)  # chunks of fewer and of more rows than that
    store = write_store(tmp_path / "store", busy_log(has_impressions), has_impressions)
    for name, chunk, threads in (("a", 500_000, 1), ("b", 31, 1), ("c", 100, 2)):
        # chunks this small are not allowed in a configuration
        assemble(store, settings(), ENGINE.model_copy(update={"chunk": chunk, "threads": threads}), None, tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() == (tmp_path / "c" / file).read_bytes(), file


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", busy_log(False), False)
    for name, threads in (("a", 1), ("b", 2)):
        assemble(store, settings(), ENGINE.model_copy(update={"threads": threads}), None, tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_the_files_do_not_depend_on_the_names_of_the_folders_above_them(tmp_path: Path, has_impressions: bool) -> None:
    items = pa.table({"item_id": range(20), "type": [f"t{n % 3}" for n in range(20)]})
    for root in (tmp_path / "plain", odd_folder(tmp_path / "odd")):
        store = write_store(root / "store", busy_log(has_impressions), has_impressions, items=items)
        assemble(store, settings(), ENGINE, None, root / "out")
    for file in FILES:
        assert (tmp_path / "plain" / "out" / file).read_bytes() == (root / "out" / file).read_bytes(), file
    frame = pa.table({"user_id": [1, 2], "item_id": [3, 4], "timestamp": ["2024-01-01T12:00"] * 2})
    plain = features_for(Store(tmp_path / "plain" / "store"), frame, settings(), ENGINE)
    assert features_for(store, frame, settings(), ENGINE).equals(plain)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_features_of_assembled_rows_are_those_of_the_assembly(tmp_path: Path, has_impressions: bool) -> None:
    store = write_store(tmp_path / "store", busy_log(has_impressions), has_impressions)
    assemble(store, settings(), ENGINE, None, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "rows.parquet")
    items, users = (pq.read_table(tmp_path / "out" / f"{kind}s.parquet")[f"{kind}_id"] for kind in ("item", "user"))
    frame = pa.table(
        {
            "user_id": users.take(table["user"]),
            "item_id": items.take(table["item"]),
            "timestamp": table["timestamp"].cast(pa.timestamp("us", "UTC")),
        }
    )
    shuffled = np.random.default_rng(0).permutation(table.num_rows)
    found = features_for(store, frame.take(shuffled), settings(), ENGINE.model_copy(update={"chunk": 100}))
    for name in statistic_names(settings().statistics, offered(store.log_contract)):
        assert found[name].combine_chunks().equals(table[name].take(shuffled).combine_chunks()), name
    clicks = pq.read_table(tmp_path / "out" / "clicks.parquet").to_pandas()
    ids = items.to_numpy()
    spans = zip(table["history_start"].take(shuffled).to_pylist(), table["history_end"].take(shuffled).to_pylist(), strict=True)
    assert found["history"].to_pylist() == [ids[clicks["item"].iloc[start:end]].tolist() for start, end in spans]


def test_columns_and_types_of_the_files(tmp_path: Path) -> None:
    items = pa.table({"item_id": ["1", "2", "never shown"], "category": ["a", None, "b"]})
    log = [Event(e.user, e.item, e.minute, e.clicked, device=e.device) for e in busy_log(True)]
    store = write_store(tmp_path / "store", log, True, items=items, ids=str, dense=["position"])
    summary = assemble(store, settings(), ENGINE, None, tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "rows.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        *(("row_id", "int64"), ("request", "int64"), ("user", "int32"), ("item", "int32"), ("timestamp", "int64"), ("label", "int8")),
        *(("split", "string"), ("history_start", "int64"), ("history_end", "int64")),
        *((name, "float") for name in statistic_names(settings().statistics, offered(store.log_contract))),
        *(("device", "string"), ("position", "float")),
    ]
    assert {*schema.names} - {*statistic_names(settings().statistics, offered(store.log_contract)), "device", "position"} <= RESERVED.keys()
    clicks = pq.read_schema(tmp_path / "out" / "clicks.parquet")
    assert [(field.name, str(field.type)) for field in clicks] == [
        *(
            ("item", "int32"),
            ("timestamp", "int64"),
            ("time_known", "bool"),
            ("known_at", "int64"),
            ("user", "int32"),
            ("canonical", "bool"),
        )
    ]
    table = pq.read_table(tmp_path / "out" / "items.parquet")
    assert table.column_names == ["code", "item_id", "category"]
    assert table["code"].to_pylist() == list(range(table.num_rows))
    assert table["item_id"].to_pylist() == sorted({str(e.item) for e in log} | {"never shown"})
    assert summary == ClickSummary.read(tmp_path / "out")
    assert summary.context == ContextNames(categorical=["device"], dense=["position"]) and summary.item_attributes == ["category"]
    assert summary.candidates.to_json() == {"sampled": False} and summary.has_impressions is True
    assert sum(summary.rows.values()) == len(log)
    assert sum(summary.requests.values()) == len(log)  # no request ids: each row is alone


def test_rows_of_one_request_share_its_number(tmp_path: Path) -> None:
    log = [Event(0, item, minute, clicked=int(item == 1), request=minute, device=f"p{item}") for minute in range(10) for item in (3, 1, 2)]
    log += [Event(1, item, 5, clicked=0, request=5) for item in (1, 2)]  # another user, the same request id and time
    assemble(write_store(tmp_path / "store", log, True), settings(), ENGINE, None, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    assert table.groupby("request").size().tolist() == [3] * 6 + [2] + [3] * 4
    assert table.device[:3].tolist() == ["p1", "p2", "p3"]  # each row has its own context, in the order of the items


@pytest.mark.parametrize("name", ["hour", "Hour"])
def test_a_context_column_wins_over_a_statistic_of_its_name(tmp_path: Path, name: str) -> None:
    store = write_store(tmp_path / "store", busy_log(True), True, dense=[name])
    summary = assemble(store, settings(), ENGINE, None, tmp_path / "out")
    assert "hour" not in summary.statistics
    table = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert [found for found in table.column_names if found.lower() == "hour"] == [name]
    assert max(table[name].to_pylist()) > 24  # the log's, which counts minutes
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": ["2024-01-01T12:00"]})
    assert "hour" not in features_for(store, frame, settings(), ENGINE).column_names  # it belongs to a request and cannot be joined


def test_a_context_column_with_a_name_of_the_rows_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", busy_log(True), True, dense=["label"])
    with pytest.raises(DataError, match=r"the name of column 'label' is taken \(a column of the training rows\)"):
        assemble(store, settings(), ENGINE, None, tmp_path / "out")


def test_what_was_shown_and_clicked_in_two_rows_of_one_moment_is_one_row(tmp_path: Path) -> None:
    """As a log has it that writes an impression at once and its click later; the click's row may lack the context."""
    once = busy_log(True)
    keys = {(e.user, e.item, e.minute, e.request) for e in once}
    once = [next(e for e in once if (e.user, e.item, e.minute, e.request) == key) for key in sorted(keys, key=str)]
    twice = [replace(e, clicked=0, delay=0) for e in once] + [replace(e, device=None) for e in once if e.clicked]
    lines: list[str] = []
    assemble(
        write_store(tmp_path / "once", [replace(e, delay=0 if not e.clicked else e.delay) for e in once], True),
        settings(),
        ENGINE,
        None,
        tmp_path / "a",
    )
    assemble(write_store(tmp_path / "twice", twice, True), settings(), ENGINE, None, tmp_path / "b", report=lines.append)
    assert f"{sum(e.clicked for e in once):,} impressions are in the log twice" in "\n".join(lines)
    found, expected = (pq.read_table(tmp_path / name / "rows.parquet").to_pandas() for name in ("b", "a"))
    kept = [name for name in expected.columns if name != "item_ctr"]  # of a late click the impression counts before the click does
    pd.testing.assert_frame_equal(found[kept], expected[kept])
    assert (tmp_path / "a" / "clicks.parquet").read_bytes() == (tmp_path / "b" / "clicks.parquet").read_bytes()


@pytest.mark.parametrize(("described", "warned"), [(range(100, 120), True), (range(2), False)])
def test_a_catalogue_that_describes_nothing_of_the_log_is_named(tmp_path: Path, described: range, warned: bool) -> None:
    table = pa.table({"item_id": pa.array(described, pa.int64()), "category": ["news"] * len(described)})
    lines: list[str] = []
    assemble(
        write_store(tmp_path / "store", busy_log(True), True, items=table), settings(), ENGINE, None, tmp_path / "out", report=lines.append
    )
    said = [line for line in lines if line.startswith("warning: ")]
    assert bool(said) == warned
    assert not warned or "ids of the log look like '0', those of the file like '100'" in said[0]


def test_duplicate_events_are_kept_as_they_are(tmp_path: Path) -> None:
    log = [*busy_log(False), *busy_log(False)]
    summary = assemble(write_store(tmp_path / "store", log, False), settings(), ENGINE, None, tmp_path / "out")
    assert summary.clicks == 600
    table = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    assert (table[table.label == 1].groupby(["user", "item", "timestamp"]).request.nunique() >= 2).all()


def weighted_log(has_impressions: bool, weigh: Callable[[Event], float]) -> list[Event]:
    return [replace(event, weight=weigh(event)) for event in busy_log(has_impressions)]


@pytest.mark.parametrize("has_impressions", [False, True])
def test_weights_change_no_other_column(tmp_path: Path, has_impressions: bool) -> None:
    plain = write_store(tmp_path / "plain", busy_log(has_impressions), has_impressions)
    log = weighted_log(has_impressions, lambda event: event.minute / 100)
    weighted = write_store(tmp_path / "weighted", log, has_impressions, weighted=True)
    without, summary = (assemble(store, settings(), ENGINE, None, store.root / "out") for store in (plain, weighted))
    assert summary.weighted and "weighted" not in without.to_json()
    rows, other = (pq.read_table(store.root / "out" / "rows.parquet") for store in (weighted, plain))
    assert rows.drop_columns(["row_weight"]).equals(other)
    # Of its time alone, so a candidate that was sampled for a click weighs what the click does.
    start = (rows["timestamp"].to_numpy() - START) / MINUTE
    np.testing.assert_allclose(rows["row_weight"].to_numpy(), start / 100)


def test_what_was_shown_and_clicked_in_two_rows_weighs_what_the_click_does(tmp_path: Path) -> None:
    log = [Event(1, 1, minute, clicked, request=minute, weight=5.0 if clicked else 2.0) for minute in range(30) for clicked in (0, 1)]
    log += [Event(1, 2, minute, 0, request=minute, weight=3.0) for minute in range(30)]
    store = write_store(tmp_path / "store", log, True, weighted=True)
    assemble(store, settings(), ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    assert rows.groupby(["item", "label"])["row_weight"].unique().map(list).to_dict() == {(0, 1): [5.0], (1, 0): [3.0]}


@pytest.mark.parametrize(
    ("weigh", "what"),
    [
        (lambda event: 0.0, "rows"),
        (lambda event: float(event.clicked == 0), "clicks"),
        (lambda event: float(event.clicked), "rows without a click"),
    ],
)
def test_a_split_that_weighs_nothing_is_refused_in_one_line(tmp_path: Path, weigh: Callable[[Event], float], what: str) -> None:
    store = write_store(tmp_path / "store", weighted_log(True, weigh), True, weighted=True)
    with pytest.raises(DataError, match=rf"^the train split, .*: all {what} weigh 0.*source\.events\.weight$"):
        assemble(store, settings(), ENGINE, None, tmp_path / "out")


def bought_log(buys: Callable[[Event], int | None]) -> list[Event]:
    return [replace(event, bought=buys(event)) for event in busy_log(True)]


def test_a_further_label_changes_no_other_column(tmp_path: Path) -> None:
    plain = write_store(tmp_path / "plain", busy_log(True), True)
    log = bought_log(lambda event: None if event.minute % 7 == 0 else event.minute % 2)
    labelled = write_store(tmp_path / "labelled", log, True, labelled=True)
    without, summary = (assemble(store, settings(), ENGINE, None, store.root / "out") for store in (plain, labelled))
    assert summary.labels == ["bought"] and "labels" not in without.to_json()
    rows, other = (pq.read_table(store.root / "out" / "rows.parquet") for store in (labelled, plain))
    assert rows.drop_columns(["label_bought"]).equals(other) and rows.schema.field("label_bought").type == pa.int8()
    minute = (rows["timestamp"].to_numpy() - START) // MINUTE
    assert rows["label_bought"].to_pylist() == [None if m % 7 == 0 else m % 2 for m in minute.tolist()]


def test_what_was_shown_and_clicked_in_two_rows_is_bought_where_either_says_so(tmp_path: Path) -> None:
    said = {(0, 0): (0, 1), (0, 1): (1, None), (1, 0): (None, 0)}  # by place: of the impression, of the click
    log = []
    for minute in range(60):
        shown, clicked = said.get((minute % 2, minute // 2 % 2), (None, None))
        log += [Event(1, 1, minute, 0, request=minute, bought=shown), Event(1, 1, minute, 1, request=minute, bought=clicked)]
    log += [Event(1, 2, minute, 0, request=minute, bought=0) for minute in range(60)]
    assemble(write_store(tmp_path / "store", log, True, labelled=True), settings(), ENGINE, None, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pandas()
    minute = (rows["timestamp"] - START) // MINUTE
    found = rows[rows.label == 1].groupby([minute % 2, minute // 2 % 2])["label_bought"].unique()
    assert {place: [None if np.isnan(one) else int(one) for one in values] for place, values in found.items()} == {
        (0, 0): [1],
        (0, 1): [1],
        (1, 0): [0],
        (1, 1): [None],
    }


@pytest.mark.parametrize(
    ("buys", "what"),
    [(lambda event: None, "is null in all rows"), (lambda event: 0, "is 0 in all .* rows that say it"), (lambda event: 1, "is 1 in all")],
)
def test_a_further_label_that_tells_no_rows_apart_is_refused_in_one_line(
    tmp_path: Path, buys: Callable[[Event], int | None], what: str
) -> None:
    store = write_store(tmp_path / "store", bought_log(buys), True, labelled=True)
    with pytest.raises(DataError, match=rf"^the train split, .*: label bought {what}.*source\.events\.labels$"):
        assemble(store, settings(), ENGINE, None, tmp_path / "out")
