"""Statistics of any key: literal ones, and random declarations over random logs against the naive implementation."""

from __future__ import annotations

import tempfile
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
from feature_store.config_statistics import StatisticsConfig
from feature_store.features.historical_features import FeatureLookup, features_for
from feature_store.features.statistics import UndeclarableStatistic
from feature_store.features.training_set import assemble
from feature_store.tables.contracts import DataError
from tests.feature_store.logs import FEW, MINUTE, START, Event, Naive, at, random_event, short_or_long, write_store
from tests.odd_names import ODD_COLUMNS

CATEGORY: dict[int, str | None] = {0: "a", 1: "b", 2: "a", 3: None}
SEGMENT: dict[int, str | None] = {0: "x", 1: "y"}  # user 2 is not described
ITEMS = pa.table({"item_id": list(CATEGORY), "category": pa.array(list(CATEGORY.values()), pa.string())})
USERS = pa.table({"user_id": list(SEGMENT), "segment": pa.array(list(SEGMENT.values()), pa.string())})
OF_EVERY_LOG = ("user_clicks", "user_item_clicks")  # a declaration of these is of what every log has: unknown times count
COLUMNS = ("user", "item", "device", "minutes", "category", "segment")


def config(of: Any = (), **statistics: Any) -> AssemblyConfig:
    settings = {
        "split": {"fractions": [0.5, 0.25, 0.25]},
        "candidates": {"per_click": 2, "window": "2h"},
        "history": {"max_length": 3},
        "statistics": {"windows": ["1h", "3h"], "of": of, **statistics},
        "vocabulary": {"min_count": 1},
    }
    return AssemblyConfig.model_validate(settings)


@st.composite
def declarations(draw: st.DrawFn, has_impressions: bool) -> list[dict[str, Any]]:
    """One to three keys, each with some of what can be declared."""
    keys = draw(st.lists(st.sets(st.sampled_from(COLUMNS), min_size=1, max_size=3).map(frozenset), min_size=1, max_size=3, unique=True))
    events = ["clicks", "impressions"] if has_impressions else ["clicks"]
    declared = []
    for columns in keys:
        key = sorted(columns)
        windows = draw(st.sets(st.sampled_from(["20m", "1h", "90m", "5h"])).map(sorted))
        coarser = st.sets(st.sampled_from(key), min_size=1, max_size=len(key) - 1).map(sorted) if len(key) > 1 else st.nothing()
        declared.append(
            {
                "by": draw(st.permutations(key)),
                "count": draw(st.sets(st.sampled_from(events), min_size=1).map(sorted)),
                "rate": has_impressions and draw(st.booleans()),
                "windows": windows,
                "share_of": draw(st.lists(coarser, max_size=2, unique_by=tuple)) if len(key) > 1 else [],
                "trend": len(windows) > 1 and draw(st.booleans()),
                "age_of_first": draw(st.booleans()),
                "age_of_last": draw(st.booleans()),
            }
        )
    return declared


# Of these windows, one is the longest of the configuration: then transition_clicks comes from the same tables.
CO_CLICKS = st.none() | st.fixed_dictionaries({"window": st.sampled_from(["40m", "3h", "5h"]), "history": st.integers(1, 4)})


def events(has_impressions: bool) -> st.SearchStrategy[list[Event]]:
    known = st.sampled_from([True, True, True, True, False])
    return short_or_long(random_event(has_impressions, users=3, items=4, times=25, time_known=known))


def same(found: float | None, expected: float | None) -> bool:
    return found is expected if found is None or expected is None else bool(np.isclose(found, expected, rtol=1e-6, atol=0))


