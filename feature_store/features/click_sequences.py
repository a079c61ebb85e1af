"""All clicks of a log as sequences by user, with the time at which each became known: what learns in the order of time reads them."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store.config import FeatureStoreConfig
from feature_store.features.event_log import described_items, engine_of_store, load_log
from feature_store.store.store import Store

AT_A_TIME = 1 << 20  # clicks that are digested together, which bounds the memory


class ClickSequences(NamedTuple):
    """Clicks, those of a user next to each other and in order of time.

    Attributes
    ----------
    item : int32 array (clicks,)
        Row of ``items``.
    user : int32 array (clicks,)
        Position of the user in ``users``.
    first : int64 array (clicks,)
        Position of the first click of the same user.
    known_at : int64 array (clicks,)
        When each became known, microseconds UTC.
    items : pa.Table (items, 1 + attributes)
        ``item_id`` and the attributes of items, all text.
    users : pa.Array (users,)
        Their ids, text.
    """

    item: np.ndarray
    user: np.ndarray
    first: np.ndarray
    known_at: np.ndarray
    items: pa.Table
    users: pa.Array


class PrefixDigest:
    """Digests of the first clicks of an order: equal ones mean equal clicks, whatever codes users and items have.

    Parameters
    ----------
    clicks : ClickSequences
    order : int array (clicks,)
    """

    def __init__(self, clicks: ClickSequences, order: np.ndarray) -> None:
        self._clicks, self._order = clicks, order
        texts = (clicks.items["item_id"].combine_chunks(), clicks.users)
        self._item, self._user = (pd.util.hash_array(text.to_numpy(zero_copy_only=False).astype(object)) for text in texts)
        self._so_far, self._done = hashlib.sha256(), 0

    def of(self, count: int) -> str:
        """Digest of so many clicks; they must not become fewer from one call to the next."""
        clicks = self._clicks
        for begin in range(self._done, count, AT_A_TIME):
            here = self._order[begin : min(begin + AT_A_TIME, count)]
            columns = self._item[clicks.item[here]], self._user[clicks.user[here]], clicks.known_at[here].view(np.uint64)
            self._so_far.update(np.stack(columns, axis=1).tobytes())
        self._done = count
        return self._so_far.copy().hexdigest()


def read_click_sequences(store: Store, engine_config: FeatureStoreConfig, as_of: datetime | None) -> ClickSequences:
    """Every click that the store holds.

    Parameters
    ----------
    store : Store
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Later clicks, and those that became known later, are left out.

    Raises
    ------
    DataError
        When nothing was ingested, or a file of the store is damaged.
    """
    with engine_of_store(engine_config, store) as engine:
        log = load_log(engine, store, as_of, context=())
        users = engine.fetch("select user_code, cast(user_id as string) as id from users", by=["user_code"])
        clicks = engine.fetch("select user_code, place, item_code, known_at from clicks", by=["user_code", "place"])
        user = clicks["user_code"].to_numpy()
        begins = np.flatnonzero(np.diff(user, prepend=-1))
        return ClickSequences(
            item=clicks["item_code"].to_numpy(),
            user=user,
            first=np.repeat(begins, np.diff(np.append(begins, len(user)))),
            known_at=clicks["known_at"].to_numpy(),
            items=described_items(engine, log),
            users=users["id"].combine_chunks(),
        )
