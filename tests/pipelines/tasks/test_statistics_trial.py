"""statistics.auto: a key that tells is kept, noise is dropped, and what is kept is written as a block that gives the same rows."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ctr_kd.metrics.bootstrap import Difference
from feature_store.config_statistics import DeclaredConfig, StatisticsConfig
from feature_store.features import statistics_proposal
from feature_store.features.summary import ClickSummary
from pipelines.config.run import RunConfig
from pipelines.stages.ingest import assemble_rows
from pipelines.tasks.statistics_trial import FILE, MOST_COLUMNS, within_budget
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, StageContext
from tests.feature_store.logs import Event, write_store

HOURS = tuple(timedelta(hours=n) for n in (1, 2, 3))


def key(*by: str, windows: tuple[timedelta, ...] = HOURS) -> DeclaredConfig:
    return DeclaredConfig(by=by, count=("clicks",), windows=windows, share_of=tuple((column,) for column in by))


def gain(value: float) -> Difference:
    return Difference(value, value / 2, value * 2, 0.01)


def test_the_windows_that_tell_most_share_the_budget() -> None:
    telling = {key("item", "a"): gain(0.1), key("item", "b"): gain(0.3), key("user", "c"): gain(0.01)}
    worth = {("a", 0): 5, ("a", 1): 4, ("a", 2): 3, ("b", 0): 9, ("b", 1): 8, ("b", 2): 1, ("c", 0): 2, ("c", 1): 0, ("c", 2): 0}
    single = {key("user" if name == "c" else "item", name, windows=(HOURS[n],)): gain(value) for (name, n), value in worth.items()}
    kept = within_budget(telling, single)
    assert [(one.declared.by, one.declared.windows) for one in kept] == [
        (("item", "b"), HOURS[:2]),
        (("item", "a"), HOURS),
        (("user", "c"), HOURS[:1]),
    ]
    assert sum(len(list(one.declared.statistics())) for one in kept) == MOST_COLUMNS
    assert [one.gain.difference for one in kept] == [0.3, 0.1, 0.01]
    assert within_budget({}, {}) == []


def log(requests: int) -> list[Event]:
    """An item is clicked on one device of two, which changes from hour to hour; nothing else matters."""
    rng = np.random.default_rng(5)
    events = []
    for n in range(requests):
        item, device = int(rng.integers(0, 12)), int(rng.integers(0, 2))
        liked = (item * 7 + n // 600) % 2 == device
        events.append(Event(int(rng.integers(0, 60)), item, n // 5, int(rng.random() < (0.7 if liked else 0.1)), device=f"d{device}"))
    return events


ITEMS = pa.table({"item_id": list(range(12)), "colour": ["red", "blue", "green"] * 4})
USERS = pa.table({"user_id": list(range(60)), "segment": ["x", "y", "z", "z"] * 15})


def assembled(folder: Path, statistics: dict[str, Any], events: list[Event]) -> tuple[Path, str]:
    """The artifact of a store's rows, and what was said."""
    if not (folder / "store").exists():
        write_store(folder / "store", events, True, ITEMS, USERS)
    settings = {"source": {"reader": "simulated"}, "split": {"fractions": [0.6, 0.2, 0.2]}, "statistics": statistics}
    config = RunConfig.model_validate({"name": "demo", "feature_store": {"threads": 1}} | settings)
    said = io.StringIO()
    context = StageContext(
        RunContext(config, folder, console=Console(said)), "ingest", (), {}, folder / f"rows{len(list(folder.iterdir()))}"
    )
    context.output.mkdir()
    assemble_rows(context)
    return context.output, said.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auto")


@pytest.fixture(scope="module")
def chosen(folder: Path) -> tuple[Path, str]:
    return assembled(folder, {"auto": True, "of": [{"by": "user", "age_of_last": True}]}, log(8000))


def test_what_tells_is_kept_and_noise_is_dropped(chosen: tuple[Path, str]) -> None:
    artifact, said = chosen
    made_with = ClickSummary.read(artifact).made_with
    assert made_with is not None and made_with.auto is False
    assert [one.by for one in made_with.of] == [("user",), ("item", "device")]
    assert "statistics.auto: trying [item, device], [item, segment], [user, device], [user, colour] in windows of 10m, 1h, 6h" in said
    assert "statistics.auto: [item, device] +0." in said and f"written to {artifact / FILE}" in said
    assert "item_device_clicks_1h_of_item" in ClickSummary.read(artifact).statistics
    assert not (artifact / "_trial").exists()


def test_the_file_is_a_block_that_gives_the_same_rows(chosen: tuple[Path, str], folder: Path) -> None:
    artifact, _ = chosen
    text = (artifact / FILE).read_text()
    block = yaml.safe_load(text)
    assert list(block) == ["statistics"]
    assert StatisticsConfig.model_validate(block["statistics"]) == ClickSummary.read(artifact).made_with
    assert "# [item, device] +0." in text and "by: [item, device], count: [clicks], windows: [10m" in text
    pasted, _ = assembled(folder, block["statistics"], [])
    assert pq.read_table(pasted / "rows.parquet").equals(pq.read_table(artifact / "rows.parquet"))
    assert not (pasted / FILE).exists()


def test_a_second_time_chooses_the_same(chosen: tuple[Path, str], folder: Path) -> None:
    of = [{"by": "user", "age_of_last": True}]
    again, _ = assembled(folder, {"auto": True, "of": of}, [])
    assert (again / FILE).read_bytes() == (chosen[0] / FILE).read_bytes()


def test_a_log_of_few_clicks_goes_on_with_none(tmp_path: Path) -> None:
    artifact, said = assembled(tmp_path, {"auto": True}, log(1500))
    assert "statistics.auto: none, since the rows are too few for a trial (the rows of validation that would judge hold " in said
    assert " clicks, fewer than 400); " in said and f"written to {artifact / FILE}" in said
    assert ClickSummary.read(artifact).made_with == StatisticsConfig(auto=False)


def test_a_log_too_short_for_a_trial_goes_on_with_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_proposal, "NEEDED_CLICKS", 1)
    events = [Event(n % 3, n % 2, n // 2, clicked=int(n % 6 < 2), device="tv" if n % 2 else "pc") for n in range(40)]
    events = [event for event in events if event.minute != 11 or event.clicked == 0]
    artifact, said = assembled(tmp_path, {"auto": True}, events)
    assert "statistics.auto: none, since the rows are too few for a trial (the validation split" in said
    assert ClickSummary.read(artifact).made_with == StatisticsConfig(auto=False)
    assert yaml.safe_load((artifact / FILE).read_text())["statistics"]["of"] == []


def test_a_log_without_columns_to_cross(tmp_path: Path) -> None:
    events = [Event(n % 7, n % 5, n // 2, clicked=int(n % 3 == 0), device="tv") for n in range(90)]
    write_store(tmp_path / "store", events, True)
    _, said = assembled(tmp_path, {"auto": True}, events)
    assert "statistics.auto: none, since no context column and no attribute has few values; " in said
