"""All that will not fit is said at once, and what fits is not complained about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feature_store.config import SourceConfig, SplitConfig
from feature_store.readers.first_rows import Findings, check_log

SOURCE: dict[str, Any] = {
    "reader": "tabular",
    "events": {"path": "log*.csv", "user": "u", "item": "i", "time": "t", "clicked": "c"},
    "items": {"path": "items.csv", "item": "id", "categorical": ["shelf"]},
    "context": {"categorical": ["device"]},
}
SPLIT = SplitConfig.model_validate({"fractions": [0.8, 0.1, 0.1]})


def check(data: Path, split: SplitConfig = SPLIT, **source: Any) -> Findings:
    return check_log(SourceConfig.model_validate({**SOURCE, **source}), split, data)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = "".join(f"{n % 3},{n % 4},{1717000000 + n},{n % 2},{'abc'[n % 3]}\n" for n in range(40))
    (tmp_path / "log-1.csv").write_text("u,i,t,c,device\n" + rows)
    (tmp_path / "items.csv").write_text("id,shelf\n" + "".join(f"{n},x\n" for n in range(4)))
    return tmp_path


def test_a_log_that_fits(data: Path) -> None:
    found = check(data)
    assert found.faults == found.doubts == []
    assert found.seen[0] == "2 files" and "log-1.csv: 40 events looked at" in found.seen and "items.csv: 4 items looked at" in found.seen
    assert check_log(SourceConfig(reader="simulated"), SPLIT, None).faults == []


def test_everything_is_said_at_once(data: Path) -> None:
    (data / "log-2.csv").write_text("u,i,t\n1,2,1717000000\n")
    (data / "log-3.csv").write_text("u,i,t,c,device\n" + "1,2,soon,1,a\n,2,1717000000,1,a\n3,2,1717000000,yes and no,a\n")
    (data / "items.csv").write_text("name,shelf\nx,y\n")
    early = SplitConfig.model_validate({"train_until": "2001-01-01", "validate_until": "2001-01-02", "test_until": "2001-01-03"})
    faults = "\n".join(check(data, early).faults)
    for part in (
        "items.csv: column 'id' is missing",
        "column 'c' is missing",
        "column 'device' is missing",
        "log-3.csv: timestamp is not a time in 1 of 3 rows, first in row 2",
        "log-3.csv: user_id is null in 1 of 3 rows, first in row 3",
        "log-3.csv: clicked is not 0 or 1 in 1 of 3 rows, first in row 4",
        "split.test_until (2001-01-03 00:00) is before the first event (2024-05-29",
    ):
        assert part in faults, part


def test_what_was_probably_not_meant(data: Path) -> None:
    (data / "items.csv").write_text("id,shelf\nitem-1,x\nitem-2,x\n")
    found = check(data)
    assert found.faults == [] and "none of the 4 item_id that were looked at is described" in found.doubts[0]
    (data / "log-1.csv").write_text("u,i,t,c,device\n" + "".join(f"1,2,{1717000000 + n},1,\n" for n in range(9)))
    found = check(data)
    assert "events: every row that was looked at is clicked" in found.faults[0] and "context column device is null" in found.doubts[0]


def test_a_column_that_knows_the_answer(data: Path) -> None:
    (data / "log-1.csv").write_text("u,i,t,c,device\n" + "".join(f"1,2,{1717000000 + n},{n % 2},{'a' * (n % 2)}\n" for n in range(9)))
    assert "context column device is filled where a row was clicked and nowhere else" in check(data).faults[0]


def test_no_file_and_names_that_are_taken(data: Path) -> None:
    assert "no file matches source.events.path" in check(data, events={**SOURCE["events"], "path": "no*.csv"}).faults[0]
    assert "the name of column 'label' is taken" in check(data, context={"categorical": ["label"]}).faults[0]
