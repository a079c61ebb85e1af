"""The feature store on pandas frames: a store on disk is opened, or one is made of frames of events, and gives rows their features."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.config import AssemblyConfig, FeatureStoreConfig, HistoryConfig, SourceConfig, SplitConfig
from feature_store.config_statistics import StatisticsConfig
from feature_store.config_types import parse_time, settings_of
from feature_store.features.historical_features import columns_read, features_for
from feature_store.features.user_attributes import UserAttributes
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError

_LOG = logging.getLogger(__name__)
_OPTIONAL = {"clicked": "clicked", "request": "request_id", "ingested": "ingested_at"}  # key of the configuration -> column of a frame

History = HistoryConfig | Mapping[str, Any] | None
Statistics = StatisticsConfig | Mapping[str, Any] | None


class FeatureStore:
    """What is known of users and items at any time; :func:`open_store` and :func:`store_of_events` make one.

    Parameters
    ----------
    store : Store
    settings : AssemblyConfig
        How histories and statistics are made.
    engine : FeatureStoreConfig
        Memory and threads; no feature depends on them.
    as_of : datetime, optional
        Later events are left out.
    folder : TemporaryDirectory, optional
        Where the store lies, if nobody else keeps it.
    """

    def __init__(
        self,
        store: Store,
        settings: AssemblyConfig,
        engine: FeatureStoreConfig,
        as_of: datetime | None = None,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self._store, self._settings, self._engine, self._as_of = store, settings, engine, as_of
        self._users = UserAttributes(store)
        self._folder = folder  # goes when this object goes

    def __repr__(self) -> str:
        return f"<FeatureStore {self._store.root}: {len(self._store.dates())} dates until {self._store.newest_event()}>"

    def features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Add to rows what was known just before their time, exactly as rows to learn from have it.

        Parameters
        ----------
        frame : DataFrame, shape (rows, columns)
            ``item_id`` and ``timestamp`` (UTC where it has no zone), and ``user_id`` unless nothing about the user is wanted. Unknown and
            null ids are fine. Also the context that statistics are keyed by, and ``request_id`` where candidates are compared.

        Returns
        -------
        DataFrame, shape (rows, columns + history, history_timestamps, statistics, attributes of the user)
            The same rows in the same order, with the same index; see :func:`feature_store.features.historical_features.features_for`.

        Raises
        ------
        DataError
            When a required column is missing, or holds what has no meaning there.
        """
        read = [name for name in dict.fromkeys(columns_read(self._store, self._settings)) if name in frame]
        asked = pa.table({name: _column(frame[name], name) for name in read})
        found = features_for(self._store, asked, self._settings, self._engine, self._as_of)
        if "user_id" in asked.column_names:
            lacking = [name for name in self._users.names if name not in found.column_names]
            for name, column in self._users.of(asked["user_id"], lacking).items():
                found = found.append_column(name, column)
        added = [name for name in found.column_names if name not in frame]
        return frame.assign(**{name: pd.Series(_values(found[name]), index=frame.index) for name in added})


