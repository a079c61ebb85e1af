from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.tables.parquet_files import open_pieces, read_parquet
from tests.odd_names import ODD_FOLDERS


@pytest.mark.parametrize("name", [*ODD_FOLDERS, "s3:", "file:", "a\\b", "%41"])
def test_a_file_is_read_as_it_is_wherever_it_lies(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"label": [5, 6], "split": ["train", "test"], "a.b": [1.0, 2.0]})
    (tmp_path / name).mkdir()
    pq.write_table(table, tmp_path / name / "f.parquet")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name / "f.parquet", Path(name) / "f.parquet"):
        assert read_parquet(path).equals(table)
        assert read_parquet(path, columns=["a.b"]).equals(table.select(["a.b"]))
        assert read_parquet(path, columns=["label"], filters=[("split", "=", "test")]).to_pydict() == {"label": [6]}


def test_texts_that_a_file_numbers_are_read_as_numbers(tmp_path: Path) -> None:
    rows = 3000
    table = pa.table(
        {
            "few": [f"item-{n % 7}" for n in range(rows)],
            "many": [f"a rather long name of item number {n}" for n in range(rows)],
            "lists": [[f"item-{n % 5}"] * (n % 3) for n in range(rows)],
            "number": range(rows),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet", dictionary_pagesize_limit=5000, data_page_size=2000, write_batch_size=100)
    with open_pieces(tmp_path / "rows.parquet", ["few", "many", "lists", "number", "absent"]) as file:
        found = file.read()
    assert pa.types.is_dictionary(found["few"].type) and pa.types.is_dictionary(found["lists"].type.value_type)
    assert found["many"].type == pa.string() and found.to_pylist() == table.to_pylist()
    with open_pieces(tmp_path / "rows.parquet") as file:
        assert file.schema_arrow == table.schema