@pytest.mark.slow
@pytest.mark.parametrize("has_impressions", [False, True])
def test_any_declaration_equals_the_naive_one(has_impressions: bool) -> None:
    """In the rows of an assembly made in small chunks, and joined to the same rows from elsewhere."""

    @FEW
    @given(log=events(has_impressions), of=declarations(has_impressions), co_clicks=CO_CLICKS)
    def check(log: list[Event], of: list[dict[str, Any]], co_clicks: dict[str, Any] | None) -> None:
        settings = config(of, co_clicks=co_clicks)
        engine = FeatureStoreConfig(threads=1, memory="500MB").model_copy(update={"chunk": 20})
        with tempfile.TemporaryDirectory() as folder:
            store = write_store(Path(folder) / "store", log, has_impressions, ITEMS, USERS, dense=["minutes"])
            out = Path(folder) / "out"
            try:
                assemble(store, settings, engine, None, out)
            except DataError as error:
                assert "split" in str(error) or "holds no click" in str(error)
                if not (out / "rows.parquet").exists():
                    return
            rows = pq.read_table(out / "rows.parquet")
            naive = Naive(log, settings, has_impressions, CATEGORY, SEGMENT)
            users, items = (pq.read_table(out / f"{kind}s.parquet")[f"{kind}_id"].to_pylist() for kind in ("user", "item"))
            declared = [one for one in settings.statistics.declared() if one.name not in OF_EVERY_LOG]
            asked = []
            for row in rows.to_pylist():
                minute = (row["timestamp"] - START) // MINUTE
                event = Event(users[row["user"]], items[row["item"]], minute, device=row["device"])
                assert row["minutes"] == minute
                for one in declared:
                    expected = naive.declared(one, event)
                    assert same(row[one.name], expected), (one, row, expected)
                after_last = naive.statistics(event.user, event.item, event.time)["transition_clicks"]
                assert same(row["transition_clicks"], after_last), (row, after_last)
                asked.append(event)
            if not asked:
                return
            frame = {
                "user_id": [str(e.user) for e in asked],
                "item_id": [e.item for e in asked],
                "timestamp": pa.array([e.time for e in asked], pa.timestamp("us", "UTC")),
                "device": [e.device for e in asked],
                "minutes": [str(e.minute) for e in asked],
            }
            found = features_for(store, pa.table(frame), settings, engine)
            for one in declared:
                assert found[one.name].equals(rows[one.name]), one

    check()


LOG = [
    Event(1, 1, 0, device="tv"),
    Event(2, 1, 30, device="tv"),
    Event(1, 1, 50, device="phone"),
    Event(1, 2, 55, device="tv"),
    Event(3, 2, 57, device="phone"),
]
OF = [
    {"by": ["device", "item"], "count": ["clicks"], "windows": ["40m", "2h"], "share_of": ["item", "device"], "trend": True},
    {"by": "user", "age_of_first": True, "age_of_last": True},
    {"by": ["user", "device"], "count": "clicks"},
]


