"""What is to be scored for a date: rows of the log, users times live items, or what is retrieved for each user."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.features.historical_features import candidate_batches_on, live_on
from pipelines.errors import ConfigError
from pipelines.scoring.feature_join import Joiner
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from pipelines.registry.loaded_model import LoadedModel


def candidate_tables(context: StageContext, day: date, model: LoadedModel, joiner: Joiner) -> Iterator[pa.Table]:
    """What is to be scored, in order of time and request, in tables that fit memory; at least one table."""
    config = context.config
    if config.score.candidates == "retrieve":
        return retrieved(context, day, model, joiner)
    score = config.score
    return candidate_batches_on(
        context.store,
        day,
        config.assembly,
        config.feature_store,
        context.as_of,
        kind="live" if score.candidates == "live" else "log",
        window=score.window,
        users=score.users,
    )


def retrieved(context: StageContext, day: date, model: LoadedModel, joiner: Joiner) -> Iterator[pa.Table]:
    """``score.per_user`` live items for each user of a date, nearest to their history first."""
    from ctr_kd.retrieval.candidates import EmbeddingsMissing, ItemEmbeddings, Retriever

    settings = context.config.score
    config = context.config
    live = live_on(context.store, day, config.assembly, config.feature_store, context.as_of, window=settings.window, users=settings.users)
    try:
        retriever = Retriever(ItemEmbeddings(model.directory, model.scorer), live.items, live.clicks)
    except EmbeddingsMissing as error:
        raise ConfigError(f"{error}: choose score.candidates: live") from None
    context.report(f"retrieval among {len(live.items):,} live items, {len(retriever.reachable):,} of them with an embedding of their own")
    step = max(1, settings.batch_rows // settings.per_user)
    for first in range(0, live.users.num_rows, step):
        users = live.users.slice(first, step)
        found = retriever.find(joiner.histories(users), settings.per_user)
        user, place = np.nonzero(found >= 0)
        rows = users.take(pa.array(user))
        yield rows.set_column(rows.column_names.index("item_id"), "item_id", live.items.take(pa.array(found[user, place])))
