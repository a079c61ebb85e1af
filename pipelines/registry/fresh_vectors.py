"""Item vectors of a workspace for requests that come one by one: the newest there are, whenever they are asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.embeddings.facts import FactsFolder, FactsList, since_all
from ctr_kd.embeddings.vectors import ITEM
from feature_store.config import AssemblyConfig
from feature_store.features.historical_features import moments_of
from feature_store.features.statistics import AGE, PRODUCT
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks.embedding_facts import ProductLookup, facts_folder


class FreshVectors:
    """Gives requests what they lack of product and age, by vectors that `ctr-kd refresh` may renew meanwhile.

    Parameters
    ----------
    workspace : Path
        Whose vectors are read; nothing is written there.
    config : AssemblyConfig
        How the rows of the model that is served were made, with embeddings.
    """

    def __init__(self, workspace: Path, config: AssemblyConfig) -> None:
        assert config.embeddings is not None  # of a model that reads vectors  # noqa: S101
        self._workspace, self._config = workspace, config
        self._folder = facts_folder(workspace, config.embeddings, config.history.max_length)
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._lookup: ProductLookup | None = None

    def check(self) -> None:
        """Open the vectors, which the first request would do.

        Raises
        ------
        DataError
            When none were learned, or they are damaged.
        """
        with self._lock:
            self._newest()

    def complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame of requests with the columns ``embedding_product`` and ``embedding_age``, unless it carries both.

        Parameters
        ----------
        frame : DataFrame
            ``item_id`` (an id, or a list of candidates), ``history`` and ``timestamp``. Vectors are the newest that there are, and
            their age is that at the row's time.

        Raises
        ------
        DataError
            When a time or an id cannot be read, or no vectors were learned.
        """
        if {PRODUCT, AGE} <= set(frame.columns) or not {"item_id", "timestamp"} <= set(frame.columns) or not len(frame):
            return frame
        listed = [_is_list(value) for value in frame["item_id"]]
        count = np.array([len(value) if is_list else 1 for value, is_list in zip(frame["item_id"], listed, strict=True)])
        items = [one for value, is_list in zip(frame["item_id"], listed, strict=True) for one in (value if is_list else [value])]
        history = frame["history"].tolist() if "history" in frame.columns else [None] * len(frame)
        rows = np.repeat(np.arange(len(frame)), count)
        times = pa.table({"timestamp": pa.array(frame["timestamp"].tolist())})
        table = pa.table({"item_id": pa.array(items), "history": pa.array(history).take(pa.array(rows))})
        with self._lock:  # vectors are moved to what is asked
            found = self._newest().add_newest(table, moments_of(times)[rows])
        product = np.split(np.array(found[PRODUCT].to_pylist(), dtype=object), np.cumsum(count)[:-1])
        ages = found[AGE].to_pylist()
        first = np.cumsum(count) - count
        columns = {
            PRODUCT: [part.tolist() if is_list else part[0] for part, is_list in zip(product, listed, strict=True)],
            AGE: [ages[place] if some else None for place, some in zip(first, count, strict=True)],
        }
        lacking = {
            name: pd.Series(values, index=frame.index, dtype=object) for name, values in columns.items() if name not in frame.columns
        }
        return frame.assign(**lacking)

    def _newest(self) -> ProductLookup:
        status = (self._folder.path / FactsList.FILE).stat() if (self._folder.path / FactsList.FILE).exists() else None
        seen = None if status is None else (status.st_mtime_ns, status.st_ino)
        if self._lookup is None or seen != self._seen:
            self._lookup, self._seen = ProductLookup(self._workspace, self._config, _known_items(self._folder, self._workspace)), seen
        return self._lookup


def _known_items(folder: FactsFolder, workspace: Path) -> pa.Table:
    """Every item that has a vector or a description, with its attributes, all text."""
    facts = folder.read()
    entries = [] if facts is None else list(since_all(facts.entries, facts.entries[-1].until)) if facts.entries else []
    met = {value for entry in entries for feature, value in folder.load(entry).rows.keys if feature == ITEM and value.strip("\0")}
    try:
        file = Store(workspace / "store").items_file()
    except DataError:  # a server's workspace need not have the log
        file = None
    if file is None:
        return pa.table({"item_id": pa.array(sorted(met), pa.string())})
    described = read_parquet(file)
    known = described["item_id"].cast(pa.string()).combine_chunks()
    ids = pa.array(sorted(met | set(known.to_pylist())), pa.string())
    place = pc.index_in(ids, value_set=known)
    names = [name for name in described.column_names if name != "item_id"]
    return pa.table({"item_id": ids} | {name: described[name].cast(pa.string()).take(place) for name in names})


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))
