"""Frames as an assembly: rows that bring their histories along are written as the feature store writes rows that it made itself.

So vocabularies, samples, students and exports are those of the pipeline. What a value means is decided by ``casting.py``, by which the
exported student reads the rows that it is asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.data.samples import Assembly
from feature_store.config import HistoryConfig, VocabularyConfig
from feature_store.features.summary import CandidateSummary, ClickSummary, HistoryLimits, SplitTimes
from feature_store.tables.casting import as_array, id_values, number_values, to_categories, to_times
from feature_store.tables.contracts import ContextNames, DataError, nearest
from feature_store.tables.json_files import write_json
from feature_store.tables.ranges import ranges

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class FrameColumns:
    """What the columns of a frame are.

    Attributes
    ----------
    label : str
        0 or 1; null in a training row that nobody labelled.
    categorical, dense : tuple of str
        Inputs beside history and candidate.
    user, request : str
        The user of a row, the unit of intervals, and the request, whose candidates were shown together; a frame may lack both.
    """

    label: str = "label"
    categorical: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    user: str = "user_id"
    request: str = "request_id"


@dataclass(frozen=True)
class _Rows:
    """A frame, typed: ids and categories as text, times in microseconds; a history belongs to neighbouring rows of one request."""

    item: pa.Array
    time: np.ndarray
    label: np.ndarray
    user: np.ndarray
    request: np.ndarray
    history: pa.Array  # items of all histories, one request after the other
    history_time: np.ndarray  # beside them; below zero where unknown
    start: np.ndarray  # of each row's history
    end: np.ndarray
    context: dict[str, pa.Array]


def assemble_frames(
    train: pd.DataFrame,
    validation: pd.DataFrame,
    folder: Path,
    *,
    columns: FrameColumns,
    items: pd.DataFrame | None,
    history: HistoryConfig,
    vocabulary: VocabularyConfig,
) -> Assembly:
    """Write frames into a folder as an assembly; vocabularies and bins are fitted on the training rows alone.

    Parameters
    ----------
    train, validation : DataFrame
        Rows with ``history`` (lists of item ids, oldest first), ``item_id``, ``timestamp``, the named columns, and optionally
        ``history_timestamps``.
    folder : Path
        Empty, or absent.
    columns : FrameColumns
    items : DataFrame, optional
        ``item_id`` and categorical attributes of items.
    history : HistoryConfig
        ``max_length``: the newest clicks that are kept.
    vocabulary : VocabularyConfig

    Raises
    ------
    DataError
        When a column is missing or holds what has no meaning there, or a history holds a click that is not before its row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: _typed(frame, name, columns, history.max_length) for name, frame in zip(SPLITS, (train, validation), strict=True)}
    catalogue = _catalogue(items)
    ids = pc.unique(pa.concat_arrays([part for one in rows.values() for part in (one.item, one.history)] + [catalogue["item_id"]]))
    catalogue = _described(catalogue, ids)
    learned = rows["train"]
    places = [pc.index_in(part, value_set=ids).to_numpy(zero_copy_only=False) for part in (learned.item, learned.history)]
    counts = np.bincount(np.concatenate(places), minlength=len(ids))
    tokens = {"item": _tokens(ids, counts, vocabulary)}
    tokens |= {name: _tokens(catalogue[name], counts, vocabulary) for name in catalogue if name != "item_id"}
    tokens |= {name: _tokens(learned.context[name], np.ones(len(learned.item), int), vocabulary) for name in columns.categorical}
    pq.write_table(pa.table({"code": np.arange(len(ids)), **catalogue}), folder / "items.parquet")
    users = max(int(one.user.max(initial=-1)) for one in rows.values()) + 1
    pq.write_table(pa.table({"code": np.arange(users), "user_id": pa.array(map(str, range(users)), pa.string())}), folder / "users.parquet")
    _write_rows(rows, ids, columns, folder)
    write_json(folder / "vocabulary.json", tokens)
    _summary(rows, columns, [name for name in catalogue if name != "item_id"], items=len(ids), users=users, history=history).write(folder)
    assembly = Assembly(folder, history.max_length)
    assembly.write_pool()
    assembly.write_bins()
    return assembly


