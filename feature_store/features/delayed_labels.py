"""Labels of rows that were scored before: what was shown and clicked since, as far as it is known by now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from feature_store.config import FeatureStoreConfig
from feature_store.engines.duckdb import scratch_engine
from feature_store.features.event_log import microseconds
from feature_store.store.store import Store
from feature_store.tables.parquet_files import read_parquet

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Labelled(NamedTuple):
    """Scored rows with their labels, in the order in which they were scored.

    Attributes
    ----------
    label : int8 array (rows,)
    score : float64 array (rows,)
    user : int64 array (rows,)
        Codes of the users.
    weight : float64 array (rows,), optional
        How much each row counts; None where all count alike.
    """

    label: np.ndarray
    score: np.ndarray
    user: np.ndarray
    weight: np.ndarray | None = None


def labels_of(
    store: Store, scores: Path, engine_config: FeatureStoreConfig, as_of: datetime | None = None, horizon: timedelta | None = None
) -> Labelled | None:
    """What became of scored rows.

    Parameters
    ----------
    store : Store
    scores : Path
        Parquet with ``request_id``, ``user_id``, ``item_id``, ``timestamp`` and ``score``.
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Events that happened or became known then or later are left out.
    horizon : timedelta, optional
        None: the rows are impressions of the log, or candidates sampled for its clicks, and their label is that of their own request.
        Else they were candidates at their time, and events from then until so much later are their labels, never an earlier one.

    Returns
    -------
    Labelled or None
        With impressions the rows that were shown; for a log of clicks only the rows of users who clicked. None while what was scored
        lies less than ``horizon`` back, so that clicks are still to come.
    """
    times = read_parquet(scores, columns=["timestamp"])["timestamp"].cast(pa.int64()).to_numpy()
    if not len(times):
        return Labelled(np.zeros(0, np.int8), np.zeros(0), np.zeros(0, np.int64))
    first, last = (EPOCH + timedelta(microseconds=int(time)) for time in (times.min(), times.max()))
    until = last if horizon is None else last + horizon
    newest = store.known_until(as_of)
    if horizon is not None and (newest is None or min(newest, as_of or newest) < until):
        return None
    dates = [date for date in store.dates(until) if date >= first.date().isoformat()]
    if not dates:
        return Labelled(np.zeros(0, np.int8), np.zeros(0), np.zeros(0, np.int64))
    shown, weighted = store.log_contract.has_impressions, store.log_contract.weighted
    if horizon is None:
        when = "e.timestamp = s.timestamp" + (" and e.request_id is not distinct from s.request_id" if shown else "")
    else:
        when = f"e.timestamp >= s.timestamp and e.timestamp < s.timestamp + {horizon // timedelta(microseconds=1)}"
    with scratch_engine(engine_config) as engine:
        files = [store.root / "events" / f"date={date}" / "events.parquet" for date in dates]
        store.verify_files(files)
        engine.load_events(files, (), (), ("row_weight",) if weighted else (), None if as_of is None else microseconds(as_of))
        engine.load_scores("scored", scores)
        clicked = "e.clicked = 1" if shown else "e.item_id = s.item_id"
        weight = f", coalesce(max(case when {clicked} then e.row_weight end), max(e.row_weight)) as weight" if weighted else ""
        found = engine.fetch("rows/labels_shown.sql" if shown else "rows/labels_clicks.sql", by=["row"], when=when, weight=weight)
    user = found["user_id"].combine_chunks().dictionary_encode()
    codes = (user.combine_chunks() if isinstance(user, pa.ChunkedArray) else user).indices
    label, score = found["label"].to_numpy().astype(np.int8), found["score"].to_numpy()
    return Labelled(label, score, codes.to_numpy().astype(np.int64), found["weight"].to_numpy() if weighted else None)
