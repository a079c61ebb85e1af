"""The MLflow server that keeps runs and models: where it is, opening it, and what to say when it does not answer."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from feature_store.tables.files import UnsafeFile
from pipelines.config.run import RunConfig
from pipelines.workspace.lock import held_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# A user's own settings win.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_DATABASE_SERVERS = ("postgresql", "mysql", "mssql")
_SQLITE = "sqlite:///"
_DAMAGE = ("file is not a database", "database disk image is malformed")  # as SQLite says it
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"  # of the default store, in the workspace


class TrackingError(Exception):
    """The tracking server or the registry cannot be used. The message is one line."""


class DatabaseDamaged(TrackingError):
    """The file that should be the tracking store is no database, or a damaged one: trying again does not help."""

    code = 3


class TrackingUnsupported(TrackingError):
    """Nothing that is installed here speaks to such a server: trying again does not help."""

    code = 2


def tracking_uri(config: RunConfig, workspace: Path) -> str:
    """Where runs and models are kept: the configured server, or SQLite in the workspace."""
    return config.tracking.uri or sqlite_uri(workspace / DATABASE)


def sqlite_uri(file: Path) -> str:
    """URI of a SQLite database, as SQLAlchemy reads it: a ``?`` ends the path, and ``%20`` is a space.

    A path with such signs is quoted as a whole, its slashes too: MLflow makes the folder of the path that it reads before it unquotes it.

    Examples
    --------
    >>> sqlite_uri(Path("/runs/mlflow.db")), sqlite_uri(Path("/who?/mlflow.db"))
    ('sqlite:////runs/mlflow.db', 'sqlite:////who%3F%2Fmlflow.db')
    """
    path = file.absolute().as_posix()
    if "?" in path or unquote(path) != path:
        path = "/" + quote(path.removeprefix("/"), safe="")
    return f"{_SQLITE}{path}"


def sqlite_file(uri: str) -> Path | None:
    """The database that a SQLite URI names; None for another server.

    Examples
    --------
    >>> [sqlite_file(uri) for uri in ("sqlite:///mlflow.db", "sqlite:////who%3F%2Fmlflow.db", "http://host:5000")]
    [PosixPath('mlflow.db'), PosixPath('/who?/mlflow.db'), None]
    """
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0])) if uri.startswith(_SQLITE) else None


def lock_of(database: Path) -> Path:
    """The file that is locked while a SQLite database is made, or a champion in it is moved."""
    return database.with_name(f".{database.name}.lock")


def artifact_location(workspace: Path) -> str:
    """Where the default store keeps its artifacts: beside its database."""
    return (workspace.absolute() / ARTIFACTS).as_uri()


def experiment_location(uri: str, workspace: Path) -> str | None:
    """Where a new experiment keeps its artifacts; None where a server has a place of its own. A database has none: MLflow would take the
    folder that a command happens to be given in."""
    return None if uri.startswith("http") else artifact_location(workspace)


def is_elsewhere(place: str) -> bool:
    """Whether a place of artifacts is reached through a server, as its scheme says: a bucket, or MLflow's own ``mlflow-artifacts:/``.

    Examples
    --------
    >>> [is_elsewhere(place) for place in ("/runs/a", "file:///runs/a", "s3://bucket/a", "mlflow-artifacts:/1/a", "dbfs:/a")]
    [False, False, True, True, True]
    """
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]*:", place, re.IGNORECASE) is not None


def quieten_mlflow() -> None:
    """Set what MLflow reads while it is imported: no telemetry, no log lines, short patience with servers."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def is_prepared(uri: str) -> bool:
    """Whether :func:`prepare` has nothing to do."""
    file = sqlite_file(uri)
    return "mlflow.tracking" in sys.modules and (file is None or file.exists())


def prepare(uri: str) -> None:
    """What takes seconds before the first connection, and no server: importing MLflow, and making a database that is a file."""
    quieten_mlflow()
    import mlflow.tracking  # noqa: F401

    _create_database(uri)


def connect(uri: str) -> MlflowClient:
    """Open a tracking server and registry, and make sure that it answers.

    Raises
    ------
    TrackingError
        One line that names the server, when it does not.
    """
    try:
        prepare(uri)
        from mlflow.tracking import MlflowClient

        _reach_database(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except UnsafeFile:
        raise
    except Exception as error:  # of MLflow, SQLAlchemy, requests or the system: the message says which
        raise unreachable(uri, error) from error
    return client


def _create_database(uri: str) -> None:
    """Make a missing SQLite database beside its place and rename it, one process at a time.

    MLflow creates its tables in many steps over seconds, and never recovers from a kill between two of them.
    """
    from mlflow.tracking import MlflowClient

    file = sqlite_file(uri)
    if file is None or file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    with held_file(lock_of(file)):
        if file.exists():  # another run made it meanwhile
            return
        unfinished.unlink(missing_ok=True)
        MlflowClient(tracking_uri=sqlite_uri(unfinished)).search_experiments(max_results=1)
        unfinished.replace(file)


def _reach_database(uri: str) -> None:
    """One try at a database that is a server: MLflow tries ten times in two minutes, and a training waits for it.

    Raises
    ------
    Exception
        Of SQLAlchemy, or of the database's driver.
    """
    if uri.partition(":")[0].partition("+")[0] not in _DATABASE_SERVERS:
        return
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(uri)
    except ModuleNotFoundError as error:
        raise ImportError(f"its driver {error.name} is not installed (PostgreSQL: pip install 'ctr-kd[postgresql]')") from None
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def without_password(uri: str) -> str:
    """A URI as it may be shown.

    Examples
    --------
    >>> without_password("postgresql://me:secret@host:5432/mlflow")
    'postgresql://me:***@host:5432/mlflow'
    """
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", uri)


def unreachable(uri: str, error: Exception) -> TrackingError:
    """The one line that says that MLflow could not be used, and why."""
    reason, where = reason_of(error), without_password(uri)
    if sqlite_file(uri) is not None and any(sign in reason for sign in _DAMAGE):
        return DatabaseDamaged(f"MLflow at {where} cannot be used: {reason}; restore the file from a backup")
    if _is_unsupported(error):
        return TrackingUnsupported(f"MLflow at {where} cannot be used: {reason}; check tracking.uri")
    return TrackingError(f"MLflow at {where} cannot be used: {reason}; check tracking.uri and that the server runs")


def _is_unsupported(error: BaseException | None) -> bool:
    while error is not None:
        name = type(error).__name__  # of MLflow and SQLAlchemy, which are heavy
        if isinstance(error, ImportError) or name.startswith("Unsupported") or name in ("ArgumentError", "NoSuchModuleError"):
            return True
        error = error.__cause__ or error.__context__
    return False


def reason_of(error: Exception) -> str:
    """What went wrong below MLflow, in one line."""
    first: BaseException = error
    while (before := first.__cause__ or first.__context__) is not None:
        first = before
    # What the system or the database said tells more than what each layer above it says about the layer below.
    reason = first if isinstance(first, (OSError, sqlite3.Error)) else error
    return (str(reason).strip() or type(reason).__name__).splitlines()[0][:300]
