"""Parquet files whose schema means harm, or only looks like it: refused in one line, or stored as the text that they are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import SourceConfig
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError

TEXTS = ['=HYPERLINK("http://x")', "+1", "@a", "-1", "<script>alert(1)</script>", "'; drop table events; --", "${x}", "i\0z"]
GOOD = {
    "user": [f"u{n}" for n in range(8)],
    "item": TEXTS,
    "time": [datetime(2024, 1, 1, 12, tzinfo=UTC)] * 8,
    "device": ["a"] * 8,
}


def bring_in(folder: Path, table: pa.Table, device: str = "device") -> Store:
    events = {"path": "log.parquet", "user": "user", "item": "item", "time": "time"}
    source = SourceConfig.model_validate({"reader": "tabular", "events": events, "context": {"categorical": [device]}})
    pq.write_table(table, folder / "log.parquet")
    store = Store(folder / "store")
    ingest(source, folder, store, folder / "failed")
    return store


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item", pa.array([{"a": {"b": [1]}}] * 8), "column 'item_id' has type struct<.*; an id is text or an integer"),
        ("user", pa.array([["x"]] * 8), "column 'user_id' has type list<.*; an id is text or an integer"),
        ("user", pa.array([True] * 8), "column 'user_id' has type bool; an id is text or an integer"),
        ("time", pa.array([[1]] * 8), "column 'timestamp' has type list<"),
        ("device", pa.array([[("k", "v")]] * 8, pa.map_(pa.string(), pa.string())), "column 'device' has type map<"),
        ("item", pa.array([bytes(16)] * 8, pa.uuid()), "column 'item_id' has type extension<arrow.uuid>"),
    ],
)
def test_a_type_that_holds_no_such_values_is_named(tmp_path: Path, column: str, values: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"log.parquet: {message}") as error:
        bring_in(tmp_path, pa.table({**GOOD, column: values}))
    assert "\n" not in str(error.value)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table(GOOD).append_column("item", pa.array(TEXTS))
    with pytest.raises(DataError, match=r"log.parquet: column 'item' occurs 2 times; rename all but one"):
        bring_in(tmp_path, table)


def test_a_pickle_in_the_metadata_of_a_type_is_not_run(tmp_path: Path) -> None:
    """Older releases of Arrow took a type that was written in Python out of its pickle."""
    harm = b"cos\nsystem\n(S'touch " + str(tmp_path / "harm").encode() + b"'\ntR."
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": harm}
    table = pa.table(GOOD)
    place = table.schema.get_field_index("item")
    store = bring_in(tmp_path, table.cast(table.schema.set(place, table.schema.field(place).with_metadata(metadata))))
    assert sorted(pq.ParquetFile(store.event_files()[0]).read()["item_id"].to_pylist()) == sorted(TEXTS)
    assert not (tmp_path / "harm").exists()


def test_names_and_values_that_look_like_paths_code_or_formulas_are_kept_as_they_are(tmp_path: Path) -> None:
    name = '../../etc/<script>alert(1)</script>"; drop table events; --'
    store = bring_in(tmp_path, pa.table({**{key: GOOD[key] for key in ("user", "item", "time")}, name: TEXTS}), name)
    stored = pq.ParquetFile(store.event_files()[0]).read()
    assert sorted(stored["item_id"].to_pylist()) == sorted(stored[name].to_pylist()) == sorted(TEXTS)
    assert {path.name for path in tmp_path.iterdir()} == {"log.parquet", "store"}


def test_a_text_of_megabytes_is_an_id_like_others(tmp_path: Path) -> None:
    store = bring_in(tmp_path, pa.table({**GOOD, "item": ["x" * 5_000_000, *TEXTS[1:]]}))
    assert max(map(len, pq.ParquetFile(store.event_files()[0]).read()["item_id"].to_pylist())) == 5_000_000
