"""Item vectors of a workspace: learned with the clicks of its store, and joined to rows as of their time, wherever rows are made."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.embeddings.as_of import Products, Requests, VectorsAsOf, joined_requests
from ctr_kd.embeddings.facts import NEWEST, PARAMETERS, FactsFolder, FactsList, since_all
from ctr_kd.embeddings.vectors import ITEM
from ctr_kd.embeddings.walk import Walk, block_length, windows
from feature_store.config import AssemblyConfig, EmbeddingsConfig
from feature_store.config_types import duration_text, in_microseconds
from feature_store.features.click_sequences import read_click_sequences
from feature_store.features.event_log import microseconds
from feature_store.features.row_writer import ROW_GROUP
from feature_store.features.statistics import AGE, PRODUCT
from feature_store.features.summary import ClickSummary
from feature_store.features.time_split import utc
from feature_store.store.store import Store
from feature_store.tables.casting import as_array, id_values
from feature_store.tables.contracts import DataError
from feature_store.tables.equal_rows import number_equal_rows
from feature_store.tables.files import sha256_of, sync
from feature_store.tables.given_rows import text_ids
from feature_store.tables.json_files import digest_of, load_json, write_json
from feature_store.tables.parquet_files import open_pieces, read_parquet
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.retention import VECTORS

STALE_BLOCKS, STALE_REFRESHES = 36, 6  # the longer of both: how much older vectors are at most where training rows missed refreshes
_FORMAT = 1  # of the files and of what is learned: another one means that all is learned anew


class Learned(NamedTuple):
    """What learning the newest clicks did.

    Attributes
    ----------
    facts : FactsList
    clicks : int
        That were learned now.
    """

    facts: FactsList
    clicks: int


def facts_folder(workspace: Path, embeddings: EmbeddingsConfig, max_length: int) -> FactsFolder:
    """The folder of a workspace for vectors that are learned by these settings; how old rows read them changes none of them."""
    settings = digest_of([_FORMAT, learned_by(embeddings), max_length])
    return FactsFolder(workspace / VECTORS / settings[:16], settings)


def learned_by(embeddings: EmbeddingsConfig) -> dict[str, Any]:
    """The settings by which vectors are learned: all but those of who reads them."""
    return embeddings.model_dump(mode="json", exclude={"refresh", "stale_rate"})


def learn_newest_clicks(run: RunContext, config: AssemblyConfig, needed_from: datetime | None = None) -> Learned:
    """Learn what the store holds and was not learned yet.

    Parameters
    ----------
    run : RunContext
        Whose workspace is held.
    config : AssemblyConfig
        With embeddings.
    needed_from : datetime, optional
        Rows begin then, and need to be told what was known at each later time; None goes on from what there is.

    Raises
    ------
    DataError
        When the store holds no click, or the folder is damaged.
    """
    embeddings, store = _embeddings(config), run.store
    clicks = read_click_sequences(store, run.config.feature_store, run.as_of)
    now = run.as_of or store.known_until()
    if now is None or not len(clicks.item):
        raise DataError(f"{store.root}: holds no click to learn vectors from")
    length = config.history.max_length
    folder, begin = facts_folder(run.workspace, embeddings, length), None
    if needed_from is not None:
        known = folder.read()
        block = block_length(embeddings, np.sort(clicks.known_at)) if known is None else known.block
        refresh = block if embeddings.refresh is None else in_microseconds(embeddings.refresh)
        begin = microseconds(needed_from) - refresh - stale_time(block, refresh)
    walk = Walk(clicks, embeddings, length, folder, microseconds(now), begin)
    if walk.block > int(clicks.known_at.max() - clicks.known_at.min()):
        run.report(f"embeddings.block ({_duration(walk.block)}) is longer than the clicks of the log: no row sees a vector", "ingest")
    todo = walk.clicks_to_learn
    with run.console.progress("vectors", todo, "ingest") as progress:
        facts = walk.learn(progress.advance)
    if run.as_of is None:  # who asks for the past serves nobody
        try:
            publish_newest(run.workspace, config)
        except OSError as error:  # nothing else of this workspace reads it
            run.report(f"warning: the newest vectors are not published: {error}", "ingest")
    return Learned(facts, todo)


def publish_newest(workspace: Path, config: AssemblyConfig) -> None:
    """Write the newest vectors in a file that a registered model reads where it was loaded alone, and name it in ``newest.json``.

    What is published already stays. A reader may hold the file before: the two newest are kept.
    """
    embeddings, length = _embeddings(config), config.history.max_length
    folder = facts_folder(workspace, embeddings, length)
    facts = folder.read()
    if facts is None or not facts.entries:
        return
    said = {"embeddings": learned_by(embeddings), "max_length": length, "version": facts.entries[-1].sha256, "until": facts.until}
    pointer = folder.path / NEWEST
    known = _published(pointer)
    if all(known.get(key) == value for key, value in said.items()):
        return
    pointer.parent.mkdir(exist_ok=True)
    if embeddings.encoder != "pooled":  # what it says takes torch
        write_json(pointer, said | {"file": None, "sha256": None})
        return
    items = known_items(folder, workspace)
    every = _with_unknown(items)
    read, target, numbers = _open_vectors(workspace, config, every).newest()
    columns = {"item_id": every["item_id"]} | {
        name: pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel(), pa.float16()), vectors.shape[1])
        for name, vectors in (("read", read), ("target", target))
    }
    temporary = pointer.with_name(".newest.tmp")
    metadata = {PARAMETERS: base64.b64encode(numbers.astype("<f4").tobytes())}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary, compression="zstd")
    sync(temporary)
    digest = sha256_of(temporary)
    file = pointer.with_name(f"{digest[:12]}.parquet")
    temporary.replace(file)
    write_json(pointer, said | {"file": file.name, "sha256": digest})
    for other in pointer.parent.glob("*.parquet"):
        if other.name not in (file.name, known.get("file")):
            other.unlink()


def _published(pointer: Path) -> dict[str, Any]:
    """What is published; nothing where it is not there whole."""
    try:
        known: dict[str, Any] = load_json(pointer)
        file = known["file"]
        return known if file is None or sha256_of(pointer.with_name(file)) == known["sha256"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def known_items(folder: FactsFolder, workspace: Path) -> pa.Table:
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


def add_products(context: StageContext, config: AssemblyConfig) -> dict[str, Any]:
    """Learn the newest clicks and give the rows of an assembly the column of products; returns what the manifest says of it.

    Raises
    ------
    DataError
        When the log has a column of that name.
    """
    summary = ClickSummary.read(context.output)
    taken = (*summary.context.categorical, *summary.context.dense, *summary.item_attributes, *summary.user_attributes)
    for name in {PRODUCT, AGE} & {name.lower() for name in taken}:
        raise DataError(f"column {name} of the log has the name of what `embeddings` adds; rename it in the log and in `source`")
    learned = learn_newest_clicks(context.run, config, summary.split.train_from or _first_row(context.output))
    facts = learned.facts
    newest = facts.entries[-1] if facts.entries else None
    add_columns(context.workspace, context.output, context.output / "rows.parquet", config)
    summary.model_copy(update={"statistics": [*summary.statistics, PRODUCT, AGE]}).write(context.output)
    context.report(f"vectors: {learned.clicks:,} clicks learned in blocks of {_duration(facts.block)}, {len(facts.entries)} files of facts")
    folder = facts_folder(context.workspace, _embeddings(config), config.history.max_length).path.name
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
    """Give rows in the layout of an assembly the columns of product and age, as of their times.

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
    products, temporary = RowProducts(workspace, assembly, config), file.with_name(f".{file.name}.tmp")
    with open_pieces(file) as rows:
        found = _products_of_file(rows, products)
        schema = rows.schema_arrow.append(pa.field(PRODUCT, pa.float32())).append(pa.field(AGE, pa.float32()))
        text = [field.name for field in rows.schema_arrow if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)]
        with pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=text, store_schema=False) as writer:
            done = 0
            for group in range(rows.num_row_groups):
                table = rows.read_row_group(group)
                here = slice(done, done + table.num_rows)
                writer.write_table(with_products(table, Products(found.product[here], found.age[here])), row_group_size=ROW_GROUP)
                done += table.num_rows
    temporary.replace(file)


