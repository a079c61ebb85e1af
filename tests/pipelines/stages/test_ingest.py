"""What ``ingest`` notices: new input, a changed file, a logical time; and what it does not read again."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json, write_json
from feature_store.tables.parquet_files import read_parquet
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.stages.ingest import Ingested, bring_store_up_to_date, logical_time
from pipelines.tasks import clicks
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from tests.pipelines.conftest import MINIMAL

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


class Listening(Console):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.lines: list[str] = []

    def report(self, text: str, stage: str | None = None, **fields: object) -> None:
        self.lines.append(text)


def context(config: RunConfig, data: Path | None, tmp_path: Path, **more: object) -> RunContext:
    return RunContext(config, tmp_path / "workspace", data, console=Listening(), **more)  # type: ignore[arg-type]


def said(run: RunContext) -> str:
    assert isinstance(run.console, Listening)
    return "\n".join(run.console.lines)


@pytest.fixture
def ingested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = clicks.ingest
    monkeypatch.setattr(clicks, "ingest", lambda *arguments, **named: calls.append(1) or original(*arguments, **named))
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


def test_later_commands_may_leave_out_the_data_and_see_a_new_day(
    tabular: RunConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="--data DIR"):
        bring_store_up_to_date(context(tabular, None, tmp_path))
    monkeypatch.chdir(tmp_path)
    first = bring_store_up_to_date(context(tabular, Path("data"), tmp_path))
    monkeypatch.chdir("/")
    again = context(tabular, None, tmp_path)
    assert (bring_store_up_to_date(again), said(again)) == (first, "")
    (data / "b.csv").write_text("u,i,t\n2,10,2024-01-02T10:00\n")
    with pytest.raises(DataError, match="not ingested as it is now"):
        bring_store_up_to_date(context(tabular, None, tmp_path, read_only=True))
    night = context(tabular, None, tmp_path)
    assert bring_store_up_to_date(night) != first
    assert night.store.dates() == ["2024-01-01", "2024-01-02"]
    assert f"new input in {data}, the data folder of an earlier command" in said(night)


def test_a_data_folder_that_is_gone_or_was_never_named_is_said_in_a_line(tabular: RunConfig, data: Path, tmp_path: Path) -> None:
    first = bring_store_up_to_date(context(tabular, data, tmp_path))
    (data / "a.csv").rename(tmp_path / "a.csv")
    emptied = context(tabular, None, tmp_path)
    assert bring_store_up_to_date(emptied) == first
    assert "no file matches source.events.path '*.csv'" in said(emptied) and "\n" not in said(emptied)
    data.rmdir()
    gone = context(tabular, None, tmp_path)
    assert bring_store_up_to_date(gone) == first
    assert f"the data folder {data} is not there any more" in said(gone) and "\n" not in said(gone)
    file = tmp_path / "workspace" / "artifacts" / "ingest" / Ingested.FILE
    write_json(file, {name: value for name, value in load_json(file).items() if name in ("source", "inputs")})  # as release 0.2 left it
    unnamed = context(tabular, None, tmp_path)
    assert bring_store_up_to_date(unnamed) == first
    assert "no command named a data folder" in said(unnamed) and "--data DIR" in said(unnamed)


def test_another_log_does_not_replace_the_store_unless_forced(tabular: RunConfig, data: Path, tmp_path: Path, ingested: list[int]) -> None:
    first = bring_store_up_to_date(context(tabular, data, tmp_path))
    values = tabular.model_dump(by_alias=True)
    events = values["source"]["events"]
    threshold = {"source": {**values["source"], "bad_rows_limit": 0.5, "events": {**events, "path": "a*.csv"}}, "name": "stricter"}
    assert bring_store_up_to_date(context(RunConfig.model_validate(values | threshold), data, tmp_path)) == first
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "c.csv").write_text("u,i,at\n1,10,2024-01-01T10:00\n")
    other = RunConfig.model_validate(values | {"source": {**values["source"], "events": {**events, "time": "at"}}, "name": "other"})
    for folder in (tmp_path / "clicks", None):
        with pytest.raises(ConfigError) as refused:
            bring_store_up_to_date(context(other, folder, tmp_path))
        assert "configuration stricter (events.time: t), and other has another (events.time: at)" in str(refused.value)
        assert "--workspace" in str(refused.value) and "--force" in str(refused.value)
    with pytest.raises(ConfigError, match=r"source|reader: simulated"):
        bring_store_up_to_date(context(RunConfig.model_validate(MINIMAL), None, tmp_path))
    assert bring_store_up_to_date(context(tabular, data, tmp_path)) == first
    assert bring_store_up_to_date(context(other, tmp_path / "clicks", tmp_path, force=True)) != first
    with pytest.raises(ConfigError, match="configuration other"):
        bring_store_up_to_date(context(tabular, data, tmp_path))


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


def test_a_url_is_copied_remembered_and_looked_behind_again(tabular: RunConfig, data: Path, tmp_path: Path, ingested: list[int]) -> None:
    first = context(tabular, None, tmp_path, url=data.as_uri())
    bring_store_up_to_date(first)
    assert "copies 1 of 1 files" in said(first) and (tmp_path / "workspace" / "raw" / "a.csv").is_file() and len(ingested) == 1
    (data / "b.csv").write_text("u,i,t\n2,10,2024-01-02T10:00\n")
    night = context(tabular, None, tmp_path)  # says nothing of where the log lies
    bring_store_up_to_date(night)
    assert "copies 1 of 2 files" in said(night) and len(ingested) == 2 and night.url == data.as_uri()
    for file in data.iterdir():
        file.unlink()
    gone = context(tabular, None, tmp_path)
    bring_store_up_to_date(gone)
    assert "warning:" in said(gone) and "holds no file; the store stays as it is" in said(gone) and len(ingested) == 2
    with pytest.raises(DataError, match="holds no file"):
        bring_store_up_to_date(context(tabular, None, tmp_path, url=data.as_uri()))
    looking = context(tabular, None, tmp_path, url=data.as_uri(), read_only=True)
    bring_store_up_to_date(looking)  # status copies nothing
    assert said(looking) == ""


def test_items_may_lie_behind_a_url_of_their_own(tabular: RunConfig, data: Path, tmp_path: Path, ingested: list[int]) -> None:
    bucket = tmp_path / "bucket" / "shop"
    bucket.mkdir(parents=True)
    (bucket / "items-1.csv").write_text("i,shelf\n10,a\n")
    (bucket / "other.csv").write_text("x\n")
    items = {"path": f"{bucket.as_uri()}/items-*.csv", "item": "i", "categorical": ["shelf"]}
    config = RunConfig.model_validate(tabular.model_dump(by_alias=True) | {"source": tabular.source.model_dump() | {"items": items}})
    first = context(config, data, tmp_path)
    bring_store_up_to_date(first)
    assert "copies 1 of 1 files" in said(first) and len(ingested) == 1
    assert read_parquet(first.store.items_file() or Path())["shelf"].to_pylist() == ["a"]
    (bucket / "items-2.csv").write_text("i,shelf\n11,b\n")
    night = context(config, data, tmp_path)
    bring_store_up_to_date(night)
    assert read_parquet(night.store.items_file() or Path())["shelf"].to_pylist() == ["a", "b"] and len(ingested) == 2
    for file in bucket.iterdir():
        file.unlink()
    gone = context(config, data, tmp_path)
    bring_store_up_to_date(gone)
    assert "warning:" in said(gone) and "holds no file; the store stays as it is" in said(gone) and len(ingested) == 2
    with pytest.raises(DataError, match="holds no file"):
        bring_store_up_to_date(context(config, data, tmp_path / "elsewhere"))


def test_a_table_says_which_version_was_read(data: Path, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: make test-extras installs it")
    rows = pa.table({"u": [n % 7 for n in range(90)], "i": [n % 5 for n in range(90)], "t": [1717200000 + 600 * n for n in range(90)]})
    deltalake.write_deltalake(data / "log", rows.slice(0, 60))
    deltalake.write_deltalake(data / "log", rows.slice(60), mode="append")
    events = {"delta": "log", "user": "u", "item": "i", "time": "t"}
    (tmp_path / "log.yaml").write_text(yaml.safe_dump({**TABULAR, "source": {"reader": "tabular", "events": events}}))
    command = [sys.executable, "-m", "pipelines", "ingest", str(tmp_path / "log.yaml"), "--workspace", str(tmp_path / "workspace")]
    done = subprocess.run([*command, "--data", str(data)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the events are version 1 of Delta Lake table log, 2 files" in done.stderr
    (manifest,) = (tmp_path / "workspace" / "artifacts" / "ingest").glob("*/_manifest.json")
    assert load_json(manifest)["facts"]["table_version"] == "1"


def test_an_iceberg_table_needs_no_data_folder(tmp_path: Path) -> None:
    catalogs = pytest.importorskip("pyiceberg.catalog", reason="pyiceberg is not installed: make test-extras installs it")
    settings = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/lake"}
    catalog = catalogs.load_catalog("default", **settings)
    catalog.create_namespace("shop")
    rows = pa.table({"u": [1, 1], "i": [10, 11], "t": [1717200000, 1717200600]})
    table = catalog.create_table("shop.log", schema=rows.schema)
    table.append(rows)
    events = {"iceberg": "shop.log", "catalog": settings, "user": "u", "item": "i", "time": "t"}
    config = RunConfig.model_validate({**TABULAR, "source": {"reader": "tabular", "events": events}})
    first = bring_store_up_to_date(context(config, None, tmp_path))
    assert bring_store_up_to_date(context(config, None, tmp_path)) == first
    table.append(rows.set_column(0, "u", pa.array([2, 2])))
    assert bring_store_up_to_date(context(config, None, tmp_path)) != first
    (tmp_path / "catalog.db").rename(tmp_path / "away.db")
    away = context(config, None, tmp_path)
    bring_store_up_to_date(away)
    assert "there is no such catalogue; correct source.events.catalog; the store stays as it is" in said(away)


def test_a_table_behind_a_url_is_the_data_folder(data: Path, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: make test-extras installs it")
    rows = pa.table({"u": [1, 1], "i": [10, 11], "t": [1717200000, 1717200600]})
    deltalake.write_deltalake(tmp_path / "lake", rows)
    events = {"delta": (tmp_path / "lake").as_uri(), "user": "u", "item": "i", "time": "t"}
    config = RunConfig.model_validate({**TABULAR, "source": {"reader": "tabular", "events": events}})
    first = bring_store_up_to_date(context(config, None, tmp_path))
    deltalake.write_deltalake(tmp_path / "lake", rows.set_column(0, "u", pa.array([2, 2])), mode="append")
    night = context(config, None, tmp_path)
    assert bring_store_up_to_date(night) != first
    assert "copies 1 of 2 files" in said(night) and "the events are version 1 of Delta Lake table file://" in said(night)
    assert bring_store_up_to_date(night)  # a context that copied it already
    for other in (context(config, data, tmp_path), context(config, None, tmp_path, url="s3://bucket/other")):
        with pytest.raises(ConfigError, match=r"source.events.delta is a URL, and so is the log's place: leave --data out"):
            bring_store_up_to_date(other)
    shutil.rmtree(tmp_path / "lake")
    away = context(config, None, tmp_path)
    bring_store_up_to_date(away)
    assert "does not exist; the store stays as it is" in said(away)
