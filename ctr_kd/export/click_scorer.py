"""Raw ids in, probabilities out: the thin wrapper around ``student.onnx``.

This file travels inside the exported student, with ``casting.py`` beside it, which says what a raw value means. It needs numpy, pandas,
pyarrow, scipy and onnxruntime, and no other file of ours.

What a student looks up is summed here where ``tables.parquet`` has its rows, and ``scoring.onnx`` takes the sums; ``student.onnx``, which
takes indices, says the same in more time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import reduce
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.sparse import csr_array

TYPES = "history_types"  # of the events of a history
STATE = "teacher_state"  # its numbers as one list, in place of a column for each
PAD, UNKNOWN = 0, 1  # of every vocabulary, as the project has them; this file imports nothing of it
NO_TIME = np.iinfo(np.int64).min  # for an unknown time, among microseconds
CHUNK = 16_384  # rows that are looked up together
BATCH = 2048  # rows whose working set in the graph fits the cache
HISTORIES = 512  # the same of histories whose clicks the graph reads one by one
Meaning = Callable[[pa.Array], tuple[Any, np.ndarray]]  # typed values, and which of them do not fit: a function of casting.py
Lap = Callable[..., None]
Columns = dict[str, pa.Array]  # by name, of rows or of requests
_CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class ClickRowsError(ValueError):
    """Rows of histories and candidates that cannot be scored; the message names the column."""


class ClickScorer:
    """Score rows of raw ids with an exported student.

    Parameters
    ----------
    directory : path
        Holds ``student.onnx``, ``signature.json``, ``casting.py``, ``vocabulary.parquet`` and, where items have attributes or vectors,
        ``items.parquet``, where anything has vectors ``projections.parquet``, and for a student of ours ``scoring.onnx`` and
        ``tables.parquet``.
    threads : int
        Threads of the runtime.

    Attributes
    ----------
    described : list of str
        Attributes and vectors of items that the student reads.
    labels : list of str
        Further labels beside the click, such as purchased, of which the student gives the probability too.
    lap : callable
        Called where a part of the work ends, with its name (mapping, gathering, head) and what it took and gave: arrays, or numbers
        of bytes. Whoever wants to know what parts cost sets it.
    """

    def __init__(self, directory: str | os.PathLike[str], threads: int = 1) -> None:
        self.lap: Lap = _untold
        root = Path(directory)
        self.casting = _load_casting(root)
        self.signature: dict[str, Any] = json.loads((root / "signature.json").read_text(encoding="utf-8"))
        self.labels: list[str] = self.signature.get("labels", [])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.tables = _tables(root / "tables.parquet")
        graph = root / ("scoring.onnx" if self.tables else "student.onnx")
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.fed = {argument.name for argument in self.session.get_inputs()}
        specials = len(self.signature["special_tokens"])
        table = _read(root / "vocabulary.parquet")
        names = table["feature"].to_numpy(zero_copy_only=False)
        tokens = table["token"]
        self.projections = _projections(root / "projections.parquet") if self.signature.get("vectors") else {}
        self._item, *self._features = [name for name in self.signature["tokens"] if name != "gap"]
        self._of_item = [self._item, *self._features]
        self.has_types = bool(self.signature.get("has_types"))
        self.described = [name for name in self._features if not (self.has_types and name == TYPES)]
        self.attributes = [name for name in self.described if name not in self.projections]
        categorical = [name for name in self.signature["categorical"] if name not in self.projections]
        self.lookups = {
            name: _Lookup(tokens.filter(pa.array(names == name)), specials, self.meaning(name), name)
            for name in [self._item, *self.attributes, *categorical, *([TYPES] if self.has_types else [])]
        }
        lists = ("history", "history_timestamps", *([TYPES] if self.has_types else []))
        self.state = [name for name in self.signature["dense"] if re.fullmatch(rf"{STATE}_\d+", name)]
        numbers = (*self.signature["dense"], *([STATE] if self.state else []))
        self.columns = (*lists, "item_id", "timestamp", *self.signature["categorical"], *numbers)
        self._earliest = self.casting.EARLIEST.timestamp() * 1e6
        self.has_gap = "gap" in self.signature["tokens"]
        self._ways = list(self.tables.get("way", {}).values())
        self._beside = [*(["gap"] if self.has_gap else []), *([TYPES] if self.has_types else [])]  # what a click has besides its item
        self._describe([_read(root / "items.parquet")] if self.described else [])

    def describe(self, items: pa.Table) -> None:
        """Take in what is said of items that came after the export; those that the student describes itself stay as they are.

        Parameters
        ----------
        items : pyarrow Table (items, columns)
            ``item_id`` and, as far as they are known, the columns of :attr:`described`.

        Raises
        ------
        ClickRowsError
            When a column has the wrong type or a vector another width.
        """
        self._describe([*self._said[:1], items.filter(pa.array(~self.describes(items["item_id"])))])

    def describes(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Whether the student itself says anything of items, (items,)."""
        own = _column(self._said[0], "item_id").cast(pa.string()) if self._said else pa.array([], pa.string())
        found: np.ndarray = pc.is_in(ids.cast(pa.string()), value_set=own).to_numpy(zero_copy_only=False)
        return found

    def _describe(self, said: list[pa.Table]) -> None:
        """Make the tables of all items of the vocabulary and of those that are described."""
        self._said = said
        described = [_column(table, "item_id").cast(pa.string()) for table in said]
        ids = pc.unique(pa.concat_arrays([self.lookups[self._item].tokens, *described]))
        self.items = _Lookup(ids, 2, self.casting.id_values, "item_id")
        # What each item's tokens are, without the gap, in an order of their own: of a null, of an unknown item, then of all the others.
        self.item_tokens = np.full((2 + len(self.items.tokens), 1 + len(self._features)), PAD, np.int32)
        self.item_tokens[UNKNOWN, 0] = UNKNOWN
        self.item_tokens[2:, 0] = self.lookups[self._item](self.items.tokens)
        self.item_vectors: dict[str, np.ndarray] = {}
        for name in self.described:
            column = 1 + self._features.index(name)
            if name in self.projections:
                self.item_tokens[UNKNOWN:, column] = UNKNOWN
                self.item_vectors[name] = self._nothing(name, 2 + len(self.items.tokens))
            for table, own in zip(said, described, strict=True):
                if name not in table.column_names:
                    continue
                place = self.items(own)
                if name not in self.projections:
                    self.item_tokens[place, column] = self.lookups[name](table[name])
                    continue
                vectors, present = self._projected(name, _column(table, name))
                self.item_vectors[name][place[present]] = vectors[present]
                self.item_tokens[place[present], column] = place[present]
        if self.tables:  # an item, its attributes and its vectors are one row
            known = self.tables["token"] | self.item_vectors
            summed = (known[name][self.item_tokens[:, place]] for place, name in enumerate(self._of_item))
            self._rows: np.ndarray = np.concatenate([reduce(np.add, summed), *(known[name] for name in self._beside)])

    def _nothing(self, name: str, rows: int) -> np.ndarray:
        """A table (rows, width) of projected vectors for the graph, which as yet holds that of what has none."""
        none, _ = self.projections[name]
        table = np.zeros((rows, len(none)), np.float32)
        table[UNKNOWN] = none
        return table

    def _projected(self, name: str, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (rows, width of the student) of lists of numbers, and which rows have one."""
        _, weight = self.projections[name]
        numbers, present = _vectors(column, len(weight), name)
        found = np.zeros((len(column), weight.shape[1]), np.float32)
        found[present] = numbers @ weight
        return found, present

    def _with_state(self, table: pa.Table) -> pa.Table:
        """Rows whose teacher's state comes as one list, with a column for each of its numbers that they lack."""
        if not self.state or STATE not in table.column_names:
            return table
        numbers, present = _vectors(_column(table, STATE), len(self.state), STATE)
        found = np.full((table.num_rows, len(self.state)), np.nan, np.float32)
        found[present] = numbers
        for place, name in enumerate(self.state):
            if name not in table.column_names:
                table = table.append_column(name, pa.array(found[:, place], from_pandas=True))
        return table

    def score(self, table: pa.Table) -> np.ndarray:
        """Click probabilities of rows.

        Parameters
        ----------
        table : pyarrow Table
            ``history`` (lists of item ids, oldest first), ``item_id``, ``timestamp``; optionally ``history_timestamps``, the
            context columns and the as-of statistics. Columns that are absent count as null.

        Returns
        -------
        float64 array (rows,)
            The same for a row whatever the rows around it.

        Raises
        ------
        ClickRowsError
            When a required column is missing or a column has the wrong type.
        """
        return self.score_labels(table)[:, 0]

    def score_labels(self, table: pa.Table, seen: dict[str, tuple[int, int]] | None = None) -> np.ndarray:
        """Probabilities (rows, 1 + further labels) of the click and of each further label; else as :meth:`score`.

        To ``seen`` is added, by feature and for ``history``, how many ids were given and how many of them the student does not know; of
        a history, of the clicks that it reads.
        """
        table = self._with_state(table)
        self._check(table.schema)
        if seen is not None:
            ids = [self._item, "history", *(name for name in self.signature["categorical"] if name not in self.projections)]
            seen |= {name: (0, 0) for name in ids if name not in seen and (name in (self._item, "history") or name in table.column_names)}
        chunks = (_columns(table.slice(begin, CHUNK)) for begin in range(0, table.num_rows, CHUNK))
        scores = [self._score_chunk(chunk, chunk, np.arange(len(chunk["item_id"])), seen) for chunk in chunks]
        return np.concatenate(scores) if scores else np.zeros((0, 1 + len(self.labels)))

    def score_requests(self, requests: pa.Table, candidates: pa.Table, count: np.ndarray) -> np.ndarray:
        """Click probabilities of the candidates of requests: what a request says of itself is read once, however many candidates it has.

        Parameters
        ----------
        requests : pyarrow Table (requests,)
            ``history``, ``timestamp`` and whatever else of :meth:`score` is the same for all candidates of a request.
        candidates : pyarrow Table (rows,)
            ``item_id`` and the other columns; those of one request after those of the other.
        count : int array (requests,)
            Candidates of each request.

        Returns
        -------
        float64 array (rows,)
        """
        return self.score_labels_of_requests(requests, candidates, count)[:, 0]

    def score_labels_of_requests(self, requests: pa.Table, candidates: pa.Table, count: np.ndarray) -> np.ndarray:
        """Probabilities (rows, 1 + further labels) of the click and of each further label; else as :meth:`score_requests`."""
        requests, candidates = self._with_state(requests), self._with_state(candidates)
        self._check(requests.schema, candidates.schema)
        request = np.repeat(np.arange(requests.num_rows), count)
        scores = []
        for begin in range(0, candidates.num_rows, CHUNK):
            some = request[begin : begin + CHUNK]
            asked = requests.slice(some[0], some[-1] - some[0] + 1)
            scores.append(self._score_chunk(_columns(candidates.slice(begin, CHUNK)), _columns(asked), some - some[0]))
        return np.concatenate(scores) if scores else np.zeros((0, 1 + len(self.labels)))

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Scores of a pandas frame, as a frame with ``score``, ``score_NAME`` of each further label, and the same index."""
        return pd.DataFrame(self.answer(self.score_labels(self.to_table(frame))), index=frame.index)

    def answer(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities (rows, 1 + further labels) as the columns of an answer, each (rows,)."""
        return {name: scores[:, place] for place, name in enumerate(["score", *(f"score_{label}" for label in self.labels)])}

    def meaning(self, name: str) -> Meaning:
        """What decides what the values of a column, or of its lists, mean."""
        if name in ("timestamp", "history_timestamps"):
            return self._moments
        if name in self.signature["dense"]:
            return self.casting.number_values
        if name in self.projections:
            return _as_it_is
        is_category = name in (*self.attributes, *self.signature["categorical"], *([TYPES] if self.has_types else []))
        return self.casting.to_categories if is_category else self.casting.id_values

    def _moments(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Microseconds since 1970; a number that lies before any log is no time, it was meant otherwise."""
        micros, empty, bad = self.casting.to_times(column)
        if not pa.types.is_temporal(column.type):
            bad = bad | (~empty & (micros < self._earliest))
        return np.where(empty, NO_TIME, micros), bad

    def to_table(self, frame: pd.DataFrame | Mapping[str, list[Any]]) -> pa.Table:
        """Those columns of a pandas frame, or of lists by name, that the model reads, as :meth:`score` takes them."""
        columns = {}
        for name in self.columns:
            if name in frame:
                columns[name] = self._column(frame[name], name)
        return pa.table(columns)

    def _column(self, values: pd.Series | list[Any], name: str) -> pa.Array:
        """A column of Python objects; where they are of several types, each means what it means alone."""
        vectors = {name: len(weight) for name, (_, weight) in self.projections.items()} | ({STATE: len(self.state)} if self.state else {})
        lists = name in ("history", "history_timestamps") or name in vectors or (self.has_types and name == TYPES)
        if lists:
            values = [_list(value, name) for value in values]
        try:
            return pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            if name in vectors:
                raise ClickRowsError(f"column {name} must hold lists of {vectors[name]} numbers") from None
            if lists:
                return pa.array(
                    [None if row is None else [self._text(value, name) for value in row] for row in values], pa.list_(pa.string())
                )
            return pa.array([self._text(value, name) for value in values], pa.string())

    def _text(self, value: Any, name: str) -> str | None:
        """The text of a value by the meaning of its column."""
        if _is_null(value):
            return None
        try:
            column = pa.array([value if not isinstance(value, int) or -(2**63) <= value < 2**63 else str(value)])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            raise ClickRowsError(f"column {name} must hold {self._kind(name)}, not {type(value).__name__}") from None
        self._typed(column, name)
        text: str | None = self.casting.to_text(column)[0][0].as_py()
        return text

    def _kind(self, name: str) -> str:
        """What a column must hold, for messages."""
        if name in ("timestamp", "history_timestamps"):
            return "times since 1990"
        return "numbers" if name in self.signature["dense"] else "text or integer ids"

    def _typed(self, column: pa.Array | pa.ChunkedArray, name: str) -> Any:
        """Values of a column, or of its lists, as they are meant.

        Raises
        ------
        ClickRowsError
            When one has no meaning there: what ingestion would set apart is not scored.
        """
        return _typed(self.meaning(name), column, name, self._kind(name))

    def _check(self, *schemas: pa.Schema) -> None:
        columns = {field.name: field.type for schema in schemas for field in schema}
        for name in ("history", "item_id", "timestamp"):
            if name not in columns:
                raise ClickRowsError(f"column {name} is missing: a row needs history, item_id and timestamp")
        for name in ("history", "history_timestamps", *([TYPES] if self.has_types else [])):
            if name in columns:
                kind = columns[name]
                if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_null(kind)):
                    raise ClickRowsError(f"column {name} must hold lists, not {kind}")

    def _score_chunk(
        self, rows: Columns, requests: Columns, request: np.ndarray, seen: dict[str, tuple[int, int]] | None = None
    ) -> np.ndarray:
        """Scores (rows, 1 + further labels) of candidates; ``request`` (rows,), which grows, says whose each is. Where both are one, so are
        the columns."""
        self._typed((rows if "timestamp" in rows else requests)["timestamp"], "timestamp")
        histories, history = self._histories(requests, seen)
        history = history[request]
        items = self.items(rows["item_id"])
        if seen is not None:
            _add_ids(seen, self._item, self.item_tokens[items, 0])
        vectors = dict(self.item_vectors)
        categorical = np.full((len(self.signature["categorical"]), len(items)), PAD, np.int32)
        for place, name in enumerate(self.signature["categorical"]):
            given = rows if name in rows else requests
            if name in self.projections:
                vectors[name], index = self._row_vectors(name, given)
            elif name in given:
                index = self.lookups[name](given[name])
            else:
                continue
            categorical[place] = index if given is rows else index[request]
            if seen is not None and name in rows and name not in self.projections:
                _add_ids(seen, name, index)
        dense = self._numbers(rows, requests, request)
        self.lap("mapping", *rows.values(), histories.items, histories.gaps, items, categorical, dense)
        inputs = {"categorical": categorical.T, "dense": dense.T}
        if self.tables:
            inputs["candidate"] = self._rows[items]
            logits = self._logits_of_sums(histories, history, inputs) if self._ways else self._logits_of_clicks(histories, history, inputs)
        else:
            given = {f"vectors_{n}": vectors[name] for n, name in enumerate(self.projections)}
            logits = self._logits_of_tokens(histories, history, items, inputs, given)
        scores = self._correct(1.0 / (1.0 + np.exp(-logits.astype(np.float64))))
        self.lap("head", scores)
        return scores

    def _logits_of_sums(self, histories: _Histories, history: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of rows, of which each reads the sums of the clicks of ``history`` (rows,); ``inputs`` (rows, ...) are of all rows."""
        length, index = histories.length, self._rows_of_clicks(histories)
        # which weight each click has in a way, whose rows are by the length of a history
        place = np.arange(len(histories.items)) + np.repeat(length * self.signature["max_length"] - histories.start, length)
        place, entries = np.repeat(place, index.shape[1]), length * index.shape[1]
        sums = _sums(self._rows, index.ravel(), (way.ravel()[place] for way in self._ways), entries)
        self.lap("gathering", sums, index, index.size * self._rows[0].nbytes * len(self._ways))
        logits = []
        for begin in range(0, len(history), BATCH):
            part = slice(begin, begin + BATCH)
            asked, segment_of_row = _renumbered(history[part])
            told = {name: values[part] for name, values in inputs.items()}
            logits.append(self._run({"history": sums[asked], "segment_a_length": length[asked], "segment_of_row": segment_of_row, **told}))
        return np.concatenate(logits)

    def _logits_of_clicks(self, histories: _Histories, history: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of rows, of which each reads the vectors of the clicks of ``history`` (rows,); ``inputs`` (rows, ...) are of all rows."""
        logits = np.empty((len(history), 1 + len(self.labels)), np.float32)
        index = self._rows_of_clicks(histories)
        for part, asked, segment_of_row in histories.batches(history):
            clicks = reduce(np.add, (self._rows[histories.padded(rows, asked)] for rows in index.T))
            told = {name: values[part] for name, values in inputs.items()}
            told |= {"clicks": clicks, "segment_a_length": histories.length[asked], "segment_of_row": segment_of_row}
            logits[part] = self._run(told)
        return logits

    def _logits_of_tokens(
        self, histories: _Histories, history: np.ndarray, items: np.ndarray, inputs: dict[str, np.ndarray], given: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Logits of rows, of which each reads the indices of the clicks of ``history`` (rows,); ``inputs`` (rows, ...) are of all rows."""
        tokens, candidate = self.item_tokens[histories.items], self.item_tokens[items]
        if self.has_types:
            tokens[:, 1 + self._features.index(TYPES)] = histories.types
        if self.has_gap:
            tokens = np.concatenate([tokens, histories.gaps[:, None]], axis=1)
            candidate = np.concatenate([candidate, np.zeros((len(candidate), 1), np.int32)], axis=1)
        logits = np.empty((len(history), 1 + len(self.labels)), np.float32)
        for part, asked, segment_of_row in histories.batches(history):
            told = {name: values[part] for name, values in inputs.items()} | given
            told |= {"segment_a": histories.padded(tokens, asked), "segment_a_length": histories.length[asked]}
            logits[part] = self._run(told | {"segment_of_row": segment_of_row, "segment_b": candidate[part][:, None, :]})
        return logits

    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Logits (rows, 1 + further labels) of what the graph reads of some inputs."""
        told = {name: value for name, value in inputs.items() if name in self.fed}
        self.lap("gathering", *told.values())
        (logits,) = self.session.run(["logit"], told)
        self.lap("head", *told.values(), logits)
        return logits

    def _rows_of_clicks(self, histories: _Histories) -> np.ndarray:
        """Rows (clicks, item and what is beside it) of the table, whose sum is a click's vector; row 0, of padding, is zero."""
        index = np.empty((len(histories.items), 1 + len(self._beside)), np.int32)
        index[:, 0] = histories.items
        begin = len(self.item_tokens)
        for place, name in enumerate(self._beside, 1):
            index[:, place] = (histories.gaps if name == "gap" else histories.types) + begin
            begin += len(self.tables["token"][name])
        return index

    def _correct(self, score: np.ndarray) -> np.ndarray:
        """Undo the down-sampling of negatives in training: p / (p + (1 - p) / rate) (He et al. 2014, section 6.3)."""
        rate = self.signature.get("negative_sampling_rate")
        return score if not rate else score / (score + (1 - score) / rate)

    def _histories(self, columns: Columns, seen: dict[str, tuple[int, int]] | None) -> tuple[_Histories, np.ndarray]:
        """The distinct ones among the histories of rows, and whose each row has (rows,): the candidates of a request repeat one."""
        rows = len(columns["history"])
        told = [name for name, wanted in (("history_timestamps", self.has_gap), (TYPES, self.has_types)) if wanted and name in columns]
        lists = {name: columns[name] for name in ("history", *told) if not pa.types.is_null(columns[name].type)}
        if "history" not in lists:
            none = np.zeros(0, np.int32)
            return _Histories(none, none, none, np.zeros(1, np.int64)), np.zeros(rows, np.int64)
        own = _differs_from_last(list(lists.values()))
        history = np.cumsum(own) - 1
        if not own.all():
            lists = {name: column.filter(pa.array(own)) for name, column in lists.items()}
        last, length = _ends(lists["history"])
        kept = np.minimum(length, self.signature["max_length"])  # what is older is never looked at, however much there is
        items = self.items(_newest(lists["history"], last, kept), "history")
        if seen is not None:
            _add_ids(seen, "history", self.item_tokens[items, 0], np.repeat(np.bincount(history, minlength=len(kept)), kept))
        moments, types = np.full(len(items), NO_TIME), np.zeros(len(items), np.int32)
        if "history_timestamps" in lists:
            times = _of_clicks(lists["history_timestamps"], "history_timestamps", length, kept)
            moments = self._typed(times, "history_timestamps")
        if TYPES in lists:
            types = self.lookups[TYPES](_of_clicks(lists[TYPES], TYPES, length, kept))
        start = np.cumsum(kept) - kept
        gaps = _gap_buckets(moments, start[kept > 0], self.signature["gap_buckets"])
        return _Histories(items, gaps, types, kept), history

    def _row_vectors(self, name: str, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        """Vectors that rows bring themselves, as a table for the graph, and the index (rows,) of each."""
        rows = len(next(iter(columns.values())))
        vectors = self._nothing(name, 2 + rows)
        index = np.full(rows, UNKNOWN, np.int32)
        if name in columns:
            vectors[2:], present = self._projected(name, columns[name])
            index[present] = 2 + np.flatnonzero(present)
        return vectors, index

    def _numbers(self, rows: Columns, requests: Columns, request: np.ndarray) -> np.ndarray:
        """The numbers (inputs, rows) that the graph reads; NaN for null."""
        dense = np.full((len(self.signature["dense"]), len(request)), np.nan, np.float32)
        with np.errstate(over="ignore"):
            for place, name in enumerate(self.signature["dense"]):
                given = rows if name in rows else requests
                if name not in given:
                    continue
                column = given[name]
                is_float = pa.types.is_float32(column.type) or pa.types.is_float64(column.type)
                numbers = column.to_numpy(zero_copy_only=False) if is_float else self._typed(column, name)
                dense[place] = numbers if given is rows else numbers[request]
        for infinite in np.flatnonzero(np.isinf(dense).any(axis=1)):
            name = list(self.signature["dense"])[infinite]
            self._typed((rows if name in rows else requests)[name], name)  # which says what is wrong
        return dense


def _read(path: Path) -> pa.Table:
    """A file as it is: ``read_table`` would take a folder ``key=value`` above it for a column."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _tables(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """By kind and name, the tables of a student behind its look-ups, each (rows, width); none without the file."""
    if not path.exists():
        return {}
    table = _read(path)
    found: dict[str, dict[str, np.ndarray]] = {"token": {}}
    kind, name = (table[column].to_numpy(zero_copy_only=False) for column in ("kind", "name"))
    begins = np.flatnonzero(np.append(True, (kind[1:] != kind[:-1]) | (name[1:] != name[:-1])))
    for begin, end in zip(begins, [*begins[1:], len(kind)], strict=True):
        rows = _column(table.slice(begin, end - begin), "vector")
        found.setdefault(kind[begin], {})[name[begin]] = rows.flatten().to_numpy().reshape(len(rows), -1)
    return found


def _vectors(column: pa.Array, width: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (rows with a vector, width) of lists, and which rows have one (rows,); raises ClickRowsError where one is none."""
    present = np.zeros(len(column), bool)
    if column.null_count == len(column):
        return np.zeros((0, width), np.float32), present
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        raise ClickRowsError(f"column {name} must hold lists of {width} numbers, not {column.type}")
    length = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    try:
        numbers = pc.list_flatten(column).cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ClickRowsError(f"column {name} must hold lists of {width} numbers, not {column.type}") from None
    present = length > 0
    if (length[present] != width).any() or not np.isfinite(numbers).all():
        raise ClickRowsError(f"column {name} must hold lists of {width} numbers, all of them there and finite")
    return numbers.reshape(-1, width), present


def _projections(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By vector: what stands for none (width,), and the weights (dimensions, width) that bring a vector to the width of the student."""
    table = _read(path)
    weights = np.array(table["weights"].to_pylist(), object)
    names = table["vector"].to_numpy(zero_copy_only=False)
    found = {}
    for name in dict.fromkeys(names):
        rows = np.array([np.asarray(row, np.float32) for row in weights[names == name]])
        found[name] = rows[0], rows[1:]
    return found


def _as_it_is(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    return column, np.zeros(len(column), bool)


class _Lookup:
    """Index of a raw value: 0 for null, 1 for unknown, ``first`` and up for the vocabulary; values compare by their text."""

    def __init__(self, tokens: pa.ChunkedArray, first: int, meaning: Meaning, name: str) -> None:
        tokens = tokens.combine_chunks() if isinstance(tokens, pa.ChunkedArray) else tokens
        self.first, self.meaning, self.name = first, meaning, name
        self.tokens = meaning(tokens)[0].cast(pa.string())  # as values are: an earlier release stored 12.0 as it was written
        text = self.tokens.to_pylist()
        self.index = {token: first + i for i, token in enumerate(text)}
        self.integers = pa.array([_canonical_integer(token) for token in text], pa.int64())
        self._numbered = pa.array([], pa.string()), np.zeros(1, np.int32)

    def __call__(self, values: pa.Array | pa.ChunkedArray, name: str | None = None) -> np.ndarray:
        found = self._as_written(values)
        if found is not None:
            return found
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if pa.types.is_dictionary(values.type):
            found = self._of_dictionary(values, name or self.name)
            if found is not None:
                return found
        if pa.types.is_string(values.type) and len(values) >= max(4096, len(self.tokens)):
            return self._of_many(values, name or self.name)
        values = _typed(self.meaning, values, name or self.name, "text or integer ids")
        if values.null_count == len(values):
            return np.full(len(values), PAD, np.int32)
        if len(values) < 256:  # to find out which values differ costs more than to look a few up
            return self._each(values)
        if len(values) < max(4096, len(self.tokens)):  # and so does a hash table of the vocabulary; requests repeat items and histories
            coded = values.dictionary_encode()
            known = np.append(self._each(coded.dictionary), np.int32(PAD))
            return known[coded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]
        return self._within(values, self.integers if pa.types.is_int64(values.type) else self.tokens)

    def _of_dictionary(self, values: pa.DictionaryArray, name: str) -> np.ndarray | None:
        """Indices of values that are given by their number in a dictionary; None where that holds something bad, which none may have."""
        told, known = self._numbered
        if not values.dictionary.equals(told):  # the chunks of one reading share it
            try:
                known = np.append(self(values.dictionary, name), np.int32(PAD))
            except ClickRowsError:
                return None
            self._numbered = values.dictionary, known
        return known[values.indices.cast(pa.int64()).fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]

    def _of_many(self, values: pa.Array, name: str) -> np.ndarray:
        """Indices of texts: what one means that is no token as it stands is found out for those alone."""
        index = self._within(values, self.tokens)
        other = np.flatnonzero(index == UNKNOWN)
        if len(other):
            written = values.take(pa.array(other))
            typed = _typed(self.meaning, written, name, "text or integer ids")
            if not typed.equals(written):
                index[other] = self._within(typed, self.tokens) if pa.types.is_string(typed.type) else self._each(typed)
        return index

    def _within(self, values: pa.Array, tokens: pa.Array) -> np.ndarray:
        found = pc.index_in(values, value_set=tokens, skip_nulls=True)
        index = pc.fill_null(found, UNKNOWN - self.first).to_numpy(zero_copy_only=False) + np.int32(self.first)
        if values.null_count:
            index[values.is_null().to_numpy(zero_copy_only=False)] = PAD
        return index.astype(np.int32, copy=False)

    def _as_written(self, values: pa.Array | pa.ChunkedArray) -> np.ndarray | None:
        """Indices of a few texts that are all tokens as they stand, which takes a tenth of the time; else None."""
        if not pa.types.is_string(values.type) or len(values) >= 256:
            return None
        try:
            found = [PAD if v is None else self.index.get(v) for v in values.to_pylist()]
        except UnicodeDecodeError:
            return None
        return None if None in found else np.array(found, np.int32)

    def _each(self, values: pa.Array) -> np.ndarray:
        return np.array([PAD if v is None else self.index.get(str(v), UNKNOWN) for v in values.to_pylist()], np.int32)


def _canonical_integer(text: str) -> int | None:
    """The int64 whose text this is; None for ``012``, ``-0``, words, and what does not fit."""
    number = int(text) if _CANONICAL_INTEGER.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _columns(table: pa.Table) -> Columns:
    """By name, every column as one array."""
    columns = table.columns
    if any(column.num_chunks > 1 for column in columns):
        columns = table.combine_chunks().columns  # of dictionaries one
    one = (column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in columns)
    return dict(zip(table.column_names, one, strict=True))


def _typed(meaning: Meaning, values: pa.Array | pa.ChunkedArray, name: str, kind: str) -> Any:
    """Values as they are meant; raises ClickRowsError, naming the column, when one has no meaning there."""
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count == len(values):
        values = pa.nulls(len(values))  # nulls alone may have any type
    try:
        typed, bad = meaning(values)
    except TypeError:
        raise ClickRowsError(f"column {name} must hold {kind}, not {values.type}") from None
    if bad.any():
        row = int(bad.argmax())
        raise ClickRowsError(f"column {name} must hold {kind}, not {_shown(values.slice(row, 1))}")
    return typed


def _shown(value: pa.Array) -> str:
    """One value, for messages; a text may hold bytes that are none."""
    try:
        return repr(value[0].as_py())[:80]
    except UnicodeDecodeError:
        return repr(value.cast(pa.binary())[0].as_py())[:80]


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    )


class _Histories:
    """Distinct histories: item, gap and type of every click (clicks,), one history after the other, and the clicks of each."""

    def __init__(self, items: np.ndarray, gaps: np.ndarray, types: np.ndarray, length: np.ndarray) -> None:
        self.items, self.gaps, self.types, self.length = items, gaps, types, length
        self.start: np.ndarray = np.cumsum(length) - length  # where the clicks of each begin

    def batches(self, history: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows whose ``history`` (rows,) are about as long, those histories, and which of them each row has."""
        order = np.argsort(self.length[history], kind="stable")  # neighbours of one length need no padding
        ordered = history[order]
        run = np.cumsum(ordered != np.roll(ordered, 1))  # grows where a history ends
        begin = 0
        while begin < len(order):
            end = min(begin + BATCH, int(np.searchsorted(run, run[begin] + HISTORIES)))
            yield order[begin:end], *_renumbered(ordered[begin:end])
            begin = end

    def padded(self, clicks: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """What is said of the clicks, (clicks, ...), of the histories that are ``asked`` for: (asked, longest, ...), with zeros behind."""
        length = self.length[asked]
        offset = np.arange(max(int(length.max(initial=0)), 1))
        inside = offset < length[:, None]
        if not len(clicks):
            return np.zeros((*inside.shape, *clicks.shape[1:]), clicks.dtype)
        padded: np.ndarray = clicks[np.where(inside, self.start[asked][:, None] + offset, 0)]
        padded[~inside] = PAD
        return padded


def _add_ids(seen: dict[str, tuple[int, int]], name: str, index: np.ndarray, times: np.ndarray | int = 1) -> None:
    """Add to the ids that were seen of a feature those of these indices, each so many times."""
    given, unknown = seen.get(name, (0, 0))
    seen[name] = given + int(((index != PAD) * times).sum()), unknown + int(((index == UNKNOWN) * times).sum())


def _renumbered(history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which histories stand there, each run of one once, and of which run each row (rows,) is."""
    begins = np.ones(len(history), bool)
    begins[1:] = history[1:] != history[:-1]
    return history[begins], np.cumsum(begins) - 1


def _differs_from_last(lists: list[pa.Array]) -> np.ndarray:
    """Which rows (rows,) list anything else than the row before, in any of some columns of lists, of which the first decides most.

    Whoever has as many values and the same newest one as its neighbours is compared with them: all that stand together at once, and one by
    one where that tells a difference.
    """
    lists = [type(one).from_arrays(one.offsets, one.values.indices) if pa.types.is_dictionary(one.values.type) else one for one in lists]

    def repeat(begin: int, rows: int) -> bool:
        return all(one.slice(begin, rows - 1).equals(one.slice(begin + 1, rows - 1)) for one in lists)

    last, length = _ends(lists[0])
    differs = np.ones(len(length), bool)
    if len(length) < 2 or not len(lists[0].values) or repeat(0, len(length)):
        differs[1:] = False  # all of them are empty, or of one request
        return differs
    newest = lists[0].values.take(pa.array(np.maximum(last - 1, 0)))
    same = pc.fill_null(pc.equal(newest.slice(1), newest.slice(0, len(newest) - 1)), True).to_numpy(zero_copy_only=False)
    differs[1:] = (length[1:] != length[:-1]) | ~(same | (length[1:] == 0))
    begins = np.flatnonzero(differs)
    count = np.diff(begins, append=len(differs))
    for begin, rows in zip(begins[count > 1].tolist(), count[count > 1].tolist(), strict=True):
        if not repeat(begin, rows):
            differs[begin + 1 : begin + rows] = [not repeat(row, 2) for row in range(begin, begin + rows - 1)]
    return differs


def _sums(rows: np.ndarray, index: np.ndarray, ways: Iterable[np.ndarray], length: np.ndarray) -> np.ndarray:
    """Sums (sums, ways * width) of rows (rows, width): of the first ``length`` of ``index`` (entries,), of the next, and so on; for each
    way to weigh the entries, (entries,), one beside the other."""
    ends = np.zeros(len(length) + 1, np.int32)
    np.cumsum(length, out=ends[1:])
    picked = csr_array((np.ones(len(index), rows.dtype), index, ends), shape=(len(length), len(rows)))
    sums = []
    for weight in ways:
        picked.data = weight  # a matrix of its own would be checked anew
        sums.append(picked @ rows)
    return np.concatenate(sums, axis=1)


def _ends(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's list ends among the values of a column of lists, and its length; a null is an empty list."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    length = np.diff(offsets)
    return offsets[1:], np.where(column.is_null().to_numpy(zero_copy_only=False), 0, length) if column.null_count else length


def _newest(column: pa.Array, last: np.ndarray, kept: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """The last ``kept`` (rows,) values of lists that end at ``last`` (rows,), one row after the other; null for rows not ``known``."""
    shift = np.repeat(last - np.cumsum(kept), kept)
    if known is None and len(shift) and shift[0] >= 0 and (shift == shift[0]).all():  # nothing lies between them
        return column.values.slice(shift[0], len(shift))
    unknown = None if known is None else ~np.repeat(known, kept)
    return column.values.take(pa.array(shift + np.arange(len(shift)), mask=unknown))


def _of_clicks(told: pa.Array, name: str, length: np.ndarray, kept: np.ndarray) -> pa.Array:
    """What lists tell of the ``kept`` (rows,) newest clicks of histories of some ``length``; null where the row lists nothing at all.

    Raises
    ------
    ClickRowsError
        When a row lists more or fewer values than clicks.
    """
    last, listed = _ends(told)
    known = told.is_valid().to_numpy(zero_copy_only=False)
    if not np.array_equal(np.where(known, length, 0), listed):
        what = "type" if name == TYPES else "time"
        raise ClickRowsError(f"column {name} must have one {what} for every item of history")
    return _newest(told, last, kept, None if known.all() else known)


def _gap_buckets(moments: np.ndarray, first: np.ndarray, buckets: int) -> np.ndarray:
    """Logarithmic buckets of the time (int64 microseconds) between neighbours; 0 where unknown, and at the first click of a history."""
    known = moments != NO_TIME
    time = np.where(known, moments, 0)
    if not len(time):
        return np.zeros(0, np.int32)
    seconds = np.maximum(np.diff(time, prepend=time[:1]), 0) / 1e6
    bucket = np.minimum(np.frexp(1 + seconds)[1], buckets - 1)  # 1 + floor(log2(1 + seconds))
    bucket[~(known & np.concatenate([known[:1], known[:-1]]))] = 0
    bucket[first] = 0
    return bucket.astype(np.int32)


def _list(value: Any, name: str) -> list[Any] | np.ndarray | None:
    """A list out of a Python object, or None for null."""
    if _is_null(value):
        return None
    # Text and mappings can be iterated too, but over letters and keys; a set has no order.
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise ClickRowsError(f"column {name} must hold lists, not {type(value).__name__}")
    return value if isinstance(value, (list, np.ndarray)) else list(value)


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _untold(part: str, *moved: np.ndarray | pa.Array | int) -> None:
    """Nobody wants to know what the parts of the work cost."""


class _Source(SourceFileLoader):
    """Runs a file as it is: bytecode beside it, which no digest covers, is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_casting(root: Path) -> Any:
    """What a raw value means, from its own file beside the graph: the one by which the log was read."""
    loader = _Source("student_casting", str(root / "casting.py"))
    module: Any = importlib.util.module_from_spec(ModuleSpec(loader.name, loader, origin=loader.path))
    loader.exec_module(module)
    return module


SCORER, ERROR = ClickScorer, ClickRowsError  # by these names whoever loads an exported student finds them, whatever it scores
