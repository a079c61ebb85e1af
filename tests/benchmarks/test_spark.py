"""Spark on two cores against DuckDB, on every row of the Globo log's first three days."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_spark import build, compare, linked
from feature_store.config import FeatureStoreConfig, SparkConfig
from feature_store.features.summary import ClickSummary
from tests.sparks import skip_without_java


@pytest.mark.real_data("globo")
def test_every_row_of_three_days_is_the_same(tmp_path: Path, real_data: Path) -> None:
    """Minutes of work: as many as Spark takes for three million rows on two cores."""
    pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'ctr-kd[spark]'")
    skip_without_java()
    data = linked(real_data, 72, tmp_path / "data")
    session = SparkConfig(master="local[2]", options={"spark.driver.memory": "3g", "spark.sql.shuffle.partitions": 4})
    build(FeatureStoreConfig(), data, tmp_path / "embedded")
    build(FeatureStoreConfig(engine="spark", spark=session), data, tmp_path / "spark")
    rows, differing = compare(tmp_path / "embedded", tmp_path / "spark")
    summary = ClickSummary.read(tmp_path / "embedded" / "rows")
    assert differing == []
    assert rows > sum(summary.rows.values()) > 1_000_000
