"""Bad input through the real program: its exit code, its one line, and a store that is byte for byte as it was."""

from __future__ import annotations

import csv
import shutil
import signal
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main as cli
from pipelines.tracking.tracker import Tracker

COLUMNS = ("user", "item", "time", "clicked", "request")
CONFIGURATION = """
name: demo
source:
  reader: tabular
  events: {path: "log.*", user: user, item: item, time: time, clicked: clicked, request: request}
split: {fractions: [0.8, 0.1, 0.1]}
"""
# Only every other request has a click, and the validation window holds one that has none.
NO_CLICK = "split={train_until: 2024-01-02T00:30, validate_until: 2024-01-02T01:00, test_until: 2024-01-02T12:00}"


def rows() -> list[tuple[Any, ...]]:
    """Two days of requests with three candidates each, of which the first is clicked in every other request."""
    moments = [datetime(2024, 1, 1) + timedelta(minutes=30 * (n // 3)) for n in range(288)]
    return [(f"u{n % 7}", n % 11, moment.isoformat(), int(n % 6 == 0), n // 3) for n, moment in enumerate(moments)]


def write_csv(folder: Path, table: list[tuple[Any, ...]], columns: tuple[str, ...] = COLUMNS) -> None:
    folder.mkdir(exist_ok=True)
    with open(folder / "log.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *table])


def write_parquet(folder: Path, cut: int) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(dict(zip(COLUMNS, zip(*rows(), strict=True), strict=True))), folder / "whole.parquet")
    (folder / "log.parquet").write_bytes((folder / "whole.parquet").read_bytes()[:-cut])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Program:
    """Runs the program in this process, with its real stages."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.workspace, self.conf, self.capsys = folder / "workspace", folder / "demo.yaml", capsys
        self.conf.write_text(CONFIGURATION)

    def __call__(self, command: str, *arguments: str | Path) -> tuple[int, str]:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([command, str(self.conf), "--workspace", str(self.workspace), *map(str, arguments)])
        return int(end.value.code or 0), self.capsys.readouterr().err

    def fails(self, command: str, *arguments: str | Path) -> tuple[int, str]:
        """Exit code and the line that the program ends in; log lines before it begin with the time of day."""
        code, err = self(command, *arguments)
        *log, line = err.strip().splitlines()
        assert line.startswith("ctr-kd: ")
        assert all(text[:8].replace(":", "").isdigit() for text in log), err
        return code, line


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose workspace holds a good log."""
    folder = tmp_path_factory.mktemp("filled")
    write_csv(folder / "good", rows())
    (folder / "demo.yaml").write_text(CONFIGURATION)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(Tracker, "_send", lambda self, work: None)
        patch.setattr(signal, "signal", lambda *arguments: None)
        cli.main(["ingest", str(folder / "demo.yaml"), "--workspace", str(folder / "workspace"), "--data", str(folder / "good")])
    assert end.value.code == 0
    return folder


@pytest.fixture
def program(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    shutil.copytree(filled, tmp_path / "here")
    return Program(tmp_path / "here", capsys)


@pytest.mark.parametrize(
    ("make", "more", "expected"),
    [
        (lambda folder: None, (), (3, "does not exist")),
        (lambda folder: folder.mkdir(), (), (3, "log.*")),
        (lambda folder: write_csv(folder, []), (), (3, "log.csv")),
        (lambda folder: write_csv(folder, rows(), ("user", "article", *COLUMNS[2:])), (), (3, "item")),
        (lambda folder: write_parquet(folder, cut=40), (), (3, "log.parquet")),
        (
            lambda folder: write_csv(folder, [*rows(), *[("u1", "", "soon", 1, 9)] * 60]),
            (),
            (3, "60 of 348 rows (17.24%) break the contract"),
        ),
        (lambda folder: write_csv(folder, rows()), ("--set", NO_CLICK), (3, "validation split, 2024-01-02T00:30:00+00:00")),
        (lambda folder: write_csv(folder, rows()), ("--set", "split.fractions=[0.9,0.9,0.1]"), (2, "fractions must")),
    ],
    ids=[
        "no folder",
        "no file",
        "header only",
        "renamed column",
        "cut Parquet",
        "bad rows",
        "no click in a split",
        "split",
    ],
)
def test_bad_input_is_one_line_and_leaves_the_store_as_it_was(
    program: Program, tmp_path: Path, make: Callable[[Path], None], more: tuple[str, ...], expected: tuple[int, str]
) -> None:
    make(tmp_path / "bad")
    before = contents(program.workspace / "store")
    code, line = program.fails("run", "--data", tmp_path / "bad", "--until", "ingest", *more)
    assert code == expected[0], line
    assert expected[1] in line
    assert contents(program.workspace / "store") == before


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("[{by: [itme], count: clicks}]", "ctr-kd: statistics.of[0].by: itme is no column of the log; the nearest existing name is 'item'"),
        (
            "[{by: item, count: clicks, windows: 7h}, {by: [item], count: [clicks], windows: [7h, 8h]}]",
            "ctr-kd: --set: statistics: of: item_clicks_7h is declared twice; remove one of the two",
        ),
        ("[{by: item, cuont: clicks}]", "ctr-kd: --set: statistics.of.0.cuont: unknown key; did you mean 'count'?"),
        ("[{by: user, age_of_last: true, windows: soon}]", "ctr-kd: --set: statistics.of.0.windows.0: 'soon' is not a duration"),
    ],
)
def test_a_statistic_that_cannot_be_is_one_line_and_loses_nothing(program: Program, of: str, expected: str) -> None:
    before = contents(program.workspace / "store")
    code, line = program.fails("ingest", "--set", f"statistics.of={of}")
    assert code == 2 and line.startswith(expected), line
    assert contents(program.workspace / "store") == before
    code, err = program("ingest")
    assert code == 0 and "ingest: up to date" in err


def test_a_window_longer_than_the_log_is_said_and_the_run_goes_on(program: Program) -> None:
    code, err = program("ingest", "--set", "statistics.of=[{by: item, count: clicks, windows: 30d}]")
    assert code == 0
    assert err.count("statistics.of: 30d is longer than the clicks of the log (47h): it counts all of them") == 1


def test_clicks_alone_in_a_split_are_named_at_once(program: Program, tmp_path: Path) -> None:
    """Validation could measure nothing by them, and said so after the pretraining only."""
    clicked = [(*row[:3], int(bool(row[3]) or "2024-01-02T00:30" <= row[2] < "2024-01-02T03:00"), row[4]) for row in rows()]
    write_csv(tmp_path / "bad", clicked)
    split = "split={train_until: 2024-01-02T00:30, validate_until: 2024-01-02T03:00, test_until: 2024-01-02T12:00}"
    code, line = program.fails("run", "--data", tmp_path / "bad", "--set", split)
    assert code == 3
    assert "the validation split, 2024-01-02T00:30:00+00:00 to 2024-01-02T03:00:00+00:00 (exclusive, UTC) has nothing but clicks" in line


def test_a_registry_that_cannot_be_reached_is_one_line(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for command in (("rollback",), ("promote",), ("score", "--model", "models:/demo/1")):
        code, line = program.fails(*command, "--set", "tracking.uri=http://127.0.0.1:9")
        assert code == 1
        assert "MLflow at http://127.0.0.1:9 cannot be used" in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("--set", "tracking.uri=nonsense://x"), (2, "cannot be used")),
        (("--set", "tracking.uri=postgresql+nodriver://x/y"), (2, "cannot be used")),
        (("--as-of", "0001-01-01"), (2, "write one from 1970 on")),
        (("--set", "split={train: 99999999999w, validation: 1d, test: 1d}"), (2, "longer than any log")),
    ],
    ids=["no such server", "no such driver", "year 1", "endless"],
)
def test_what_no_second_try_mends_says_so_by_its_code(program: Program, change: tuple[str, ...], expected: tuple[int, str]) -> None:
    code, line = program.fails("rollback", *change)
    assert code == expected[0], line
    assert expected[1] in line


def test_a_database_that_is_none_is_damaged_data(program: Program) -> None:
    (program.workspace / "mlflow.db").write_bytes(b"no database" * 100)
    code, line = program.fails("rollback")
    assert code == 3, line
    assert "is not a database" in line


def test_a_path_that_cannot_be_is_a_mistake_of_the_command_line(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for workspace, reason in ((tmp_path / "file" / "workspace", "not a directory"), (tmp_path / ("x" * 300), "file name too long")):
        program.workspace = workspace
        code, line = program.fails("ingest", "--data", tmp_path)
        assert code == 2, line
        assert reason in line or str(workspace)[:80] in line


def test_a_model_that_does_not_exist_is_named(program: Program, mlflow_database: Path) -> None:
    shutil.copyfile(mlflow_database, program.workspace / "mlflow.db")
    assert program.fails("rollback") == (
        1,
        "ctr-kd: demo has no champion, so there is none to go back from; run `ctr-kd promote` to make one",
    )
    code, line = program.fails("score", "--model", "models:/demo/99")
    assert code == 2
    assert "models:/demo/99: MLflow at sqlite:" in line and "has no registered model demo; it has none" in line


def test_looking_changes_nothing(program: Program, tmp_path: Path) -> None:
    """Neither where a log was ingested, nor where there is no workspace."""
    write_csv(tmp_path / "other", rows())
    before = contents(program.workspace)
    assert program("status", "--data", tmp_path / "other")[0] == 0
    assert contents(program.workspace) == before
    program.workspace = tmp_path / "absent"
    assert program("status", "--data", tmp_path / "other")[0] == 0
    assert not program.workspace.exists()


def test_a_wrong_digest_is_one_line(program: Program) -> None:
    (file,) = program.workspace.glob("artifacts/ingest/*/clicks.parquet")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    code, line = program.fails("pretrain")
    assert code == 3
    assert f"{file} does not match its digest" in line
