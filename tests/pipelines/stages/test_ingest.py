"""What ``ingest`` notices: new input, a changed file, a logical time; and what it does not read again."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feature_store.tables.contracts import DataError
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.stages.ingest import bring_store_up_to_date, logical_time
from pipelines.tasks import clicks
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext

TABULAR = {
    "name": "log",
    "source": {"reader": "tabular", "events": {"path": "*.csv", "user": "u", "item": "i", "time": "t"}},
    "split": {"fractions": [0.8, 0.1, 0.1]},
}


@pytest.fixture
def tabular() -> RunConfig:
    return RunConfig.model_validate(TABULAR)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("u,i,t\n1,10,2024-01-01T10:00\n1,11,2024-01-01T11:00\n")
    return folder


def context(config: RunConfig, data: Path | None, tmp_path: Path, **more: object) -> RunContext:
    return RunContext(config, tmp_path / "workspace", data, console=Console(io.StringIO()), **more)  # type: ignore[arg-type]


@pytest.fixture
def ingested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = clicks.ingest
    monkeypatch.setattr(clicks, "ingest", lambda *arguments: calls.append(1) or original(*arguments))
    return calls


def test_unchanged_input_is_not_read_again(tabular: RunConfig, data: Path, tmp_path: Path, ingested: list[int]) -> None:
    first = bring_store_up_to_date(context(tabular, data, tmp_path))
    assert bring_store_up_to_date(context(tabular, data, tmp_path)) == first
    os.utime(data / "a.csv", ns=(1, 1))  # touched, not changed
    assert bring_store_up_to_date(context(tabular, data, tmp_path)) == first
    assert len(ingested) == 1


def test_a_new_and_a_changed_file_are_noticed(tabular: RunConfig, data: Path, tmp_path: Path, ingested: list[int]) -> None:
    seen = {bring_store_up_to_date(context(tabular, data, tmp_path))["store"]}
    (data / "b.csv").write_text("u,i,t\n2,10,2024-01-02T10:00\n")
    seen.add(bring_store_up_to_date(context(tabular, data, tmp_path))["store"])
    (data / "b.csv").write_text("u,i,t\n2,10,2024-01-02T10:30\n")
    seen.add(bring_store_up_to_date(context(tabular, data, tmp_path))["store"])
    assert len(seen) == len(ingested) == 3


def test_later_commands_may_leave_out_the_data(tabular: RunConfig, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data DIR"):
        bring_store_up_to_date(context(tabular, None, tmp_path))
    first = bring_store_up_to_date(context(tabular, data, tmp_path))
    assert bring_store_up_to_date(context(tabular, None, tmp_path)) == first
    other = RunConfig.model_validate(tabular.model_dump(by_alias=True) | {"source": {"reader": "movielens"}})
    with pytest.raises(ConfigError, match="--data DIR"):
        bring_store_up_to_date(context(other, None, tmp_path))


def test_a_folder_that_is_not_there_is_a_fault_of_the_data(tabular: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        bring_store_up_to_date(context(tabular, tmp_path / "absent", tmp_path))


def test_a_store_that_was_removed_is_made_again(tabular: RunConfig, data: Path, tmp_path: Path, ingested: list[int]) -> None:
    first = bring_store_up_to_date(context(tabular, data, tmp_path))
    (tmp_path / "workspace" / "store").rename(tmp_path / "gone")
    assert bring_store_up_to_date(context(tabular, data, tmp_path)) == first
    assert len(ingested) == 2


def test_looking_does_not_ingest(tabular: RunConfig, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ctr-kd ingest"):
        bring_store_up_to_date(context(tabular, data, tmp_path, read_only=True))
    assert not (tmp_path / "workspace" / "store").exists()


def test_a_logical_time_counts_only_as_far_as_it_hides_something(tabular: RunConfig, data: Path, tmp_path: Path) -> None:
    """Or bounds the windows of a relative split."""
    (data / "b.csv").write_text("u,i,t\n2,10,2024-01-02T10:00\n")
    everything = bring_store_up_to_date(context(tabular, data, tmp_path))
    later = datetime(2024, 1, 5, tzinfo=UTC)
    assert bring_store_up_to_date(context(tabular, data, tmp_path, as_of=later)) == everything
    earlier = bring_store_up_to_date(context(tabular, data, tmp_path, as_of=datetime(2024, 1, 1, 12, tzinfo=UTC)))
    assert earlier["store"] != everything["store"]
    assert earlier["as_of"].startswith("2024-01-01T12")
    run = context(tabular, data, tmp_path)
    relative = type(tabular.split)(train=timedelta(days=1), validation=timedelta(hours=1), test=timedelta(hours=1))
    assert logical_time(later, run.store, relative) == later
    assert logical_time(None, run.store, relative) is None