def _products_of_file(rows: pq.ParquetFile, products: RowProducts) -> Products:
    """Of all rows of a file. Those that read older vectors come last, together: going back for each piece would begin anew each time."""
    found = Products(*(np.full(rows.metadata.num_rows, np.nan, np.float32) for _ in range(2)))
    stale, places, done = [], [], 0
    for group in range(rows.num_row_groups):
        table = rows.read_row_group(group, columns=["request", "timestamp", "item", "history_start", "history_end", "split"])
        asked = products.requests(table)
        for column, values in zip(found, products.of(asked), strict=True):
            column[done : done + table.num_rows] = values
        begins = np.searchsorted(asked.request, np.arange(len(asked.moment)))
        as_of = products.missed_refreshes(table.take(pa.array(begins)), asked.moment)
        chosen = as_of < asked.moment
        places.append(done + np.flatnonzero(chosen[asked.request]))
        stale.append(asked._replace(as_of=as_of).some(chosen))
        done += table.num_rows
    place = np.concatenate(places) if places else np.zeros(0, np.int64)
    if len(place):
        for column, values in zip(found, products.of(joined_requests(stale)), strict=True):
            column[place] = values
    return found


class RowProducts:
    """Products for rows in the layout of an assembly; ask in order of time.

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
        embeddings, self._length = _embeddings(config), config.history.max_length
        items = read_parquet(assembly / "items.parquet").drop_columns(["code"])
        as_text = pa.table({name: items[name].cast(pa.string()) for name in items.column_names})
        self._vectors = _open_vectors(workspace, config, as_text)
        self._stale_rate, self._seed = embeddings.stale_rate, embeddings.seed
        self._clicked = read_parquet(assembly / "clicks.parquet", columns=["item"])["item"].to_numpy()

    @property
    def refresh(self) -> int:
        """From one refresh to the next, microseconds."""
        return self._vectors.refresh

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

    def of(self, requests: Requests) -> Products:
        """What the vectors say of the rows of requests."""
        return self._vectors.products(requests)

    def missed_refreshes(self, rows: pa.Table, moment: np.ndarray) -> np.ndarray:
        """Times as of which requests read vectors (one row and time each): of some in the training window, by chance, an older one."""
        in_training = pc.equal(rows["split"].cast(pa.string()), "train").to_numpy()
        number = rows["request"].to_numpy()
        chance, times = (_uniform(number, self._seed, which) for which in range(2))
        most = stale_time(self._vectors.block, self._vectors.refresh) // self._vectors.refresh
        missed = (most**times).astype(np.int64)  # one as often as many
        return np.where(in_training & (chance < self._stale_rate), moment - missed * self._vectors.refresh, moment)


def stale_time(block: int, refresh: int) -> int:
    """How much older the vectors of a training row are at most where refreshes were missed, microseconds."""
    return max(STALE_BLOCKS * block, STALE_REFRESHES * refresh)


class ProductLookup:
    """Products for rows with raw ids, whose histories are known; ask in order of time.

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
        self._vectors = _open_vectors(workspace, config, _with_unknown(items))

    def add(self, frame: pa.Table, moment: np.ndarray) -> pa.Table:
        """Rows with ``item_id`` and ``history``, at some moments (rows,) in microseconds UTC, with what they lack of product and age."""
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
        own = {name: frame[name] for name in (PRODUCT, AGE) if name in frame.column_names}
        found = with_products(frame, self._vectors.products(asked))
        for name, column in own.items():
            found = found.set_column(found.column_names.index(name), name, column)
        return found

    def _codes(self, ids: pa.Array) -> np.ndarray:
        values, _ = id_values(ids)
        found = pc.index_in(values.cast(pa.string()), value_set=self._ids).fill_null(self._none)
        return found.to_numpy(zero_copy_only=False).astype(np.int32)


