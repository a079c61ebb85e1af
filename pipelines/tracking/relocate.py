"""A workspace may be moved or copied: the default store, whose database holds absolute places, follows it.

By hand, in SQL, because MLflow has no call that changes a place. A test holds the tables and columns against the pinned MLflow.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pipelines.tracking.client import ARTIFACTS, DATABASE, artifact_location, sqlite_uri, unreachable

# Where MLflow's tables keep absolute places of artifacts.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


def follow_workspace(workspace: Path) -> None:
    """Let the default store name the folder that its workspace lies in now.

    MLflow writes absolute places into its database. So a workspace that was moved would not find its models, and one that was
    copied would write into the original. Call it under the workspace lock, before MLflow opens the database.

    Parameters
    ----------
    workspace : Path
        One without a database is left alone.
    """
    file, here = workspace / DATABASE, artifact_location(workspace)
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(file)) as database, database:  # one transaction: a kill leaves all places old or all new
            kept = [(table, column) for table, column in _PLACES if _has_column(database, table, column)]
            found = database.execute("select distinct artifact_location from experiments") if _PLACES[0] in kept else ()
            for (there,) in list(found):
                # Another folder's name is that of an experiment which somebody made for themselves.
                if there and there != here and there.startswith("file://") and there.endswith(f"/{ARTIFACTS}"):
                    for table, column in kept:
                        _replace_prefix(database, table, column, there, here)
    except sqlite3.Error as error:
        raise unreachable(sqlite_uri(file), error) from error


def _replace_prefix(database: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    query = f"update {table} set {column} = ? || substr({column}, ?) where {column} = ? or substr({column}, 1, ?) = ?"
    database.execute(query, (new, len(old) + 1, old, len(old) + 1, f"{old}/"))


def _has_column(database: sqlite3.Connection, table: str, column: str) -> bool:
    return database.execute("select 1 from pragma_table_info(?) where name = ?", (table, column)).fetchone() is not None
