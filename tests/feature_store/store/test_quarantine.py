from pathlib import Path

import pyarrow.parquet as pq

from feature_store.store.manifests import QuarantineManifest, read_sealed
from feature_store.store.merge import sort_engine
from feature_store.store.quarantine import Rejects, files_behind, write_quarantine
from feature_store.tables.contracts import Rejected


def test_reasons_are_counted_and_the_first_place_is_remembered(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path)
    rejects.add("b.csv", [Rejected(3, "user_id is null", ""), Rejected(9, "duplicate row", "")])
    rejects.add("a.csv", [Rejected(7, "user_id is null", "")])
    assert rejects.rows == 3 and rejects.commonest() == "user_id is null (2 rows, first at a.csv:7)"


def test_rows_stand_until_their_file_is_read_again(tmp_path: Path) -> None:
    for run, reread in (("one", set()), ("two", {"b.csv"})):
        rejects = Rejects(tmp_path / "scratch" / run, limit=1)
        rejects.add("b.csv", [Rejected(2, f"reason {run}", "text")])
        if run == "one":
            rejects.add("a.csv", [Rejected(5, "duplicate row", "text")], duplicate_of="c.csv")
        (tmp_path / run).mkdir()
        standing = tmp_path / "one" / "quarantine.parquet" if run == "two" else None
        assert write_quarantine(sort_engine(tmp_path / "engine"), rejects, tmp_path / run, standing, reread) == 2
    rows = pq.read_table(tmp_path / "two" / "quarantine.parquet").to_pylist()
    assert [(row["file"], row["line"], row["reason"]) for row in rows] == [("a.csv", 5, "duplicate row"), ("b.csv", 2, "reason two")]
    assert read_sealed(tmp_path / "two" / "_manifest.json", QuarantineManifest).reasons == {"duplicate row": 1, "reason two": 1}
    assert files_behind(tmp_path / "two" / "quarantine.parquet", {"c.csv"}) == {"a.csv"}
    assert files_behind(tmp_path / "two" / "quarantine.parquet", {"a.csv"}) == set() == files_behind(None, {"c.csv"})