def test_literal_counts_shares_trends_and_ages(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", LOG, False)
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": [at(60)], "device": ["tv"]})
    found = features_for(store, frame, config(OF), FeatureStoreConfig(threads=1)).to_pylist()[0]
    assert {name: found[name] for name in found if name.startswith(("item_device", "user_age"))} == {
        "item_device_clicks_40m": 1,
        "item_device_clicks_40m_of_item": 0.5,
        "item_device_clicks_40m_of_device": 0.5,
        "item_device_clicks_2h": 2,
        "item_device_clicks_2h_of_item": np.float32(2 / 3),
        "item_device_clicks_2h_of_device": np.float32(2 / 3),
        "item_device_clicks_40m_of_2h": 0.5,
        "user_age_of_first": 3600,
        "user_age_of_last": 300,
    }


# The second click becomes known after half an hour: longer than the first window, as long as the second, shorter than the third.
# A third one is of an unknown time, and in no window.
LATE = [Event(1, 1, 0, device="tv"), Event(2, 1, 10, delay=30, device="tv"), Event(3, 1, -5, time_known=False, device="tv")]
WINDOWS = ("20m", "30m", "40m")
COUNTED = {  # by minutes and microseconds
    (0, 0): (0, 0, 0),
    (0, 1): (1, 1, 1),
    (20, 0): (1, 1, 1),
    (20, 1): (0, 1, 1),
    (40, 0): (0, 0, 1),
    (40, 1): (0, 0, 1),
    (50, 0): (0, 0, 1),
    (50, 1): (0, 0, 0),
}


def test_windows_hold_what_was_known_before_whatever_is_asked_first(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", LATE, False)
    settings = config([{"by": ["item", "device"], "count": "clicks", "windows": WINDOWS}])
    engine = FeatureStoreConfig(threads=1).model_copy(update={"chunk": 1})  # each row is a chunk, to which the counts are carried
    moments = list(COUNTED)
    with FeatureLookup(store, settings, engine) as lookup:
        for asked in (moments[5:], moments[4::-1]):
            times = [at(minutes) + timedelta(microseconds=more) for minutes, more in asked]
            frame = {"item_id": [1] * len(asked), "timestamp": times, "device": ["tv"] * len(asked)}
            found = lookup.of(pa.table(frame))
            counts = zip(*(found[f"item_device_clicks_{window}"].to_pylist() for window in WINDOWS), strict=True)
            assert dict(zip(asked, counts, strict=True)) == {moment: COUNTED[moment] for moment in asked}


# What was shown and clicked is in the log twice; its click is known after half an hour, and counts where it was shown.
SHOWN = [
    Event(1, 1, 0, clicked=0, request=1, device="tv"),
    Event(1, 1, 0, clicked=1, request=1, device="phone", delay=30),
    Event(2, 1, 10, clicked=0, request=2, device="tv"),
    Event(2, 2, 20, clicked=1, request=3, device="tv"),
]


def test_literal_impressions_and_rates(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", SHOWN, True)
    settings = config([{"by": ["item", "device"], "count": ["clicks", "impressions"], "windows": "1h", "share_of": "item", "rate": True}])
    asked = [(25, "tv"), (31, "tv"), (31, "phone"), (60, "tv"), (61, "tv")]
    frame = {"item_id": [1] * 5, "timestamp": [at(minute) for minute, _ in asked], "device": [device for _, device in asked]}
    found = features_for(store, pa.table(frame), settings, FeatureStoreConfig(threads=1))
    assert found["item_device_clicks_1h"].to_pylist() == [0, 1, 0, 1, 0]
    assert found["item_device_impressions_1h"].to_pylist() == [2, 2, 0, 2, 1]
    assert found["item_device_impressions_1h_of_item"].to_pylist() == [1, 1, 0, 1, 1]
    overall = [20 * 1 / 3, *[20 * 2 / 3] * 4]  # the prior: 20 impressions at the rate of all that was known
    rates = [overall[0] / 22, (1 + overall[1]) / 22, overall[2] / 20, (1 + overall[3]) / 22, overall[4] / 21]
    assert found["item_device_rate_1h"].to_pylist() == pytest.approx(rates)


def test_a_pair_counts_under_the_context_that_was_known_first(tmp_path: Path) -> None:
    """Which no row that comes later changes, here that of the impression."""
    pair = [Event(1, 1, 0, clicked=1, request=1, device="tv"), Event(1, 1, 0, clicked=0, request=1, device="phone", delay=30)]
    store = write_store(tmp_path / "store", pair, True)
    settings = config([{"by": "device", "count": ["clicks", "impressions"]}])
    frame = pa.table({"item_id": [1, 1], "timestamp": [at(10), at(10)], "device": ["tv", "phone"]})
    for as_of in (at(10), None):
        with FeatureLookup(store, settings, FeatureStoreConfig(threads=1), as_of) as lookup:
            found = lookup.of(frame)
        assert found["device_clicks"].to_pylist() == found["device_impressions"].to_pylist() == [1, 0]


def test_what_is_missing_is_null_and_what_never_happened_is_0(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", LOG, False)
    name = "item_device_clicks_2h"
    frame = {"user_id": [None, "x", "1"], "item_id": ["9", "1", None], "timestamp": [at(60)] * 3, "device": ["tv", "radio", None]}
    found = features_for(store, pa.table(frame), config(OF), FeatureStoreConfig(threads=1))
    assert found[name].to_pylist() == [0, 0, None] and found[f"{name}_of_item"].to_pylist() == [None, 0, None]
    assert found["user_age_of_last"].to_pylist() == [None, None, 300] and found["user_device_clicks"].to_pylist() == [None, 0, None]
    del frame["device"]
    assert features_for(store, pa.table(frame), config(OF), FeatureStoreConfig(threads=1))[name].to_pylist() == [None] * 3


def test_literal_co_clicks(tmp_path: Path) -> None:
    """User 4 clicked 1, 2, 1: item 1 is the newest, item 2 the second. Item 3 followed 1 at minutes 10 and 40, 2 at 30 and, late, at 33."""
    pairs = [Event(1, 1, 0), Event(1, 3, 10), Event(2, 2, 20), Event(2, 3, 30), Event(3, 1, 35), Event(3, 3, 40)]
    late = [Event(5, 2, 31), Event(5, 3, 33, delay=40)]
    store = write_store(tmp_path / "store", [*pairs, *late, Event(4, 1, 1), Event(4, 2, 2), Event(4, 1, 3)], False)

    def found(window: str, history: int, minute: int = 60) -> tuple[list[float], list[float]]:
        frame = pa.table({"user_id": ["4", "9", None], "item_id": [3, 3, 3], "timestamp": [at(minute)] * 3})
        settings = config(co_clicks={"window": window, "history": history})
        columns = features_for(store, frame, settings, FeatureStoreConfig(threads=1))
        return columns[f"co_clicks_{window}"].to_pylist(), columns[f"co_clicks_{window}_recent"].to_pylist()

    assert found("2h", 20) == ([3, None, None], [2.5, None, None])  # null without a history, and without a user
    assert found("40m", 20) == ([2, None, None], [1.5, None, None])
    assert found("2h", 1) == ([2, None, None], [2, None, None])
    assert found("2h", 20, minute=80) == ([4, None, None], [3, None, None])


def test_a_declaration_of_what_every_log_has_is_one_column() -> None:
    settings = StatisticsConfig(windows=("1h",), of=[{"by": ["item"], "count": ["clicks"], "windows": ["1h", "10m"]}])
    names = [one.name for one in settings.of[0].statistics()]
    assert names == ["item_clicks_10m", "item_clicks_1h"]


def test_a_single_value_needs_no_brackets() -> None:
    single, listed = (
        StatisticsConfig.model_validate({"of": [declared]})
        for declared in (
            {"by": ["item", "device"], "count": "clicks", "windows": "1h", "share_of": "item"},
            {"by": ["item", "device"], "count": ["clicks"], "windows": ["1h"], "share_of": [["item"]]},
        )
    )
    assert single == listed


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ([{"by": ["item"]}], "declares nothing"),
        ([{"by": ["item"], "rate": True, "trend": True}], "trend are of a count"),
        ([{"by": ["item"], "count": ["clicks"], "trend": True, "windows": ["1h"]}], "name two or more"),
        ([{"by": ["item", "item"], "count": ["clicks"]}], "names a column twice"),
        ([{"by": ["item", "device"], "count": ["clicks"], "share_of": ["referrer"]}], "referrer is no coarser key"),
        ([{"by": ["item", "device"], "count": ["clicks"], "share_of": [["device", "item"]]}], "item, device is no coarser key"),
        ([{"by": ["item"], "count": ["clicks"], "windows": ["1h", "60m"]}], "same window is named twice: 1h"),
        ([{"by": ["co"], "count": ["clicks"], "windows": ["1d"]}], "co_clicks_1d is declared twice"),
        (
            [{"by": ["user", "item"], "count": ["clicks"]}, {"by": ["item", "user"], "count": ["clicks"]}],
            "user_item_clicks is declared twice",
        ),
    ],
)
def test_declarations_that_say_nothing_or_too_much(of: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StatisticsConfig.model_validate({"of": of, "co_clicks": {"window": "1d"}})


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ([{"by": ["item", "devise"], "count": ["clicks"]}], r"statistics.of\[0\].by: devise is no column of the log; .*'device'"),
        ([{"by": ["item"], "rate": True}], r"statistics.of\[0\].rate needs rows that were not clicked"),
        ([{"by": ["item"], "count": ["impressions"]}], r"count: \[impressions\] needs rows that were not clicked"),
    ],
)
def test_declarations_that_the_log_cannot_have(tmp_path: Path, of: Any, message: str) -> None:
    store = write_store(tmp_path / "store", LOG, False)
    with pytest.raises(UndeclarableStatistic, match=message):
        assemble(store, config(of), FeatureStoreConfig(threads=1), None, tmp_path / "out")


def test_what_a_declaration_costs_or_does_not_reach_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_store.features.timelines.MANY", 2)
    store = write_store(tmp_path / "store", [Event(n % 3, n % 4, 10 * n, device="tv") for n in range(40)], False)
    lines: list[str] = []
    of = [{"by": ["user", "item"], "count": ["clicks"], "windows": ["30d"]}, {"by": "device", "count": ["clicks"], "windows": ["2h"]}]
    assemble(store, config(of), FeatureStoreConfig(threads=1), None, tmp_path / "out", report=lines.append)
    said = [line for line in lines if line.startswith("statistics")]
    assert said == [
        "statistics.of: 30d is longer than the clicks of the log (7h): it counts all of them",
        "statistics of user, item: about 12 keys of 40 clicks; time and scratch on disk grow with them",
    ]


def test_more_combinations_than_there_are_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_store.features.keys.LARGEST", 5)
    store = write_store(tmp_path / "store", LOG, False)
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": [at(60)]})
    with pytest.raises(UndeclarableStatistic, match="item, device have more combinations than can be numbered"):
        features_for(store, frame, config(OF), FeatureStoreConfig(threads=1))


def test_a_column_of_the_log_takes_the_place_of_a_statistic_and_that_is_said(tmp_path: Path) -> None:
    """Even where nothing is left of a declaration."""
    items = pa.table({"item_id": [1, 2], "Item_Age": ["new", "old"]})
    store = write_store(tmp_path / "store", LOG * 2, False, items, dense=["item_Device_clicks"])
    settings = config([{"by": ["item", "device"], "count": ["clicks"]}, {"by": "device", "count": "clicks"}])
    lines: list[str] = []
    with pytest.raises(DataError, match="split"):
        assemble(store, settings, FeatureStoreConfig(threads=1), None, tmp_path / "out", report=lines.append)
    assert [line for line in lines if line.startswith("statistics")] == [
        "statistics: item_device_clicks is a column of the log, which takes its place; rename the column to have both"
    ]
    rows = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert "item_device_clicks" not in rows.column_names and "item_age" not in rows.column_names
    frame = pa.table({"user_id": [1], "item_id": [1], "timestamp": [at(60)], "device": ["tv"]})
    found = features_for(store, frame, settings, FeatureStoreConfig(threads=1))
    assert "item_device_clicks" not in found.column_names and found["device_clicks"].to_pylist() == [6]


def test_no_name_of_a_column_means_anything(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", LOG, False, dense=ODD_COLUMNS)
    of = [{"by": ["item", name], "count": ["clicks"], "share_of": [[name]], "age_of_last": True} for name in ODD_COLUMNS]
    frame = {"user_id": [1], "item_id": [1], "timestamp": [at(60)], **{name: [30.0] for name in ODD_COLUMNS}}
    found = features_for(store, pa.table(frame), config(of), FeatureStoreConfig(threads=1)).to_pylist()[0]
    for name in ODD_COLUMNS:
        assert [found[f"item_{name}_{what}"] for what in ("clicks", f"clicks_of_{name}", "age_of_last")] == [1, 1, 1800]
