from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from feature_store.config import SourceConfig
from feature_store.readers import mind
from feature_store.readers.mind import MindReader
from feature_store.tables.contracts import ContractCheck, DataError

BEHAVIORS = """\
1\tU1\t11/9/2019 8:00:00 AM\tN1 N2\tN5-1 N6-0
2\tU2\t11/9/2019 7:30:00 AM\t\tN5-0
3\tU1\t11/10/2019 1:00:05 PM\tN1 N2 N1\tN7-1
4\tU3\t11/10/2019 1:00:05 PM\tN9\t
5\tU3\t11/10/2019 1:00:05 PM\tN9\tN7
"""
NEWS = 'N1\tsports\tgolf\tA title, "quoted"\tText\thttps://x\t[]\t[]\n'


def write(data: Path, behaviors: str = BEHAVIORS, news: str | None = NEWS) -> MindReader:
    (data / "behaviors.tsv").write_text(behaviors)
    if news:
        (data / "news.tsv").write_text(news)
    return MindReader(SourceConfig(reader="mind"), data)


def test_impressions_histories_and_news(tmp_path: Path) -> None:
    log = write(tmp_path)
    check = ContractCheck(log.contract())
    batches = list(log.read(log.files()))
    assert [(b.kind, b.file) for b in batches] == [("events", "behaviors.tsv"), ("events", "behaviors.tsv"), ("items", "news.tsv")]
    (listed, none), (shown, rejected), (items, _) = [check.split(batch) for batch in batches]

    first = datetime(2019, 11, 9, 7, 30, tzinfo=UTC)
    before = [round((row["timestamp"] - first).total_seconds() * 1e6) for row in listed.to_pylist()]
    history = [(row["user_id"], row["item_id"], row["clicked"], row["time_known"], row["line"]) for row in listed.to_pylist()]
    # the list of each user's earliest impression, in order, ending just before the log's first event; once
    assert history == [("U1", "N1", 1, False, 1), ("U1", "N2", 1, False, 1), ("U3", "N9", 1, False, 4)]
    assert before == [-2, -1, -1] and not none

    assert [(row["request_id"], row["user_id"], row["item_id"], row["clicked"], row["line"]) for row in shown.to_pylist()] == [
        (1, "U1", "N5", 1, 1),
        (1, "U1", "N6", 0, 1),
        (2, "U2", "N5", 0, 2),
        (3, "U1", "N7", 1, 3),
    ]
    assert shown["timestamp"][3].as_py() == datetime(2019, 11, 10, 13, 0, 5, tzinfo=UTC) and shown["time_known"][0].as_py()
    assert [(row.line, row.reason) for row in rejected] == [(4, "impression without candidates"), (5, "clicked is not 0 or 1")]
    assert "N7" in rejected[1].text

    expected = {"item_id": "N1", "category": "sports", "subcategory": "golf", "title": 'A title, "quoted"', "source": "news.tsv", "line": 1}
    assert items.to_pylist() == [expected]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_list_that_grows_with_the_clicks_does_not_give_them_away(tmp_path: Path, reverse: bool) -> None:
    """What an impression shows and the user clicks stands in the lists of later impressions, and must not come before it."""
    lines = [
        "1\tU1\t11/9/2019 8:00:00 AM\tN1 N2\tN5-1 N6-0",
        "2\tU1\t11/9/2019 9:00:00 AM\tN1 N2 N5\tN7-1",
        "3\tU2\t11/9/2019 8:00:00 AM\t\tN5-1",
        "4\tU2\t11/9/2019 9:00:00 AM\tN5\tN7-0",
        "5\tU3\tsoon\tN9 N5\tN5-1",
        "6\tU3\t11/9/2019 9:00:00 AM\tN9\tN5-1",
    ]
    log = write(tmp_path, "\n".join(lines[::-1] if reverse else lines) + "\n", news=None)
    listed = next(iter(log.read(log.files()))).table
    pairs = sorted(zip(listed["user_id"].to_pylist(), listed["item_id"].to_pylist(), strict=True))
    assert pairs == [(b"U1", b"N1"), (b"U1", b"N2"), (b"U3", b"N9")]


def test_of_impressions_at_one_moment_the_first_line_counts(tmp_path: Path) -> None:
    at = "11/9/2019 8:00:00 AM"
    log = write(tmp_path, f"7\tU1\t{at}\tN1\tN5-1\n3\tU1\t{at}\tN1 N5\tN6-0\n", news=None)
    assert next(iter(log.read(log.files()))).table["item_id"].to_pylist() == [b"N1"]


def test_the_order_of_the_rows_does_not_choose_the_history(tmp_path: Path) -> None:
    tables = []
    for lines in (BEHAVIORS.splitlines(), BEHAVIORS.splitlines()[::-1]):
        log = write(tmp_path, "\n".join(lines) + "\n")
        table = next(iter(log.read(log.files()))).table
        tables.append(table.sort_by([("user_id", "ascending"), ("timestamp", "ascending")]))
    assert tables[0].equals(tables[1])


def test_without_news_there_are_no_attributes(tmp_path: Path) -> None:
    log = write(tmp_path, news=None)
    assert log.contract().item_attributes == [] and [path.name for path in log.files()] == ["behaviors.tsv"]


def test_a_log_without_times_or_histories_yields_no_histories(tmp_path: Path) -> None:
    log = write(tmp_path, "1\tU1\tsoon\tN1\tN5-1\n", news=None)
    assert len(list(log.read(log.files()))) == 1
    log = write(tmp_path, "1\tU1\t11/9/2019 8:00:00 AM\t\tN5-1\n", news=None)
    assert len(list(log.read(log.files()))) == 1


def test_missing_behaviors_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no behaviors.tsv"):
        MindReader(SourceConfig(reader="mind"), tmp_path).files()


@pytest.mark.real_data("mind_sample")
def test_the_real_sample(real_data: Path) -> None:
    log = MindReader(SourceConfig(reader="mind"), real_data)
    check = ContractCheck(log.contract())
    parts = [(batch.kind, check.split(batch)) for batch in log.read(log.files())]
    events = [good for kind, (good, _) in parts if kind == "events"]
    clicked = np.concatenate([good["clicked"].to_numpy() for good in events if good["time_known"][0].as_py()])
    assert len(clicked) == 149_984 and 0.04 < clicked.mean() < 0.041
    assert not any(rejected for _, (_, rejected) in parts)


def test_an_impression_of_many_candidates_is_taken_apart_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands once on its line stands once for each candidate then."""
    log = write(tmp_path)
    whole = [row for batch in log.read(log.files()) for row in zip(batch.table.to_pylist(), batch.lines.tolist(), strict=True)]
    rejected = [row for batch in log.read(log.files()) for row in batch.rejected]
    monkeypatch.setattr(mind, "_PIECE_BYTES", 40)
    batches = list(log.read(log.files()))
    assert [row for batch in batches for row in zip(batch.table.to_pylist(), batch.lines.tolist(), strict=True)] == whole
    assert [row for batch in batches for row in batch.rejected] == rejected and len(batches) > 4
