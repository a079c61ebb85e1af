"""What is missing for Spark is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from feature_store.config import FeatureStoreConfig
from feature_store.engines.session import EngineMissing, require_java, spark_session


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
    with pytest.raises(EngineMissing, match=r"^Spark needs Java, and there is none on the PATH: install Java 17 or later .*openjdk-17-jre"):
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
