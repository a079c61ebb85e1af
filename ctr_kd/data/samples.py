"""Samples: two segments of tokens, a context and a label, held as flat arrays with offsets.

A click history is a sentence whose words are items: segment A holds the history, segment B the candidate. Tokens are
stored once in a pool; a row holds a start and an end into it, so a training set costs a few bytes per row whatever the
length of its histories.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.data.disk_arrays import joined, pieces_of, too_many, written_on_disk
from ctr_kd.data.input_groups import InputGroup, input_groups
from ctr_kd.data.later_clicks import later_positions
from ctr_kd.data.row_pieces import RowPieces
from feature_store.features.event_log import microseconds
from feature_store.features.summary import ClickSummary
from feature_store.special_tokens import PAD, SPECIALS, UNKNOWN
from feature_store.tables.column_names import HISTORY_TYPES
from feature_store.tables.contracts import label_column
from feature_store.tables.json_files import load_json, write_json
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.vectors import matrix_of

GAP = "gap"  # token feature: time since the click before it, in logarithmic buckets
GAP_BUCKETS = 24  # bucket b >= 1 holds gaps of [2**(b-1), 2**b) seconds; the last is open (over 48 days)
DENSE_BINS = 24  # quantile bins of the piecewise linear encoding
POOL = "tokens.npy"  # beside an assembly: the tokens of all clicks, read through the page cache
BINS = "bins.json"  # beside an assembly: the bin edges of dense inputs
CLICK_CHUNK = 1 << 20  # clicks in memory while the pool is written or sequences are cut


@dataclass(frozen=True)
class Signature:
    """What a model reads: names and sizes of its inputs, in the order of its tensors.

    Attributes
    ----------
    tokens : dict of str to int
        Token features and their number of indices; the first is the token's own id.
    categorical : dict of str to int
        Categorical context features and their number of indices.
    dense : dict of str to list of float
        Dense inputs, each with the ascending bin edges of its piecewise linear encoding.
    outputs : int
        1 for a click logit, otherwise the number of classes, or with ``labels`` one more than these.
    max_length : int
        Longest segment A that the model was trained on, in tokens.
    max_length_b : int
        Longest segment B: 1 for a candidate, 0 where there is none, more for a sequence such as a second sentence.
    vectors : dict of str to float32 array (indices, width)
        Token and categorical features whose vectors are given, and not learned: a vector for each index, zeros for the special tokens.
    labels : tuple of str
        Further labels beside the click. Where there are any, each output is a logit under a sigmoid, that of the click first; without,
        several outputs are classes under a softmax.
    chain : bool
        The further labels follow a click: their logits are those of products with its probability, see
        :func:`ctr_kd.models.layers.chained`.
    later : int
        Clicks after the request that training rows may have behind their history (:mod:`ctr_kd.data.later_clicks`), a teacher's alone.
    """

    tokens: dict[str, int]
    categorical: dict[str, int]
    dense: dict[str, list[float]]
    outputs: int
    max_length: int
    max_length_b: int = 1
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    labels: tuple[str, ...] = ()
    chain: bool = False
    later: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as signature.json has them: of vectors the width, and of further labels the names, where there are any."""
        fields = asdict(replace(self, vectors={}))
        for name in ("vectors", "labels", "chain", "later"):
            del fields[name]
        fields |= {"vectors": {name: table.shape[1] for name, table in self.vectors.items()}} if self.vectors else {}
        return fields | ({"labels": list(self.labels)} if self.labels else {})


def table_name(place: int) -> str:
    """What the table of a token feature is called whose own name cannot be that of a module."""
    return f"feature {place}"


@dataclass(frozen=True)
class Segment:
    """Token sequences of all rows, as ranges of one pool.

    Attributes
    ----------
    pool : int32 array (tokens, features)
        Indices of every token, one column per token feature.
    start, end : int64 arrays (rows,)
        Half-open range of each row in the pool; equal where the sequence is empty.
    gap_column : int or None
        Feature that relates a token to the one before it, hence unknown at the first position of a sequence.
    """

    pool: np.ndarray
    start: np.ndarray
    end: np.ndarray
    gap_column: int | None = None

    @property
    def vocabulary_columns(self) -> list[int]:
        """Features that have a vocabulary, hence an unknown token: the token's own id, then its attributes, not its gap."""
        features = self.pool.shape[1]
        return [column for column in range(features) if self.gap_column is None or column != self.gap_column % features]


