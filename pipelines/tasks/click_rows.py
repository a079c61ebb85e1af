"""Rows of clicks as a caller of the registered student sends them, with raw ids and times."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.data.disk_arrays import too_many
from ctr_kd.data.row_pieces import RowPieces
from ctr_kd.evaluation.rows import EvaluationRows, standard_slices
from feature_store.features.event_log import microseconds
from feature_store.features.histories import type_names
from feature_store.features.summary import ClickSummary
from feature_store.tables.column_names import HISTORY_TYPES
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.ranges import ranges
from pipelines.errors import ConfigError
from pipelines.tasks.tree_vectors import TreeVectors

if TYPE_CHECKING:
    import pandas as pd

_MEASURED = ["label", "user", "request", "timestamp", "item", "history_start", "history_end"]  # what rows are measured by


class ClickRows:
    """Turns rows of an assembly back into raw ids.

    Parameters
    ----------
    assembly : Path
        Artifact of ``feature_store.features.training_set``.
    without : collection of str
        Columns that are not shown: those of the teachers alone, which no caller sends.
    """

    baselines = ("popularity", "boosted_trees", "oracle")
    required = ("history", "item_id", "timestamp")

    def __init__(self, assembly: Path, without: Collection[str] = ()) -> None:
        self._assembly = assembly
        self.summary = ClickSummary.read(assembly).without(without)
        types = self.summary.history_types
        clicks = read_parquet(assembly / "clicks.parquet", columns=["item", "timestamp", "time_known", *(["type_code"] if types else [])])
        self._click_type = type_names(clicks["type_code"].combine_chunks(), types) if types else None
        self._click_item = clicks["item"].combine_chunks()
        known = clicks["time_known"].to_numpy()
        self._click_time = pa.array(clicks["timestamp"].to_numpy(), pa.int64(), mask=~known).cast(pa.timestamp("us", "UTC"))
        self._items = _one_chunk(read_parquet(assembly / "items.parquet", columns=["item_id"])["item_id"])
        self._users = read_parquet(assembly / "users.parquet")

    @property
    def negative_sampling_rate(self) -> float | None:
        """Share of the rows without a click that the log kept; None where it kept all."""
        return self.summary.negative_sampling_rate

    def read(self, split: str, columns: Sequence[str] | None = None, newest: int | None = None) -> pa.Table:
        """Rows of a split with the codes that the assembly gave them.

        Parameters
        ----------
        split : str
        columns : sequence of str, optional
            Those to read; None reads all.
        newest : int, optional
            Of that many of the newest rows, where the split has more.
        """
        file = self._assembly / "rows.parquet"
        return read_parquet(file, columns, [("split", "=", split)]) if newest is None else _newest(file, split, newest, columns)

    def pieces(self, split: str, columns: Sequence[str] | None = None) -> RowPieces:
        """:meth:`read`, of a log of many rows a piece at a time."""
        file = self._assembly / "rows.parquet"
        chosen = None if columns is None else tuple(columns)
        return RowPieces(file, split, chosen, in_pieces=too_many(pq.read_metadata(file).num_rows))

    def identities(self, split: str) -> pa.Table:
        """Columns ``row_id``, ``user_id``, ``item_id``, ``timestamp`` and ``label`` of the rows of a split."""
        names = ["row_id", "user", "item", "timestamp", "label"]
        rows = read_parquet(self._assembly / "rows.parquet", columns=names, filters=[("split", "=", split)])
        user_id, item_id = self._users["user_id"].take(rows["user"]), self._items.take(rows["item"].combine_chunks())
        return rows.drop_columns(["user", "item"]).append_column("user_id", user_id).append_column("item_id", item_id)

    def column(self, split: str, name: str) -> np.ndarray:
        """One column of numbers of the rows of a split, read by itself, shape (rows,); null is NaN."""
        return read_parquet(self._assembly / "rows.parquet", columns=[name], filters=[("split", "=", split)])[name].to_numpy()

    def weight(self, rows: pa.Table) -> np.ndarray | None:
        """How much each of some rows of :meth:`read` counts, shape (rows,); None where all count alike."""
        return rows["row_weight"].to_numpy() if self.summary.weighted else None

    def in_vocabulary(self, rows: pa.Table) -> np.ndarray:
        """Whether each row's candidate has an embedding of its own, shape (rows,)."""
        vocabulary = load_json(self._assembly / "vocabulary.json")
        known = pc.is_in(self._items.cast(pa.string()), pa.array(vocabulary["item"], pa.string())).to_numpy(zero_copy_only=False)
        return known[rows["item"].to_numpy()]

    def raw(self, rows: pa.Table) -> pa.Table:
        """Columns ``history``, ``history_timestamps``, ``item_id``, ``timestamp``, ``user_id``, the context and every statistic.

        Parameters
        ----------
        rows : pyarrow Table
            Some rows of :meth:`read`.

        Returns
        -------
        pyarrow Table
            The same rows in the same order.
        """
        start, end = rows["history_start"].to_numpy(), rows["history_end"].to_numpy()
        position, bounds = ranges(start, end)
        offsets = pa.array(bounds, pa.int32())
        clicked = self._click_item.take(pa.array(position))
        user = rows["user"]
        columns = {
            "user_id": self._users["user_id"].take(user),
            "item_id": self._items.take(rows["item"].combine_chunks()),
            "timestamp": rows["timestamp"].cast(pa.timestamp("us", "UTC")),
            "history": pa.ListArray.from_arrays(offsets, self._items.take(clicked)),
            "history_timestamps": pa.ListArray.from_arrays(offsets, self._click_time.take(pa.array(position))),
        }
        if self._click_type is not None:
            columns[HISTORY_TYPES] = pa.ListArray.from_arrays(offsets, self._click_type.take(pa.array(position)))
        columns |= {name: self._users[name].take(user) for name in self.summary.user_attributes}
        columns |= {name: vectors.take(user) for name, vectors in self._user_vectors.items()}
        context = self.summary.context
        columns |= {name: rows[name] for name in [*context.categorical, *context.dense, *self.summary.statistics]}
        return pa.table(columns)

    def asked(self, rows: pa.Table) -> pa.Table:
        """:meth:`raw` rows with the attributes of their items, as a model of somebody else is asked about them."""
        item, known = rows["item"].combine_chunks(), self.raw(rows)
        more = {name: attribute.take(item) for name, attribute in self._item_attributes.items() if name not in known.column_names}
        return pa.table({**{name: known[name] for name in known.column_names}, **more})

    @property
    def categorical(self) -> list[str]:
        """Columns of :meth:`described` that hold categories: of the context, and attributes of items and users."""
        return [*self.summary.context.categorical, *self.summary.item_attributes, *self.summary.user_attributes]

    @property
    def numeric(self) -> list[str]:
        """Columns of :meth:`described` that hold numbers: statistics, dense context, the length of the history, and of vectors."""
        names = [*self.summary.statistics, *self.summary.context.dense, "history_length", *self._vectors.columns]
        return [name for name in names if name not in self.categorical]

    def described(self, rows: pa.Table) -> pa.Table:
        """Rows of :meth:`read` with all that is known of them: the attributes of their items and users, and the length of the history.

        An attribute of items may be called as a statistic is: it takes that one's place.
        """
        item, user = rows["item"].combine_chunks(), rows["user"].combine_chunks()
        columns = {name: rows[name] for name in rows.column_names}
        columns["history_length"] = pa.array(history_lengths(rows))
        columns |= {name: attribute.take(item) for name, attribute in self._item_attributes.items()}
        columns |= {name: attribute.take(user) for name, attribute in self._user_attributes.items()}
        columns |= self._vectors.of(rows)
        return pa.table(columns)

    @cached_property
    def _vectors(self) -> TreeVectors:
        return TreeVectors(self._assembly, self.summary, self._click_item)

    @cached_property
    def _user_vectors(self) -> dict[str, pa.ChunkedArray]:
        """Lists of numbers of each user, as a caller sends them."""
        names = list(self.summary.user_vectors)
        table = read_parquet(self._assembly / "user_vectors.parquet", columns=names) if names else pa.table({})
        return {name: table[name] for name in names}

    @cached_property
    def _item_attributes(self) -> dict[str, pa.DictionaryArray]:
        items = read_parquet(self._assembly / "items.parquet", columns=self.summary.item_attributes)
        return {name: items[name].combine_chunks().dictionary_encode() for name in self.summary.item_attributes}

    @cached_property
    def _user_attributes(self) -> dict[str, pa.DictionaryArray]:
        return {name: self._users[name].combine_chunks().dictionary_encode() for name in self.summary.user_attributes}

    def batches(self, rows: pa.Table, size: int = 100_000) -> Iterator[pa.Table]:
        """:meth:`raw`, piece by piece, which bounds the memory of the histories."""
        for begin in range(0, rows.num_rows, size):
            yield self.raw(rows.slice(begin, size))

    def described_items(self) -> pa.Table | None:
        """``item_id``, attributes and vectors of all items; None where the log has no vectors of items."""
        names = list(self.summary.item_vectors)
        if not names:
            return None
        items = read_parquet(self._assembly / "items.parquet", columns=["item_id", *self.summary.item_attributes])
        vectors = read_parquet(self._assembly / "item_vectors.parquet", columns=names)
        return pa.table({name: table[name] for table in (items, vectors) for name in table.column_names})

    def poorest(self, example: pd.DataFrame) -> pd.DataFrame:
        """The least that rows may hold, made of some of :meth:`raw`: empty histories, and no column that is not required."""
        bare = example[list(self.required)].copy()
        bare["history"] = [[] for _ in range(len(bare))]
        return bare

    def request(self, rows: pa.Table, candidates: int) -> pa.Table:
        """One request as production sends it: the longest of the newest histories with that many candidates, which may repeat."""
        newest = rows.slice(max(0, rows.num_rows - candidates))
        longest = int(np.argmax(history_lengths(newest)))
        table = self.raw(newest.take(pa.array(np.arange(candidates) % newest.num_rows)))
        one = self.raw(newest.slice(longest, 1)).take(pa.array(np.zeros(candidates, np.int64)))
        for name in ("user_id", "history", "history_timestamps", *([HISTORY_TYPES] if self._click_type is not None else [])):
            table = table.set_column(table.column_names.index(name), name, one[name])
        return table

    def newest(self, rows: pa.Table, most: int) -> int:
        """First of the newest rows that are at most so many and cut no request in two."""
        return newest_requests(rows["request"].to_numpy(), most)

    def evaluation_rows(self, split: str = "test", newest: int | None = None) -> EvaluationRows:
        """Labels, users, requests and slices of the rows of a split, or of that many of the newest of them, in the order of their ids.

        Raises
        ------
        DataError
            When there are none.
        """

        rows = self.read(split, _MEASURED + (["row_weight"] if self.summary.weighted else []), newest)
        if not rows.num_rows:
            raise DataError(f"the {split} window holds no rows; check `split` and --as-of")
        slices = standard_slices(
            history_length=history_lengths(rows),
            unseen_item=~self.in_vocabulary(rows),
            timestamp=rows["timestamp"].to_numpy(),
            cutoff=microseconds(self.summary.split.train_until),
        )
        label, user, request = (rows[name].to_numpy() for name in ("label", "user", "request"))
        return EvaluationRows(
            label, user, request, slices, negative_sampling_rate=self.negative_sampling_rate, row_weight=self.weight(rows)
        )

    def parts(self, rows: pa.Table, column: str) -> dict[str, np.ndarray]:
        """Which rows have each value of an attribute or a context column with few values, or are in each of the usual slices of a group.

        Raises
        ------
        ConfigError
            When there is no such column.
        """
        summary = self.summary
        if column in summary.context.categorical:
            return parts_by_value(rows[column])
        if column in summary.item_attributes:
            attribute = read_parquet(self._assembly / "items.parquet", columns=[column])[column]
            return parts_by_value(attribute.take(rows["item"].combine_chunks()))
        if column in summary.user_attributes:
            return parts_by_value(self._users[column].take(rows["user"].combine_chunks()))
        usual: dict[str, dict[str, Any]] = {
            "history_length": {"history_length": history_lengths(rows)},
            "item": {"unseen_item": ~self.in_vocabulary(rows)},
        }
        if column in usual:
            return {name.partition("/")[2]: mask for name, mask in standard_slices(**usual[column]).items()}
        known = [*summary.context.categorical, *summary.item_attributes, *summary.user_attributes, *usual]
        raise ConfigError(f"register.slices: the log has no column {column!r} with few values; there are {', '.join(known)}")

    def window_end(self) -> str | None:
        """Where the test window ends, ISO 8601."""
        return self.summary.split.test_until.isoformat()

    def facts(self) -> dict[str, Any]:
        """The summary of the assembly."""
        return self.summary.to_json()


