"""Codes and offsets back to raw ids."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.features.summary import ClickSummary
from pipelines.tasks.click_rows import ClickRows


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory, make_assembly: Callable[[Path], None]) -> Path:
    path = tmp_path_factory.mktemp("assembly")
    make_assembly(path)
    return path


def test_raw_rows_say_what_the_codes_mean(assembly: Path) -> None:
    raw = ClickRows(assembly)
    rows = raw.read("test")
    table = raw.raw(rows)
    assert table.num_rows == rows.num_rows == 300
    clicks = pq.read_table(assembly / "clicks.parquet").to_pylist()
    ids = [10, 11, 12, 13, 99]
    for row, found in zip(rows.slice(0, 60).to_pylist(), table.slice(0, 60).to_pylist(), strict=True):
        history = clicks[row["history_start"] : row["history_end"]]
        assert found["history"] == [ids[click["item"]] for click in history]
        moments = [None if moment is None else round(moment.timestamp() * 1e6) for moment in found["history_timestamps"]]
        assert moments == [click["timestamp"] if click["time_known"] else None for click in history]
        assert found["item_id"] == ids[row["item"]]
        assert found["user_id"] == f"u{row['user']}"
        assert found["device"] == row["device"]
        assert found["item_age"] == row["item_age"]
        assert round(found["timestamp"].timestamp() * 1e6) == row["timestamp"]


def test_described_rows_have_attributes_and_the_length_of_their_history(assembly: Path, tmp_path: Path) -> None:
    """An attribute of items that is called as a statistic is takes that one's place."""
    described = shutil.copytree(assembly, tmp_path / "described")
    for file, attributes in (("items", {"genre": list("abcba"), "item_age": ["new"] * 5}), ("users", {"country": ["br", None] * 10})):
        table = pq.read_table(described / f"{file}.parquet")
        for name, values in attributes.items():
            table = table.append_column(name, pa.array(values))
        pq.write_table(table, described / f"{file}.parquet")
    more = {"item_attributes": ["genre", "item_age"], "user_attributes": ["country"]}
    ClickSummary.read(described).model_copy(update=more).write(described)

    log = ClickRows(described)
    assert log.numeric == ["item_clicks_1h", "item_clicks_1d", "history_length"]
    assert log.categorical == ["device", "genre", "item_age", "country"]
    rows = log.read("test").slice(0, 40)
    table = log.described(rows)
    for row, found in zip(rows.to_pylist(), table.to_pylist(), strict=True):
        assert found["genre"] == "abcba"[row["item"]] and found["item_age"] == "new"
        assert found["country"] == (None if row["user"] % 2 else "br")
        assert found["history_length"] == row["history_end"] - row["history_start"]
        assert (found["item_clicks_1h"], found["label"]) == (row["item_clicks_1h"], row["label"])
    assert log.described(rows.slice(0, 0)).num_rows == 0


@pytest.mark.parametrize("rows_of_a_group", [7, 64, 10_000])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_newest_rows_are_the_last_ones_however_the_file_is_cut(
    assembly: Path, split: str, rows_of_a_group: int, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(assembly, tmp_path / "own"))
    pq.write_table(pq.read_table(own / "rows.parquet"), own / "rows.parquet", row_group_size=rows_of_a_group)
    raw = ClickRows(own)
    everything = raw.read(split)
    for most in (1, 10, everything.num_rows - 1, everything.num_rows, everything.num_rows + 5):
        newest = everything.slice(max(0, everything.num_rows - most))
        assert raw.read(split, newest=most).equals(newest)
        assert raw.read(split, ["label", "item"], most).equals(newest.select(["label", "item"]))
        assert raw.evaluation_rows(split, most).label.tolist() == newest["label"].to_pylist()
    assert raw.read("no such split", ["label"], 3).num_rows == 0


def test_pieces_are_the_whole(assembly: Path) -> None:
    raw = ClickRows(assembly)
    rows = raw.read("train")
    assert pa.concat_tables(raw.batches(rows, 77)).equals(raw.raw(rows))


def test_items_outside_the_vocabulary(assembly: Path) -> None:
    raw = ClickRows(assembly)
    rows = raw.read("test")
    assert raw.in_vocabulary(rows).tolist() == [item != 4 for item in rows["item"].to_pylist()]
