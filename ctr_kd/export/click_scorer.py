"""Raw ids in, probabilities out: the thin wrapper around ``student.onnx``.

This file and what it imports of this folder travel inside the exported student, joined to one file, with ``casting.py`` beside it, which
says what a raw value means (:func:`ctr_kd.export.release_code.click_scorer_code`). They need numpy, pandas, pyarrow, scipy and onnxruntime,
and no other file of ours.

What a student looks up is summed here where ``tables.parquet`` has its rows, and ``scoring.onnx`` takes the sums; ``student.onnx``, which
takes indices, says the same in more time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.export.click_files import (
    StudentSignature,
    column_of,
    load_casting,
    load_graph,
    read_projections,
    read_sums,
    read_table,
)
from ctr_kd.export.click_histories import (
    BATCH,
    Histories,
    differs_from_last,
    ends_of,
    gap_buckets,
    newest_values,
    of_clicks,
    renumbered,
    sums_of,
)
from ctr_kd.export.click_values import NO_TIME, PAD, TYPES, UNKNOWN, ClickColumns, ClickRowsError, Lookup, Meaning, Rows, vectors_of

CHUNK = 16_384  # rows that are looked up together
Lap = Callable[..., None]


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
        self.casting = load_casting(root)
        self.signature: StudentSignature = json.loads((root / "signature.json").read_text(encoding="utf-8"))
        self.labels: list[str] = self.signature.get("labels", [])
        self.projections = read_projections(root / "projections.parquet") if self.signature.get("vectors") else {}
        self.tables = read_sums(root / "tables.parquet")
        self.session = load_graph(root / ("scoring.onnx" if self.tables else "student.onnx"), threads)
        self.fed = {argument.name for argument in self.session.get_inputs()}
        self.raw = ClickColumns(self.signature, self.casting, {name: len(weight) for name, (_, weight) in self.projections.items()})
        self.columns, self.described, self.state = self.raw.names, self.raw.described, self.raw.state
        self._of_item = [name for name in self.signature["tokens"] if name != "gap"]
        self._item, *self._features = self._of_item
        self.lookups = self._lookups(read_table(root / "vocabulary.parquet"))
        self.has_types, self.has_gap = self.raw.has_types, "gap" in self.signature["tokens"]
        self._ways = list(self.tables.get("way", {}).values())
        self._beside = [*(["gap"] if self.has_gap else []), *([TYPES] if self.has_types else [])]  # what a click has besides its item
        self._describe([read_table(root / "items.parquet")] if self.described else [])

    def _lookups(self, vocabulary: pa.Table) -> dict[str, Lookup]:
        """By name, the vocabularies of the item, its attributes, the context, and the types of events."""
        feature, specials = vocabulary["feature"].to_numpy(zero_copy_only=False), len(self.signature["special_tokens"])
        names = [self._item, *self.raw.attributes, *self.raw.categorical, *([TYPES] if self.raw.has_types else [])]
        tokens = {name: vocabulary["token"].filter(pa.array(feature == name)) for name in names}
        return {name: Lookup(tokens[name], specials, self.meaning(name), name) for name in names}

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
        own = column_of(self._said[0], "item_id").cast(pa.string()) if self._said else pa.array([], pa.string())
        found: np.ndarray = pc.is_in(ids.cast(pa.string()), value_set=own).to_numpy(zero_copy_only=False)
        return found

    def _describe(self, said: list[pa.Table]) -> None:
        """Make the tables of all items of the vocabulary and of those that are described."""
        self._said = said
        described = [column_of(table, "item_id").cast(pa.string()) for table in said]
        ids = pc.unique(pa.concat_arrays([self.lookups[self._item].tokens, *described]))
        self.items = Lookup(ids, 2, self.casting.id_values, "item_id")
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
                vectors, present = self._projected(name, column_of(table, name))
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
        numbers, present = vectors_of(column, len(weight), name)
        found = np.zeros((len(column), weight.shape[1]), np.float32)
        found[present] = numbers @ weight
        return found, present

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
        table = self.raw.with_state(table)
        self.raw.check(table.schema)
        if seen is not None:
            ids = [self._item, "history", *self.raw.categorical]
            seen |= {name: (0, 0) for name in ids if name not in seen and (name in (self._item, "history") or name in table.column_names)}
        chunks = (Rows(table.slice(begin, CHUNK)) for begin in range(0, table.num_rows, CHUNK))
        scores = [self._score_chunk(chunk, chunk, np.arange(len(chunk)), seen) for chunk in chunks]
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
        requests, candidates = self.raw.with_state(requests), self.raw.with_state(candidates)
        self.raw.check(requests.schema, candidates.schema)
        request = np.repeat(np.arange(requests.num_rows), count)
        scores = []
        for begin in range(0, candidates.num_rows, CHUNK):
            some = request[begin : begin + CHUNK]
            asked = requests.slice(some[0], some[-1] - some[0] + 1)
            scores.append(self._score_chunk(Rows(candidates.slice(begin, CHUNK)), Rows(asked), some - some[0]))
        return np.concatenate(scores) if scores else np.zeros((0, 1 + len(self.labels)))

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Scores of a pandas frame, as a frame with ``score``, ``score_NAME`` of each further label, and the same index."""
        return pd.DataFrame(self.answer(self.score_labels(self.raw.to_table(frame))), index=frame.index)

    def to_table(self, frame: pd.DataFrame | Mapping[str, list[object]]) -> pa.Table:
        """Those columns of a pandas frame, or of lists by name, that the model reads, as :meth:`score` takes them."""
        return self.raw.to_table(frame)

    def meaning(self, name: str) -> Meaning[pa.Array] | Meaning[np.ndarray]:
        """What decides what the values of a column, or of its lists, mean."""
        return self.raw.meaning(name)

    def answer(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities (rows, 1 + further labels) as the columns of an answer, each (rows,)."""
        return {name: scores[:, place] for place, name in enumerate(["score", *(f"score_{label}" for label in self.labels)])}

    def _score_chunk(self, rows: Rows, requests: Rows, request: np.ndarray, seen: dict[str, tuple[int, int]] | None = None) -> np.ndarray:
        """Scores (rows, 1 + further labels) of candidates; ``request`` (rows,), which grows, says whose each is. Where both are one, so are
        the columns."""
        self.raw.typed((rows if "timestamp" in rows else requests)["timestamp"], "timestamp")
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
        self.lap("mapping", rows.batch, histories.items, histories.gaps, items, categorical, dense)
        inputs = {"categorical": categorical.T, "dense": dense}
        if self.tables:
            inputs["candidate"] = self._rows[items]
            logits = self._logits_of_sums(histories, history, inputs) if self._ways else self._logits_of_clicks(histories, history, inputs)
        else:
            tables = {f"vectors_{n}": vectors[name] for n, name in enumerate(self.projections)}
            logits = self._logits_of_tokens(histories, history, items, inputs, tables)
        scores = self._correct(1.0 / (1.0 + np.exp(-logits.astype(np.float64))))
        self.lap("head", scores)
        return scores

    def _logits_of_sums(self, histories: Histories, history: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of rows, of which each reads the sums of the clicks of ``history`` (rows,); ``inputs`` (rows, ...) are of all rows."""
        length, index = histories.length, self._rows_of_clicks(histories)
        # which weight each click has in a way, whose rows are by the length of a history
        place = np.arange(len(histories.items)) + np.repeat(length * self.signature["max_length"] - histories.start, length)
        place, entries = np.repeat(place, index.shape[1]), length * index.shape[1]
        sums = sums_of(self._rows, index.ravel(), (way.ravel()[place] for way in self._ways), entries)
        self.lap("gathering", sums, index, index.size * self._rows[0].nbytes * len(self._ways))
        logits = []
        for begin in range(0, len(history), BATCH):
            part = slice(begin, begin + BATCH)
            asked, segment_of_row = renumbered(history[part])
            told = {name: values[part] for name, values in inputs.items()}
            logits.append(self._run({"history": sums[asked], "segment_a_length": length[asked], "segment_of_row": segment_of_row, **told}))
        return np.concatenate(logits)

    def _logits_of_clicks(self, histories: Histories, history: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
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
        self, histories: Histories, history: np.ndarray, items: np.ndarray, inputs: dict[str, np.ndarray], given: dict[str, np.ndarray]
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

    def _rows_of_clicks(self, histories: Histories) -> np.ndarray:
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

    def _histories(self, columns: Rows, seen: dict[str, tuple[int, int]] | None) -> tuple[Histories, np.ndarray]:
        """The distinct ones among the histories of rows, and whose each row has (rows,): the candidates of a request repeat one."""
        told = [name for name, wanted in (("history_timestamps", self.has_gap), (TYPES, self.has_types)) if wanted and name in columns]
        lists = {name: columns[name] for name in ("history", *told) if not pa.types.is_null(columns[name].type)}
        if "history" not in lists:
            none = np.zeros(0, np.int32)
            return Histories(none, none, none, np.zeros(1, np.int64)), np.zeros(len(columns), np.int64)
        own = differs_from_last(list(lists.values()))
        history = np.cumsum(own) - 1
        if not history[-1]:  # as in a request
            lists = {name: column.slice(0, 1) for name, column in lists.items()}
        elif not own.all():
            lists = {name: column.filter(pa.array(own)) for name, column in lists.items()}
        last, length = ends_of(lists["history"])
        kept = np.minimum(length, self.signature["max_length"])  # what is older is never looked at, however much there is
        items = self.items(newest_values(lists["history"], last, kept), "history")
        if seen is not None:
            _add_ids(seen, "history", self.item_tokens[items, 0], np.repeat(np.bincount(history, minlength=len(kept)), kept))
        moments, types = np.full(len(items), NO_TIME), np.zeros(len(items), np.int32)
        if "history_timestamps" in lists:
            times = of_clicks(lists["history_timestamps"], "history_timestamps", length, kept)
            moments = self.raw.typed(times, "history_timestamps")
        if TYPES in lists:
            types = self.lookups[TYPES](of_clicks(lists[TYPES], TYPES, length, kept))
        start = np.cumsum(kept) - kept
        gaps = gap_buckets(moments, start[kept > 0], self.signature["gap_buckets"])
        return Histories(items, gaps, types, kept), history

    def _row_vectors(self, name: str, columns: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Vectors that rows bring themselves, as a table for the graph, and the index (rows,) of each."""
        rows = len(columns)
        vectors = self._nothing(name, 2 + rows)
        index = np.full(rows, UNKNOWN, np.int32)
        if name in columns:
            vectors[2:], present = self._projected(name, columns[name])
            index[present] = 2 + np.flatnonzero(present)
        return vectors, index

    def _numbers(self, rows: Rows, requests: Rows, request: np.ndarray) -> np.ndarray:
        """The numbers (rows, inputs) that the graph reads; NaN for null."""
        of_rows = {place: name for place, name in enumerate(self.raw.dense) if name in rows}
        if len(of_rows) == len(self.raw.dense) > 0:
            return self.raw.numbers(rows, self.raw.dense)
        dense = np.full((len(request), len(self.raw.dense)), np.nan, np.float32, order="F")
        of_requests = {place: name for place, name in enumerate(self.raw.dense) if name in requests and place not in of_rows}
        if of_rows:
            dense[:, list(of_rows)] = self.raw.numbers(rows, list(of_rows.values()))
        if of_requests:
            dense[:, list(of_requests)] = self.raw.numbers(requests, list(of_requests.values()))[request]
        return dense


def _add_ids(seen: dict[str, tuple[int, int]], name: str, index: np.ndarray, times: np.ndarray | int = 1) -> None:
    """Add to the ids that were seen of a feature those of these indices, each so many times."""
    given, unknown = seen.get(name, (0, 0))
    seen[name] = given + int(((index != PAD) * times).sum()), unknown + int(((index == UNKNOWN) * times).sum())


def _untold(part: str, *moved: np.ndarray | pa.Array | int) -> None:
    """Nobody wants to know what the parts of the work cost."""


SCORER, ERROR = ClickScorer, ClickRowsError  # by these names whoever loads an exported student finds them, whatever it scores
