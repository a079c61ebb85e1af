"""Scored dates behind a URL: the same folder, whole, once, and again where it did not come so far."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from feature_store.tables.contracts import DataError
from pipelines.config.scoring import ScoreConfig
from pipelines.scoring import remote_scores
from pipelines.scoring.backfill import backfill
from tests.pipelines.served import Served

FILES = ["_manifest.json", "scores.parquet", "scoring.json"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_date_is_copied_when_it_was_scored(served: Served, tmp_path: Path) -> None:
    url = (tmp_path / "bucket").as_uri()
    served.change(score={"copy_to": url})
    made, path = served.run()
    copy = tmp_path / "bucket" / "date=2024-01-03"
    assert made[-1] == "score" and sorted(files(copy)) == FILES and files(copy) == files(path)
    assert served.run()[0] == ()
    served.change(score={"copy_to": url + "/elsewhere/"})
    before = (path / "scores.parquet").stat().st_mtime_ns
    assert served.run()[0] == ("score",)  # copied, and not scored again
    assert (path / "scores.parquet").stat().st_mtime_ns == before
    assert files(tmp_path / "bucket" / "elsewhere" / "date=2024-01-03") == files(copy)
    served.registry().promote("2")
    served.run()
    assert files(tmp_path / "bucket" / "elsewhere" / "date=2024-01-03") == files(path) != files(copy)


def test_what_could_not_be_copied_is_copied_by_the_next_run(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.change(score={"copy_to": (tmp_path / "bucket").as_uri()})
    real = remote_scores.write_file

    def breaks(file: Path, url: str) -> None:
        if file.name == "_manifest.json":
            raise DataError(f"{url}: cannot be written")
        real(file, url)

    monkeypatch.setattr(remote_scores, "write_file", breaks)
    with pytest.raises(DataError, match="cannot be written"):
        served.run()
    copy, path = tmp_path / "bucket" / "date=2024-01-03", served.workspace / "scores" / "date=2024-01-03"
    assert "_manifest.json" not in files(copy)  # it is not whole
    scored = (path / "scores.parquet").stat().st_mtime_ns
    monkeypatch.setattr(remote_scores, "write_file", real)
    assert served.run()[0] == ("score",)
    assert files(copy) == files(path) and (path / "scores.parquet").stat().st_mtime_ns == scored


def test_a_backfill_copies_what_stands_and_scores_nothing_again(served: Served, tmp_path: Path) -> None:
    _, path = served.run()
    served.change(score={"copy_to": (tmp_path / "bucket").as_uri()})
    served.registry().promote("2")  # which is no reason to score the date again
    runner = served.ingest()
    (outcome,) = backfill(runner, date(2024, 1, 3), date(2024, 1, 3), "missing")
    assert outcome.what == "up to date" and files(tmp_path / "bucket" / "date=2024-01-03") == files(path)


def test_a_place_that_takes_nothing_is_said_before_anything_is_scored(served: Served, tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("no folder")
    served.change(score={"copy_to": (tmp_path / "bucket").as_uri()})
    with pytest.raises((DataError, OSError)):
        served.run(date=date(2024, 1, 2))
    assert not (served.workspace / "scores" / "date=2024-01-02").exists()


def test_a_folder_is_no_url() -> None:
    with pytest.raises(ValueError, match="'scores' is no URL; write one"):
        ScoreConfig(copy_to="scores")
