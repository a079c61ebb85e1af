"""Simulated logs that the settings of ``source.simulator`` do not reach: rare clicks, many attributes, no order in what is clicked.

Each is :class:`feature_store.simulator.world.ClickWorld` with something changed, written as a tabular log: events.parquet, items.parquet
and users.parquet, which :func:`source` reads. The click probabilities are not written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.config import SimulatorConfig
from feature_store.simulator.events import simulate
from feature_store.simulator.world import DEVICES, LATENT, SUBCATEGORIES, ClickWorld

Change = Literal["rare_clicks", "many_attributes", "no_order"]
ITEM_ATTRIBUTES, USER_ATTRIBUTES, LEVELS = 12, 6, 8  # of a world of many attributes; values of each
RARER = 3.5  # log-odds by which the clicks of 15 % become such of 1 %


EVENTS = {
    "path": "events.parquet",
    "user": "user_id",
    "item": "item_id",
    "time": "timestamp",
    "clicked": "clicked",
    "request": "request_id",
}
"""The block ``source.events`` of every log that a benchmark writes."""


def source(change: Change) -> dict[str, Any]:
    """The block ``source`` of a configuration that reads such a log."""
    many = change == "many_attributes"
    items = ["category", "subcategory", *([f"trait_{number:02d}" for number in range(ITEM_ATTRIBUTES)] if many else [])]
    users = ["segment", *([f"habit_{number:02d}" for number in range(USER_ATTRIBUTES)] if many else [])]
    return {
        "reader": "tabular",
        "events": EVENTS,
        "items": {"path": "items.parquet", "item": "item_id", "categorical": items},
        "users": {"path": "users.parquet", "user": "user_id", "categorical": users},
        "context": {"categorical": ["device"], "dense": ["position"]},
    }


def changed_world(change: Change, config: SimulatorConfig) -> ClickWorld:
    """A world in which clicks are rare, or nothing that was clicked pulls what comes next; of many attributes, as it is."""
    world = ClickWorld(config)
    if change == "rare_clicks":
        world.quality_effect -= np.float32(RARER)
    if change == "no_order":
        world.pull[:] = 0
    return world


def write_world(folder: Path, change: Change, config: SimulatorConfig) -> None:
    """Write the log of a changed world into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    world = changed_world(change, config)
    items = {
        "item_id": [f"i{number:05d}" for number in range(config.items)],
        "category": [f"c{category:02d}" for category in world.category],
        "subcategory": [f"s{number:03d}" for number in world.category * SUBCATEGORIES + world.subcategory],
    }
    users = {"user_id": [f"u{number:06d}" for number in range(config.users)], "segment": [f"s{number}" for number in world.segment]}
    if change == "many_attributes":
        rng = np.random.default_rng([config.seed, 3])
        items |= _levels(rng, "trait", ITEM_ATTRIBUTES, world.vector)
        users |= _levels(rng, "habit", USER_ATTRIBUTES, world.taste)
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table(users), folder / "users.parquet")
    parts, requests = [], 0
    for batch in simulate(world):
        n, k = batch.item.shape
        request = np.repeat(np.arange(n), k)
        parts.append(
            pa.table(
                {
                    "user_id": pa.array(users["user_id"]).take(pa.array(batch.user[request])),
                    "item_id": pa.array(items["item_id"]).take(pa.array(batch.item.ravel())),
                    "timestamp": pa.array(batch.timestamp[request], pa.timestamp("us", "UTC")),
                    "clicked": pa.array(batch.clicked.ravel().astype(np.int8)),
                    "request_id": pa.array(requests + request),
                    "device": pa.array(DEVICES).take(pa.array(batch.device[request])),
                    "position": pa.array(np.tile(np.arange(k, dtype=np.float64), n)),
                }
            )
        )
        requests += n
    pq.write_table(pa.concat_tables(parts), folder / "events.parquet")


def _levels(rng: np.random.Generator, name: str, count: int, hidden: np.ndarray) -> dict[str, list[str]]:
    """Columns of eight equally common values; every second one tells something of what is hidden (rows, LATENT), the others nothing."""
    columns = {}
    for number in range(count):
        told = hidden @ rng.standard_normal(LATENT) if number % 2 == 0 else 0.0
        value = told + rng.standard_normal(len(hidden)) * (0.5 if number % 2 == 0 else 1.0)
        level = np.argsort(np.argsort(value)) * LEVELS // len(value)
        columns[f"{name}_{number:02d}"] = [f"v{one}" for one in level]
    return columns
