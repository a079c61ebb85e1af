"""What is missing for Spark is said in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from feature_store.config import FeatureStoreConfig, SparkConfig
from feature_store.engines.spark_session import EngineFailed, EngineMissing, require_java, spark_session
from tests.programs import HANGS
from tests.sparks import skip_without_java


def program(folder: Path, version: str) -> Path:
    """A Java that says its version and nothing else."""
    (folder / "bin").mkdir(parents=True)
    java = folder / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    return java


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path = program(tmp_path / "home", "21.0.1"), program(tmp_path / "path", "17.0.15")
    monkeypatch.setenv("PATH", f"{path.parent}:/bin:/usr/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert require_java() == home
    monkeypatch.delenv("JAVA_HOME")
    assert require_java() == path


def test_no_java_is_one_line_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        EngineMissing,
        match=r"^Spark needs Java, and there is none on the PATH: install Java 17 or later .*openjdk-17-jre-headless; PyPI",
    ):
        require_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"^Spark needs Java, and JAVA_HOME=\S+ holds none: install"):
        require_java()


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22"])
def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    program(tmp_path / "home", version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(EngineMissing, match=r"Spark needs Java 17 or later, and \S+ is (8|11): install"):
        require_java()


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(EngineMissing, match=r"pip install 'ctr-kd\[spark\]'"), spark_session(FeatureStoreConfig(engine="spark")):
        pass


def test_a_session_that_cannot_start_is_one_line() -> None:
    """A process of its own: a Java that an earlier test started would be asked in place of a new one."""
    pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'ctr-kd[spark]'")
    skip_without_java()
    code = """if True:
        from feature_store.config import FeatureStoreConfig, SparkConfig
        from feature_store.engines.spark_session import EngineFailed, spark_session
        try:
            with spark_session(FeatureStoreConfig(engine="spark", spark=SparkConfig(master="local[many]"))):
                print("it started")
        except EngineFailed as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True, timeout=HANGS
    )
    assert len(done.stdout.splitlines()) == 1
    assert re.match(r"Spark cannot start a session on local\[many\] \(.+\); check feature_store.spark", done.stdout)


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Spark raises after its own tries, which take more than a minute."""
    pyspark_sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'ctr-kd[spark]'")
    skip_without_java()

    def given_up(self: Any) -> NoReturn:
        said = "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext."
        raise Py4JError(f"An error occurred while calling None.SparkSession.\n: {said}\nThis stopped SparkContext was created at:")

    from py4j.protocol import Py4JError

    monkeypatch.setattr(pyspark_sql.SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(pyspark_sql.SparkSession.Builder, "getOrCreate", given_up)
    config = FeatureStoreConfig(engine="spark", spark=SparkConfig(master="spark://gone:7077"))
    expected = r"session on spark://gone:7077 \(no master answered, or it ended the application\); check"
    with pytest.raises(EngineFailed, match=expected), spark_session(config):
        pass


def test_a_context_that_was_started_here_stops_with_its_last_session() -> None:
    """Whoever started it may be done first: candidates end before what is joined to them."""
    pyspark_sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: pip install 'ctr-kd[spark]'")
    skip_without_java()
    if pyspark_sql.SparkSession.getActiveSession() is not None:
        pytest.skip("a session of another test stands, and a process has one Java")
    config = FeatureStoreConfig(engine="spark", spark=SparkConfig(master="local[1]", options={"spark.driver.host": "127.0.0.1"}))
    first, second = spark_session(config), spark_session(config)
    first.__enter__()
    session = second.__enter__()
    first.__exit__(None, None, None)
    assert session.range(3).count() == 3
    second.__exit__(None, None, None)
    assert pyspark_sql.SparkSession.getActiveSession() is None
