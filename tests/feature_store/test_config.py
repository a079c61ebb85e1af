"""Settings of the feature store that are more than their types."""

from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from feature_store.config import EventColumns, ItemColumns, SourceConfig
from feature_store.config_statistics import StatisticsConfig
from feature_store.config_types import duration_text, parse_duration


def test_windows_come_shortest_first_and_none_twice():
    config = StatisticsConfig(windows=("1d", "600s", "1h"))
    assert [duration_text(window) for window in config.windows] == ["10m", "1h", "1d"]
    with pytest.raises(ValidationError, match="the same window is named twice"):
        StatisticsConfig(windows=("60m", "1h"))
    with pytest.raises(ValidationError):
        StatisticsConfig(windows=())


EVENTS = {"path": "*.csv", "user": "u", "item": "i", "time": "t"}


@pytest.mark.parametrize(
    "source",
    [
        {"reader": "tabular", "events": EVENTS},
        {"reader": "globo"},
        {"reader": "simulated", "simulator": {"clicks_only": True}},
        {"reader": "text", "train": "a.tsv", "test": "b.tsv"},
    ],
    ids=lambda source: source["reader"],
)
def test_only_a_log_of_rows_without_a_click_can_be_thinned(source):
    with pytest.raises(
        ValidationError, match=r"negative_sampling_rate (is of a log that holds rows without a click|has no effect on texts)"
    ):
        SourceConfig(**source, negative_sampling_rate=0.2)


@pytest.mark.parametrize("rate", [0.0, 1.5, -0.1])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ValidationError):
        SourceConfig(reader="mind", negative_sampling_rate=rate)


def test_how_thinned_a_log_is_changes_nothing_in_the_store():
    events = {**EVENTS, "clicked": "c"}
    thinned = SourceConfig(reader="tabular", events=events, negative_sampling_rate=0.2)
    assert thinned.log() == SourceConfig(reader="tabular", events=events).log()


@pytest.mark.parametrize("seconds", [0.5, 90, 3600, 86_400, 400 * 86_400 + 5, 36_500 * 86_400])
def test_durations_in_json_are_read_back(seconds: float) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(TypeAdapter(timedelta).dump_python(duration, mode="json")) == duration


@pytest.mark.parametrize("text", ["P", "PT", "PT0S", "P101Y", "-PT1H"])
def test_what_json_has_is_checked_as_what_people_write(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_weights_are_part_of_what_a_store_holds() -> None:
    plain, weighted = (SourceConfig(reader="tabular", events={**EVENTS, **more}) for more in ({}, {"weight": "w"}))
    assert weighted.log() == {**plain.log(), "events.weight": "w"}


def test_a_rate_is_a_number_or_a_column_and_never_of_clicks_alone():
    thinned = {**EVENTS, "clicked": "c", "negative_sampling_rate": "kept"}
    assert SourceConfig(reader="tabular", events=thinned).log()["events.negative_sampling_rate"] == "kept"
    with pytest.raises(ValidationError, match="negative_sampling_rate is said twice, as a number and as a column of events: remove one"):
        SourceConfig(reader="tabular", events=thinned, negative_sampling_rate=0.5)
    with pytest.raises(
        ValidationError, match=r"events\.negative_sampling_rate is of a log that holds rows without a click; this one holds"
    ):
        SourceConfig(reader="tabular", events={**thinned, "clicked": None})


def test_further_labels_are_named_in_three_ways_that_say_the_same():
    clicked = {**EVENTS, "clicked": "c"}
    of_list, of_names = ({"reader": "tabular", "events": {**clicked, "labels": said}} for said in (["bought"], {"bought": "bought"}))
    at_once = {"reader": "tabular", "events": EVENTS, "labels": {"clicked": "c", "bought": "bought"}}
    read = [SourceConfig.model_validate(source) for source in (of_list, of_names, at_once)]
    assert read[0] == read[1] == read[2]
    assert read[0].log() == {**SourceConfig(reader="tabular", events=clicked).log(), "events.labels.bought": "bought"}


@pytest.mark.parametrize(
    ("events", "more", "said"),
    [
        ({"labels": ["bought"]}, {}, r"events.labels stand beside events.clicked, and this log holds clicks only"),
        ({"clicked": "c", "labels": ["is bought"]}, {}, r"'is bought' is no name of a label.*write {NAME: 'is bought'}"),
        ({"clicked": "c", "labels": ["b"]}, {"negative_sampling_rate": 0.5}, "name a column that has each row's rate in events.negative"),
        ({"clicked": "c", "labels": {"bought": "b"}}, {"context": {"dense": ["b"]}}, "the column of bought is a context column too"),
        ({"clicked": "c"}, {"labels": {"clicked": "c", "b": "b"}}, "labels stands for events.clicked and events.labels: remove"),
        ({}, {"labels": {"b": "b"}}, "labels names the column of each label, clicked among them"),
    ],
)
def test_labels_that_do_not_fit_are_said_in_a_line(events, more, said):
    with pytest.raises(ValidationError, match=said):
        SourceConfig.model_validate({"reader": "tabular", "events": {**EVENTS, **events}, **more})


def test_short_forms_of_vectors_and_types() -> None:
    items = {"path": "i.parquet", "item": "i"}
    assert [ItemColumns.model_validate(items | {"vector": value}).vector for value in ("image", None, ["a", "b"])] == [
        ["image"],
        [],
        ["a", "b"],
    ]
    events = {"path": "*", "user": "u", "item": "i", "time": "t"}
    short = EventColumns.model_validate(events | {"type": "action", "shown": "view", "history": ["click", "purchase"]})
    long = {"column": "action", "label": "click", "shown": "view", "history": ["click", "purchase"]}
    assert short == EventColumns.model_validate(events | {"type": long})
    with pytest.raises(ValueError, match="label"):
        EventColumns.model_validate(events | {"label": "click"})  # of no types
