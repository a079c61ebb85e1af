"""A Spark session for tests: two cores, two partitions, nothing that is only for people or for big data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_store.config import SparkConfig
from feature_store.engines.spark_session import EngineMissing, require_java

SETTINGS = SparkConfig(
    master="local[2]",
    options={
        "spark.ui.enabled": False,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": 2,
        "spark.sql.adaptive.enabled": False,
        "spark.sql.codegen.wholeStage": False,  # compiling costs more than it saves on a few rows
    },
)


def skip_without_java() -> None:
    """Skip the test where Spark finds no Java that it can run on."""
    try:
        require_java()
    except EngineMissing as error:
        pytest.skip(str(error))


@contextmanager
def local_spark(folder: Path) -> Iterator[SparkConfig]:
    """Settings of a session that stands, so that whatever runs with them need not start one; skips where Spark cannot run."""
    pyspark_sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'ctr-kd[spark]'")
    skip_without_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # as a session that is started for a command has it
    builder = pyspark_sql.SparkSession.builder.master(SETTINGS.master).config("spark.local.dir", str(folder))
    for name, value in SETTINGS.options.items():
        builder = builder.config(name, str(value).lower())
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield SETTINGS
    session.stop()
