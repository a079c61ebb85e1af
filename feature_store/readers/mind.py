"""MIND, the Microsoft news log: ``behaviors.tsv`` with real impressions, ``news.tsv`` with the items.

Every impression lists the user's earlier clicks, without times. They become clicks before the first event of the log, in
their order, a microsecond apart, with ``time_known`` false: once per user, the longest list that any impression shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.casts import MICROSECOND, mask_of, to_times
from feature_store.config import SourceConfig
from feature_store.contracts import EARLIEST, DataError, RawBatch, Rejected, describe, row_text
from feature_store.readers.base import data_folder, fingerprint
from feature_store.readers.delimited import Layout, read_delimited

BEHAVIORS, NEWS = "behaviors.tsv", "news.tsv"
_BEHAVIORS = Layout("\t", quoted=False, names=("impression", "user", "time", "history", "candidates"))
_NEWS_COLUMNS = ("item", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_NEWS = Layout("\t", quoted=False, names=_NEWS_COLUMNS)
_USERS_PER_BATCH = 20_000


class MindReader:
    """Reads ``behaviors.tsv`` and, where it is there, ``news.tsv``."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._data = data_folder(data, "mind")

    def files(self) -> list[Path]:
        if not (self._data / BEHAVIORS).is_file():
            raise DataError(f"{self._data}: no {BEHAVIORS}; --data names the folder that holds it")
        return [self._data / name for name in (BEHAVIORS, NEWS) if (self._data / name).is_file()]

    def fingerprint(self) -> str:
        return fingerprint("mind")

    def contract(self) -> dict[str, Any]:
        has_news = (self._data / NEWS).is_file()
        return describe(has_impressions=True, item_attributes=("category", "subcategory") if has_news else ())

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        for path in files:
            if path.name == BEHAVIORS:
                yield from _histories(path)
                yield from _impressions(path)
            else:
                columns = {"item_id": "item", "category": "category", "subcategory": "subcategory", "title": "title"}
                yield from read_delimited(path, NEWS, "items", columns, _NEWS)


def _impressions(path: Path) -> Iterator[RawBatch]:
    columns = {"request_id": "impression", "user_id": "user", "timestamp": "time", "candidates": "candidates"}
    for batch in read_delimited(path, BEHAVIORS, "events", columns, _BEHAVIORS):
        empty = mask_of(batch.table["candidates"].is_null())
        rejected = list(batch.rejected)
        for row, line in zip(batch.table.filter(pa.array(empty)).to_pylist(), batch.lines[empty].tolist(), strict=True):
            rejected.append(Rejected(line, "impression without candidates", row_text(row)))
        table = batch.table.filter(pa.array(~empty)).combine_chunks()
        lists = pc.split_pattern(table["candidates"], " ")
        parents = pc.list_parent_indices(lists)
        candidates = pc.list_flatten(lists).combine_chunks()
        # N123-0 is shown, N123-1 is clicked; a candidate without its suffix keeps its text and is rejected for it
        parts = pc.extract_regex(candidates, r"^(?P<item>.+)-(?P<clicked>[^-]*)$")
        shown = table.drop_columns("candidates").take(parents)
        shown = shown.append_column("item_id", pc.coalesce(pc.struct_field(parts, "item"), candidates))
        shown = shown.append_column("clicked", pc.struct_field(parts, "clicked"))
        yield RawBatch("events", BEHAVIORS, shown, batch.lines[~empty][parents.to_numpy()], rejected)


def _histories(path: Path) -> Iterator[RawBatch]:
    """The longest listed history of each user as clicks that end just before the first event of the log."""
    first: int | None = None
    longest: dict[bytes, tuple[int, bytes, int]] = {}  # user -> (clicks, history, line)
    earliest = pa.scalar(EARLIEST, MICROSECOND).value
    columns = {"user": "user", "time": "time", "history": "history"}
    for batch in read_delimited(path, BEHAVIORS, "events", columns, _BEHAVIORS):
        micros, empty, bad, _ = to_times(batch.table["time"].combine_chunks().cast(pa.binary()))
        usable = ~empty & ~bad & (micros >= earliest)
        if usable.any():
            first = min(int(micros[usable].min()), first if first is not None else int(micros[usable].min()))
        users, histories = batch.table["user"].to_pylist(), batch.table["history"].to_pylist()
        for user, history, line in zip(users, histories, batch.lines.tolist(), strict=True):
            if user is None or history is None:
                continue
            found = (history.count(b" ") + 1, history, line)
            # by length, then text, then the earlier line: the choice does not depend on the order of the rows
            if user not in longest or (found[:2], -line) > (longest[user][:2], -longest[user][2]):
                longest[user] = found
    if first is None:
        return  # no impression has a time, and all of them are about to be rejected for it
    users = list(longest)
    for start in range(0, len(users), _USERS_PER_BATCH):
        yield _listed(users[start : start + _USERS_PER_BATCH], longest, first)


def _listed(users: list[bytes], longest: dict[bytes, tuple[int, bytes, int]], first: int) -> RawBatch:
    lists = pc.split_pattern(pa.array([longest[user][1] for user in users], pa.binary()), b" ")
    parents = pc.list_parent_indices(lists).to_numpy()
    offsets = lists.offsets.to_numpy()
    before = offsets[1:][parents] - np.arange(len(parents))  # microseconds before the first event: 1 for the newest click
    table = pa.table(
        {
            "user_id": pa.array(users, pa.binary()).take(pa.array(parents)),
            "item_id": pc.list_flatten(lists),
            "timestamp": pa.array(first - before).cast(MICROSECOND),
            "time_known": pa.repeat(pa.scalar(False), len(parents)),
        }
    )
    lines = np.array([longest[user][2] for user in users], dtype=np.int64)[parents]
    return RawBatch("events", BEHAVIORS, table, lines, [])
