"""The benchmark of the defaults: its logs, what is kept of a run, and what several logs say together."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.bench_defaults import HAND_TUNED, Place, figures, made_of, mean_of, summary, table, told
from benchmarks.click_worlds import ITEM_ATTRIBUTES, source, write_world
from benchmarks.default_logs import LOGS, chosen
from feature_store.config import SimulatorConfig
from pipelines.config.run import RunConfig, load

PAIRS = ("student-student_alone", "teacher-student_alone", "shipped-student_alone", "shipped-instead")


def log_of(*gains: float, wide: float = 0.001) -> dict[str, Any]:
    entries = {pair: {"difference": gain, "low": gain - wide, "high": gain + wide} for pair, gain in zip(PAIRS, gains, strict=True)}
    return {"differences": entries}


def test_there_are_as_many_logs_as_promised_with_nothing_but_source_and_split() -> None:
    readers = Counter(log.source["reader"] for log in LOGS)
    assert readers["movielens"] == 6 and readers["globo"] == 3 and readers["mind"] == 1 and readers["s3rec"] == 2 and readers["text"] == 5
    assert sum(log.name.startswith("world") for log in LOGS) >= 6
    assert len({log.name for log in LOGS}) == len(LOGS)
    for log in LOGS:
        assert set(log.configuration) <= {"source", "split"}
        RunConfig.model_validate({"name": "log", **log.configuration})


def test_what_was_tuned_by_hand_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(chosen(["shop"])[0].configuration))
    load(tmp_path / "shop.yaml", [f"{key}={json.dumps(value)}" for key, value in HAND_TUNED.items()])


def test_logs_are_chosen_by_how_their_names_begin_in_their_order() -> None:
    assert [log.name for log in chosen(["cr", "shop"])] == ["shop", "cr"]
    assert chosen([]) == list(LOGS)
    with pytest.raises(SystemExit, match="no log is called 'shops'"):
        chosen(["shops"])


def test_the_mean_over_logs_has_an_interval_and_every_target_its_answer() -> None:
    good = {"a": log_of(0.01, 0.02, 0.01, 0.03), "b": log_of(0.02, 0.01, 0.02, 0.01), "c": log_of(0.03, 0.03, 0.03, -0.001)}
    good["d"] = log_of(0.02, -0.01, 0.0, 0.01)
    found = summary(good)
    assert found["student-student_alone"]["mean"] == pytest.approx(0.02)
    assert 0.01 < found["student-student_alone"]["low"] < 0.02 < found["student-student_alone"]["high"] < 0.03
    assert found["teacher-student_alone"]["above"] == 3 and found["shipped-instead"]["above"] == 3
    assert found["reached"] == dict.fromkeys(("every log", "shipped-student_alone", *PAIRS[:2], "shipped-instead"), True)


@pytest.mark.parametrize(
    ("gains", "missed"),
    [
        ((0.02, 0.01, -0.002, 0.01), "shipped-student_alone"),  # below zero by its interval
        ((-0.9, 0.01, 0.0, 0.01), "student-student_alone"),
        ((0.02, 0.01, 0.0, -0.003), "shipped-instead"),  # one log more than .002 behind
    ],
)
def test_one_log_is_enough_to_miss_a_target(gains: tuple[float, ...], missed: str) -> None:
    logs = {name: log_of(0.01, 0.02, 0.01, 0.03) for name in "abc"} | {"d": log_of(*gains)}
    found = summary(logs)
    assert [pair for pair, reached in found["reached"].items() if not reached] == [missed]
    assert f"NOT reached: {missed}" in told(found)


def test_a_log_that_the_defaults_do_not_finish_is_a_target_missed() -> None:
    assert summary({"a": log_of(0.01, 0.02, 0.01, 0.03)}, failed=1)["reached"]["every log"] is False
    assert summary({}, failed=1) == {"reached": {"every log": False}}


def test_a_run_that_fails_says_why_without_folders_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "mind_sample").mkdir()
    with pytest.raises(RuntimeError, match="exit code 3: ctr-kd: ") as error:
        Place(tmp_path, tmp_path / "work").run(chosen(["mind"])[0], "ingest")
    assert str(tmp_path) not in str(error.value)


def test_below_zero_is_told_by_the_interval_and_not_by_the_value() -> None:
    found = summary({"a": log_of(0.01, 0.02, -0.002, 0.03, wide=0.01)})
    assert found["shipped-student_alone"]["below"] == [] and found["reached"]["shipped-student_alone"]


def test_no_log_reaches_nothing_and_a_tuned_one_is_judged() -> None:
    assert summary({}) == {"reached": {"every log": True}}
    tuned = log_of(0.01, 0.02, 0.01, 0.03) | {"tuned": {"defaults-tuned": {"difference": -0.004}}}
    assert summary({"shop": tuned})["reached"]["defaults-tuned"] is False


@pytest.mark.parametrize(("shipped", "gain", "instead"), [("student", 0.02, 0.03), ("student_alone", 0.0, 0.01)])
def test_what_ships_is_compared_by_its_own_pairs(shipped: str, gain: float, instead: float) -> None:
    def entry(value: float) -> dict[str, Any]:
        return {"auc": {"difference": value, "low": value - 0.001, "high": value + 0.001, "p_value": 0.01}}

    compared = {
        "student-student_alone": entry(0.02),
        "teacher-student_alone": entry(0.04),
        "student-boosted_trees": entry(0.03),
        "student_alone-boosted_trees": entry(0.01),
    }
    names = ("teacher", "student", "student_alone", "boosted_trees")
    models = {name: {"auc": {"value": 0.7 + i / 100, "low": 0.6, "high": 0.8}} for i, name in enumerate(names)}
    metrics = {
        "models": models,
        "comparisons": compared,
        "shipped": shipped,
        "data": {"train_rows": 8, "validation_rows": 1, "test_rows": 1, "split": None},
        "run": {"seconds": {"ingest": 1.0}},
    }
    found = figures(chosen(["shop"])[0], metrics)
    assert found["models"]["shipped"] == models[shipped]["auc"] and found["models"]["instead"]["value"] == 0.73
    assert found["differences"]["shipped-student_alone"]["difference"] == gain
    assert found["differences"]["shipped-instead"]["difference"] == instead
    assert f"{instead:+.4f}" in table({"shop": found})[1]


def test_another_configuration_or_setting_is_another_measurement() -> None:
    shop, mind = chosen(["shop"])[0], chosen(["mind"])[0]
    assert made_of(shop, [], 0) == made_of(shop, [], 0)
    assert len({made_of(shop, [], 0), made_of(mind, [], 0), made_of(shop, ["distill.alpha=0.3"], 0), made_of(shop, [], 1)}) == 4


def test_several_seeds_are_averaged_wherever_they_say_a_figure() -> None:
    first = log_of(0.01, 0.02, 0.0, 0.03) | {"rows": {"test": 746}, "ships": "student", "models": {"student": {"value": 0.75}}}
    second = log_of(0.03, 0.02, 0.0, -0.01) | {"rows": {"test": 746}, "ships": "student_alone", "models": {"student": {"value": 0.79}}}
    found = mean_of([first, second])
    assert found["models"]["student"]["value"] == pytest.approx(0.77) and found["rows"] == {"test": 746} and found["ships"] == "student"
    assert found["differences"]["student-student_alone"] == pytest.approx({"difference": 0.02, "low": 0.019, "high": 0.021})
    assert found["differences"]["shipped-instead"]["difference"] == pytest.approx(0.01)
    assert {log.name for log in LOGS if log.seeds > 1} == {"trec", "cr"}


def test_a_log_whose_folder_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder mind_sample"):
        Place(tmp_path, tmp_path).data_of(chosen(["mind"])[0])
    with pytest.raises(FileNotFoundError, match="--data"):
        Place(None, tmp_path).data_of(chosen(["mind"])[0])
    assert Place(None, tmp_path).data_of(chosen(["world: few"])[0]) is None


SMALL = SimulatorConfig(users=200, items=100, requests=4000, days=4)


def test_changed_worlds_are_what_they_are_called(tmp_path: Path) -> None:
    changes = ("rare_clicks", "many_attributes", "no_order")
    for change in changes:
        write_world(tmp_path / change, change, SMALL)
    events = {change: pq.read_table(tmp_path / change / "events.parquet") for change in changes}
    rate = {change: np.mean(table["clicked"].to_numpy()) for change, table in events.items()}
    assert 0 < rate["rare_clicks"] < 0.15 * rate["many_attributes"] and rate["no_order"] > 0.05
    assert "click_probability" not in events["no_order"].column_names
    items = pq.read_table(tmp_path / "many_attributes" / "items.parquet")
    assert [name for name in items.column_names if name != "item_id"] == source("many_attributes")["items"]["categorical"]
    assert len(items.column_names) == ITEM_ATTRIBUTES + 3
