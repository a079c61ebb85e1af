"""The items nearest to one item by the teacher's embeddings: shows a person whether the embedding makes sense."""

from __future__ import annotations

import difflib

import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.data.samples import Assembly
from feature_store.features.event_log import microseconds
from feature_store.tables.casting import id_values
from feature_store.tables.parquet_files import read_parquet
from pipelines.errors import ConfigError
from pipelines.training.bert import load_teacher
from pipelines.workspace.context import RunContext
from pipelines.workspace.tables import text_table


def neighbours_table(run: RunContext, item: str, k: int) -> str:
    """The item and its ``k`` nearest, most similar first, as lines of text.

    Each id comes with its similarity (cosine of the fine-tuned encoder's item embeddings), its clicks that were known before training
    ended, and its attributes.

    Parameters
    ----------
    run : RunContext
        With ``ingest`` and ``finetune`` up to date.
    item : str
        Raw id; ids compare by their text.
    k : int

    Raises
    ------
    ConfigError
        When the log does not hold the item, or holds too few clicks of it for an embedding of its own.
    """
    from ctr_kd.retrieval.item_index import ItemIndex
    from ctr_kd.retrieval.unlabelled_pairs import item_codes, item_vectors

    assembly = Assembly(run.artifacts["ingest"].path, run.config.history.max_length)
    known = assembly.vocabulary["item"]
    items = read_parquet(assembly.directory / "items.parquet")
    ids = items["item_id"].cast("string")
    item = item if item in known else str(id_values(pa.array([item]))[0][0])  # 12.0 is 12
    if item not in known:
        if pc.any(pc.equal(ids, item)).as_py():
            least = run.config.vocabulary.min_count
            raise ConfigError(f"item {item} was seen fewer than {least} times in training (vocabulary.min_count), so it has no embedding")
        close = difflib.get_close_matches(item, known, n=3, cutoff=0.0)
        raise ConfigError(f"item {item} is not in the log; the nearest ids by spelling are {', '.join(close)}")

    vectors = item_vectors(load_teacher(run.artifacts["finetune"].path, assembly, run.config).pretrained)
    index, codes, place = ItemIndex(vectors), item_codes(assembly), known.index(item)
    similarity, found = index.search(vectors[place : place + 1], k + 1)
    nearest = [(at, value) for at, value in zip(found[0].tolist(), similarity[0].tolist(), strict=True) if at not in (place, -1)]
    until = microseconds(assembly.summary.split.train_until)
    clicks = assembly.click_counts(until)
    names = assembly.summary.item_attributes
    rows = [["item", "similarity", "clicks", *names]]
    for at, value in [(place, 1.0), *nearest[:k]]:
        attributes = items.slice(int(codes[at]), 1).to_pylist()[0]
        shown = ["-" if attributes[name] is None else str(attributes[name]) for name in names]
        rows.append([known[at], f"{value:.3f}", f"{clicks[codes[at]]:,}", *shown])
    recall = "" if index.kind == "exact" else f", recall@10 {index.recall:.3f}"
    return "\n".join(
        [
            text_table(rows, right=range(len(rows[0]))),
            f"among {len(index):,} items with an embedding of their own; {index.kind} search{recall}",
        ]
    )
