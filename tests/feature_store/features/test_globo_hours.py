"""The first hours of a real log: rows against the naive implementation. Skipped where the log is absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features.training_set import assemble
from tests.feature_store.logs import Event, Naive, write_store

HOURS = 6


class Exact(Event):
    """An event whose ``minute`` is a time in microseconds."""

    @property
    def time(self) -> int:
        return self.minute

    @property
    def known(self) -> int:
        return self.minute + self.delay


@pytest.mark.real_data("globo")
def test_the_first_hours_equal_the_naive_implementation(tmp_path: Path, real_data: Path) -> None:
    files = [real_data / "clicks" / f"clicks_hour_{hour:03d}.csv.gz" for hour in range(HOURS)]
    frame = pd.concat([pd.read_csv(file) for file in files])
    columns = zip(frame["user_id"], frame["click_article_id"], frame["click_timestamp"] * 1000, frame["click_deviceGroup"], strict=True)
    log: list[Event] = [Exact(int(user), int(item), int(time), device=str(device)) for user, item, time, device in columns]
    config = AssemblyConfig.model_validate({"split": {"fractions": [0.8, 0.1, 0.1]}})
    summary = assemble(write_store(tmp_path / "store", log, False), config, FeatureStoreConfig(threads=1), None, tmp_path / "out")
    assert summary.clicks == len(log) and summary.candidates.support.auc_of_count_zero == 0.5
    assert summary.candidates.short < 0.01 * sum(summary.requests.values())
    rows = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert abs(np.mean(rows["label"].to_numpy()) - 0.2) < 0.01
    clicks = pq.read_table(tmp_path / "out" / "clicks.parquet").to_pydict()
    items, users = (pq.read_table(tmp_path / "out" / f"{kind}s.parquet")[f"{kind}_id"].to_pylist() for kind in ("item", "user"))
    naive = Naive(log, config, False)
    chosen = np.sort(np.random.default_rng(0).choice(rows.num_rows, 25, replace=False))
    for row in rows.take(pa.array(chosen)).to_pylist():
        user, item, time = users[row["user"]], items[row["item"]], row["timestamp"]
        history = [items[code] for code in clicks["item"][row["history_start"] : row["history_end"]]]
        assert history == [event.item for event in naive.history(user, time)]
        assert naive.in_window(item, time) > 0
        for name, expected in naive.statistics(user, item, time).items():
            assert row[name] == (None if expected is None else np.float32(expected)), name
