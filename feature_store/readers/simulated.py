"""The simulated log: no input files, a click world made by seed, with the click probability of every impression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.config import SourceConfig
from feature_store.readers.base import reader_fingerprint
from feature_store.simulator.events import Impressions, simulate
from feature_store.simulator.world import DEVICES, SEGMENTS, SUBCATEGORIES, ClickWorld
from feature_store.tables.contracts import LogContract, RawBatch, log_contract

VERSION = 1  # of the world: raise it when the same settings make other rows, and stores are built anew
FILE = "simulated"


class SimulatedReader:
    """Makes the log of ``source.simulator``; a data folder is not looked at.

    An impression is a row, clicked or not. The log of clicks only has neither impressions nor positions, and no
    click probability: candidates that are sampled later were never shown to anyone.
    """

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._settings = config.simulator

    def files(self) -> list[Path]:
        return []

    def fingerprint(self) -> str:
        settings = self._settings.model_dump(mode="json")
        for name in ("item_spread", "vectors"):  # newer keys, which say nothing of the worlds before
            if settings[name] == type(self._settings).model_fields[name].default:
                del settings[name]
        return reader_fingerprint(FILE, version=VERSION, **settings)

    def contract(self) -> LogContract:
        impressions = not self._settings.clicks_only
        return log_contract(
            has_impressions=impressions,
            categorical=["device"],
            dense=["position"] if impressions else [],
            item_attributes=["category", "subcategory"],
            user_attributes=["segment"],
            item_vectors=["picture"] if self._settings.vectors else [],
            oracle=impressions,
        )

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        """Items, users, and the events day after day; a big day comes in several batches of other users."""
        world = ClickWorld(self._settings)
        items, users = _items(world), _users(world)
        yield RawBatch("items", FILE, items, np.arange(1, len(items) + 1), [])
        yield RawBatch("users", FILE, users, np.arange(1, len(users) + 1), [])
        requests = rows = 0
        for batch in simulate(world):
            table = self._events(batch, users["user_id"], items["item_id"], requests)
            yield RawBatch("events", FILE, table, np.arange(rows + 1, rows + 1 + len(table)), [])
            requests += len(batch.user)
            rows += len(table)

    def _events(self, batch: Impressions, user_ids: pa.ChunkedArray, item_ids: pa.ChunkedArray, requests: int) -> pa.Table:
        n, k = batch.item.shape
        keep = np.flatnonzero(batch.clicked) if self._settings.clicks_only else np.arange(n * k)
        request, position = keep // k, keep % k
        columns = {
            "user_id": user_ids.take(pa.array(batch.user[request])),
            "item_id": item_ids.take(pa.array(batch.item.ravel()[keep])),
            "timestamp": pa.array(batch.timestamp[request], pa.timestamp("us", "UTC")),
            "clicked": pa.array(batch.clicked.ravel()[keep].view(np.int8)),
            "request_id": pa.array(requests + request),
            "device": pa.DictionaryArray.from_arrays(pa.array(batch.device[request]), pa.array(DEVICES)),
        }
        if not self._settings.clicks_only:
            columns["position"] = pa.array(position.astype(np.float64))
            columns["click_probability"] = pa.array(batch.probability.ravel())
        return pa.table(columns)


def _items(world: ClickWorld) -> pa.Table:
    categories = _ids("c{:02d}", world.config.categories)
    subcategories = [f"{category}.{number}" for category in categories for number in range(SUBCATEGORIES)]
    return pa.table(
        {
            "item_id": _ids("i{:05d}", world.config.items),
            "category": pa.array(categories).take(pa.array(world.category)),
            "subcategory": pa.array(subcategories).take(pa.array(world.category * SUBCATEGORIES + world.subcategory)),
            **({"picture": pa.FixedSizeListArray.from_arrays(world.picture.ravel(), world.config.vectors)} if world.config.vectors else {}),
        }
    )


def _users(world: ClickWorld) -> pa.Table:
    segments = pa.array(_ids("s{}", SEGMENTS))
    return pa.table({"user_id": _ids("u{:06d}", world.config.users), "segment": segments.take(pa.array(world.segment))})


def _ids(pattern: str, count: int) -> list[str]:
    return [pattern.format(number) for number in range(count)]