@dataclass(frozen=True)
class Samples:
    """Rows of one split, in the order of their ids; rows of one group are adjacent and share segment A.

    Attributes
    ----------
    row_id, group, user : int64 arrays (rows,)
        Identity of the row, its request, and its user.
    a, b : Segment
        Click history and candidate.
    categorical : int32 array (rows, categorical features)
    dense : float32 array (rows, dense features)
        NaN where the value is null.
    label : float32 array (rows,)
        Below zero where there is none.
    weight : float32 array (rows,), optional
        How much each row counts, see :func:`of_mean_one`; None where all count alike.
    further : float32 array (rows, further labels), optional
        Labels beside the click, such as a purchase, below zero where unknown; None where there is one label.
    later : Segment, optional
        Clicks that came after each request (:mod:`ctr_kd.data.later_clicks`), the same for all rows of a group; None where none may be
        seen.
    """

    row_id: np.ndarray
    group: np.ndarray
    user: np.ndarray
    a: Segment
    b: Segment
    categorical: np.ndarray
    dense: np.ndarray
    label: np.ndarray
    weight: np.ndarray | None = None
    further: np.ndarray | None = None
    later: Segment | None = None

    @property
    def by_row(self) -> dict[str, np.ndarray]:
        """The arrays that have an entry for each row, in memory or on disk, by name."""
        segments = {"a": self.a, "b": self.b} | ({} if self.later is None else {"later": self.later})
        arrays = {"row_id": self.row_id, "group": self.group, "user": self.user}
        for name, segment in segments.items():
            arrays |= {f"{name}_start": segment.start, f"{name}_end": segment.end}
        arrays |= {"categorical": self.categorical, "dense": self.dense, "label": self.label}
        more = {"weight": self.weight, "further": self.further}
        return arrays | {name: array for name, array in more.items() if array is not None}

    def with_rows(self, arrays: Mapping[str, np.ndarray]) -> Samples:
        """Other rows over the same pools: their arrays by the names of :attr:`by_row`."""

        def of(name: str, segment: Segment) -> Segment:
            return replace(segment, start=arrays[f"{name}_start"], end=arrays[f"{name}_end"])

        later = None if self.later is None else of("later", self.later)
        plain = {name: arrays[name] for name in ("row_id", "group", "user", "categorical", "dense", "label")}
        more: dict[str, Any] = {name: arrays.get(name) for name in ("weight", "further")}
        return replace(self, a=of("a", self.a), b=of("b", self.b), later=later, **plain, **more)

    @property
    def on_disk(self) -> bool:
        """Whether the arrays lie on disk, and not in memory."""
        return isinstance(self.label, np.memmap)

    @property
    def labels(self) -> np.ndarray:
        """What a model learns: ``label`` (rows,), or where there are further ones all of them (rows, labels), that of the click first."""
        return self.label if self.further is None else np.column_stack([self.label, self.further])

    @property
    def new_item_share(self) -> float:
        """Share of the rows whose candidate training has no id of; 0 where there are no candidates, as of texts."""
        if not len(self) or not (self.b.end - self.b.start == 1).all():
            return 0.0
        return float((self.b.pool[self.b.start, self.b.vocabulary_columns[0]] == UNKNOWN).mean())

    def __len__(self) -> int:
        return len(self.row_id)

    def take(self, rows: np.ndarray | slice) -> Samples:
        """Some rows, by their positions, over the same pools."""
        return self.with_rows({name: array[rows] for name, array in self.by_row.items()})


