"""The table of a profile: each part, and what is left of the time of all cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main as cli
from pipelines.cli.profile import PARTS, memory_bandwidth, profile_table
from pipelines.config.run import describe
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.stopwatch import Stopwatch
from tests.pipelines.scoring.test_parts import rows
from tests.pipelines.served import Served


def test_the_table_names_each_part_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0])  # start, and the end of the only lap
    processor = iter([1.0, 2.5, 2.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: next(processor))
    stopwatch = Stopwatch(wanted=True)
    stopwatch.start(cores=2)
    stopwatch.lap("gathering", 3_000_000)
    stopwatch.rows = 1_000_000
    lines = [line.split() for line in profile_table(stopwatch, bandwidth=20e6).splitlines()]
    assert lines[1][:6] == ["gathering", "1.500", "37.5%", "1.500", "3", "10.0%"]
    assert lines[2][:6] == ["waiting", "2.500", "62.5%", "2.500", "0", "-"]  # of two cores for two seconds
    assert lines[3][:6] == ["together", "4.000", "100.0%", "4.000", "3", "3.8%"]
    assert "250,000 rows per second and core" in profile_table(stopwatch, bandwidth=20e6)


def test_without_rows_there_is_nothing_to_tell() -> None:
    assert profile_table(Stopwatch(wanted=True)) == "profile: nothing was scored"


def test_a_core_moves_some_bytes_a_second() -> None:
    assert memory_bandwidth() > 1e6


def test_every_part_is_explained() -> None:
    assert {"reading", "mapping", "gathering", "head", "writing", "waiting"} <= PARTS.keys()


@pytest.mark.parametrize("wanted", [True, False])
def test_the_command_prints_it_where_it_is_wanted(
    wanted: bool, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    (tmp_path / "demo.yaml").write_text(describe(served.config))
    pq.write_table(rows(103).append_column("item_age", pa.array(np.arange(103.0))), tmp_path / "in.parquet")
    files = (
        "--input",
        tmp_path / "in.parquet",
        "--output",
        tmp_path / "out.parquet",
        "--workspace",
        served.workspace,
        "--data",
        served.data,
    )
    with pytest.raises(SystemExit) as end:
        cli.main(["score", str(tmp_path / "demo.yaml"), *map(str, files), *(["--profile"] if wanted else [])])
    assert not end.value.code
    parts = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()[0] in PARTS]
    assert parts == (["reading", "mapping", "gathering", "head", "counting", "writing", "waiting"] if wanted else [])
