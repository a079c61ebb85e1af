"""What item vectors say of rows, joined as of their time wherever rows are made: the columns that teacher, student and trees read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.embeddings.as_of import FromVectors, Requests, joined_requests
from ctr_kd.embeddings.walk import windows
from feature_store.config import AssemblyConfig
from feature_store.features.row_writer import ROW_GROUP
from feature_store.features.statistics import vector_columns
from feature_store.features.summary import ClickSummary
from feature_store.features.time_split import utc
from feature_store.tables.casting import as_array, id_values
from feature_store.tables.contracts import DataError
from feature_store.tables.equal_rows import number_equal_rows
from feature_store.tables.given_rows import text_ids
from feature_store.tables.parquet_files import open_pieces, read_parquet
from pipelines.tasks.embedding_facts import (
    duration,
    embeddings_of,
    facts_folder,
    learn_newest_clicks,
    open_vectors,
    stale_time,
    with_unknown,
)
from pipelines.workspace.context import StageContext
from pipelines.workspace.retention import VECTORS


def add_vectors(context: StageContext, config: AssemblyConfig) -> dict[str, Any]:
    """Learn the newest clicks and give the rows of an assembly the columns of vectors; returns what the manifest says of them.

    Raises
    ------
    DataError
        When the log has a column of that name.
    """
    summary = ClickSummary.read(context.output)
    of_log = (*summary.context.categorical, *summary.context.dense, *summary.item_attributes, *summary.user_attributes)
    taken = (*of_log, *summary.statistics)
    columns = vector_columns(embeddings_of(config).width_read)
    for name in sorted(set(columns) & {name.lower() for name in taken}):
        raise DataError(f"column {name} of the log has the name of what `embeddings` adds; rename it in the log and in `source`")
    learned = learn_newest_clicks(context.run, config, summary.split.train_from or _first_row(context.output))
    facts = learned.facts
    newest = facts.entries[-1] if facts.entries else None
    add_columns(context.workspace, context.output, context.output / "rows.parquet", config)
    summary.model_copy(update={"statistics": [*summary.statistics, *columns]}).write(context.output)
    context.report(f"vectors: {learned.clicks:,} clicks learned in blocks of {duration(facts.block)}, {len(facts.entries)} files of facts")
    folder = facts_folder(context.workspace, embeddings_of(config), config.history.max_length).path.name
    return {
        VECTORS: folder,
        "embedding_version": None if newest is None else newest.sha256,
    }


def _first_row(assembly: Path) -> datetime:
    """Time of the first row of an assembly."""
    first = pq.ParquetFile(assembly / "rows.parquet").metadata.row_group(0)
    column = next(n for n in range(first.num_columns) if first.column(n).path_in_schema == "timestamp")
    return utc(first.column(column).statistics.min)


def add_columns(workspace: Path, assembly: Path, file: Path, config: AssemblyConfig) -> None:
    """Give rows in the layout of an assembly the columns of vectors, as of their times.

    Some requests of the training window, by chance, read older vectors, as if refreshes had been missed.

    Parameters
    ----------
    workspace : Path
        Whose vectors were learned.
    assembly : Path
        Whose codes the rows have.
    file : Path
        The rows, which this replaces.
    config : AssemblyConfig
    """
    vectors, temporary = RowVectors(workspace, assembly, config), file.with_name(f".{file.name}.tmp")
    with open_pieces(file) as rows, TemporaryDirectory(dir=file.parent, prefix=".vectors-") as scratch:
        said = _said_of_file(rows, vectors, Path(scratch))
        schema = rows.schema_arrow
        for name in vector_columns(embeddings_of(config).width_read):
            schema = schema.append(pa.field(name, pa.float32()))
        text = [field.name for field in rows.schema_arrow if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)]
        with pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=text, store_schema=False) as writer:
            done = 0
            for group in range(rows.num_row_groups):
                table = rows.read_row_group(group)
                here = slice(done, done + table.num_rows)
                writer.write_table(with_vectors(table, FromVectors(*(part[here] for part in said))), row_group_size=ROW_GROUP)
                done += table.num_rows
    temporary.replace(file)


def _said_of_file(rows: pq.ParquetFile, vectors: RowVectors, scratch: Path) -> FromVectors:
    """Of all rows of a file; the vectors among it lie in files of a folder.

    Rows that read older vectors come last, together: going back for each piece would begin anew each time.
    """
    count, width = rows.metadata.num_rows, vectors.width_read
    said = FromVectors.nothing(count, 0)
    if width:
        state, item = (np.memmap(scratch / name, np.float16, "w+", shape=(count, width)) for name in ("state", "item"))
        said = said._replace(state=state, item=item)
    stale, places, done = [], [], 0
    for group in range(rows.num_row_groups):
        table = rows.read_row_group(group, columns=["request", "timestamp", "item", "history_start", "history_end", "split"])
        asked = vectors.requests(table)
        for column, values in zip(said, vectors.of(asked), strict=True):
            column[done : done + table.num_rows] = values
        begins = np.searchsorted(asked.request, np.arange(len(asked.moment)))
        as_of = vectors.missed_refreshes(table.take(pa.array(begins)), asked.moment)
        chosen = as_of < asked.moment
        places.append(done + np.flatnonzero(chosen[asked.request]))
        stale.append(asked._replace(as_of=as_of).some(chosen))
        done += table.num_rows
    place = np.concatenate(places) if places else np.zeros(0, np.int64)
    if len(place):
        for column, values in zip(said, vectors.of(joined_requests(stale)), strict=True):
            column[place] = values
    return said


class RowVectors:
    """What vectors say of rows in the layout of an assembly; ask in order of time.

    Parameters
    ----------
    workspace : Path
        Whose vectors were learned.
    assembly : Path
        Whose codes the rows have.
    config : AssemblyConfig
        With embeddings.
    """

    def __init__(self, workspace: Path, assembly: Path, config: AssemblyConfig) -> None:
        embeddings, self._length = embeddings_of(config), config.history.max_length
        items = read_parquet(assembly / "items.parquet").drop_columns(["code"])
        as_text = pa.table({name: items[name].cast(pa.string()) for name in items.column_names})
        self._vectors = open_vectors(workspace, config, as_text)
        self._stale_rate, self._seed = embeddings.stale_rate, embeddings.seed
        self._clicked = read_parquet(assembly / "clicks.parquet", columns=["item"])["item"].to_numpy()

    @property
    def refresh(self) -> int:
        """From one refresh to the next, microseconds."""
        return self._vectors.refresh

    @property
    def width_read(self) -> int:
        """Numbers of each vector that rows read; 0 where they read products alone."""
        return self._vectors.width_read

    def requests(self, rows: pa.Table) -> Requests:
        """The requests of rows, those of one next to each other, each at its time."""
        request = rows["request"].to_numpy()
        begins = np.flatnonzero(np.diff(request, prepend=-1))
        position, seen = windows(rows["history_end"].to_numpy()[begins], rows["history_start"].to_numpy()[begins], self._length)
        moment = rows["timestamp"].to_numpy()[begins]
        return Requests(
            moment=moment,
            as_of=moment,
            history=_items_at(self._clicked, position, seen),
            request=np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(request)))),
            item=rows["item"].to_numpy(),
        )

    def of(self, requests: Requests) -> FromVectors:
        """What the vectors say of the rows of requests."""
        return self._vectors.of(requests)

    def missed_refreshes(self, rows: pa.Table, moment: np.ndarray) -> np.ndarray:
        """Times as of which requests read vectors (one row and time each): of some in the training window, by chance, an older one."""
        in_training = pc.equal(rows["split"].cast(pa.string()), "train").to_numpy()
        number = rows["request"].to_numpy()
        chance, times = (_uniform(number, self._seed, which) for which in range(2))
        most = stale_time(self._vectors.block, self._vectors.refresh) // self._vectors.refresh
        missed = (most**times).astype(np.int64)  # one as often as many
        return np.where(in_training & (chance < self._stale_rate), moment - missed * self._vectors.refresh, moment)


class VectorLookup:
    """What vectors say of rows with raw ids, whose histories are known; ask in order of time.

    Parameters
    ----------
    workspace : Path
        Whose vectors were learned.
    config : AssemblyConfig
        With embeddings.
    as_of : int, optional
        Nothing that became known at this time or later (microseconds UTC) is read.
    items : pa.Table (items, 1 + attributes)
        ``item_id`` and attributes of all that the store knows, all text.
    """

    def __init__(self, workspace: Path, config: AssemblyConfig, items: pa.Table, as_of: int | None = None) -> None:
        self._length, self._as_of = config.history.max_length, as_of
        self._ids, self._none = items["item_id"].combine_chunks(), items.num_rows
        self._vectors = open_vectors(workspace, config, with_unknown(items))

    def add(self, frame: pa.Table, moment: np.ndarray) -> pa.Table:
        """Rows with ``item_id`` and ``history``, at moments (rows,) in microseconds UTC, with the columns of vectors that they lack."""
        return self._add(frame, moment, moment if self._as_of is None else np.minimum(moment, self._as_of))

    def add_newest(self, frame: pa.Table, moment: np.ndarray) -> pa.Table:
        """As :meth:`add`, by the newest vectors there are, whatever the moments: for rows that are asked about now."""
        return self._add(frame, np.maximum(moment, self._vectors.until), np.full(len(moment), np.iinfo(np.int64).max))

    def _add(self, frame: pa.Table, moment: np.ndarray, as_of: np.ndarray) -> pa.Table:
        history = _plain_lists(as_array(frame["history"]))
        user = [as_array(frame["user_id"]).cast(pa.string())] if "user_id" in frame.column_names else [np.arange(frame.num_rows)]
        _, first, request = np.unique(number_equal_rows([moment, *user]), return_index=True, return_inverse=True)
        offsets = history.offsets.to_numpy()
        clicked = self._codes(history.values)
        position, seen = windows(offsets[1:][first], offsets[:-1][first], self._length)
        asked = Requests(moment[first], as_of[first], _items_at(clicked, position, seen), request, self._codes(text_ids(frame, "item_id")))
        said = self._vectors.of(asked)
        own = {name: frame[name] for name in said.columns() if name in frame.column_names}
        found = with_vectors(frame, said)
        for name, column in own.items():
            found = found.set_column(found.column_names.index(name), name, column)
        return found

    def _codes(self, ids: pa.Array) -> np.ndarray:
        values, _ = id_values(ids)
        found = pc.index_in(values.cast(pa.string()), value_set=self._ids).fill_null(self._none)
        return found.to_numpy(zero_copy_only=False).astype(np.int32)


def _plain_lists(histories: pa.Array) -> pa.ListArray:
    """Lists of any kind as lists with offsets; null is an empty one."""
    kind = histories.type
    if pa.types.is_null(kind):
        return pa.array([[]] * len(histories), pa.list_(pa.string()))
    return histories if pa.types.is_list(kind) and not histories.null_count else histories.cast(pa.list_(kind.value_type)).fill_null([])


def _items_at(clicked: np.ndarray, position: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Items of clicks at some positions, -1 where there is none."""
    return np.where(seen, clicked[position], -1).astype(np.int32) if len(clicked) else np.full(position.shape, -1, np.int32)


def with_vectors(rows: pa.Table, said: FromVectors) -> pa.Table:
    """Rows with what vectors say of them, null where nothing is known; such columns replace those that are there."""
    for name, values in said.columns().items():
        column = pa.array(values.astype(np.float32), mask=np.isnan(values))
        if name in rows.column_names:
            rows = rows.set_column(rows.column_names.index(name), name, column)
        else:
            rows = rows.append_column(name, column)
    return rows


def _uniform(numbers: np.ndarray, seed: int, which: int) -> np.ndarray:
    """A number from 0 to 1 for each of some numbers, the same every time, another for each ``which`` (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = _mixed(_mixed(numbers.astype(np.uint64)) ^ _mixed(np.array([seed, which], np.uint64)).sum())
    return (z >> np.uint64(11)) / float(1 << 53)


def _mixed(z: np.ndarray) -> np.ndarray:
    """The hash of the n-gram tokenizer does the same; its file travels alone inside exported students."""
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
