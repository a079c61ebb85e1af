"""Item vectors of a workspace for requests that come one by one: the newest there are, whenever they are asked for."""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ctr_kd.embeddings.facts import FactsList
from ctr_kd.export.newest_vectors import Asked, complete
from feature_store.config import AssemblyConfig
from feature_store.features.historical_features import moments_of
from feature_store.features.statistics import vector_columns
from pipelines.tasks.embedding_facts import facts_folder, known_items
from pipelines.tasks.vector_columns import VectorLookup


class FreshVectors:
    """Gives requests what they lack of the columns of vectors, by vectors that `ctr-kd refresh` may renew meanwhile.

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
        self._columns = list(vector_columns(config.embeddings.width_read))
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._lookup: VectorLookup | None = None

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
        """A frame of requests with the columns of vectors, unless it carries them all.

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
        return complete(frame, self._columns, self._answer)

    def _answer(self, asked: Asked) -> dict[str, list[float | None]]:
        times = pa.table({"timestamp": pa.array(asked.timestamp)})
        table = pa.table({"item_id": pa.array(asked.item), "history": pa.array(asked.history).take(pa.array(asked.request))})
        with self._lock:  # vectors are moved to what is asked
            found = self._newest().add_newest(table, moments_of(times)[asked.request])
        return {name: found[name].to_pylist() for name in self._columns}

    def _newest(self) -> VectorLookup:
        status = (self._folder.path / FactsList.FILE).stat() if (self._folder.path / FactsList.FILE).exists() else None
        seen = None if status is None else (status.st_mtime_ns, status.st_ino)
        if self._lookup is None or seen != self._seen:
            self._lookup, self._seen = VectorLookup(self._workspace, self._config, known_items(self._folder, self._workspace)), seen
        return self._lookup
