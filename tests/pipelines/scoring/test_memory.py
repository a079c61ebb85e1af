"""What reading a file part by part holds in memory does not grow with the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.scoring.files import _tables, open_parquet
from pipelines.scoring.parts import in_parts


@pytest.mark.parametrize("group", [10_000, 1_000_000], ids=["many row groups", "one row group"])
def test_rows_that_were_given_away_are_let_go(tmp_path: Path, group: int) -> None:
    rows, rng = 1_000_000, np.random.default_rng(0)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"n": rng.random(rows), "m": rng.random(rows)}), path, row_group_size=group)
    before, held = pa.total_allocated_bytes(), []
    with open_parquet(path) as file:
        for part in in_parts(_tables(file, path, 0, 10_000), 10_000):
            held.append(pa.total_allocated_bytes() - before)
            assert part.rows.num_rows == 10_000
    assert len(held) == 100
    assert max(held) < 8e6  # of 16 MB