def _with_unknown(items: pa.Table) -> pa.Table:
    """One more item than there are, the last one: any that the store does not know."""
    nobody = pa.table({name: pa.array(["" if name == "item_id" else None], pa.string()) for name in items.column_names})
    return pa.concat_tables([items, nobody])


def _open_vectors(workspace: Path, config: AssemblyConfig, items: pa.Table) -> VectorsAsOf:
    """The vectors of a workspace that these settings learned.

    Raises
    ------
    DataError
        When none were, or they are damaged.
    """
    embeddings, length = _embeddings(config), config.history.max_length
    return VectorsAsOf(facts_folder(workspace, embeddings, length), embeddings, length, items)


def _plain_lists(histories: pa.Array) -> pa.ListArray:
    """Lists of any kind as lists with offsets; null is an empty one."""
    kind = histories.type
    if pa.types.is_null(kind):
        return pa.array([[]] * len(histories), pa.list_(pa.string()))
    return histories if pa.types.is_list(kind) and not histories.null_count else histories.cast(pa.list_(kind.value_type)).fill_null([])


def _items_at(clicked: np.ndarray, position: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Items of clicks at some positions, -1 where there is none."""
    return np.where(seen, clicked[position], -1).astype(np.int32) if len(clicked) else np.full(position.shape, -1, np.int32)


def with_products(rows: pa.Table, found: Products) -> pa.Table:
    """Rows with product and age, null where unknown; both replace what there is."""
    for name, values in ((PRODUCT, found.product), (AGE, found.age)):
        column = pa.array(values, pa.float32(), mask=np.isnan(values))
        place = rows.column_names.index(name) if name in rows.column_names else rows.num_columns
        rows = rows.set_column(place, name, column) if place < rows.num_columns else rows.append_column(name, column)
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


def _embeddings(config: AssemblyConfig) -> EmbeddingsConfig:
    assert config.embeddings is not None  # of whoever asks for vectors  # noqa: S101
    return config.embeddings


def _duration(length: int) -> str:
    return duration_text(timedelta(microseconds=length))