def _typed(frame: pd.DataFrame, name: str, columns: FrameColumns, longest: int) -> _Rows:
    """A frame's columns by their meaning."""

    def read(column: str, meaning: Callable[[pa.Array], Any]) -> Any:
        if column not in frame:
            raise DataError(f"{name}: column {column} is missing; {nearest(column, [str(one) for one in frame.columns])}")
        return _meant(_arrow(frame[column], name, column), meaning, f"{name}: column {column}")

    if not len(frame):
        raise DataError(f"{name} has no rows")
    time = read("timestamp", _moments)
    if (time < 0).any():
        raise DataError(f"{name}: column timestamp: row {int((time < 0).argmax()) + 1} holds no time")
    label = read(columns.label, number_values)
    unlabelled = np.isnan(label)
    wrong = ~np.isin(label, (0, 1)) & ~(unlabelled & (name == "train"))
    if wrong.any():
        raise DataError(f"{name}: column {columns.label} must hold 0 or 1; row {int(wrong.argmax()) + 1} holds {label[wrong.argmax()]:g}")
    if len(np.unique(label[~unlabelled])) < 2:
        raise DataError(f"{name}: column {columns.label} must hold both 0 and 1; all rows have the same label")
    user = np.arange(len(frame)) if columns.user not in frame else pd.factorize(frame[columns.user], use_na_sentinel=False)[0]
    lists = _lists(frame, "history", name)
    flat = _meant(lists.flatten(), id_values, f"{name}: column history").cast(pa.string())
    length = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    moments = _history_moments(frame, name, length)
    _nothing_later(name, moments, np.repeat(time, length), np.repeat(np.arange(len(frame)), length))
    keys = [time, user, *([pd.factorize(frame[columns.request], use_na_sentinel=False)[0]] if columns.request in frame else [])]
    begins = _begins(keys, lists.to_pylist())
    request = np.cumsum(begins) - 1
    last, kept = np.cumsum(length)[begins], np.minimum(length, longest)[begins]
    position, offsets = ranges(last - kept, last)
    context = {column: read(column, to_categories) for column in columns.categorical}
    context |= {column: pa.array(read(column, number_values), pa.float32(), from_pandas=True) for column in columns.dense}
    return _Rows(
        item=read("item_id", id_values).cast(pa.string()),
        time=time,
        label=np.where(unlabelled, -1, label).astype(np.float32),
        user=user,
        request=request,
        history=flat.take(pa.array(position)),
        history_time=moments[position],
        start=offsets[:-1][request],
        end=offsets[1:][request],
        context=context,
    )


