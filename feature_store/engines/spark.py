"""The Spark engine: runs the same feature SQL on a Spark session, on this machine or on a cluster.

Tables are Parquet files in the scratch folder, so they outlive an executor and a plan never grows with the number of chunks. Results
are handed over as such files too: executors write them, the driver reads them batch by batch. On a cluster the store and the scratch
folder must therefore be at the same path on every machine.

Spark's SQL differs from DuckDB's in one construct of ``sql/*/*.sql``, the ASOF join, which
:mod:`feature_store.engines.asof_rewrite` rewrites.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.config import FeatureStoreConfig
from feature_store.engines.asof_rewrite import without_asof
from feature_store.engines.spark_session import EngineFailed, spark_reason, spark_session
from feature_store.engines.sql_template import BATCH, in_order, render_sql
from feature_store.tables.contracts import StorageError
from feature_store.tables.parquet_files import read_parquet

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

DIALECT = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",  # "name" is a column
    "spark.sql.parser.escapedStringLiterals": "true",  # a backslash in a text is a backslash
    "spark.sql.variable.substitute": "false",  # and ${name} in a name is no variable
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
}


class SparkEngine:
    """Spark SQL over Parquet files; use as a context manager.

    Parameters
    ----------
    config : FeatureStoreConfig
        ``spark`` says which session. The results do not depend on it.
    scratch : Path
        Folder for tables in between, that every executor reaches; it is made, and removed at the end.

    Raises
    ------
    EngineMissing
        When pyspark or Java is not installed.
    StorageError
        From every query, when the scratch folder is full.
    """

    def __init__(self, config: FeatureStoreConfig, scratch: Path) -> None:
        self._open = ExitStack()
        self._spark = self._open.enter_context(spark_session(config))
        for name, value in DIALECT.items():
            self._spark.conf.set(name, value)
        self._scratch = scratch.absolute()
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._folders: dict[str, list[Path]] = {}  # of each table
        self._made = 0
        self._values: dict[str, pa.Array] = {}  # of each categorical context column, in their order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Turn Spark's way of failing, a Java trace of many lines, into ours."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            yield
        except (PySparkException, Py4JError) as error:
            if "No space left on device" in str(error):
                raise StorageError(f"{self._scratch}: the disk is full; free space or choose a larger workspace") from error
            raise EngineFailed(f"Spark: {spark_reason(error)}") from error

    def _write(self, query: str, parameters: dict[str, object]) -> tuple[Path, StructType]:
        """Compute a query into a new folder of Parquet files; part by part they are in the order of the query."""
        self._made += 1
        folder = self._scratch / f"{self._made:06d}"
        with self._room():
            frame = self._spark.sql(without_asof(render_sql(query, parameters)))
            frame.write.parquet(_uri(folder))
        return folder, frame.schema

    def _show(self, name: str, schema: StructType) -> None:
        """Let SQL find a table in its folders; the schema is given, so that no file need be opened for it."""
        self._view_files(name, self._folders[name], schema)

    def _view_files(self, name: str, paths: Sequence[Path], schema: StructType) -> None:
        with self._room():
            # A folder date=2024-01-01 is no column of the events, and no path is a pattern.
            as_they_are = {"recursiveFileLookup": "true", "__globPaths__": "false"}
            frame = self._spark.read.schema(schema).options(**as_they_are).parquet(*map(_uri, paths))
            frame.createOrReplaceTempView(name)

    def table(self, name: str, query: str, /, **parameters: object) -> None:
        """Make or replace a table by a query: ``"NAME.sql"`` or literal SQL."""
        folder, schema = self._write(query, parameters)
        old = self._folders.get(name, [])
        self._folders[name] = [folder]
        self._show(name, schema)
        for path in old:
            shutil.rmtree(path, ignore_errors=True)

    def renew(self, name: str, query: str, /, **parameters: object) -> None:
        """Replace a table by a query that reads the table itself: the new files are complete before the old ones go."""
        self.table(name, query, **parameters)

    def view(self, name: str, query: str, /, **parameters: object) -> None:
        """Like :meth:`table`, computed where it is used."""
        with self._room():
            self._spark.sql(f"create or replace temporary view {name} as {without_asof(render_sql(query, parameters))}")

    def append(self, name: str, query: str, /, **parameters: object) -> None:
        """Add the rows of a query to a table."""
        folder, schema = self._write(query, parameters)
        self._folders[name].append(folder)
        self._show(name, schema)

    def upload(self, name: str, table: pa.Table) -> None:
        """Make or replace a table by an Arrow table."""
        self._made += 1
        folder = self._scratch / f"{self._made:06d}"
        folder.mkdir()
        with self._room():
            pq.write_table(table, folder / "part-00000.parquet")
        self.drop(name)
        self._folders[name] = [folder]
        self._show(name, _spark_schema([folder / "part-00000.parquet"]))

    def drop(self, *names: str) -> None:
        """Free tables that are not needed any more."""
        for name in names:
            self._spark.catalog.dropTempView(name)
            for folder in self._folders.pop(name, []):
                shutil.rmtree(folder, ignore_errors=True)

    def rows(self, query: str, /, **parameters: object) -> list[tuple[Any, ...]]:
        """A small result as Python rows."""
        with self._room():
            return [tuple(row) for row in self._spark.sql(without_asof(render_sql(query, parameters))).collect()]

    def fetch(self, query: str, /, by: Sequence[str] = (), **parameters: object) -> pa.Table:
        """A result as one Arrow table of one chunk, sorted by integer columns without nulls."""
        folder, schema = self._write(query, parameters)
        tables = [read_parquet(file) for file in _parts(folder)]
        shutil.rmtree(folder, ignore_errors=True)
        table = pa.concat_tables(tables) if tables else _arrow_schema(schema).empty_table()
        columns = {name: self._coded(name, table[name].combine_chunks()) for name in table.column_names}
        return in_order(pa.table(columns), by)

    def _coded(self, name: str, column: pa.Array) -> pa.Array:
        """A context column as codes into its values: what DuckDB's enumeration hands over."""
        values = self._values.get(name)
        return column if values is None else pa.DictionaryArray.from_arrays(pc.index_in(column, values), values)

    def stream(self, query: str, /, **parameters: object) -> Iterator[pa.RecordBatch]:
        """A result in the order of its own ``order by``, in batches of ``BATCH`` rows, whose last one may be shorter."""
        folder, _ = self._write(query, parameters)
        held: list[pa.RecordBatch] = []
        for file in _parts(folder):
            for batch in pq.ParquetFile(file).iter_batches(BATCH):
                held.append(batch.replace_schema_metadata(None))
                if sum(map(len, held)) >= BATCH:
                    joined = pa.concat_batches(held)
                    yield joined.slice(0, BATCH)
                    held = [joined.slice(BATCH)]
        shutil.rmtree(folder, ignore_errors=True)
        rest = pa.concat_batches(held) if held else []
        if len(rest):
            yield rest

    def load_events(
        self, files: Sequence[Path], categorical: Sequence[str], dense: Sequence[str], others: Sequence[str], as_of: int | None
    ) -> None:
        """View ``events``; see :meth:`feature_store.engines.Engine.load_events`."""
        self._view_files("event_files", files, _spark_schema(files))
        for n, name in enumerate(categorical):
            distinct = "select distinct ${name} as value from event_files where ${name} is not null order by value"
            values = [value for (value,) in self.rows(distinct, name=_quoted(name))]
            if values:
                self._values[f"context_{n}"] = pa.array(values, pa.string())
        cut = "" if as_of is None else f"where unix_micros(timestamp) < {as_of} and unix_micros(ingested_at) < {as_of}"
        columns = [f"{_quoted(name)} as context_{n}" for n, name in enumerate(categorical)]
        columns += [f"cast({_quoted(name)} as float) as context_{n}" for n, name in enumerate(dense, start=len(categorical))]
        columns += others
        self.view(
            "events",
            """select user_id, item_id, unix_micros(timestamp) as timestamp,
                greatest(unix_micros(timestamp), unix_micros(ingested_at)) as known_at,
                clicked, time_known, request_id ${columns} from event_files ${cut}""",
            columns="".join(f", {column}" for column in columns),
            cut=cut,
        )

    def load_rows(self, name: str, file: Path) -> None:
        """View of a Parquet file as it is."""
        self._view_files(name, [file], _spark_schema([file]))

    def load_entities(self, name: str, key: str, file: Path | None, attributes: Sequence[str]) -> None:
        """View of the items or users of the store with attribute columns ``attribute_0``, ...; without rows if there is no file."""
        if file is None:
            nothing = "".join(f", cast(null as string) as attribute_{n}" for n in range(len(attributes)))
            self.view(name, f"select {key}{nothing} from events where false")
        else:
            self.load_rows(f"{name}_file", file)
            columns = "".join(f", {_quoted(attribute)} as attribute_{n}" for n, attribute in enumerate(attributes))
            # of dated ones there are several rows each, and no attribute
            self.view(name, f"select {'' if attributes else 'distinct '}{key}${{columns}} from {name}_file", columns=columns)

    def load_facts(self, name: str, key: str, file: Path | None, columns: Sequence[str], *, dated: bool, as_of: int | None) -> None:
        """View of items or users of the store with an integer ``moment`` and columns ``fact_0``, ...; without rows if there is no file."""
        moment = "unix_micros(timestamp)" if dated else "cast(0 as bigint)"
        if file is None:
            nothing = "".join(f", null as fact_{n}" for n in range(len(columns)))
            self.view(name, f"select {key}, timestamp as moment{nothing} from events where false")
        else:
            self.load_rows(f"{name}_rows", file)
            facts = "".join(f", {_quoted(column)} as fact_{n}" for n, column in enumerate(columns))
            cut = f"where {moment} < {as_of}" if dated and as_of is not None else ""
            self.view(name, f"select {key}, {moment} as moment${{facts}} from {name}_rows {cut}", facts=facts)


def _uri(path: Path) -> str:
    """A path of this machine's file system, whatever the cluster's default is."""
    return f"file:{path.absolute()}"


def _quoted(name: str) -> str:
    """A column name from outside; between double quotes Spark would read a backslash as the sign before another."""
    return "`" + name.replace("`", "``") + "`"


def _parts(folder: Path) -> list[Path]:
    """Files of a result: their numbers are in the order of its rows."""
    return sorted(folder.glob("part-*.parquet"))


def _arrow_schema(schema: StructType) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(schema)


def _spark_schema(files: Sequence[Path]) -> StructType:
    """Columns of all files together, as the embedded engine unites them by name; a file that lacks one has nulls there."""
    from pyspark.sql.pandas.types import from_arrow_schema

    united = pa.unify_schemas([pq.read_schema(file) for file in files])
    plain = [(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type) for field in united]
    return from_arrow_schema(pa.schema(plain))
