"""A Spark session as configured, on a Java that is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.config import FeatureStoreConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OLDEST_JAVA = 17
# A process has one context, which all its sessions share. One that was started here is stopped when the last of its sessions is done.
_users: list[SparkSession] = []


class EngineFailed(Exception):
    """An engine that is installed does not start, or a query failed on it. The message is one line; the cause holds its own words."""


class EngineMissing(Exception):
    """An engine that was asked for is not installed. The message is one line: what is missing, and how to get it."""


def require_java() -> Path:
    """The Java program that Spark will run: that of ``JAVA_HOME``, else the first on the PATH.

    Raises
    ------
    EngineMissing
        When there is none, or it is older than Spark demands.
    """
    install = (
        f"install Java {OLDEST_JAVA} or later (Debian: apt-get install openjdk-17-jre-headless; "
        f"PyPI: pip install install-jdk, then python -c \"import jdk; print(jdk.install('{OLDEST_JAVA}'))\" for JAVA_HOME) or set JAVA_HOME"
    )
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        raise EngineMissing(f"Spark needs Java, and {f'JAVA_HOME={home} holds none' if home else 'there is none on the PATH'}: {install}")
    answer = subprocess.run([found, "-version"], capture_output=True, errors="replace", check=False, encoding="utf-8")  # noqa: S603 (a fixed command)
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise EngineMissing(f"Spark needs Java {OLDEST_JAVA} or later, and {found} is {version[1] if version else 'none'}: {install}")
    return Path(found)


def _builder_options(config: FeatureStoreConfig) -> dict[str, str]:
    """What the session builder is told; only what the configuration names, and what a session on this machine needs."""
    options = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
    options |= {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in config.spark.options.items()}
    if config.spark.master is not None:
        options["spark.master"] = config.spark.master
    elif "PYSPARK_GATEWAY_PORT" not in os.environ:  # else spark-submit started this process, and knows the master
        options.setdefault("spark.master", f"local[{config.threads or '*'}]")
        options.setdefault("spark.driver.memory", f"{config.memory.replace(' ', '').removesuffix('B').lower()}")
    return options


def spark_reason(error: Exception) -> str:
    """What happened, in one line of the many that Spark has for it.

    Examples
    --------
    >>> spark_reason(Exception("An error occurred while calling None.Session.\\n: java.lang.IllegalStateException: stopped\\nat org"))
    'java.lang.IllegalStateException: stopped'
    >>> spark_reason(Exception("An exception was thrown from the Python worker:\\nTraceback\\n  File\\nModuleNotFoundError: pyarrow\\n"))
    'ModuleNotFoundError: pyarrow'
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "Python worker" in lines[0]:  # what happened there is said last
        return lines[-1]
    return next((line[2:] for line in lines if line.startswith(": ")), lines[0])  # of a Java error the first line names the call


def _started(builder: SparkSession.Builder, options: Mapping[str, str]) -> SparkSession:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    if options.get("spark.master", "").startswith("local"):  # executors are on this machine, and so run this Python
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError) as error:
        reason = spark_reason(error)
        if "stopped SparkContext" in reason:  # what it says after a minute without a master
            reason = "no master answered, or it ended the application"
        raise EngineFailed(
            f"Spark cannot start a session on {options.get('spark.master', 'the master of spark-submit')} ({reason}); check "
            "feature_store.spark, and that this machine reaches the master; what Java says is above"
        ) from error


@contextmanager
def spark_session(config: FeatureStoreConfig) -> Iterator[SparkSession]:
    """A session of one's own, with its own settings and views, on the context that runs, or on one that is started and stopped here.

    Raises
    ------
    EngineMissing
        When pyspark or Java is not installed.
    EngineFailed
        When the session cannot start.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise EngineMissing("engine spark needs pyspark, which is not installed: pip install 'ctr-kd[spark]'") from None
    running = SparkSession.getActiveSession()
    started_here = running is None or bool(_users)
    if running is None:
        require_java()
    options = _builder_options(config)
    builder = SparkSession.builder
    for name, value in options.items():
        builder = builder.config(name, value)
    shared = running or _started(builder, options)
    session = shared.newSession()
    for name, value in options.items():
        if name.startswith("spark.sql."):  # a new session starts from the context's settings, without those of the builder
            session.conf.set(name, value)
    if started_here:
        _users.append(session)
    try:
        yield session
    finally:
        if started_here:
            _users.remove(session)
            if not _users:
                shared.stop()
