"""The commands before the first run: what init writes can be read, checked and run, and never replaces anything."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.cli import main as cli
from pipelines.config.run import load

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def write_log(folder: Path, rows: int = 2000) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "user_id": rng.integers(0, 50, rows),
        "odd: one": rng.integers(0, 20, rows),  # as odd as names get
        "article_id": rng.integers(0, 20, rows),
        "ts": 1_717_000_000 + np.arange(rows) * 600,
        "label": rng.integers(0, 2, rows),
        "yes": rng.choice(["a", "b"], rows),
    }
    pd.DataFrame(columns).to_csv(folder / "log.csv", index=False)
    pd.DataFrame({"article_id": range(20), "topic": ["x", "y"] * 10}).to_csv(folder / "articles.csv", index=False)


def test_an_example_without_data(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "deep" / "conf.yaml"
    code, out, err = program("init", "--output", place)
    assert code == 0 and place.read_text() == out and f"next: ctr-kd check {place}" in err
    assert load(place, ()).source.reader == "simulated"
    before = place.read_bytes()
    code, _, err = program("init", "--output", place)
    assert code == 2 and "is there already and stays as it is; name another file with --output" in err and place.read_bytes() == before


def test_a_configuration_for_a_log_of_ones_own(program: Program, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data")
    place = tmp_path / "mine.yaml"
    code, out, err = program("init", tmp_path / "data", "--output", place)
    assert code == 0 and "looks at log.csv" in err
    config = load(place, ())
    events, items = config.source.events, config.source.items
    assert events is not None and items is not None
    assert (events.user, events.item, events.time, events.clicked) == ("user_id", "article_id", "ts", "label")
    assert (items.path, items.item, items.categorical) == ("articles.csv", "article_id", ["topic"])
    assert config.source.context.categorical == ["odd: one", "yes"] and config.split is not None and config.split.train is not None
    assert "describes 100% of the items" in out and "different values in 2,000 rows" in out
    code, out, _ = program("check", place, "--data", tmp_path / "data")
    assert code == 0 and "the first rows fit; next: ctr-kd run" in out
    (tmp_path / "data" / "log.csv").write_text("user_id,ts\n1,soon\n")
    code, out, err = program("check", place, "--data", tmp_path / "data", "--workspace", tmp_path / "workspace")
    assert code == 3 and out.count("does not fit: log.csv: column") == 4 and "the log does not fit" in err
    assert not (tmp_path / "workspace").exists()


def test_a_folder_that_is_not_there(program: Program, tmp_path: Path) -> None:
    code, _, err = program("init", tmp_path / "no", "--output", tmp_path / "x.yaml")
    assert code == 3 and "the data folder does not exist" in err and not (tmp_path / "x.yaml").exists()


def test_check_copies_no_more_of_a_url_than_the_log_needs(program: Program, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_log(tmp_path / "data")
    (tmp_path / "mine.yaml").write_text(
        "source:\n  reader: tabular\n  events: {path: log.csv, user: user_id, item: article_id, time: ts, clicked: label}\n"
        "split: {fractions: [0.8, 0.1, 0.1]}\n"
    )
    code, out, err = program("check", tmp_path / "mine.yaml", "--data", (tmp_path / "data").as_uri())
    assert code == 0 and "check: copies 1 of 1 files" in err and out.startswith("1 files\nlog.csv: 2,000 events looked at")
