"""Tables of a lake as lists of files: a version of a Delta Lake or Iceberg table is some Parquet files, which are read as any others.

What a version is made of stands in the table's own log; no folder is listed. A table that needs more than its files to be read, such as
rows that are marked as deleted, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from feature_store.config import EventColumns
from feature_store.config_types import is_url
from feature_store.readers.base import PARQUET_FAULTS, damaged_parquet
from feature_store.tables.contracts import DataError, DataFolderError
from feature_store.tables.parquet_files import open_pieces

_SECONDS = 1000  # milliseconds
_PASSWORD = re.compile(r"://[^/\s]*@")  # of a catalogue, from the environment
_LOCAL = re.compile(r"file:(//)?(?=/)")


class TableVersion(NamedTuple):
    """One version of a table.

    Attributes
    ----------
    name : str
        Table and version, for people.
    version : int
        Of a Delta Lake table, or the id of a snapshot of an Iceberg one.
    files : dict of Path to dict of str to pa.Scalar
        Its files, each with what columns hold that the file may lack: the value of its partition, or null where the column is younger.
    ids : dict of str to int
        Ids of the columns, by which Iceberg knows them when their names change; empty for Delta Lake, where names do not.
    """

    name: str
    version: int
    files: dict[Path, dict[str, pa.Scalar]]
    ids: dict[str, int]

    def check_columns(self, path: Path, file: str, columns: Sequence[str]) -> None:
        """Raise DataError where a file has one of the columns under another name, or another column under its name."""
        if not self.ids:
            return
        try:
            with open_pieces(path) as parquet:
                fields = [(field.name, (field.metadata or {}).get(b"PARQUET:field_id")) for field in parquet.schema_arrow]
        except PARQUET_FAULTS as error:
            raise damaged_parquet(file, error) from None
        for name, field_id in fields:
            if field_id is None:  # a file that was added as it was: its columns are known by their names
                continue
            other = next((column for column in columns if (column == name) != (self.ids.get(column) == int(field_id))), None)
            if other is not None:
                raise DataError(
                    f"{file}: its column {name!r} is not {other!r} of {self.name}, which was renamed or replaced since; rewrite the files"
                )


def table_version(events: EventColumns, data: Path | None) -> TableVersion | None:
    """The version of a table that holds the events; None where they are files of a folder.

    Parameters
    ----------
    events : EventColumns
    data : Path or None
        The data folder, below which a Delta Lake table lies.

    Raises
    ------
    DataFolderError
        When the table, its version or its files are not there.
    DataError
        When its package is missing, or it cannot be read as a list of files.
    """
    if events.delta is not None and data is not None:
        return _whole(delta_version(events, data))
    return None if events.iceberg is None else _whole(_iceberg(events, events.iceberg))


def delta_version(events: EventColumns, data: Path) -> TableVersion:
    """The version of a Delta Lake table that holds the events, by the table's log alone: its files may not be there.

    Raises
    ------
    DataFolderError, DataError
        As :func:`table_version`.
    """
    folder = events.delta or ""
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise DataFolderError(
            f"source.events.delta {folder!r} is no folder below the data folder; let the data folder be one above the table"
        )
    place = data if is_url(folder) else data / folder  # what is behind a URL was copied into the data folder
    shown = folder if is_url(folder) else str(place)
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise DataError("source.events.delta needs deltalake, which is not installed: pip install 'ctr-kd[delta]'") from None
    if not (place / "_delta_log").is_dir():
        raise DataFolderError(f"{shown}: is no Delta Lake table, it has no _delta_log; correct source.events.delta")
    try:
        table = DeltaTable(place.absolute().as_posix(), version=events.version)
        if events.as_of is not None:
            table.load_as_version(events.as_of)
            began = next((entry["timestamp"] for entry in table.history() if entry["version"] == table.version()), 0)
            if began > events.as_of.timestamp() * _SECONDS:
                raise DataFolderError(f"{shown}: has no version as of {_said(events.as_of)}; its first one is later")
        mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
        marked = "deletionVectors" in (table.protocol().reader_features or []) and _has_deletion_vectors(table)
        added = pa.table(table.get_add_actions(flatten=True))
        younger = {field.name: pa.scalar(None, field.type) for field in pa.schema(table.schema().to_arrow())}
        partitions = table.metadata().partition_columns
    except (DeltaError, OSError, ValueError) as error:
        wanted = "" if events.version is None else f" at version {events.version}"
        raise DataFolderError(f"{shown}: cannot be read as a Delta Lake table{wanted} ({_reason(error)}); correct source.events") from None
    name = f"version {table.version()} of Delta Lake table {folder}"
    if mapping != "none":
        raise DataError(f"{shown}: {name} maps its columns (delta.columnMapping.mode: {mapping}), which cannot be read; write it without")
    if marked:
        raise DataError(
            f"{shown}: {name} has deletion vectors, which cannot be read; rewrite its files first (REORG TABLE ... APPLY (PURGE))"
        )
    places = [_local(name, unquote(path), place) for path in added["path"].to_pylist()]
    values = [{column: added[f"partition.{column}"][row] for column in partitions} for row in range(added.num_rows)]
    files = {path: younger | said for path, said in zip(places, values, strict=True)}
    return TableVersion(name, table.version(), files, {})


def _has_deletion_vectors(table: Any) -> bool:
    from deltalake.exceptions import DeltaError

    try:
        return next(iter(table.deletion_vectors()), None) is not None
    except DeltaError:  # they cannot be read, so they are there
        return True


def _iceberg(events: EventColumns, table_name: str) -> TableVersion:
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.io.pyarrow import schema_to_pyarrow
    except ImportError:
        raise DataError("source.events.iceberg needs pyiceberg, which is not installed: pip install 'ctr-kd[iceberg]'") from None
    settings = {"init_catalog_tables": "false", **events.catalog}  # to read changes nothing there
    _require_database(settings.get("uri", ""))
    name = f"Iceberg table {table_name}"
    table = _asked(name, lambda: load_catalog(settings.pop("name", None), **settings).load_table(table_name))
    snapshot = table.current_snapshot()
    if events.snapshot is not None:
        snapshot = table.snapshot_by_id(events.snapshot)
    elif events.as_of is not None:
        snapshot = table.snapshot_as_of_timestamp(int(events.as_of.timestamp() * _SECONDS))
    if snapshot is None:
        wanted = (
            f" {events.snapshot}" if events.snapshot is not None else f" as of {_said(events.as_of)}" if events.as_of is not None else ""
        )
        raise DataFolderError(f"{name} has no snapshot{wanted}; correct source.events")
    name = f"snapshot {snapshot.snapshot_id} of {name}"
    pinned = events.snapshot is not None or events.as_of is not None  # then columns are called as they were; else as they are now
    scan = table.scan(snapshot_id=snapshot.snapshot_id if pinned else None)
    tasks = _asked(name, lambda: list(scan.plan_files()))
    schema, specs = scan.projection(), table.specs()
    types = {field.name: field.type for field in schema_to_pyarrow(schema)}
    younger = {column: pa.scalar(None, kind) for column, kind in types.items()}
    files = {}
    for task in tasks:
        if task.delete_files:
            raise DataError(f"{name} has deleted rows beside its files, which cannot be read; rewrite its files first (rewrite_data_files)")
        if task.file.file_format.value != "PARQUET":
            raise DataError(f"{name} has files of {task.file.file_format.value}, and only Parquet is read")
        spec = specs[task.file.spec_id].fields
        said = {
            schema.find_column_name(field.source_id): task.file.partition[n]
            for n, field in enumerate(spec)
            if str(field.transform) == "identity"  # others, such as the day of a time, are no column
        }
        values = {column: pa.scalar(value, types[column]) for column, value in said.items() if column in types}
        files[_local(name, task.file.file_path)] = younger | values
    return TableVersion(name, snapshot.snapshot_id, files, {field.name: field.field_id for field in schema.fields})


def _asked(name: str, ask: Callable[[], Any]) -> Any:
    """What a catalogue answers. PyIceberg lets through whatever its catalogues raise, of databases and web servers alike."""
    try:
        return ask()
    except Exception as error:
        raise DataFolderError(
            f"{name} cannot be read ({_reason(error)}); correct source.events, or see whether its catalogue is there"
        ) from None


def _require_database(uri: str) -> None:
    """Raise DataFolderError where a catalogue's SQLite file is missing: SQLite would make an empty one."""
    scheme, _, file = uri.partition(":///")
    if scheme.startswith("sqlite") and file and not Path(file).is_file():
        raise DataFolderError(f"{file}: there is no such catalogue; correct source.events.catalog")


def _local(name: str, file: str, folder: Path = Path()) -> Path:
    """Where a file lies that a table names in full, or below its folder."""
    place = _LOCAL.sub("", file)
    if is_url(place):
        raise DataError(f"{name}: its files lie behind {place.partition('://')[0]}://; only tables on a local or mounted disk are read")
    return folder / place


def _whole(table: TableVersion) -> TableVersion:
    missing = next((path for path in table.files if not path.is_file()), None)
    if missing is not None:
        raise DataFolderError(f"{missing}: is not there any more, and {table.name} needs it; name a newer one, or restore the file")
    if not table.files:
        raise DataFolderError(f"{table.name} holds no file; correct source.events")
    return table


def _said(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _reason(error: BaseException) -> str:
    return _PASSWORD.sub("://...@", " ".join(str(error).split())).rstrip(".")[:200]
