from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.store import merge
from feature_store.store.merge import merge_part, sort_engine, sorted_rows, write_rows

SCHEMA = pa.schema([("user_id", pa.string()), ("age", pa.string()), ("source", pa.string()), ("line", pa.int64())])


def table(*rows: tuple) -> pa.Table:
    return pa.table([pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)], schema=SCHEMA)


@given(
    keys=st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 1))), max_size=12).map(
        lambda keys: sorted(keys, key=str)
    ),
    cuts=st.sets(st.integers(0, 12), max_size=4),
)
def test_the_first_row_of_each_key_stays_however_the_rows_are_cut(keys: list[tuple], cuts: set[int]) -> None:
    columns = {"user_id": [user for user, _ in keys], "request_id": pa.array([request for _, request in keys], pa.int64())}
    count = len(keys)
    rows = pa.table(
        {**columns, "timestamp": [0] * count, "item_id": [0] * count, "clicked": [1] * count, "source": [str(n) for n in range(count)]}
    )
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    dropped: list[tuple[str, str]] = []

    def note(repeats: pa.Table, stored: list[str]) -> None:
        dropped.extend(zip(repeats["source"].to_pylist(), stored, strict=True))

    pieces: Iterator[pa.Table] = (rows.slice(a, b - a) for a, b in pairwise(edges))
    kept = [place for piece in merge.unique_rows(pieces, "events", note) for place in piece["source"].to_pylist()]
    first = {key: str(keys.index(key)) for key in keys}
    assert kept == sorted(first.values(), key=int)
    assert dropped == [(str(n), first[key]) for n, key in enumerate(keys) if str(n) != first[key]]


def test_files_of_other_types_and_the_standing_rows_meet_in_one_order(tmp_path: Path) -> None:
    pq.write_table(table(("b", "20", "x.csv", 2), ("10", None, "x.csv", 3)), tmp_path / "text.parquet")
    pq.write_table(table(("9", "1", "y.csv", 2)).set_column(0, "user_id", pa.array([9])), tmp_path / "integers.parquet")
    pq.write_table(table(("a", "1", "old'.csv", 2), ("c", "1", "kept.csv", 2)), tmp_path / "stored.parquet")
    staged = [[tmp_path / "text.parquet"], [tmp_path / "integers.parquet"]]
    engine, stored = sort_engine(tmp_path / "scratch"), tmp_path / "stored.parquet"
    rows = sorted_rows(engine, SCHEMA, staged, stored, without=("source", {"old'.csv"}), order=["user_id"])
    assert [user for piece in rows for user in piece["user_id"].to_pylist()] == ["10", "9", "b", "c"]
    assert list(sorted_rows(sort_engine(tmp_path / "scratch"), SCHEMA, [], None, without=("source", set()), order=["user_id"])) == []


def test_a_part_without_rows_is_no_part(tmp_path: Path) -> None:
    pq.write_table(table(("a", "1", "old.csv", 2)), tmp_path / "stored.parquet")
    engine = sort_engine(tmp_path / "scratch")
    found = merge_part(
        engine,
        "users",
        SCHEMA,
        staged=[],
        stored=tmp_path / "stored.parquet",
        reread={"old.csv"},
        digests={},
        folder=tmp_path,
        on_duplicates=lambda *_: None,
    )
    assert found is None and not (tmp_path / "users.parquet").exists()


def test_row_groups_do_not_depend_on_how_the_tables_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "ROW_GROUP", 4)
    rows = table(*((f"{n:02}", "1", "a.csv", n) for n in range(11)))
    for name, cuts in (("one", [11]), ("many", [1, 6, 1, 0, 3])):
        edges = [sum(cuts[:n]) for n in range(len(cuts) + 1)]
        write_rows(tmp_path / name, SCHEMA, (rows.slice(a, b - a) for a, b in pairwise(edges)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    metadata = pq.ParquetFile(tmp_path / "one").metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [4, 4, 3]
