"""What a log must look like: the errors, the raw batches that readers hand over, and the check that types every row.

A reader turns one raw layout into :class:`RawBatch` objects and nothing more. :class:`ContractCheck` casts ids, times
and clicks, and splits each batch into good rows and rejected rows with a reason.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from feature_store.config import SourceConfig
from feature_store.tables.casting import (
    EARLIEST,
    LARGEST,
    MICROSECOND,
    as_array,
    is_text,
    mask_of,
    none_bad,
    number_values,
    to_categories,
    to_clicked,
    to_ids,
    to_numbers,
    to_text,
    to_times,
)
from feature_store.tables.json_models import JsonModel
from feature_store.tables.multi_values import MOST, to_value_sets
from feature_store.tables.vectors import STORED, WIDEST, to_vectors, widths_of

Kind = Literal["events", "items", "users", "texts"]

CLOCK_SKEW = timedelta(days=1)  # a machine's clock may run ahead; further ahead is an error of the log
LONGEST_TEXT = 1000  # characters of a rejected row that are kept

ID_COLUMNS: dict[str, tuple[str, ...]] = {"events": ("user_id", "item_id", "request_id"), "items": ("item_id",), "users": ("user_id",)}


class DataError(Exception):
    """The data broke its contract. The message is one line: what, where, what to do."""


class NotIngested(DataError):
    """The store lacks what an ingestion brings. The floor that shows the message adds how to ingest."""


class DataFolderError(DataError):
    """The data folder is not there, or lacks what the reader looks for. The floor that shows the message adds how to name the folder."""


class NoEvents(DataError):
    """The log has no event from which a date's candidates could be made."""


class StorageError(Exception):
    """The disk refused: no space left, or no permission. The store is as it was. The message is one line."""


class Rejected(NamedTuple):
    """A row that does not enter the store."""

    line: int  # 1-based line of a text file, 1-based row of a Parquet file
    reason: str  # short and without values of the row, so that reasons can be counted
    text: str  # the row as it was found


class RawBatch(NamedTuple):
    """Rows of one input file with the names of the contract, not yet typed.

    Attributes
    ----------
    kind : "events", "items", "users" or "texts"
    file : str
        Input file relative to the data folder, with forward slashes; in full where it lies elsewhere; "simulated" for the simulated log.
    table : pa.Table
        Events need ``user_id``, ``item_id``, ``timestamp``; optional are ``clicked`` (absent: every row is a click),
        ``request_id``, ``ingested_at`` (absent or null: the event time), ``time_known`` (bool, absent: true), the context
        columns, ``event_type`` (only with ``types``), ``click_probability`` (only with ``oracle``) and, only with ``weighted``,
        ``row_weight`` or ``negative_sampling_rate`` or both, ``label_NAME`` of each further label, and ``model_score_NAME`` and
        ``model_score_known_NAME`` of each model whose scores the log holds. Items need ``item_id``, users
        ``user_id``; attributes and ``title`` are optional. Texts have ``text`` and, where the file has them, ``text_b`` and ``label``.
        Values may be of any Arrow type, text and bytes included. Further columns are ignored.
    lines : np.ndarray, shape (rows,)
        1-based line (text) or row (Parquet, simulated) of each row of the table.
    rejected : list of Rejected
        Rows that could not even be split into columns.
    """

    kind: Kind
    file: str
    table: pa.Table
    lines: np.ndarray
    rejected: list[Rejected]


