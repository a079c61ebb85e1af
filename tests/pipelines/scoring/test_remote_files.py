"""Rows behind URLs through the champion: copied before, written back whole, and nothing left of it in the workspace."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.tables.contracts import DataError
from pipelines.cli import main
from pipelines.scoring import remote_files
from pipelines.scoring.files import score_file
from pipelines.scoring.labelled_files import evaluate_file
from pipelines.scoring.remote_files import local_file, score_files
from tests.pipelines.served import ITEMS, Served

MOMENT = datetime(2024, 1, 3, 10, tzinfo=UTC)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows that lack nothing, in a bucket."""
    items = [ITEMS[n % len(ITEMS)] for n in range(40)]
    columns = {"item_id": items, "timestamp": [MOMENT] * 40, "history": [[10]] * 40, "item_age": np.arange(40.0), "clicked": [0, 1] * 20}
    (tmp_path / "bucket").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "bucket" / "rows.parquet")
    return tmp_path / "bucket" / "rows.parquet"


def left(served: Served) -> list[Path]:
    return list((served.workspace / "scores").glob(".*"))


def test_rows_behind_a_url_are_those_of_a_file(served: Served, rows: Path, tmp_path: Path) -> None:
    score_file(served.context(), rows, tmp_path / "here.parquet")
    target = tmp_path / "bucket" / "night" / "scored.parquet"
    said = score_files(served.context(), rows.as_uri(), target.as_uri())
    assert said.endswith(f": {target.as_uri()}") and str(served.workspace) not in said
    assert pq.read_table(target).equals(pq.read_table(tmp_path / "here.parquet"))
    assert sorted(path.name for path in target.parent.iterdir()) == ["scored.parquet", "scored.scoring.json"] and left(served) == []
    score_files(served.context(), rows, target.as_uri())
    score_files(served.context(), rows.as_uri(), tmp_path / "mixed.parquet")
    assert (tmp_path / "mixed.parquet").read_bytes() == target.read_bytes() and left(served) == []


def test_labelled_rows_behind_a_url(served: Served, rows: Path) -> None:
    with local_file(served.context(), rows.as_uri()) as file:
        measured = json.loads(evaluate_file(served.context(), file))
    assert measured == json.loads(evaluate_file(served.context(), rows)) and left(served) == []


def test_nothing_is_scored_for_a_target_that_takes_nothing(
    served: Served, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(remote_files, "score_file", lambda *arguments: pytest.fail("scored"))
    with pytest.raises(DataError, match=r"scored.parquet: cannot be written"):
        score_files(served.context(), rows, (tmp_path / "file" / "scored.parquet").as_uri())


def test_what_is_no_file_is_one_line_and_leaves_nothing(served: Served, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.parquet: there is no such file"):
        score_files(served.context(), (tmp_path / "none.parquet").as_uri(), tmp_path / "scored.parquet")
    with pytest.raises(DataError, match=r"s3://bucket\?region=x: names a bucket and no file in it"):
        score_files(served.context(), rows, "s3://bucket?region=x")
    assert left(served) == []


def test_an_upload_that_broke_is_done_again(served: Served, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "bucket" / "scored.parquet"

    def broken(file: Path, url: str) -> None:
        raise DataError(f"{url}: cannot be written (AWS Error NETWORK_CONNECTION); run it again")

    with monkeypatch.context() as patch:
        patch.setattr(remote_files, "write_file", broken)
        with pytest.raises(DataError, match="run it again"):
            score_files(served.context(), rows.as_uri(), target.as_uri())
    assert not target.exists() and len(left(served)) == 1
    score_files(served.context(), rows.as_uri(), target.as_uri())
    assert pq.read_table(target).num_rows == 40 and left(served) == []


def test_the_command_takes_urls(
    served: Served, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    seen: list[object] = []
    monkeypatch.setattr(main, "ensure_model", lambda *arguments: None)
    monkeypatch.setattr(main, "score_files", lambda run, source, target: seen.extend([source, target]) or "scored")
    (tmp_path / "demo.yaml").write_text("source: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}\n")
    command = ["score", str(tmp_path / "demo.yaml"), "--workspace", str(tmp_path / "workspace"), "--output", "s3://bucket/scored.parquet"]
    with pytest.raises(SystemExit) as ended:
        main.main([*command, "--input", rows.as_uri()])
    assert ended.value.code == 0 and seen == [rows.as_uri(), "s3://bucket/scored.parquet"], capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main.main([*command, "--input", str(tmp_path / "none.parquet")])
    assert ended.value.code == 2 and "does not exist" in capsys.readouterr().err
