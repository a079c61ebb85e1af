import json
from pathlib import Path

import pytest

from feature_store.store.manifests import FolderManifest, InputFile, Ledger, TableManifest, read_sealed, write_sealed
from feature_store.tables.contracts import DataError
from feature_store.tables.json_models import JsonModel

LEDGER = {"source": "c0de", "files": {"b.csv": {"sha256": "2"}, "a.csv": {"sha256": "1", "kinds": ["events"], "future": 7, "later": 1}}}


def test_equal_content_is_equal_bytes_and_keys_of_another_release_stay(tmp_path: Path) -> None:
    write_sealed(tmp_path / "one", Ledger.from_json(LEDGER))
    write_sealed(tmp_path / "two", Ledger.from_json({"files": dict(reversed(LEDGER["files"].items())), "source": "c0de"}))
    written = json.loads((tmp_path / "one").read_text())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() and written.pop("seal") and written == LEDGER
    ledger = read_sealed(tmp_path / "one", Ledger)
    assert ledger.files["b.csv"] == InputFile(sha256="2") and ledger.files["a.csv"].future == 7
    write_sealed(tmp_path / "two", ledger)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_manifest_reads_as_less_than_it_is(tmp_path: Path) -> None:
    write_sealed(tmp_path / "m", TableManifest(rows=1, columns="c", inputs={}, sha256={"items.parquet": "d"}))
    assert read_sealed(tmp_path / "m", FolderManifest).sha256 == {"items.parquet": "d"}
    assert '"schema": "c"' in (tmp_path / "m").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [({"sha256": {}}, r"rows: Field required"), ({"rows": "many", "schema": "", "inputs": {}, "sha256": {}}, "rows: Input should be")],
)
def test_what_is_no_manifest_is_named_though_its_seal_holds(tmp_path: Path, content: dict, message: str) -> None:
    write_sealed(tmp_path / "m", JsonModel.from_json(content))
    with pytest.raises(DataError, match=rf"m: is damaged \({message}"):
        read_sealed(tmp_path / "m", TableManifest)
