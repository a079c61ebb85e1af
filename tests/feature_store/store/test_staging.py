from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.store.staging import Staging

DAY = datetime(2024, 1, 1, tzinfo=UTC)


def events(*rows: tuple[object, int, int]) -> pa.Table:
    """(user, day, hour)"""
    return pa.table(
        {
            "user_id": [user for user, *_ in rows],
            "item_id": [1] * len(rows),
            "request_id": pa.nulls(len(rows), pa.int64()),
            "timestamp": pa.array([DAY.replace(day=day, hour=hour) for _, day, hour in rows], pa.timestamp("us", "UTC")),
        }
    )


def users(staging: Staging) -> dict[tuple[str, str], list[list[object]]]:
    return {
        part: [[user for file in files for user in pq.read_table(file)["user_id"].to_pylist()] for files in by_type]
        for part, by_type in staging.parts().items()
    }


def test_events_go_to_their_utc_date_and_other_kinds_to_one_place(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.add("events", events((1, 1, 0), (2, 3, 23), (3, 1, 23)))
    staging.add("events", events((4, 3, 0)))
    staging.add("users", pa.table({"user_id": [1, 2]}))
    staging.add("users", pa.table({"user_id": pa.array([], pa.int64())}))
    expected = {("events", "2024-01-01"): [[1, 3]], ("events", "2024-01-03"): [[2, 4]], ("users", ""): [[1, 2]]}
    assert users(staging) == expected


def test_rows_whose_ids_differ_in_type_lie_apart(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.add("events", events((1, 1, 0)))
    staging.add("events", events(("x", 1, 0)))
    assert users(staging) == {("events", "2024-01-01"): [[1], ["x"]]}


def test_what_is_held_goes_to_disk_at_the_limit(tmp_path: Path) -> None:
    staging = Staging(tmp_path, limit=1)
    for user in range(3):
        staging.add("events", events((user, 1, 0)))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3 and users(staging) == {("events", "2024-01-01"): [[0, 1, 2]]}