def _arrow(values: Any, name: str, column: str) -> pa.Array:
    try:
        return as_array(pa.array(values, from_pandas=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(f"{name}: column {column} holds values of several types ({str(error).splitlines()[0]}); give it one") from None


def _meant(values: pa.Array, meaning: Callable[[pa.Array], Any], where: str) -> Any:
    """Values as a function of ``casting.py`` means them; DataError where one has no meaning there."""
    try:
        typed, bad = meaning(values)
    except TypeError as error:
        raise DataError(f"{where} {error}") from None
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{where}: value {row + 1} has no meaning there: {str(values[row])[:80]!r}")
    return typed


def _moments(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds since 1970, below zero where there is no time."""
    micros, empty, bad = to_times(values)
    return np.where(empty, -1, micros), bad


def _lists(frame: pd.DataFrame, column: str, name: str) -> pa.Array:
    """A column of lists; what is null is an empty list."""
    if column not in frame:
        raise DataError(f"{name}: column {column} is missing; a row needs history, item_id, timestamp and a label")
    values = [[] if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA else value for value in frame[column]]
    if any(isinstance(value, str) or not hasattr(value, "__len__") for value in values):
        raise DataError(f"{name}: column {column} must hold lists")
    lists = _arrow([list(value) for value in values], name, column)
    return lists if not pa.types.is_null(lists.type.value_type) else lists.cast(pa.list_(pa.string()))


def _history_moments(frame: pd.DataFrame, name: str, length: np.ndarray) -> np.ndarray:
    """When the clicks of all histories were, in microseconds; below zero where unknown."""
    if "history_timestamps" not in frame:
        return np.full(int(length.sum()), -1, np.int64)
    lists = _lists(frame, "history_timestamps", name)
    told = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if not np.array_equal(told, length):
        row = int((told != length).argmax())
        raise DataError(f"{name}: row {row + 1} has {length[row]} clicks in history and {told[row]} times in history_timestamps")
    moments: np.ndarray = _meant(lists.flatten(), _moments, f"{name}: column history_timestamps")
    return moments


def _nothing_later(name: str, clicked: np.ndarray, asked: np.ndarray, row: np.ndarray) -> None:
    """A history holds what happened strictly before its row: else the label may be read off it."""
    late = clicked >= asked
    if late.any():
        raise DataError(
            f"{name}: row {int(row[late.argmax()]) + 1} has a click in its history that is not before its timestamp, so do "
            f"{len(np.unique(row[late]))} rows in all: a model would learn from what it cannot know; leave such clicks out"
        )


def _begins(keys: Sequence[np.ndarray], histories: Sequence[list[Any]]) -> np.ndarray:
    """Whether each row begins a request: neighbours of one time, user and history share theirs."""
    begins = np.ones(len(histories), bool)
    begins[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    for row in np.flatnonzero(~begins):
        begins[row] = histories[int(row)] != histories[int(row) - 1]
    return begins


def _catalogue(items: pd.DataFrame | None) -> dict[str, pa.Array]:
    """Ids and attributes of the items that are described, all text."""
    if items is None:
        return {"item_id": pa.array([], pa.string())}
    if "item_id" not in items:
        raise DataError("items: column item_id is missing")
    found = {"item_id": _meant(_arrow(items["item_id"], "items", "item_id"), id_values, "items: column item_id").cast(pa.string())}
    if len(pc.unique(found["item_id"])) < len(items):
        raise DataError("items: an item_id is there twice; give each item one row")
    for name in items.columns.drop("item_id"):
        found[name] = _meant(_arrow(items[name], "items", name), to_categories, f"items: column {name}")
    return found


def _described(catalogue: dict[str, pa.Array], ids: pa.Array) -> dict[str, pa.Array]:
    """The same for all items there are; null what nothing describes."""
    place = pc.index_in(ids, value_set=catalogue["item_id"])
    return {name: ids if name == "item_id" else column.take(place) for name, column in catalogue.items()}


def _tokens(values: pa.Array, counts: np.ndarray, config: VocabularyConfig) -> list[str]:
    """Values by how often they count, most frequent first, ties in the order of their text."""
    counted: Counter[str] = Counter()
    for value, count in zip(values.to_pylist(), counts.tolist(), strict=True):
        if value is not None:
            counted[value] += count
    frequent = [value for value, count in counted.items() if count >= config.min_count]
    return sorted(frequent, key=lambda value: (-counted[value], value))[: config.max_size]


def _write_rows(rows: dict[str, _Rows], ids: pa.Array, columns: FrameColumns, folder: Path) -> None:
    """``rows.parquet`` and ``clicks.parquet``; a request's history is a run of clicks of its own in the pool."""
    tables, pools, begun, tokens, requests = [], [], 0, 0, 0
    for name, one in rows.items():
        count = len(one.time)
        first = np.flatnonzero(np.diff(one.request, prepend=-1))
        tables.append(
            pa.table(
                {
                    "row_id": np.arange(begun, begun + count),
                    "request": one.request + requests,
                    "user": one.user,
                    "item": pc.index_in(one.item, value_set=ids).cast(pa.int64()),
                    "timestamp": one.time,
                    "label": one.label,
                    "split": pa.array([name] * count, pa.string()),
                    "history_start": one.start + tokens,
                    "history_end": one.end + tokens,
                    **one.context,
                }
            )
        )
        length = (one.end - one.start)[first]
        pools.append(
            pa.table(
                {
                    "user": np.repeat(one.request[first] + requests, length),
                    "item": pc.index_in(one.history, value_set=ids).cast(pa.int64()),
                    "timestamp": one.history_time,
                    "time_known": one.history_time >= 0,
                }
            )
        )
        begun, tokens, requests = begun + count, tokens + len(one.history), requests + len(first)
    pq.write_table(pa.concat_tables(tables), folder / "rows.parquet")
    pq.write_table(pa.concat_tables(pools), folder / "clicks.parquet")


def _summary(
    rows: dict[str, _Rows], columns: FrameColumns, attributes: list[str], *, items: int, users: int, history: HistoryConfig
) -> ClickSummary:
    def after(one: _Rows) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(one.time.max()) + 1)

    train_until, validate_until = (after(rows[name]) for name in SPLITS)
    counts = {"rows": [len(one.time) for one in rows.values()], "positives": [int((one.label == 1).sum()) for one in rows.values()]}
    counts |= {"requests": [int(one.request.max()) + 1 for one in rows.values()]}
    return ClickSummary(
        split=SplitTimes(train_from=None, train_until=train_until, validate_until=validate_until, test_until=validate_until),
        **{name: dict(zip((*SPLITS, "test"), (*values, 0), strict=True)) for name, values in counts.items()},
        users=users,
        items=items,
        clicks=sum(counts["positives"]),
        unseen_item_share=0.0,
        excluded={},
        candidates=CandidateSummary(sampled=False),
        statistics=[],
        context=ContextNames(categorical=list(columns.categorical), dense=list(columns.dense)),
        item_attributes=attributes,
        history=HistoryLimits(max_length=history.max_length, min_length=0),
        has_impressions=True,
        oracle=False,
        as_of=max(train_until, validate_until),
    )