def of_mean_one(weight: np.ndarray, folder: Path | None = None) -> np.ndarray:
    """Weights of rows (rows,) in the unit in which losses take them: their mean is 1, as float32. All zeros stay so.

    Only how rows compare counts then: whatever the unit of a log's weights, the learning rate, the share of the teacher, the smoothing of
    rates and the weight of a row that has none of its own, which is 1, mean what they mean without weights. Many lie on the disk of the
    folder, where one is named.

    Examples
    --------
    >>> of_mean_one(np.array([1.0, 3.0])).tolist()
    [0.5, 1.5]
    """
    mean = weight.mean(dtype=np.float64) if len(weight) else 0.0
    pieces = [slice(0, len(weight))] if folder is None else pieces_of(len(weight))
    return joined(((weight[here] / (mean or 1.0)).astype(np.float32) for here in pieces), len(weight), folder or Path())


def gap_bucket(timestamp: np.ndarray, known: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Bucket of the time between each click and the one before it.

    Parameters
    ----------
    timestamp : int64 array (tokens,), microseconds
    known : bool array (tokens,)
        False where the timestamp is only an order.
    first : bool array (tokens,)
        True where a sequence begins.

    Returns
    -------
    int32 array (tokens,)
        0 where the gap is unknown, otherwise 1 + floor(log2(1 + seconds)), at most ``GAP_BUCKETS - 1``.

    Examples
    --------
    >>> gap_bucket(np.array([0, 0, 3_000_000]), np.array([True] * 3), np.array([True, False, False])).tolist()
    [0, 1, 3]
    """
    seconds = np.maximum(np.diff(timestamp, prepend=timestamp[:1]), 0) / 1e6
    bucket = np.minimum(1 + np.floor(np.log2(1 + seconds)), GAP_BUCKETS - 1).astype(np.int32)
    both_known = known & np.concatenate([known[:1], known[:-1]]) if len(known) else known
    return np.where(first | ~both_known, 0, bucket).astype(np.int32)


def index_of(values: pa.Array | pa.ChunkedArray, vocabulary: Sequence[str]) -> np.ndarray:
    """Map raw values to indices: null to ``PAD``, values outside the vocabulary to ``UNKNOWN``; ids compare by their text.

    Parameters
    ----------
    values : pyarrow Array or ChunkedArray (values,)
    vocabulary : sequence of str

    Returns
    -------
    int32 array (values,)

    Examples
    --------
    >>> index_of(pa.array([12, 13, None]), ["12"]).tolist()
    [5, 1, 0]
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    text = pc.cast(values, pa.string())
    found = pc.index_in(text, value_set=pa.array(vocabulary, pa.string()))
    index = pc.fill_null(pc.add(found, len(SPECIALS)), UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int32)
    index[text.is_null().to_numpy(zero_copy_only=False)] = PAD
    return index


class Assembly:
    """The rows, clicks, items and vocabularies that the feature store assembled, mapped to indices.

    Parameters
    ----------
    directory : Path
        An artifact of ``feature_store.features.training_set``.
    max_length : int
        Longest history, in clicks; the signature has it.
    chain : bool
        Of the signature, where the log has further labels.
    without : collection of str
        Columns that are not read, as students read none that are the teachers' alone.
    later_clicks : int
        Clicks after the request that the training rows have, at most; see :attr:`Samples.later`.
    """

    def __init__(
        self, directory: Path, max_length: int, chain: bool = False, *, without: Collection[str] = (), later_clicks: int = 0
    ) -> None:
        self.directory = directory
        self.max_length = max_length
        self.chain = chain
        self.later_clicks = later_clicks
        whole = ClickSummary.read(directory)
        self.summary = whole.without(without)
        self._pool_columns = _places(self.summary, whole)
        self.vocabulary: dict[str, list[str]] = load_json(directory / "vocabulary.json")
        items = read_parquet(directory / "items.parquet")
        users = read_parquet(directory / "users.parquet")
        self.types = self.summary.history_types
        self.token_names = ["item", *self.summary.item_attributes, *([HISTORY_TYPES] if self.types else [])]
        self.user_attributes = self.summary.user_attributes
        self.categorical_names = [*self.summary.context.categorical, *self.user_attributes]
        self.dense_names = [*self.summary.statistics, *self.summary.context.dense]
        raw = {"item": items["item_id"], **{name: items[name] for name in self.summary.item_attributes}}
        # item_tokens (items, features): the tokens of each item, gap excepted
        # what an item is says not of which type an event with it is
        nothing = np.zeros(items.num_rows, np.int32)
        of_items = [index_of(raw[name], self.vocabulary[name]) if name in raw else nothing for name in self.token_names]
        self.user_tokens = {name: index_of(users[name], self.vocabulary[name]) for name in self.user_attributes}
        vectors = {name: given_vectors(directory / "item_vectors.parquet", name) for name in self.summary.item_vectors}
        of_users = {name: given_vectors(directory / "user_vectors.parquet", name) for name in self.summary.user_vectors}
        self.vectors = {name: table for name, (table, _) in (vectors | of_users).items()}
        self.token_names += vectors
        self.categorical_names += of_users
        self.user_tokens |= {name: index for name, (_, index) in of_users.items()}
        self.user_attributes = [*self.user_attributes, *of_users]
        self.item_tokens = np.stack([*of_items, *(index for _, index in vectors.values())], axis=1)

    @property
    def labels(self) -> tuple[str, ...]:
        """Further labels beside the click."""
        return tuple(self.summary.labels)

    @cached_property
    def clicks(self) -> np.ndarray:
        """Tokens of all clicks, int32 (clicks, features): a file whose pages are read when they are touched, see :meth:`write_pool`."""
        file = self.directory / POOL
        if file.exists():
            pool = np.load(file, mmap_mode="r")
            return pool if self._pool_columns is None else pool[:, self._pool_columns]  # a copy: the file has all columns
        return np.concatenate([np.zeros((0, len(self.token_names) + 1), np.int32), *self._token_chunks()])

    def write_pool(self) -> None:
        """Write the tokens of all clicks beside the assembly, a chunk at a time: no process needs to hold them in memory then."""
        shape = pq.read_metadata(self.directory / "clicks.parquet").num_rows, len(self.token_names) + 1
        with open(self.directory / POOL, "wb") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "<i4", "fortran_order": False, "shape": shape})
            for tokens in self._token_chunks():
                file.write(tokens.tobytes())

    def _token_chunks(self) -> Iterator[np.ndarray]:
        """Tokens (chunk, features) of the clicks, in their order."""
        user_before, time_before, known_before = -1, 0, False
        for clicks in self._read_clicks("item", "timestamp", "time_known", "user", *self.type_columns):
            # The click before the chunk is put in front of it: a gap may begin there.
            user = np.concatenate([[user_before], clicks["user"]])
            time = np.concatenate([[time_before], clicks["timestamp"]])
            known = np.concatenate([[known_before], clicks["time_known"]])
            gap = gap_bucket(time, known, np.diff(user, prepend=-1) != 0)[1:]
            yield np.concatenate([self.event_tokens(clicks), gap[:, None]], axis=1)
            user_before, time_before, known_before = user[-1], time[-1], known[-1]

    @property
    def type_columns(self) -> list[str]:
        """Columns of the clicks that say of which type each is; none where all are alike."""
        return ["type_code"] if self.types else []

    def event_tokens(self, clicks: Mapping[str, np.ndarray]) -> np.ndarray:
        """Tokens (clicks, features), gap excepted, of events of histories, by their ``item`` and :attr:`type_columns`."""
        tokens: np.ndarray = self.item_tokens[clicks["item"]]
        if self.types:
            index = np.zeros(max(self.types.values()) + 1, np.int32)
            index[list(self.types.values())] = len(SPECIALS) + np.arange(len(self.types))
            tokens[:, self.token_names.index(HISTORY_TYPES)] = index[clicks["type_code"]]
        return tokens

    def _read_clicks(self, *columns: str) -> Iterator[dict[str, np.ndarray]]:
        """Columns of the clicks, a chunk at a time, in their order."""
        with pq.ParquetFile(self.directory / "clicks.parquet", pre_buffer=False) as file:
            for chunk in file.iter_batches(CLICK_CHUNK, columns=list(columns)):
                yield {name: chunk[name].to_numpy(zero_copy_only=False) for name in columns}

    def click_counts(self, until: int) -> np.ndarray:
        """Clicks on each item that were known before a time (microseconds UTC), int64 (items,)."""
        count = np.zeros(len(self.item_tokens), np.int64)
        for clicks in self._read_clicks("item", "known_at", "canonical"):
            count += np.bincount(clicks["item"][clicks["canonical"] & (clicks["known_at"] < until)], minlength=len(count))
        return count

    def vocabulary_tokens(self) -> np.ndarray:
        """Token (vocabulary, features) of every index of the item vocabulary: its id, its attributes, no gap."""
        tokens = np.zeros((len(SPECIALS) + len(self.vocabulary["item"]), len(self.token_names) + 1), np.int32)
        tokens[:, 0] = np.arange(len(tokens))
        known = self.item_tokens[:, 0] >= len(SPECIALS)
        tokens[self.item_tokens[known, 0], :-1] = self.item_tokens[known]
        return tokens

    def token_vectors(self) -> None:
        """Items come without vectors: a model draws its own."""
        return

    def input_groups(self) -> dict[str, InputGroup]:
        """What a student reads, one by one and together; see :func:`ctr_kd.data.input_groups.input_groups`."""
        groups = input_groups(self.token_names, self.categorical_names, self.dense_names, self.summary.statistics)
        return {name: group for name, group in groups.items() if not (self.types and name == HISTORY_TYPES)}  # they are of the history

    def write_bins(self, bins: Mapping[str, list[float]] | None = None) -> None:
        """Write the bin edges of dense inputs beside the assembly.

        Parameters
        ----------
        bins : mapping of str to list of float, optional
            Those of an earlier assembly whose models are trained on: a weight belongs to a bin. By default quantiles of the training rows.
        """
        write_json(self.directory / BINS, self.bins() if bins is None else dict(bins))

    def bins(self) -> dict[str, list[float]]:
        """Ascending bin edges of each dense input: those of :meth:`write_bins`, or quantiles of the training rows."""
        if (self.directory / BINS).is_file():
            return load_json(self.directory / BINS)
        return {name: bin_edges(self._training_column(name)) for name in self.dense_names}

    def _training_column(self, name: str) -> np.ndarray:
        """A dense input of the training rows, float32 (rows,), read by itself: all of them together may not fit the memory."""
        rows = read_parquet(self.directory / "rows.parquet", columns=[name], filters=[("split", "=", "train")])
        return rows[name].to_numpy().astype(np.float32)

    def signature(self) -> Signature:
        """Names and sizes of the inputs."""
        bins = self.bins()
        return Signature(
            tokens={**{name: self._indices(name) for name in self.token_names}, GAP: GAP_BUCKETS},
            categorical={name: self._indices(name) for name in self.categorical_names},
            dense={name: bins[name] for name in self.dense_names},
            outputs=1 + len(self.labels),
            max_length=self.max_length,
            vectors=self.vectors,
            labels=self.labels,
            chain=self.chain and bool(self.labels),
            later=self.later_clicks,
        )

    def _indices(self, name: str) -> int:
        if name in self.vectors:
            return len(self.vectors[name])
        return len(SPECIALS) + len(self.types if name == HISTORY_TYPES and self.types else self.vocabulary[name])

    def samples(self, split: str) -> Samples:
        """Rows of one split: ``train``, ``validation`` or ``test``.

        Of a log of more than :data:`ctr_kd.data.disk_arrays.MOST_IN_MEMORY` rows their arrays lie on disk, and later clicks, which few
        teachers see, in memory.
        """
        file = self.directory / "rows.parquet"
        samples = self.samples_of_file(file, split)
        if not (self.later_clicks and split == "train"):
            return samples
        asked = ["request", "user", "timestamp", "item"]
        return replace(samples, later=self._later(read_parquet(file, columns=asked, filters=[("split", "=", split)])))

    def samples_of_file(self, file: Path, split: str | None = None) -> Samples:
        """Rows of a file in the layout of ``rows.parquet``, of one split or all; on disk where the log or the file has too many."""
        log = self.directory / "rows.parquet"
        rows = RowPieces(file, split, in_pieces=too_many(max(pq.read_metadata(one).num_rows for one in (log, file))))
        if not rows.in_pieces:
            return self.samples_of(rows.whole)
        return self._of_arrays(written_on_disk(map(self._row_arrays, rows), rows.count, file.parent))

    def _later(self, rows: pa.Table) -> Segment:
        """Clicks after the requests of some training rows."""
        names = ["item", "timestamp", "time_known", "known_at", "user", "canonical"]
        table = read_parquet(self.directory / "clicks.parquet", columns=names)
        clicks = {name: table[name].to_numpy() for name in names}
        asked = {name: rows[name].to_numpy() for name in ("request", "user", "timestamp", "item")}
        until = microseconds(self.summary.split.train_until)
        position, (start, end) = later_positions(clicks, **asked, until=until, most=self.later_clicks)
        pool = np.array(self.clicks[position])
        first = np.zeros(len(position), bool)
        first[start[start < end]] = True
        pool[:, -1] = gap_bucket(
            clicks["timestamp"][position], np.ones(len(position), bool), first
        )  # to what is seen, not to what is left out
        return Segment(pool, start, end, gap_column=-1)

    def samples_of(self, rows: pa.Table) -> Samples:
        """Rows in the layout of ``rows.parquet``."""
        return self._of_arrays(self._row_arrays(rows))

    def _row_arrays(self, rows: pa.Table) -> dict[str, np.ndarray]:
        """What rows have each by itself: arrays (rows, ...) by name."""
        count = rows.num_rows
        user, item = rows["user"].to_numpy(), rows["item"].to_numpy().astype(np.int64)
        context = [index_of(rows[name], self.vocabulary[name]) for name in self.summary.context.categorical]
        context += [self.user_tokens[name][user] for name in self.user_attributes]
        dense = [rows[name].to_numpy().astype(np.float32) for name in self.dense_names]
        arrays = {
            "row_id": rows["row_id"].to_numpy(),
            "group": rows["request"].to_numpy(),
            "user": user.astype(np.int64),
            "a_start": rows["history_start"].to_numpy(),
            "a_end": rows["history_end"].to_numpy(),
            "b_start": item,
            "b_end": item + 1,
            "categorical": np.stack(context, axis=1) if context else np.zeros((count, 0), np.int32),
            "dense": np.stack(dense, axis=1) if dense else np.zeros((count, 0), np.float32),
            "label": rows["label"].to_numpy().astype(np.float32),
        }
        if self._are_weighted(rows):
            arrays["weight"] = rows["row_weight"].to_numpy()
        if self.labels:
            arrays["further"] = self._further_labels(rows)
        return arrays

    def _of_arrays(self, arrays: Mapping[str, np.ndarray]) -> Samples:
        return Samples(
            row_id=arrays["row_id"],
            group=arrays["group"],
            user=arrays["user"],
            a=Segment(self.clicks, arrays["a_start"], arrays["a_end"], gap_column=-1),
            b=Segment(self._candidates, arrays["b_start"], arrays["b_end"]),
            categorical=arrays["categorical"],
            dense=arrays["dense"],
            label=arrays["label"],
            weight=of_mean_one(arrays["weight"], self.directory) if "weight" in arrays else None,
            further=arrays.get("further"),
        )

    @cached_property
    def _candidates(self) -> np.ndarray:
        """Tokens (items, features) of candidates: they have no gap."""
        return np.concatenate([self.item_tokens, np.zeros((len(self.item_tokens), 1), np.int32)], axis=1)

    def _further_labels(self, rows: pa.Table) -> np.ndarray:
        """Labels (rows, further labels) beside the click, below zero where unknown, as of rows that nobody was shown."""
        labels = np.full((rows.num_rows, len(self.labels)), -1, np.float32)
        for place, name in enumerate(map(label_column, self.labels)):
            if name in rows.column_names:
                labels[:, place] = rows[name].fill_null(-1).to_numpy()
        return labels

    def _are_weighted(self, rows: pa.Table) -> bool:
        """Rows that nobody was shown, such as those of a transfer set, have no weight of their own."""
        return self.summary.weighted and "row_weight" in rows.column_names

    def training_window(self) -> tuple[datetime | None, datetime]:
        """When the labels of training begin (None: with the log) and end."""
        return self.summary.split.train_from, self.summary.split.train_until

    def sequences(self, until: int | None, overlap: float = 0.0) -> Segment:
        """Each user's complete click sequence, known before a time, in pieces of at most ``max_length`` clicks.

        Pieces are cut from the newest click back, so that the newest one, which is what a model is asked about, is whole.

        Parameters
        ----------
        until : int or None
            Clicks known at this time or later (microseconds UTC) are left out.
        overlap : float
            Share of a piece that the next newer one repeats, so that fewer clicks have little before them.

        Returns
        -------
        Segment
            Pieces of two clicks and more, oldest first per user.
        """
        starts, last_before = [], []  # of every run of neighbouring clicks, and the kept click before it
        offset, user_before, before = 0, -1, -2
        for clicks in self._read_clicks("user", "known_at", "canonical"):
            keep = clicks["canonical"] if until is None else clicks["canonical"] & (clicks["known_at"] < until)
            position = np.flatnonzero(keep) + offset
            offset += len(keep)
            if not len(position):
                continue
            user = clicks["user"][keep]
            previous = np.concatenate([[before], position[:-1]])
            begins = (np.diff(user, prepend=user_before) != 0) | (position - previous != 1)
            starts.append(position[begins])
            last_before.append(previous[begins])
            user_before, before = user[-1], position[-1]
        if not starts:
            empty = np.zeros(0, np.int64)
            return Segment(self.clicks, empty, empty, gap_column=-1)
        run_start = np.concatenate(starts)
        run_end = np.append(np.concatenate(last_before)[1:], before) + 1
        stride = max(1, round(self.max_length * (1 - overlap)))
        pieces = 1 + -(-np.maximum(run_end - run_start - self.max_length, 0) // stride)  # of every run
        run = np.repeat(np.arange(len(pieces)), pieces)
        newer = np.cumsum(pieces)[run] - 1 - np.arange(len(run))  # pieces of the same run that are newer
        end = run_end[run] - newer * stride
        start = np.maximum(end - self.max_length, run_start[run])
        long_enough = end - start >= 2
        return Segment(self.clicks, start[long_enough], end[long_enough], gap_column=-1)

    def newest_known_at(self, sequences: Segment) -> np.ndarray:
        """When the newest click (sequences,) of each of :meth:`sequences` became known, microseconds UTC."""
        known: np.ndarray = read_parquet(self.directory / "clicks.parquet", columns=["known_at"])["known_at"].to_numpy()
        return known[sequences.end - 1]

    def users_of(self, sequences: Segment) -> np.ndarray:
        """User (sequences,) whose clicks each of :meth:`sequences` holds."""
        users: np.ndarray = read_parquet(self.directory / "clicks.parquet", columns=["user"])["user"].to_numpy()
        return users[sequences.start]


def _places(part: ClickSummary, whole: ClickSummary) -> list[int] | None:
    """Which columns of the pool of all clicks are read where some attributes are not; None where all are."""
    pooled, read = (
        ["item", *summary.item_attributes, *([HISTORY_TYPES] if summary.history_types else []), *summary.item_vectors, GAP]
        for summary in (whole, part)
    )
    return None if read == pooled else [place for place, name in enumerate(pooled) if name in read]


def given_vectors(file: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of vectors, and which of them each row has.

    Returns
    -------
    vectors : float32 array (special tokens + rows, width)
        Zeros for the special tokens, then a vector for each row.
    index : int32 array (rows,)
        Of a row without a vector that of the unknown token.
    """
    matrix, present = matrix_of(read_parquet(file, columns=[name])[name])
    table = np.concatenate([np.zeros((len(SPECIALS), matrix.shape[1]), np.float32), matrix])
    return table, np.where(present, len(SPECIALS) + np.arange(len(matrix)), UNKNOWN).astype(np.int32)


def bin_edges(values: np.ndarray) -> list[float]:
    """Ascending, distinct quantiles of the known values: at most ``DENSE_BINS + 1``, at least two.

    Examples
    --------
    >>> bin_edges(np.array([1.0, 1.0, np.nan], np.float32))
    [1.0, 2.0]
    """
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, DENSE_BINS + 1)).astype(np.float32)) if len(known) else np.zeros(0)
    if len(edges) == 0:
        return [0.0, 1.0]
    if len(edges) == 1:
        return [float(edges[0]), float(edges[0]) + 1.0]
    return [float(edge) for edge in edges]
