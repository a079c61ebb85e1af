"""What trees read of vectors, against a plain loop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.tables.vectors import STORED
from pipelines.tasks import tree_vectors
from pipelines.tasks.tree_vectors import TreeVectors


@pytest.mark.parametrize("at_a_time", [1, 3, 1 << 18])
def test_nearness_is_the_cosine_of_candidate_and_mean_click(at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_vectors, "_CLICKS", at_a_time)
    rng = np.random.default_rng(at_a_time)
    vectors = rng.standard_normal((6, 3)).astype(np.float32)
    lists = [None if place == 4 else vector.tolist() for place, vector in enumerate(vectors)]
    pq.write_table(pa.table({"v": pa.array(lists, STORED)}), tmp_path / "item_vectors.parquet")
    clicks = rng.integers(0, 6, 20)
    start = np.repeat([0, 3, 3, 9, 20], 3)  # of some requests; one has no history
    end = np.repeat([3, 3, 9, 17, 20], 3)
    rows = pa.table({"item": rng.integers(0, 6, 15), "user": np.zeros(15, int), "history_start": start, "history_end": end})
    columns = TreeVectors(tmp_path, SimpleNamespace(item_vectors={"v": 3}, user_vectors={}), pa.array(clicks)).of(rows)  # type: ignore[arg-type]
    assert sorted(columns) == ["v_0", "v_1", "v_2", "v_nearness"]
    for place, item in enumerate(rows["item"].to_pylist()):
        mean = sum((vectors[click] for click in clicks[start[place] : end[place]] if click != 4), np.zeros(3))
        own = vectors[item]
        near = np.nan if item == 4 or not mean.any() else mean @ own / np.linalg.norm(mean) / np.linalg.norm(own)
        np.testing.assert_allclose(columns["v_nearness"][place], near, rtol=1e-4)
        np.testing.assert_allclose([columns[f"v_{n}"][place] for n in range(3)], own if item != 4 else [np.nan] * 3)


def test_no_rows_and_no_vectors(tmp_path: Path) -> None:
    nothing = SimpleNamespace(item_vectors={}, user_vectors={})
    rows = pa.table({name: pa.array([], pa.int64()) for name in ("item", "user", "history_start", "history_end")})
    assert TreeVectors(tmp_path, nothing, pa.array([], pa.int64())).of(rows) == {}  # type: ignore[arg-type]
    pq.write_table(pa.table({"v": pa.array([[1.0] * 65], STORED)}), tmp_path / "item_vectors.parquet")
    wide = TreeVectors(tmp_path, SimpleNamespace(item_vectors={"v": 65}, user_vectors={}), pa.array([], pa.int64()))  # type: ignore[arg-type]
    assert wide.columns == ["v_nearness"] and len(wide.of(rows)["v_nearness"]) == 0
