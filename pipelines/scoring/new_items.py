"""Items that came after a model was made: what the store says of them, for models that read vectors of items.

A vector is as good for an item that nobody clicked yet, so a model knows it by that even if the item is younger than the model.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of
from feature_store.tables.multi_values import spread
from feature_store.tables.parquet_files import read_parquet
from pipelines.registry.loaded_model import LoadedModel
from pipelines.workspace.context import RunContext


def describe_new_items(run: RunContext, model: LoadedModel) -> pa.Table | None:
    """Tell a model of the items of the store that it does not know of.

    Returns
    -------
    pyarrow Table or None
        What it was told, for the processes that score with it; None where it reads no vectors of items, or the store has nothing new.
    """
    if not model.reads_item_vectors:
        return None
    try:
        file, contract = run.store.items_file(), run.store.log_contract
    except DataError:  # rows of a file may be scored where no log was ever ingested
        return None
    if file is None:
        return None
    if model.scorer.signature.get("title_encoder") != run.store.title_encoder():
        run.report("warning: titles have another encoder than the model learned from: it is told of no newer items", "score")
        return None
    run.store.verify_files([file])
    held = {*contract.item_attributes, *contract.item_vectors}
    items = spread(read_parquet(file, columns=["item_id", *sorted(held)]), [name for name in contract.item_multi if name in held])
    wanted = [name for name in model.scorer.described if name in items.column_names]
    new = items.select(["item_id", *wanted]).filter(pa.array(~np.asarray(model.scorer.describes(items["item_id"]))))
    if not new.num_rows:
        return None
    try:
        model.scorer.describe(new)
    except ValueError as error:  # of the model's own scorer
        raise DataError(f"{file}: {error}, as the model was made with; its vectors are others now: train a model on them") from None
    return new


def known_items(store: Store, items: pa.Table | None) -> dict[str, str]:
    """What a scoring depends on besides the model where it was told of new items: the digest of the store's."""
    file = None if items is None else store.items_file()
    return {} if file is None else {"items": sha256_of(file)}