def history_lengths(rows: pa.Table) -> np.ndarray:
    """Clicks in the history of each row, shape (rows,)."""
    return rows["history_end"].to_numpy() - rows["history_start"].to_numpy()


def parts_by_value(column: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """Which rows have each value of a column, the most frequent first; rows without one are ``null``.

    Examples
    --------
    >>> {name: mask.tolist() for name, mask in parts_by_value(pa.chunked_array([["tv", None, "tv"]])).items()}
    {'tv': [True, False, True], 'null': [False, True, False]}
    """
    coded = column.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    names = [str(value) for value in coded.dictionary.to_pylist()]
    counts = np.bincount(codes + 1, minlength=len(names) + 1)
    order = sorted(np.flatnonzero(counts), key=lambda code: -counts[code])
    return {names[code - 1] if code else "null": codes == code - 1 for code in order}


def _newest(file: Path, split: str, most: int, columns: Sequence[str] | None) -> pa.Table:
    """The last rows of a split, read from the end of the file."""
    found: list[pa.Table] = []
    missing = most
    with pq.ParquetFile(file) as rows:
        names = rows.schema_arrow.names if columns is None else list(columns)
        for group in reversed(range(rows.num_row_groups)):
            wanted = pc.equal(rows.read_row_group(group, columns=["split"])["split"], split)
            if not pc.any(wanted).as_py():
                continue
            part = rows.read_row_group(group, columns=names).select(names).filter(wanted)
            found.insert(0, part.slice(max(0, part.num_rows - missing)))
            missing -= part.num_rows
            if missing <= 0:
                break
        return pa.concat_tables(found) if found else rows.schema_arrow.empty_table().select(names)


def newest_requests(request: np.ndarray, most: int) -> int:
    """First of the newest rows that are at most so many and cut no request in two; at least one request.

    Examples
    --------
    >>> newest_requests(np.array([0, 0, 1, 1, 2, 2]), 3), newest_requests(np.array([0, 0, 1, 1]), 9)
    (4, 0)
    """
    first = max(0, len(request) - most)
    starts = np.flatnonzero(np.concatenate([[True], request[1:] != request[:-1]])) if len(request) else np.zeros(1, int)
    later = starts[starts >= first]
    return int(later[0] if len(later) else starts[-1])


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
