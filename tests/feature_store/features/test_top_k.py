"""The best rows of each user, against a plain loop."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.config import FeatureStoreConfig
from feature_store.features import top_k as top
from feature_store.features.top_k import keep_best

ENGINE = FeatureStoreConfig(threads=1)
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0.1, 0.2, 0.3])), max_size=30)


@given(ROWS, st.integers(1, 4), st.sampled_from([4, 1000]))
@settings(max_examples=20, deadline=None)
def test_the_best_rows_of_each_user_stay_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str | None, float]], best: int, batch: int
) -> None:
    folder = tmp_path_factory.mktemp("top")
    time = pa.array(range(len(rows)), pa.timestamp("ns", "Europe/Berlin"))  # a type that an engine would give back as another
    table = pa.table(
        {
            "user_id": pa.array([user for user, _ in rows], pa.string()),
            "score": pa.array([score for _, score in rows], pa.float64()),
            "time": time,
            "history": pa.array([[n] for n in range(len(rows))], pa.list_(pa.int64())),
        }
    )
    pq.write_table(table, folder / "in.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top, "BATCH", batch)
        kept = keep_best(folder / "in.parquet", folder / "out.parquet", best, ENGINE)
    expected = []
    for place, (user, score) in enumerate(rows):
        better = sum(other == user and (s > score or (s == score and p < place)) for p, (other, s) in enumerate(rows))
        if better < best:
            expected.append(place)
    found = pq.read_table(folder / "out.parquet")
    assert kept == len(expected)
    assert found.equals(table.take(pa.array(expected, pa.int64())))


def test_users_and_scores_are_those_of_their_very_names(tmp_path: Path) -> None:
    """DuckDB takes ``user_id`` for ``USER_ID`` where that comes first."""
    table = pa.table(
        {"USER_ID": [1, 1, 1], "Score": [3, 2, 1], "user_id": ["a", "b", "b"], "score": [0.1, 0.2, 0.3], "file_row_number": [7, 8, 9]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    assert keep_best(tmp_path / "in.parquet", tmp_path / "out.parquet", 1, ENGINE) == 2
    assert pq.read_table(tmp_path / "out.parquet").equals(table.take([0, 2]))
