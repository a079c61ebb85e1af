"""The log as tables of an engine: everything known as of a time, with dense codes in place of ids."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from feature_store.config import FeatureStoreConfig
from feature_store.engines import Engine, open_engine
from feature_store.store.store import Store
from feature_store.tables.column_names import check_names
from feature_store.tables.contracts import LogContract, LoggedScore, NotIngested, StoredTypes, label_column
from feature_store.tables.multi_values import spread


def microseconds(time: datetime) -> int:
    """Microseconds since 1970 UTC, exactly.

    Examples
    --------
    >>> microseconds(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
    1000005
    """
    passed = time.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * 10**6 + passed.microseconds


@dataclass(frozen=True)
class LogFacts:
    """Columns of the items or the users of a log that rows look up as of their time; in the SQL ``fact_0``, ``fact_1``, ...

    Attributes
    ----------
    kind : "item" or "user"
    categorical, dense : tuple of str
    dated : bool
        Several rows of one item or user, each from its time on; else one, always.
    """

    kind: str
    categorical: tuple[str, ...]
    dense: tuple[str, ...]
    dated: bool

    @property
    def columns(self) -> dict[str, str]:
        """Name in the SQL -> name outside, the categorical ones first."""
        return {f"fact_{n}": name for n, name in enumerate((*self.categorical, *self.dense))}


@dataclass(frozen=True)
class Log:
    """What a log offers, under the names that the SQL uses.

    The SQL never sees a name from outside: context columns are ``context_0``, ``context_1``, ... (categorical ones first) and
    attributes ``attribute_0``, ``attribute_1``, ...

    Attributes
    ----------
    has_impressions : bool
        Rows that were not clicked are in the log; else it holds clicks only.
    categorical, dense : tuple of str
        Context columns.
    item_attributes, user_attributes : tuple of str
    oracle : bool
        The log holds the probability of each click.
    facts : tuple of LogFacts
        Of items and of users, where there are any.
    item_multi, user_multi : tuple of str
        Those of the attributes that hold several values; see :mod:`feature_store.tables.multi_values`.
    item_vectors, user_vectors : tuple of str
        Columns that hold a vector each row, which no engine reads; see :mod:`feature_store.tables.vectors`.
    weighted : bool
        The log says how much each row counts, in the column ``row_weight``.
    types : StoredTypes, optional
        Of a log of several types of events, which has their codes in the column ``type_code``.
    labels : tuple of str
        Further labels beside the click; the log has a column ``label_NAME`` of each.
    scores : tuple of LoggedScore
        What other models said of the rows.
    """

    has_impressions: bool
    categorical: tuple[str, ...]
    dense: tuple[str, ...]
    item_attributes: tuple[str, ...]
    user_attributes: tuple[str, ...]
    oracle: bool
    facts: tuple[LogFacts, ...] = ()
    item_multi: tuple[str, ...] = ()
    user_multi: tuple[str, ...] = ()
    item_vectors: tuple[str, ...] = ()
    user_vectors: tuple[str, ...] = ()
    weighted: bool = False
    types: StoredTypes | None = None
    labels: tuple[str, ...] = ()
    scores: tuple[LoggedScore, ...] = ()

    @property
    def context(self) -> dict[str, str]:
        """Name in the SQL -> name outside."""
        return {f"context_{n}": name for n, name in enumerate((*self.categorical, *self.dense))}

    @property
    def number(self) -> str:
        """Column of ``requests`` that numbers the log's rows: of a log of impressions each of them is one, else each click."""
        return "impression" if self.has_impressions else "request"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of an event besides those that every log has."""
        return (*self.context, *self.others)

    @property
    def others(self) -> tuple[str, ...]:
        """Those of them that no model reads."""
        of_click = (*(("click_probability",) if self.oracle else ()), *(("row_weight",) if self.weighted else ()))
        return (*of_click, *self.label_columns, *self.score_columns)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of the further labels."""
        return tuple(map(label_column, self.labels))

    @property
    def score_columns(self) -> tuple[str, ...]:
        """Columns of what other models said."""
        return tuple(column for score in self.scores for column in score.columns)

    def as_asked(self) -> Log:
        """The log as of moments at which nothing was shown: nobody knows the probability of a click there, what it would weigh, what
        would follow, or what another model said."""
        return replace(self, oracle=False, weighted=False, labels=(), scores=())

    @property
    def typed(self) -> tuple[str, ...]:
        """The column with the type of an event, where there are several."""
        return () if self.types is None else ("type_code",)

    @property
    def history_types(self) -> list[str]:
        """Types of the events of histories; nothing where all are alike."""
        return self.types.history if self.types is not None and len(self.types.history) > 1 else []

    def history_codes(self) -> dict[str, int]:
        """Codes of the types of the events of histories, by name."""
        return {} if self.types is None else {name: self.types.names.index(name) + 1 for name in self.types.history}

    @property
    def label_clicks(self) -> str:
        """The table of the clicks that models predict: those of histories, unless these hold events of other types too."""
        return "clicks" if self.types is None or self.types.history == self.types.names[:1] else "label_clicks"

    def event_codes(self) -> dict[str, int]:
        """Codes of the types of events that are neither clicks nor what was shown, by name."""
        return {} if self.types is None else {name: code for code, name in self.types.by_code.items() if code > 1}

    @property
    def categorical_facts(self) -> list[str]:
        """Names of the categorical columns that rows look up."""
        return [name for facts in self.facts for name in facts.categorical]


FEW = 0.05  # share of the log's items or users: a catalogue that describes fewer is probably written otherwise


def undescribed(engine: Engine) -> Iterator[str]:
    """What to say of a catalogue or a list of users that describes almost nothing of the log; see :func:`load_log`."""
    for kind, described in (("item", "described_items"), ("user", "described_users")):
        met = f"(select distinct {kind}_id from events) e left join {described} d on d.{kind}_id = e.{kind}_id"
        count, known, of_log = engine.rows(f"select count(*), count(d.{kind}_id), min(cast(e.{kind}_id as string)) from {met}")[0]
        of_file = engine.rows(f"select min(cast({kind}_id as string)) from {described}")[0][0]
        if of_file is not None and known < FEW * count:
            yield (
                f"warning: {known:,} of the log's {count:,} {kind}s are described by the file of {kind}s, so their attributes say nothing; "
                f"ids of the log look like {of_log!r}, those of the file like {of_file!r}"
            )


def _load_facts(engine: Engine, facts: LogFacts, file: Path | None, as_of: int | None) -> None:
    """Table ``item_facts`` or ``user_facts``: a code, a moment (of dated ones), and what is known from then on, before a logical time."""
    kind, columns = facts.kind, facts.columns
    engine.load_facts(f"{kind}_facts_file", f"{kind}_id", file, list(columns.values()), dated=facts.dated, as_of=as_of)
    engine.table(
        f"{kind}_facts",
        "log/facts.sql",
        kind=kind,
        groups="".join(f", count(f.{name}) over (partition by f.{kind}_id order by f.moment) as said_{name}" for name in columns),
        columns="".join(f", max({name}) over (partition by {kind}_code, said_{name}) as {name}" for name in columns),
    )


def _load_log_table(engine: Engine, log: Log) -> None:
    columns = "".join(f", e.{name}" for name in (*log.columns, *log.typed))
    events = "events"
    if log.has_impressions:
        engine.table("pairs", "log/pairs.sql")
        if count_pairs(engine):
            events = "paired_events"
            engine.table("pair_rows", "log/pair_rows.sql", order="".join(f", e.{name} nulls last" for name in log.columns))
            of_pairs = "".join(
                f", case when s.place is null or e.known_at < s.known_at then e.{name} else s.{name} end"
                for name in log.columns
                if name != "row_weight" and name not in (*log.label_columns, *log.score_columns)
            )
            if log.weighted:  # it is a click, and counts as the click's row says
                of_pairs += ", coalesce(e.row_weight, s.row_weight)"
            of_pairs += "".join(f", greatest(e.{name}, s.{name})" for name in log.label_columns)  # true where either row says so
            of_pairs += "".join(f", coalesce(s.{name}, e.{name})" for name in log.score_columns)  # said when it was shown
            of_pairs += "".join(f", coalesce(e.{name}, s.{name})" for name in log.typed)
            engine.view(events, "log/paired_events.sql", columns=columns, paired_columns=of_pairs)
    shown_at = ", e.shown_at" if events == "paired_events" else ""
    engine.table("log", "log/log.sql", events=events, columns=shown_at + columns)
    if log.has_impressions:
        moment = "shown_at" if shown_at else "known_at"
        engine.view("shown", f"select *, {moment} as moment from log where time_known and clicked is not null")


def count_pairs(engine: Engine) -> int:
    """Impressions that are in the log twice, with their click and without it."""
    count: int = engine.rows("select count(*) from pairs")[0][0]
    return count


def offered(contract: LogContract) -> Log:
    """What a contract says of its log.

    Raises
    ------
    DataError
        When a name is taken, see :func:`feature_store.tables.column_names.check_names`: an earlier release may have let it in.
    """
    check_names(contract)
    context = contract.context
    return Log(
        has_impressions=contract.has_impressions,
        categorical=tuple(context.categorical),
        dense=tuple(context.dense),
        item_attributes=tuple(contract.item_attributes),
        user_attributes=tuple(contract.user_attributes),
        oracle=contract.oracle and contract.has_impressions,  # the probability of a sampled candidate is unknown
        facts=tuple(
            LogFacts(kind, tuple(of.categorical), tuple(of.dense), of.dated)
            for kind, of in (("item", contract.item_facts), ("user", contract.user_facts))
            if of is not None
        ),
        item_multi=tuple(contract.item_multi),
        user_multi=tuple(contract.user_multi),
        item_vectors=tuple(contract.item_vectors),
        user_vectors=tuple(contract.user_vectors),
        weighted=contract.weighted,
        types=contract.types,
        labels=tuple(contract.labels),
        scores=tuple(contract.scores),
    )


@contextmanager
def engine_of_store(config: FeatureStoreConfig, store: Store) -> Iterator[Engine]:
    """An engine that reads a store, with a scratch folder that is gone afterwards."""
    shared = store.root if config.engine == "spark" else None  # its executors reach the store, and need not reach this machine's /tmp
    with tempfile.TemporaryDirectory(prefix="_ctr_kd_", dir=shared) as scratch, open_engine(config, Path(scratch) / "engine") as engine:
        yield engine


def described_items(engine: Engine, log: Log) -> pa.Table:
    """``item_id`` and the attributes of all items, as text and in the order of their codes; see :func:`load_log`."""
    attributes = "".join(f", cast(attribute_{n} as string) as attribute_{n}" for n in range(len(log.item_attributes)))
    items = engine.fetch(f"select item_code, cast(item_id as string) as item_id{attributes} from items", by=["item_code"])
    return spread(items.drop_columns(["item_code"]).rename_columns(["item_id", *log.item_attributes]), log.item_multi)


def load_log(
    engine: Engine,
    store: Store,
    as_of: datetime | None,
    *,
    context: Collection[str] | None = None,
    until: datetime | None = None,
    since: datetime | None = None,
) -> Log:
    """Make the tables ``items`` and ``users`` (codes, ids, attributes), ``log`` (all events) and ``clicks``; of impressions also ``shown``.

    Where events are of several types, ``clicks`` holds those that make up histories.

    ``shown`` has each impression with the moment from which on it counts. What was shown and clicked at one moment of one request in two
    rows is one event: clicked, and known when its click was.

    Parameters
    ----------
    engine : Engine
    store : Store
    as_of : datetime, optional
        Events with a time or an ``ingested_at`` at or after it are left out; None keeps all.
    context : collection of str, optional
        The context columns to load; None loads all, and what else is known of rows, such as their weight.
    until : datetime, optional
        Partitions of later dates are not read. Unlike ``as_of`` it keeps rows of earlier dates that became known later.
    since : datetime, optional
        Partitions of earlier dates are not read.

    Raises
    ------
    DataError
        When nothing was ingested, or a file of the store is damaged.
    """
    log = offered(store.log_contract)
    if context is not None:
        categorical, dense = (tuple(name for name in names if name in context) for names in (log.categorical, log.dense))
        log = replace(log, categorical=categorical, dense=dense).as_asked()
    before = None if as_of is None else as_of - timedelta(microseconds=1)  # at midnight the date that begins then is not read
    files = store.event_files(min((time for time in (before, until) if time is not None), default=None), since)
    files = files or store.event_files()[:1]  # one gives the types, even if none of its rows is old enough
    if not files:
        raise NotIngested(f"{store.root}: holds no event")
    store.verify_files([*files, *(file for file in (store.items_file(), store.users_file()) if file is not None)])
    others = (*log.others, *log.typed)
    engine.load_events(files, log.categorical, log.dense, others, None if as_of is None else microseconds(as_of))
    engine.load_entities("described_items", "item_id", store.items_file(), log.item_attributes)
    engine.load_entities("described_users", "user_id", store.users_file(), log.user_attributes)
    engine.table("items", "log/items.sql", attributes="".join(f", d.attribute_{n}" for n in range(len(log.item_attributes))))
    engine.table("users", "log/users.sql", attributes="".join(f", d.attribute_{n}" for n in range(len(log.user_attributes))))
    for facts in log.facts:
        file = store.items_file() if facts.kind == "item" else store.users_file()
        _load_facts(engine, facts, file, None if as_of is None else microseconds(as_of))
    _load_log_table(engine, log)
    codes = log.history_codes().values()
    engine.table(
        "clicks",
        "log/clicks.sql",
        of_history=f"type_code in ({', '.join(map(str, codes))})" if codes else "clicked = 1",
        columns="".join(f", {name}" for name in log.typed),
    )
    if log.label_clicks != "clicks":
        engine.table(log.label_clicks, "select * from log where clicked = 1")
    return log
