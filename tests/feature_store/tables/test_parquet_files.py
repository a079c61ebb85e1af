from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.tables.parquet_files import read_parquet
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
