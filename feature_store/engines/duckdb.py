"""The embedded engine: runs the feature SQL in DuckDB, inside this process, on disk where memory does not suffice.

What the features mean is in ``sql/``, what an engine offers in :class:`feature_store.engines.Engine`; only the reading of the
store (times to integer microseconds, context columns to small codes) is written for DuckDB here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from feature_store.config import FeatureStoreConfig
from feature_store.engines.duckdb_files import parquet_rows, parquet_source
from feature_store.engines.sql_template import BATCH, in_order, quoted, render_sql
from feature_store.tables.contracts import StorageError


class EmbeddedEngine:
    """DuckDB with bounded memory; use as a context manager.

    Parameters
    ----------
    config : FeatureStoreConfig
        Memory and threads. The results do not depend on either.
    scratch : Path
        Folder for what does not fit into memory; it is made, and removed at the end.

    Raises
    ------
    StorageError
        From every query, when the scratch folder is full.
    """

    def __init__(self, config: FeatureStoreConfig, scratch: Path) -> None:
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "memory_limit": config.memory.replace(" ", ""),
            "temp_directory": str(scratch),
            "preserve_insertion_order": False,  # every result that is handed over is sorted, and tables need no order
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,  # a table name never means a Python variable
        }
        if config.threads is not None:
            settings["threads"] = config.threads
        self._connection = duckdb.connect(":memory:", config=settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Turn the engine's way of saying that memory and disk are full into ours."""
        try:
            yield
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            reason = str(error).splitlines()[0]
            raise StorageError(
                f"{self._scratch}: the engine ran out of memory or disk ({reason}); free disk space or give it more memory"
            ) from error

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        with self._room():
            return self._connection.execute(sql)

    def table(self, name: str, query: str, /, **parameters: object) -> None:
        """Make or replace a table by a query: ``"NAME.sql"`` or literal SQL."""
        self._run(f"create or replace table {name} as {render_sql(query, parameters)}")

    def renew(self, name: str, query: str, /, **parameters: object) -> None:
        """Replace a table by a query that reads the table itself."""
        self.table(f"{name}_next", query, **parameters)
        self._run(f"drop table {name}; alter table {name}_next rename to {name}")

    def view(self, name: str, query: str, /, **parameters: object) -> None:
        """Like :meth:`table`, computed where it is used."""
        self._run(f"create or replace view {name} as {render_sql(query, parameters)}")

    def append(self, name: str, query: str, /, **parameters: object) -> None:
        """Add the rows of a query to a table."""
        self._run(f"insert into {name} {render_sql(query, parameters)}")

    def upload(self, name: str, table: pa.Table) -> None:
        """Make or replace a table by an Arrow table."""
        self._connection.register("uploaded", table)
        self.table(name, "select * from uploaded")
        self._connection.unregister("uploaded")

    def drop(self, *names: str) -> None:
        """Free tables that are not needed any more."""
        for name in names:
            self._run(f"drop table if exists {name}")

    def rows(self, query: str, /, **parameters: object) -> list[tuple[Any, ...]]:
        """A small result as Python rows."""
        return self._run(render_sql(query, parameters)).fetchall()

    def fetch(self, query: str, /, by: Sequence[str] = (), **parameters: object) -> pa.Table:
        """A result as one Arrow table of one chunk, sorted by integer columns without nulls.

        The sort happens here because it moves each column once, while the engine would carry whole rows through its sort.
        """
        with self._room():
            table = self._connection.sql(render_sql(query, parameters)).to_arrow_table(BATCH).combine_chunks()
        return in_order(table, by)

    def stream(self, query: str, /, **parameters: object) -> Iterator[pa.RecordBatch]:
        """A result in the order of its own ``order by``, batch by batch."""
        with self._room():
            yield from self._connection.sql(render_sql(query, parameters)).to_arrow_reader(BATCH)

    def load_events(
        self, files: Sequence[Path], categorical: Sequence[str], dense: Sequence[str], others: Sequence[str], as_of: int | None
    ) -> None:
        """View ``events``; see :meth:`feature_store.engines.Engine.load_events`."""
        source = parquet_source(files, united=True)
        cut = "" if as_of is None else f"where epoch_us(timestamp) < {as_of} and epoch_us(ingested_at) < {as_of}"
        columns = [f"{quoted(name)} as context_{n}" for n, name in enumerate(categorical)]
        for n, name in enumerate(categorical):  # an enumeration takes 1 or 2 bytes a row where the text takes 16
            values = f"select distinct {quoted(name)} as value from {source} where {quoted(name)} is not null order by value"
            if self.rows("select count(*) from (${values})", values=values)[0][0]:
                self._run(f"drop type if exists context_{n}_values")
                self._run(f"create type context_{n}_values as enum ({values})")
                columns[n] = f"cast({quoted(name)} as context_{n}_values) as context_{n}"
        columns += [f"cast({quoted(name)} as float) as context_{n}" for n, name in enumerate(dense, start=len(categorical))]
        columns += others
        self.view(
            "events",
            """select user_id, item_id, epoch_us(timestamp) as timestamp, greatest(epoch_us(timestamp), epoch_us(ingested_at)) as known_at,
                clicked, time_known, request_id ${columns} from ${source} ${cut}""",
            columns="".join(f", {column}" for column in columns),
            source=source,
            cut=cut,
        )

    def load_rows(self, name: str, file: Path) -> None:
        """View of a Parquet file as it is."""
        self.view(name, "select * from ${source}", source=parquet_source([file]))

    def load_scores(self, name: str, file: Path) -> None:
        """View of scored rows with their number in the file as ``row`` and times as integer microseconds."""
        scores = parquet_rows(file, ("request_id", "user_id", "item_id", "timestamp", "score"))
        columns = "row, request_id, user_id, item_id, epoch_us(timestamp) as timestamp, score"
        self.view(name, f"select {columns} from (${{scores}})", scores=scores)

    def load_ranking(self, name: str, file: Path) -> None:
        """View of a scored file's users and scores, with the number of the row in the file as ``row``."""
        self.view(name, "${ranking}", ranking=parquet_rows(file, ("user_id", "score")))

    def load_entities(self, name: str, key: str, file: Path | None, attributes: Sequence[str]) -> None:
        """View of the items or users of the store with attribute columns ``attribute_0``, ...; without rows if there is no file."""
        columns = "".join(f", {quoted(attribute)} as attribute_{n}" for n, attribute in enumerate(attributes))
        if file is None:
            nothing = "".join(f", cast(null as string) as attribute_{n}" for n in range(len(attributes)))
            self.view(name, f"select {key}{nothing} from events where false")
        else:
            # of dated ones there are several rows each, and no attribute
            distinct = "" if attributes else "distinct "
            self.view(name, f"select {distinct}{key}${{columns}} from ${{source}}", columns=columns, source=parquet_source([file]))

    def load_facts(self, name: str, key: str, file: Path | None, columns: Sequence[str], *, dated: bool, as_of: int | None) -> None:
        """View of items or users of the store with an integer ``moment`` and columns ``fact_0``, ...; without rows if there is no file."""
        moment = "epoch_us(timestamp)" if dated else "cast(0 as bigint)"
        if file is None:
            nothing = "".join(f", null as fact_{n}" for n in range(len(columns)))
            self.view(name, f"select {key}, timestamp as moment{nothing} from events where false")
        else:
            facts = "".join(f", {quoted(column)} as fact_{n}" for n, column in enumerate(columns))
            cut = f"where {moment} < {as_of}" if dated and as_of is not None else ""
            rows = parquet_source([file])
            self.view(name, f"select {key}, {moment} as moment${{facts}} from ${{source}} {cut}", facts=facts, source=rows)


@contextmanager
def scratch_engine(config: FeatureStoreConfig) -> Iterator[EmbeddedEngine]:
    """An engine for one file or two, whose scratch folder lies among the machine's temporary ones."""
    with tempfile.TemporaryDirectory(prefix="ctr_kd_") as scratch, EmbeddedEngine(config, Path(scratch) / "engine") as engine:
        yield engine
