"""A tiny assembly on disk: what the feature store would write for a few users, made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.data.samples import Assembly
from feature_store.features.summary import ClickSummary
from tests.summaries import click_summary

STATISTICS = ["item_age", "item_clicks_1h", "user_gap"]


def write_assembly(directory: Path, users: int = 40, items: int = 30, seed: int = 0, requests: int = 120, candidates: int = 3) -> Path:
    """Random clicks and requests in the layout of ``feature_store.features.training_set``, with one item attribute and one context."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    lengths = rng.integers(0, 9, users)
    lengths[0] = 0  # somebody without any click
    first = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    user = np.repeat(np.arange(users), lengths).astype(np.int32)
    time = np.concatenate([np.sort(rng.integers(0, 10**12, n)) for n in lengths]).astype(np.int64)
    clicks = {"item": rng.integers(0, items, total).astype(np.int32), "timestamp": time, "time_known": rng.random(total) < 0.9}
    pq.write_table(pa.table({**clicks, "known_at": time, "user": user, "canonical": np.ones(total, bool)}), directory / "clicks.parquet")

    who = rng.integers(0, users, requests)
    at = np.sort(rng.integers(0, 10**12, requests))
    end = np.array([first[u] + (time[first[u] : first[u] + lengths[u]] < t).sum() for u, t in zip(who, at, strict=True)])
    start = np.maximum(end - 5, first[who])
    rows = requests * candidates
    request = np.repeat(np.arange(requests), candidates)
    item = rng.integers(0, items, rows).astype(np.int32)
    split = np.array(["train", "validation", "test"])[np.digitize(request / requests, [0.7, 0.85])]
    age = rng.exponential(1000, rows).astype(np.float32)
    age[rng.random(rows) < 0.1] = np.nan
    label = (rng.random(rows) < 1 / (1 + np.exp(-(item % 3 - 1.0)))).astype(np.int8)
    label[:2] = [0, 1]
    pq.write_table(
        pa.table(
            {
                "row_id": np.arange(rows),
                "request": request,
                "user": who[request].astype(np.int32),
                "item": item,
                "timestamp": at[request],
                "label": label,
                "split": split,
                "history_start": start[request],
                "history_end": end[request],
                "item_age": pa.array(age, from_pandas=True),
                "item_clicks_1h": rng.integers(0, 9, rows).astype(np.float32),
                "user_gap": rng.exponential(50, rows).astype(np.float32),
                "device": pa.array([None if r % 11 == 0 else f"d{r % 4}" for r in request]),
            }
        ),
        directory / "rows.parquet",
    )
    topics = [None if i % 7 == 0 else f"topic{i % 3}" for i in range(items)]
    pq.write_table(pa.table({"item_id": pa.array([100 + i for i in range(items)]), "topic": pa.array(topics)}), directory / "items.parquet")
    pq.write_table(pa.table({"user_id": pa.array([f"u{i}" for i in range(users)])}), directory / "users.parquet")
    vocabulary = {"item": [str(100 + i) for i in range(items - 4)], "topic": ["topic0", "topic1"], "device": ["d0", "d1", "d2"]}
    (directory / "vocabulary.json").write_text(json.dumps(vocabulary))
    days = {"train_until": 8, "validate_until": 10, "test_until": 12}
    summary = click_summary(
        statistics=STATISTICS,
        context={"categorical": ["device"], "dense": []},
        item_attributes=["topic"],
        split={"train_from": None, **{name: f"1970-01-{day:02}T00:00:00+00:00" for name, day in days.items()}},
    )
    summary.write(directory)
    return directory


def raw_frame(directory: Path, split: str) -> pa.Table:
    """The rows of a split as production would send them: raw ids, histories as lists."""
    assembly = Assembly(directory, 5)
    samples = assembly.samples(split)
    rows = pq.read_table(directory / "rows.parquet", filters=[("split", "=", split)])
    items = pq.read_table(directory / "items.parquet")["item_id"].to_numpy()
    clicks = pq.read_table(directory / "clicks.parquet")
    click_item = items[clicks["item"].to_numpy()]
    click_time = np.where(clicks["time_known"].to_numpy(zero_copy_only=False), clicks["timestamp"].to_numpy(), -1)
    spans = list(zip(samples.a.start, samples.a.end, strict=True))
    times = [[None if t < 0 else int(t) for t in click_time[s:e]] for s, e in spans]
    return pa.table(
        {
            "history": pa.array([click_item[s:e].tolist() for s, e in spans], pa.list_(pa.int64())),
            "history_timestamps": pa.array(times, pa.list_(pa.timestamp("us"))),
            "item_id": pa.array(items[rows["item"].to_numpy()]),
            "timestamp": rows["timestamp"].cast(pa.timestamp("us")),
            "device": rows["device"],
            **{name: rows[name] for name in STATISTICS},
        }
    )


def with_label(directory: Path, target: Path, label: np.ndarray | None = None) -> Path:
    """A copy of an assembly whose rows have a further label ``bought`` (rows,), below zero where unknown; by default that of the click."""
    shutil.copytree(directory, target)
    rows = pq.read_table(directory / "rows.parquet")
    bought = (rows["label"].to_numpy() if label is None else label).astype(np.int8)
    pq.write_table(rows.append_column("label_bought", pa.array(bought, mask=bought < 0)), target / "rows.parquet")
    ClickSummary.read(target).model_copy(update={"labels": ["bought"]}).write(target)
    return target