def open_store(
    path: str | Path,
    *,
    history: History = None,
    statistics: Statistics = None,
    as_of: str | datetime | None = None,
    engine: FeatureStoreConfig | Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Open a store that was ingested.

    Parameters
    ----------
    path : path
        Folder ``store`` of a workspace.
    history, statistics : settings, optional
        As in a configuration, such as ``history={"max_length": 50}``. Features for a student must be made as those that it learned from:
        ``open_store(path, **student.made_with)``.
    as_of : str or datetime, optional
        Later events are left out; without a zone UTC.
    engine : settings, optional
        Block ``feature_store`` of a configuration.

    Raises
    ------
    DataError
        When there is no store.
    ValueError
        When a setting is wrong, in a line.

    Examples
    --------
    >>> open_store("workspace/store").features(frame)  # doctest: +SKIP
    """
    root = Path(path)
    store = Store(root)
    if not store.dates() and Store(root / "store").dates():
        raise DataError(f"{root} is a workspace; its store is {root / 'store'}")
    _ = store.log_contract  # says what is missing
    return FeatureStore(store, _settings(history, statistics), _engine(engine), None if as_of is None else parse_time(as_of))


def store_of_events(
    events: pd.DataFrame,
    items: pd.DataFrame | None = None,
    users: pd.DataFrame | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    history: History = None,
    statistics: Statistics = None,
    engine: FeatureStoreConfig | Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Make a store of frames, in a temporary folder that goes with the object.

    The frames are read as files of reader ``tabular`` would be: what is a time, an id or a click is decided by the same rules.

    Parameters
    ----------
    events : DataFrame
        ``user_id``, ``item_id``, ``timestamp``; optionally ``clicked`` (without it every row is a click), ``request_id``, and
        ``ingested_at``, when a row became known, if not at once.
    items, users : DataFrame, optional
        ``item_id`` or ``user_id``, and attributes: numbers are dense ones, all others categorical. With ``timestamp`` a row holds from
        then on.
    context : mapping, optional
        Context columns of the events, ``{"categorical": [...], "dense": [...]}``, which statistics may be keyed by.
    history, statistics, engine
        As in :func:`open_store`.

    Raises
    ------
    DataError
        When a column is missing, or too many rows break the contract of events.
    ValueError
        When a setting is wrong, in a line.

    Examples
    --------
    >>> clicks = pd.DataFrame({"user_id": ["a", "a"], "item_id": ["x", "y"], "timestamp": ["2024-01-01T10:00", "2024-01-01T11:00"]})
    >>> rows = pd.DataFrame({"user_id": ["a", "a"], "item_id": ["z", "z"], "timestamp": ["2024-01-01T11:00", "2024-01-01T11:01"]})
    >>> [list(history) for history in store_of_events(clicks).features(rows)["history"]]  # the click of 11:00 is not before 11:00
    [['x'], ['x', 'y']]
    """
    source: dict[str, Any] = {"reader": "tabular", "context": dict(context or {})}
    source["events"] = {"path": "events.parquet", "user": "user_id", "item": "item_id", "time": "timestamp"}
    source["events"] |= {key: column for key, column in _OPTIONAL.items() if column in events}
    read = ["user_id", "item_id", "timestamp", *_OPTIONAL.values(), *(name for names in source["context"].values() for name in names)]
    frames = {"events": events[[name for name in events if name in read]]}
    for kind, frame in (("item", items), ("user", users)):
        if frame is not None:
            frames[f"{kind}s"], source[f"{kind}s"] = frame, _entities(kind, frame)
    settings, engine_config = _settings(history, statistics), _engine(engine)
    folder = tempfile.TemporaryDirectory(prefix="ctr_kd_store_")
    data, store = Path(folder.name) / "data", Store(Path(folder.name) / "store")
    data.mkdir()
    for name, frame in frames.items():
        missing = [key for key in ("user_id", "item_id", "timestamp") if name == "events" and key not in frame]
        if missing:
            raise DataError(f"events: column {missing[0]} is missing; events have user_id, item_id and timestamp")
        pq.write_table(pa.table({column: _column(frame[column], str(column)) for column in frame}), data / f"{name}.parquet")
    ingest(settings_of(SourceConfig, source), data, store, Path(folder.name) / "failed", lambda line: _LOG.info("%s", line))
    return FeatureStore(store, settings, engine_config, folder=folder)


def _entities(kind: str, frame: pd.DataFrame) -> dict[str, Any]:
    """Block ``items`` or ``users`` of the source that a frame is."""
    key = f"{kind}_id"
    if key not in frame:
        raise DataError(f"{kind}s: column {key} is missing")
    attributes = [name for name in frame if name not in (key, "timestamp")]
    dense = [name for name in attributes if pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])]
    block = {"path": f"{kind}s.parquet", kind: key, "dense": dense, "categorical": [name for name in attributes if name not in dense]}
    return block | ({"time": "timestamp"} if "timestamp" in frame else {})


def _settings(history: History, statistics: Statistics) -> AssemblyConfig:
    """Those of rows; the split, which no single row depends on, is any."""
    return AssemblyConfig(
        split=SplitConfig(fractions=(0.8, 0.1, 0.1)),
        history=settings_of(HistoryConfig, history, "history"),
        statistics=settings_of(StatisticsConfig, statistics, "statistics"),
    )


def _engine(given: FeatureStoreConfig | Mapping[str, Any] | None) -> FeatureStoreConfig:
    return settings_of(FeatureStoreConfig, given, "feature_store")


def _column(values: pd.Series, name: str) -> pa.Array:
    """A column of a frame as Arrow has it."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(f"column {name} holds values of several types ({str(error).splitlines()[0]}); give it one") from None


def _values(column: pa.ChunkedArray) -> Any:
    """A column of Arrow as a frame has it: lists of ids are lists, those of times arrays."""
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        return column.to_pylist()
    return column.to_pandas().array
