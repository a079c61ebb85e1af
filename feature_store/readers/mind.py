"""MIND, the Microsoft news log: ``behaviors.tsv`` with real impressions, ``news.tsv`` with the items.

Every impression lists the user's earlier clicks, without times. They become clicks before the first event of the log, in
their order, a microsecond apart, with ``time_known`` false: once per user, the list of the user's earliest impression. A later
list may hold what was clicked in between, which the log's own impressions tell, with its time; before the first event it would
give the labels away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.config import SourceConfig
from feature_store.readers.base import data_folder, is_data_file, reader_fingerprint
from feature_store.readers.delimited import Layout, read_delimited
from feature_store.tables.casting import EARLIEST, MICROSECOND, mask_of, to_times
from feature_store.tables.contracts import DataFolderError, LogContract, RawBatch, Rejected, log_contract, row_text
from feature_store.tables.vectors import TITLE_VECTOR

BEHAVIORS, NEWS = "behaviors.tsv", "news.tsv"
_BEHAVIORS = Layout("\t", quoted=False, names=("impression", "user", "time", "history", "candidates"))
_NEWS_COLUMNS = ("item", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_NEWS = Layout("\t", quoted=False, names=_NEWS_COLUMNS)
_USERS_PER_BATCH = 20_000
_PIECE_BYTES = 64 << 20  # of what the candidates of an impression repeat


class MindReader:
    """Reads ``behaviors.tsv`` and, where it is there, ``news.tsv``."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._data = data_folder(data, "mind")
        self._titles = config.titles

    def files(self) -> list[Path]:
        if not is_data_file(self._data / BEHAVIORS):
            raise DataFolderError(f"{self._data}: no {BEHAVIORS}; name the folder that holds it")
        return [self._data / name for name in (BEHAVIORS, NEWS) if is_data_file(self._data / name)]

    def fingerprint(self) -> str:
        titles = {} if self._titles is None else {"titles": True}  # by which encoder is told by the ledger
        return reader_fingerprint("mind", histories="of the earliest impression", **titles)

    def contract(self) -> LogContract:
        has_news = is_data_file(self._data / NEWS)
        return log_contract(
            has_impressions=True,
            item_attributes=("category", "subcategory") if has_news else (),
            item_vectors=[TITLE_VECTOR] if has_news and self._titles is not None else [],
        )

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
        items, clicked = pc.coalesce(pc.struct_field(parts, "item"), candidates), pc.struct_field(parts, "clicked")
        repeated, lines = table.drop_columns("candidates"), batch.lines[~empty]
        for begin, end in _pieces(repeated, parents.to_numpy()):
            impression = parents.slice(begin, end - begin)
            shown = repeated.take(impression).append_column("item_id", items.slice(begin, end - begin))
            shown = shown.append_column("clicked", clicked.slice(begin, end - begin))
            yield RawBatch("events", BEHAVIORS, shown, lines[impression.to_numpy()], rejected)
            rejected = []


def _pieces(table: pa.Table, row: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of ``row`` (rows of the table, each repeated many times) that hold some megabytes each; one where there is nothing."""
    width = sum((pc.fill_null(pc.binary_length(column), 0).to_numpy() for column in table.columns), np.zeros(table.num_rows, np.int64))
    piece = np.cumsum(width[row]) // _PIECE_BYTES
    yield from pairwise([0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(row)])


def _histories(path: Path) -> Iterator[RawBatch]:
    """The history listed by each user's earliest impression, as clicks that end just before the first event of the log."""
    earliest = pa.scalar(EARLIEST, MICROSECOND).value
    first: dict[bytes, _Listed] = {}  # by user
    columns = {"user": "user", "time": "time", "history": "history"}
    for batch in read_delimited(path, BEHAVIORS, "events", columns, _BEHAVIORS):
        micros, empty, bad = to_times(batch.table["time"].combine_chunks().cast(pa.binary()))
        usable = ~empty & ~bad & (micros >= earliest)  # the others are about to be rejected: what came before them is unknown
        users, histories = batch.table["user"].to_pylist(), batch.table["history"].to_pylist()
        rows = zip(users, histories, micros.tolist(), batch.lines.tolist(), usable.tolist(), strict=True)
        for user, history, time, line, is_usable in rows:
            if is_usable and user is not None and (user not in first or (time, line) < first[user][:2]):
                first[user] = _Listed(time, line, history or b"")
    begin = min((listed.time for listed in first.values()), default=0)
    users = [user for user, listed in first.items() if listed.history]
    for start in range(0, len(users), _USERS_PER_BATCH):
        yield _listed(users[start : start + _USERS_PER_BATCH], first, begin)


class _Listed(NamedTuple):
    time: int  # of the impression, microseconds
    line: int
    history: bytes


def _listed(users: list[bytes], first: dict[bytes, _Listed], begin: int) -> RawBatch:
    lists = pc.split_pattern(pa.array([first[user].history for user in users], pa.binary()), b" ")
    parents = pc.list_parent_indices(lists).to_numpy()
    offsets = lists.offsets.to_numpy()
    before = offsets[1:][parents] - np.arange(len(parents))  # microseconds before the first event: 1 for the newest click
    table = pa.table(
        {
            "user_id": pa.array(users, pa.binary()).take(pa.array(parents)),
            "item_id": pc.list_flatten(lists),
            "timestamp": pa.array(begin - before).cast(MICROSECOND),
            "time_known": pa.repeat(pa.scalar(False), len(parents)),
        }
    )
    lines = np.array([first[user].line for user in users], dtype=np.int64)[parents]
    return RawBatch("events", BEHAVIORS, table, lines, [])