class Reader(Protocol):
    """One raw layout. Constructed with the settings and the data folder (None only for the simulated log)."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None: ...

    def files(self) -> list[Path]:
        """Inputs, sorted, each below the data folder unless a table of a lake has it elsewhere; their sha256 form the ledger.

        Raises DataError when one is missing.
        """

    def fingerprint(self) -> str:
        """Name and settings that shape the rows, as a digest. When it changes, everything is read again."""

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        """Rows of these files (a subset of :meth:`files`; all batches of a file follow each other), in bounded memory."""


class LoggedScore(JsonModel):
    """What another model said of the rows when they were shown, in a column of the log.

    Attributes
    ----------
    name : str
        Of the column; it is stored as :func:`score_column`.
    has_time : bool
        The log says when each score was known; it is stored as :func:`score_known_column`.
    """

    name: str
    has_time: bool

    @property
    def columns(self) -> list[str]:
        """Columns of the store and of training rows."""
        return [score_column(self.name), *([score_known_column(self.name)] if self.has_time else [])]


class ContextNames(JsonModel):
    """Names of the context columns."""

    categorical: list[str]
    dense: list[str]


class EntityFacts(JsonModel):
    """Columns of items or users that rows look up as of their time.

    Attributes
    ----------
    categorical : list of str
        Only of a dated table: an undated one has attributes.
    dense : list of str
    dated : bool
        Each row of the table says what holds from its time on, and there may be several of one item or user; else one row holds always.
    """

    categorical: list[str]
    dense: list[str]
    dated: bool


class StoredTypes(JsonModel):
    """Types of the events of a log besides those that were shown and not clicked.

    Attributes
    ----------
    names : list of str
        In the order of their codes, which begin at 1; the first is that of clicks.
    shown : str, optional
        What rows with code 0 are, which were shown and not clicked; None for a log of clicks only.
    history : list of str
        Those of the names that make up a user's history.
    """

    names: list[str]
    shown: str | None
    history: list[str]

    @property
    def by_code(self) -> dict[int, str]:
        """Names by the code under which events are stored, that of what was shown first, where there is such."""
        return {code: name for code, name in enumerate([self.shown, *self.names]) if name is not None}


class LogContract(JsonModel):
    """What a click log offers.

    Attributes
    ----------
    has_impressions : bool
        Rows that were not clicked are in the log; else it holds clicks only.
    context : ContextNames
    item_attributes, user_attributes : list of str
    oracle : bool
        The log holds the probability of each click.
    item_facts, user_facts : EntityFacts, optional
        None where there are none.
    item_multi, user_multi : list of str
        Those of the attributes whose rows hold several values; see :mod:`feature_store.tables.multi_values`.
    item_vectors, user_vectors : list of str
        Columns that hold a vector each row; see :mod:`feature_store.tables.vectors`.
    weighted : bool
        Rows have a column ``row_weight``: how much each counts in losses, metrics and calibration.
    types : StoredTypes, optional
        Of a log of several types of events, whose rows have a column ``type_code``; ``clicked`` is null in those that are neither clicks
        nor were shown without one.
    labels : list of str
        Further labels beside ``clicked``, such as purchased: rows have a column ``label_NAME`` of each, 0, 1 or null.
    scores : list of LoggedScore
        What other models said of the rows, which a teacher may repeat; no model reads it.
    """

    has_impressions: bool
    context: ContextNames
    item_attributes: list[str]
    user_attributes: list[str]
    oracle: bool
    item_facts: EntityFacts | None = None
    user_facts: EntityFacts | None = None
    item_multi: list[str] = Field(default_factory=list)
    user_multi: list[str] = Field(default_factory=list)
    item_vectors: list[str] = Field(default_factory=list)
    user_vectors: list[str] = Field(default_factory=list)
    weighted: bool = False
    types: StoredTypes | None = None
    labels: list[str] = Field(default_factory=list)
    scores: list[LoggedScore] = Field(default_factory=list)

    def vectors(self, kind: Kind) -> list[str]:
        """Those of a table."""
        return {"items": self.item_vectors, "users": self.user_vectors}.get(kind, [])

    def facts(self, kind: Kind) -> EntityFacts:
        """Those of a table."""
        found = {"items": self.item_facts, "users": self.user_facts}.get(kind)
        return EntityFacts(categorical=[], dense=[], dated=False) if found is None else found


class LogReader(Reader, Protocol):
    """A reader of a click log."""

    def contract(self) -> LogContract:
        """What the log offers."""


def log_contract(
    *,
    has_impressions: bool,
    categorical: Iterable[str] = (),
    dense: Iterable[str] = (),
    item_attributes: Iterable[str] = (),
    user_attributes: Iterable[str] = (),
    item_facts: EntityFacts | None = None,
    user_facts: EntityFacts | None = None,
    item_multi: Sequence[str] = (),
    user_multi: Sequence[str] = (),
    item_vectors: Sequence[str] = (),
    user_vectors: Sequence[str] = (),
    weighted: bool = False,
    types: StoredTypes | None = None,
    labels: Iterable[str] = (),
    scores: Sequence[LoggedScore] = (),
    oracle: bool = False,
) -> LogContract:
    """The part of ``_contract.json`` that a reader knows; ingestion adds the types of the ids.

    Examples
    --------
    >>> log_contract(has_impressions=False, categorical=["device"]).context
    ContextNames(categorical=['device'], dense=[])
    """
    rarer: dict[str, Any] = {"item_facts": item_facts, "user_facts": user_facts, "item_multi": list(item_multi) or None}
    rarer |= {"user_multi": list(user_multi) or None, "weighted": weighted or None, "types": types}
    rarer |= {"item_vectors": list(item_vectors) or None, "user_vectors": list(user_vectors) or None, "labels": list(labels) or None}
    rarer |= {"scores": list(scores) or None}
    return LogContract(
        **{name: found for name, found in rarer.items() if found is not None},  # a log without any says nothing of them
        has_impressions=has_impressions,
        context=ContextNames(categorical=list(categorical), dense=list(dense)),
        item_attributes=list(item_attributes),
        user_attributes=list(user_attributes),
        oracle=oracle,
    )


def label_column(name: str) -> str:
    """The column of a further label, in the store and in training rows."""
    return f"label_{name}"


def score_column(name: str) -> str:
    """The column of what another model said of a row, in the store and in training rows."""
    return f"model_score_{name}"


def score_known_column(name: str) -> str:
    """The column of the time at which that was known."""
    return f"model_score_known_{name}"


def nearest(name: str, names: Iterable[str]) -> str:
    """Words that help after a mistyped name: the nearest one that exists, or all of them.

    Examples
    --------
    >>> nearest("user", ["user_id", "item_id"])
    "the nearest existing name is 'user_id'"
    """
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"the nearest existing name is {close[0]!r}" if close else f"existing names are {', '.join(map(repr, names[:12])) or 'none'}"


def schema(kind: Kind, contract: LogContract, ids: Mapping[str, pa.DataType]) -> pa.Schema:
    """Columns and types of a stored table, in their stored order.

    Parameters
    ----------
    kind : "events", "items" or "users"
    contract : LogContract
    ids : mapping
        Type (int64 or string) of ``user_id``, ``item_id`` and ``request_id``.
    """
    fields: list[tuple[str, pa.DataType]]
    if kind == "events":
        fields = [("user_id", ids["user_id"]), ("item_id", ids["item_id"]), ("timestamp", MICROSECOND), ("clicked", pa.int8())]
        fields += [("request_id", ids["request_id"]), ("ingested_at", MICROSECOND), ("time_known", pa.bool_())]
        fields += [(name, pa.string()) for name in contract.context.categorical]
        fields += [(name, pa.float64()) for name in contract.context.dense]
        fields += [("click_probability", pa.float64())] if contract.oracle else []
        fields += [("row_weight", pa.float64())] if contract.weighted else []
        fields += [(label_column(name), pa.int8()) for name in contract.labels]
        fields += [(score_column(one.name), pa.float64()) for one in contract.scores]
        fields += [(score_known_column(one.name), MICROSECOND) for one in contract.scores if one.has_time]
        fields += [("type_code", pa.int8())] if contract.types is not None else []
    else:
        key, attributes = ("item_id", contract.item_attributes) if kind == "items" else ("user_id", contract.user_attributes)
        facts = contract.facts(kind)
        fields = [(key, ids[key])] + ([("timestamp", MICROSECOND)] if facts.dated else [])
        fields += [(name, pa.string()) for name in (*attributes, *facts.categorical)]
        fields += [(name, pa.float64()) for name in facts.dense]
        fields += [(name, STORED) for name in contract.vectors(kind)]
        fields += [("title", pa.string())] if kind == "items" else []
    return pa.schema([*fields, ("source", pa.string()), ("line", pa.int64())])


def latest_time(now: datetime | None = None) -> int:
    """Microseconds since 1970 UTC after which a time lies in the future: a day from now, by the wall clock unless it is given."""
    latest: int = pa.scalar((now or datetime.now(UTC)) + CLOCK_SKEW, MICROSECOND).value
    return latest


class ContractCheck:
    """Types raw batches and sets the rows apart that break the contract.

    Parameters
    ----------
    contract : LogContract
    now : datetime, optional
        As in :func:`latest_time`. It decides, but is never stored.
    widths : mapping of str to int, optional
        Of the columns of vectors that the store holds; the first vector decides of the others.

    Attributes
    ----------
    future : dict of str to int
        Earliest time of each file, microseconds, that lay in the future: from then on the file is worth another reading.
    """

    def __init__(self, contract: LogContract, now: datetime | None = None, widths: Mapping[str, int] | None = None) -> None:
        self._contract = contract
        self._widths = dict(widths or {})
        self.future: dict[str, int] = {}
        self._latest = latest_time(now)
        self._earliest = pa.scalar(EARLIEST, MICROSECOND).value

    def split(self, batch: RawBatch) -> tuple[pa.Table, list[Rejected]]:
        """Type one batch.

        Returns
        -------
        good : pa.Table
            The columns of :func:`schema`; an id column is int64 if all ids of this batch are canonical integers, else string.
        rejected : list of Rejected
            The other rows, those that the reader rejected included.

        Raises
        ------
        DataError
            When the type of a whole column cannot be what the contract wants.
        """
        columns = _Columns(batch)
        build = self._events if batch.kind == "events" else self._entities
        table = build(columns, batch)
        rows = len(batch.lines)
        table["source"], table["line"] = pa.repeat(pa.scalar(batch.file), rows), pa.array(batch.lines, pa.int64())
        ids = {name: table[name].type for name in ID_COLUMNS[batch.kind]}
        wanted = schema(batch.kind, self._contract, {**dict.fromkeys(("user_id", "item_id", "request_id"), pa.int64()), **ids})
        good = pa.table([table[field.name] for field in wanted], schema=wanted)
        if not columns.reasons:
            return good, batch.rejected
        good = good.filter(pa.array(~columns.bad))
        for name, kind in ids.items():
            if pa.types.is_string(kind):  # a rejected row has no say in the type of the ids
                good = good.set_column(good.schema.get_field_index(name), name, to_ids(as_array(good[name]))[0])
        return good, batch.rejected + columns.rejected()

    def _events(self, columns: _Columns, batch: RawBatch) -> dict[str, pa.Array]:
        rows = len(batch.lines)
        table = {name: columns.ids(name) for name in ("user_id", "item_id")}
        times = self._times(columns, "timestamp", batch.file)
        table["timestamp"] = pa.array(times).cast(MICROSECOND)
        table["ingested_at"] = table["timestamp"]  # where the source is silent; never the wall clock
        if "ingested_at" in columns:
            table["ingested_at"] = pa.array(self._times(columns, "ingested_at", batch.file, silent=times)).cast(MICROSECOND)
        clicked = np.ones(rows, dtype=np.int8)
        if "clicked" in columns:
            clicked, bad = columns.cast("clicked", to_clicked)
            columns.reject(bad, "clicked is not 0 or 1")
        types = self._contract.types
        if types is not None:
            table["type_code"] = code = columns.type_codes(types)
            clicked = np.where(code.fill_null(1).to_numpy() == 0, 0, 1).astype(np.int8)
        others = np.zeros(rows, bool) if types is None else table["type_code"].fill_null(0).to_numpy() > 1
        table["clicked"] = pa.array(clicked, mask=others)  # what is neither a click nor shown without one has no label
        table["request_id"] = columns.ids("request_id", required=False) if "request_id" in columns else pa.nulls(rows, pa.int64())
        known = columns.raw("time_known").fill_null(True) if "time_known" in columns else pa.repeat(pa.scalar(True), rows)
        table["time_known"] = known
        dense = self._contract.context.dense + (["click_probability"] if self._contract.oracle else [])
        table |= {"row_weight": columns.weights(clicked, others)} if self._contract.weighted else {}
        table |= {name: columns.further_label(name) for name in map(label_column, self._contract.labels)}
        table |= {score_column(one.name): columns.numbers(score_column(one.name)) for one in self._contract.scores}
        for name in (score_known_column(one.name) for one in self._contract.scores if one.has_time):
            table[name] = pa.array(self._times(columns, name, batch.file, silent=times)).cast(MICROSECOND)
        return table | self._categories(columns, self._contract.context.categorical) | {name: columns.numbers(name) for name in dense}

    def _entities(self, columns: _Columns, batch: RawBatch) -> dict[str, pa.Array]:
        key, attributes = (
            ("item_id", self._contract.item_attributes) if batch.kind == "items" else ("user_id", self._contract.user_attributes)
        )
        facts = self._contract.facts(batch.kind)
        table = {key: columns.ids(key)}
        if facts.dated:
            table["timestamp"] = pa.array(self._beginnings(columns)).cast(MICROSECOND)
        multi = self._contract.item_multi if batch.kind == "items" else self._contract.user_multi
        single = [name for name in (*attributes, *facts.categorical) if name not in multi]
        table |= self._categories(columns, single) | {name: columns.value_sets(name) for name in multi}
        table |= {name: columns.numbers(name) for name in facts.dense}
        table |= {name: self._vectors(columns, name) for name in self._contract.vectors(batch.kind)}
        return table | ({"title": columns.texts("title", to_text)} if batch.kind == "items" else {})

    def _vectors(self, columns: _Columns, name: str) -> pa.Array:
        vectors = columns.vectors(name)
        found = widths_of(vectors)
        good = found[(found > 0) & ~columns.bad]
        width = self._widths.setdefault(name, int(good[0])) if len(good) else self._widths.get(name, 0)
        columns.reject((found > 0) & (found != width), f"{name} has another width than the {width} of the first one")
        return vectors

    def _categories(self, columns: _Columns, names: Iterable[str]) -> dict[str, pa.Array]:
        return {name: columns.texts(name, to_categories) for name in names}

    def _beginnings(self, columns: _Columns) -> np.ndarray:
        """Times from which rows hold: any time to come, and whatever is before all logs has always held."""
        micros, empty, bad = columns.cast("timestamp", to_times)
        columns.reject(empty, "timestamp is null")
        columns.reject(bad, "timestamp is not a time")
        return np.maximum(micros, self._earliest)

    def _times(self, columns: _Columns, name: str, file: str, silent: np.ndarray | None = None) -> np.ndarray:
        micros, empty, bad = columns.cast(name, to_times)
        if silent is None:
            columns.reject(empty, f"{name} is null")
        else:
            micros = np.where(empty, silent, micros)
        columns.reject(bad, f"{name} is not a time")
        future = (micros > self._latest) & ~bad
        if future.any():
            self.future[file] = min(int(micros[future].min()), self.future.get(file, 2**63))
        columns.reject(future, f"{name} in the future")
        columns.reject((micros < self._earliest) & ~bad, f"{name} out of range")
        return micros


class _Columns:
    """The raw columns of one batch, with the first fault found in each row."""

    def __init__(self, batch: RawBatch) -> None:
        self._batch = batch
        self.bad = none_bad(len(batch.lines))
        self._fault = np.zeros(len(batch.lines), dtype=np.int16)  # 1-based place in reasons, 0 is good
        self.reasons: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._batch.table.column_names

    def raw(self, name: str) -> pa.Array:
        if name not in self:
            raise DataError(f"{self._batch.file}: column {name!r} is missing; {nearest(name, self._batch.table.column_names)}")
        return as_array(self._batch.table[name])

    def cast(self, name: str, cast: Any) -> Any:
        try:
            return cast(self.raw(name))
        except TypeError as error:
            raise DataError(f"{self._batch.file}: column {name!r} {error}; correct the file or name another column") from None

    def reject(self, mask: np.ndarray, reason: str) -> None:
        mask = mask & ~self.bad
        if mask.any():
            self.reasons.append(reason)
            self._fault[mask] = len(self.reasons)
            self.bad = self.bad | mask

    def ids(self, name: str, required: bool = True) -> pa.Array:
        values, bad = self.cast(name, to_ids)
        kind = self.raw(name).type
        self.reject(bad, f"{name} is no integer" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else f"{name} is not UTF-8")
        if required and values.null_count:
            self.reject(mask_of(values.is_null()), f"{name} is null")
        return values

    def texts(self, name: str, cast: Any) -> pa.Array:
        if name not in self:
            return pa.nulls(len(self.bad), pa.string())
        values, bad = self.cast(name, cast)
        self.reject(bad, f"{name} is not UTF-8")
        return values

    def value_sets(self, name: str) -> pa.Array:
        if name not in self:
            return pa.nulls(len(self.bad), pa.string())
        values, bad = self.cast(name, to_value_sets)
        self.reject(bad, f"{name} holds more than {MOST} values, or one that is not UTF-8")
        return values

    def numbers(self, name: str) -> pa.Array:
        if name not in self:
            return pa.nulls(len(self.bad), pa.float64())
        values, bad = self.cast(name, to_numbers)
        self.reject(bad, f"{name} is no number")
        return values

    def vectors(self, name: str) -> pa.Array:
        if name not in self:
            return pa.nulls(len(self.bad), STORED)
        values, bad = self.cast(name, to_vectors)
        self.reject(bad, f"{name} has a number that is missing or not finite, or more than {WIDEST:,} of them")
        return values

    def type_codes(self, types: StoredTypes) -> pa.Array:
        """Code of the type of each event, int8; rows of none of the types are set apart."""
        text, bad = self.cast("event_type", to_categories)
        self.reject(bad, "event_type is not UTF-8")
        found = pc.index_in(text, value_set=pa.array([types.shown, *types.names], pa.string()), skip_nulls=True)
        self.reject(mask_of(text.is_null()), "event_type is null")
        self.reject(mask_of(found.is_null()), "event_type is none of those that are named")
        return found.cast(pa.int8())

    def further_label(self, name: str) -> pa.Array:
        """0, 1, or null where it is not known, int8."""
        values, bad = self.cast(name, to_clicked)
        text, broken = to_text(self.raw(name))  # in which an empty text and a number that is none are null
        unknown = mask_of(text.is_null()) & ~broken
        self.reject(bad & ~unknown, f"{name} is not 0, 1 or null")
        return pa.array(values, mask=unknown)

    def weights(self, clicked: np.ndarray, unlabelled: np.ndarray) -> pa.Array:
        """How much each row counts: its weight, and without a click so many times as often as the log kept such rows.

        Weighed by the inverse of the share that was kept, sums over the kept rows are those of the full stream in the mean (Horvitz and
        Thompson 1952, doi:10.1080/01621459.1952.10483446). So models learn the full stream's rates, and need no correction by a rate that
        nobody knows of a row that is to be scored.
        """
        weight = np.ones(len(self.bad))
        if "row_weight" in self or "negative_sampling_rate" not in self:
            weight = self._known_numbers("row_weight", unlabelled)
            self.reject(weight < 0, "row_weight is negative")
        if "negative_sampling_rate" in self:
            rate = self._known_numbers("negative_sampling_rate", unlabelled)
            self.reject((rate <= 0) | (rate > 1), "negative_sampling_rate is not above 0 and at most 1")
            with np.errstate(over="ignore"):
                weight = weight / np.where((clicked == 0) & (rate > 0), rate, 1.0)
            self.reject(weight > LARGEST, "negative_sampling_rate is too small")
        return pa.array(weight)

    def _known_numbers(self, name: str, unlabelled: np.ndarray) -> np.ndarray:
        """Numbers, float64 (rows,); a row without one would count as nobody knows what, and is set apart.

        One without a label counts nowhere: it has 1, whatever it says.
        """
        values, bad = self.cast(name, number_values)
        bad, values = bad & ~unlabelled, np.where(unlabelled, 1.0, np.asarray(values, np.float64))
        self.reject(bad, f"{name} is no number")
        self.reject(np.isnan(values), f"{name} is null")
        return values

    def rejected(self) -> list[Rejected]:
        places = np.flatnonzero(self.bad)
        rows = _printable(self._batch.table.take(pa.array(places))).to_pylist()
        lines, faults = self._batch.lines[places].tolist(), self._fault[places].tolist()
        return [Rejected(line, self.reasons[f - 1], row_text(row)) for line, f, row in zip(lines, faults, rows, strict=True)]


def _printable(table: pa.Table) -> pa.Table:
    """Text as bytes and times as numbers where Python refuses to show them: bytes that are no text, a year beyond 9999."""
    return pa.table({name: _shown(as_array(table[name])) for name in table.column_names})


def _shown(column: pa.Array) -> pa.Array:
    if is_text(column.type):
        return column.cast(pa.binary())
    if pa.types.is_temporal(column.type) and to_times(column)[2].any():
        return column.cast(pa.int64())
    return column


def row_text(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON, bytes shown as text, cut to a readable length."""
    values = {k: v.decode(errors="backslashreplace") if isinstance(v, bytes) else v for k, v in row.items() if v is not None}
    return json.dumps(values, ensure_ascii=False, default=str)[:LONGEST_TEXT]
