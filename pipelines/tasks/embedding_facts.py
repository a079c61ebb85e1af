"""Item vectors of a workspace: learned with the clicks of its store, published for models loaded alone, opened for who joins them."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.embeddings.as_of import VectorsAsOf
from ctr_kd.embeddings.facts import NEWEST, PARAMETERS, FactsFolder, FactsList, since_all
from ctr_kd.embeddings.vectors import ITEM
from ctr_kd.embeddings.walk import Walk, block_length
from feature_store.config import AssemblyConfig, EmbeddingsConfig
from feature_store.config_types import duration_text, in_microseconds
from feature_store.features.click_sequences import read_click_sequences
from feature_store.features.event_log import microseconds
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of, sync
from feature_store.tables.json_files import digest_of, load_json, write_json
from feature_store.tables.multi_values import spread
from feature_store.tables.parquet_files import read_parquet
from pipelines.workspace.context import RunContext
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
    return embeddings.model_dump(mode="json", exclude={"refresh", "stale_rate", "vectors"})


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
    embeddings, store = embeddings_of(config), run.store
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
        run.report(f"embeddings.block ({duration(walk.block)}) is longer than the clicks of the log: no row sees a vector", "ingest")
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
    embeddings, length = embeddings_of(config), config.history.max_length
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
    every = with_unknown(items)
    read, target, numbers = open_vectors(workspace, config, every).newest()
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
    store = Store(workspace / "store")
    try:
        file, multi, vectors = store.items_file(), store.log_contract.item_multi, store.log_contract.item_vectors
    except DataError:  # a server's workspace need not have the log
        file = None
    if file is None:
        return pa.table({"item_id": pa.array(sorted(met), pa.string())})
    described = read_parquet(file).drop_columns(vectors)
    known = described["item_id"].cast(pa.string()).combine_chunks()
    ids = pa.array(sorted(met | set(known.to_pylist())), pa.string())
    place = pc.index_in(ids, value_set=known)
    names = [name for name in described.column_names if name != "item_id"]
    return spread(pa.table({"item_id": ids} | {name: described[name].cast(pa.string()).take(place) for name in names}), multi)


def stale_time(block: int, refresh: int) -> int:
    """How much older the vectors of a training row are at most where refreshes were missed, microseconds."""
    return max(STALE_BLOCKS * block, STALE_REFRESHES * refresh)


def with_unknown(items: pa.Table) -> pa.Table:
    """One more item than there are, the last one: any that the store does not know."""
    nobody = pa.table({name: pa.array(["" if name == "item_id" else None], pa.string()) for name in items.column_names})
    return pa.concat_tables([items, nobody])


def open_vectors(workspace: Path, config: AssemblyConfig, items: pa.Table) -> VectorsAsOf:
    """The vectors of a workspace that these settings learned.

    Raises
    ------
    DataError
        When none were, or they are damaged.
    """
    embeddings, length = embeddings_of(config), config.history.max_length
    return VectorsAsOf(facts_folder(workspace, embeddings, length), embeddings, length, items)


def embeddings_of(config: AssemblyConfig) -> EmbeddingsConfig:
    """Those of a configuration that has some."""
    assert config.embeddings is not None  # of whoever asks for vectors  # noqa: S101
    return config.embeddings


def duration(length: int) -> str:
    """Microseconds in words."""
    return duration_text(timedelta(microseconds=length))
