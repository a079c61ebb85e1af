"""Engines run the feature SQL: tables are made of queries, results are handed over as Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from feature_store.config import FeatureStoreConfig
from feature_store.engines.duckdb import EmbeddedEngine
from feature_store.engines.spark import SparkEngine


class Engine(Protocol):
    """What the feature store asks of an engine. ``query`` is ``"NAME.sql"`` or literal SQL, with ``${parameters}`` to fill in."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def table(self, name: str, query: str, /, **parameters: object) -> None:
        """Make or replace a table by a query, which is computed once."""

    def renew(self, name: str, query: str, /, **parameters: object) -> None:
        """Replace a table by a query that reads the table itself."""

    def view(self, name: str, query: str, /, **parameters: object) -> None:
        """Like :meth:`table`, computed where it is used."""

    def append(self, name: str, query: str, /, **parameters: object) -> None:
        """Add the rows of a query to a table; the query may read the table."""

    def upload(self, name: str, table: pa.Table) -> None:
        """Make or replace a table by an Arrow table."""

    def drop(self, *names: str) -> None:
        """Free tables that are not needed any more."""

    def rows(self, query: str, /, **parameters: object) -> list[tuple[Any, ...]]:
        """A small result as Python rows."""

    def fetch(self, query: str, /, by: Sequence[str] = (), **parameters: object) -> pa.Table:
        """A result as one Arrow table of one chunk, sorted by integer columns without nulls."""

    def stream(self, query: str, /, **parameters: object) -> Iterator[pa.RecordBatch]:
        """A result in the order of its own ``order by``, in batches of ``sql_template.BATCH`` rows, whose last one may be shorter."""

    def load_events(
        self, files: Sequence[Path], categorical: Sequence[str], dense: Sequence[str], others: Sequence[str], as_of: int | None
    ) -> None:
        """View ``events``: the partitions with times as integer microseconds and context columns ``context_0``, ``context_1``, ...

        Parameters
        ----------
        files : sequence of Path
            Event partitions of the store.
        categorical, dense : sequence of str
            Context columns to load, in this order.
        others : sequence of str
            Further columns of the store to load as they are, such as ``click_probability``.
        as_of : int, optional
            Microseconds since 1970 UTC; events with a time or an ``ingested_at`` at or after it are left out.
        """

    def load_rows(self, name: str, file: Path) -> None:
        """View of a Parquet file as it is."""

    def load_entities(self, name: str, key: str, file: Path | None, attributes: Sequence[str]) -> None:
        """View of the items or users of the store with attribute columns ``attribute_0``, ...; without rows if there is no file."""

    def load_facts(self, name: str, key: str, file: Path | None, columns: Sequence[str], *, dated: bool, as_of: int | None) -> None:
        """View of items or users of the store with an integer ``moment`` and columns ``fact_0``, ...; without rows if there is no file.

        Of dated ones only rows before ``as_of`` (microseconds; None keeps all).
        """


ENGINES: dict[str, type[EmbeddedEngine] | type[SparkEngine]] = {"embedded": EmbeddedEngine, "spark": SparkEngine}


def open_engine(config: FeatureStoreConfig, scratch: Path) -> Engine:
    """The configured engine; use as a context manager.

    Parameters
    ----------
    config : FeatureStoreConfig
        The results do not depend on the engine, nor on its memory and threads.
    scratch : Path
        Folder for what does not fit into memory; it is made, and removed at the end.

    Raises
    ------
    EngineMissing
        When the engine, or the Java that it runs on, is not installed.
    StorageError
        From every query, when the scratch folder is full.
    """
    return ENGINES[config.engine](config, scratch)
