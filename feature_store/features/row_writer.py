"""The rows of an assembly: joined from the chunks' tables, split, counted and written."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.engines import Engine
from feature_store.features.event_log import Log
from feature_store.features.listwise_context import LISTWISE, listwise_columns
from feature_store.features.negative_sampling import Support
from feature_store.features.time_split import SPLITS, Split
from feature_store.features.timelines import Timelines
from feature_store.tables.contracts import label_column

ROW_GROUP = 122_880


class RowWriter:
    """Writes the rows of one chunk after the other and counts them.

    Parameters
    ----------
    engine : Engine
    log : Log
    path : Path
    split : Split
    known_item : np.ndarray of bool, shape (items,)
        Whether each item is in the vocabulary.
    first_row : int
        Id of the first row.
    shown : bool
        The rows of a request are all that was shown in it; else none was, and what compares them is null.
    """

    def __init__(
        self,
        engine: Engine,
        log: Log,
        path: Path,
        *,
        split: Split,
        known_item: np.ndarray,
        first_row: int = 0,
        shown: bool = True,
    ) -> None:
        self.engine, self.log, self.split, self.path = engine, log, split, path
        self.known_item, self.first_row, self.shown = known_item, first_row, shown
        self.rows, self.positives, self.requests = (dict.fromkeys(SPLITS, 0) for _ in range(3))
        self.weight_of_clicks, self.weight_of_others = (dict.fromkeys(SPLITS, 0.0) for _ in range(2))
        # of each further label by split: rows that are known to be 0, and to be 1
        self.further_labels = {label: {name: np.zeros(2, np.int64) for name in SPLITS} for label in log.labels}
        self.unseen = dict.fromkeys(SPLITS, 0)  # rows whose item has no token
        self.support = Support()
        self.written = 0
        self._writer: pq.ParquetWriter | None = None
        self._rest: pa.Table | None = None  # fewer rows than a row group

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            with self._writer:
                if error is None and self._rest is not None:
                    self._writer.write_table(self._rest)

    def write(self, timelines: Timelines) -> None:
        """Write ``chunk_rows``, those of ``kept_requests``, to whose times the timelines were moved. A label below zero is none."""
        query, parameters = timelines.row_statistics()
        statistics = self.engine.fetch(query, by=["row"], **parameters)
        rows = self.engine.fetch("select row, request, source, item_code, label from chunk_rows", by=["row"])
        if rows.num_rows == 0:
            return
        of_user = "request, user_code, timestamp, history_start, history_end, user_clicks, user_gap, hour"
        requests = self.engine.fetch(f"select {of_user} from kept_requests", by=["request"])
        sources = self._sources(rows)
        request = rows["request"].to_numpy()
        of_request = requests.take(pa.array(np.searchsorted(requests["request"].to_numpy(), request)))
        time = of_request["timestamp"].to_numpy()
        split = self.split.number(time)
        label, item = rows["label"].to_numpy(), rows["item_code"].to_numpy()
        columns: dict[str, pa.Array] = {
            "row_id": pa.array(np.arange(len(label)) + self.first_row + self.written),
            "request": rows["request"],
            "user": of_request["user_code"],
            "item": rows["item_code"],
            "timestamp": of_request["timestamp"],
            "label": rows["label"],
            "split": pa.DictionaryArray.from_arrays(pa.array(split), pa.array(SPLITS)),
            "history_start": of_request["history_start"],
            "history_end": of_request["history_end"],
        }
        known: dict[str, pa.Array] = {}
        for one in timelines.statistics:
            if one.kind not in LISTWISE:
                inside = timelines.columns.get(one.name)
                known[one.name] = (of_request[one.name] if inside is None else statistics[inside]).cast(pa.float32())
        listwise = listwise_columns(timelines.statistics, known, request)
        columns |= known | (listwise if self.shown else {name: pa.nulls(len(label), pa.float32()) for name in listwise})
        for name, outside in self.log.context.items():
            columns[outside] = sources[name]
        for name, inside in timelines.categorical.items():
            columns[name] = statistics[inside].cast(pa.string())
        if self.log.oracle:
            columns["click_probability"] = sources["click_probability"]
        weight = sources["row_weight"].to_numpy() if self.log.weighted else None
        if weight is not None:
            columns["row_weight"] = sources["row_weight"]
        columns |= {name: sources[name].cast(pa.int8()) for name in self.log.label_columns}
        columns |= {name: sources[name] for name in self.log.score_columns}
        self._append(pa.table(columns))
        self.written += len(label)
        new = np.flatnonzero(np.diff(request, prepend=-1))
        for number, name in enumerate(SPLITS):
            here = split == number
            self.rows[name] += int(here.sum())
            self.positives[name] += int((label[here] == 1).sum())
            self.requests[name] += int(here[new].sum())
            self.unseen[name] += int((~self.known_item[item[here]]).sum())
            if weight is not None:
                self.weight_of_clicks[name] += float(weight[here & (label == 1)].sum())
                self.weight_of_others[name] += float(weight[here & (label != 1)].sum())
            for further in self.log.labels:
                said = columns[label_column(further)].fill_null(-1).to_numpy()[here]
                self.further_labels[further][name] += [int((said == value).sum()) for value in (0, 1)]
        if timelines.pool_window:
            self.support.add(label == 1, statistics["pool_count"].to_numpy())

    def _sources(self, rows: pa.Table) -> pa.Table:
        """What else the log's row says that each row comes from: context, weight. Of a sampled candidate that is its click, so a click is
        compared with as much as it weighs itself."""
        if not self.log.columns:
            return pa.table({})
        number = self.log.number
        source = rows["source"].to_numpy()
        names = ", ".join((number, *self.log.columns))
        log = self.engine.fetch(f"select {names} from requests where {number} >= {source[0]} and {number} <= {source[-1]}", by=[number])
        return log.take(pa.array(source - source[0]))

    def _append(self, table: pa.Table) -> None:
        """Write full row groups, whatever the chunks are, so that the file does not depend on them."""
        if self._writer is None:
            text = [field.name for field in table.schema if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type)]
            self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd", use_dictionary=text, store_schema=False)
        if self._rest is not None:
            missing = ROW_GROUP - self._rest.num_rows
            first = pa.concat_tables([self._rest, table.slice(0, missing)]).combine_chunks()
            self._rest, table = None, table.slice(missing)
            if first.num_rows < ROW_GROUP:
                self._rest = first
                return
            self._writer.write_table(first)
        full = table.num_rows - table.num_rows % ROW_GROUP
        if full:
            self._writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP)
        if full < table.num_rows:
            self._rest = table.slice(full)
