"""Lookup tables of a log for its statistics, moved along time with the chunks of requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from feature_store.config_statistics import Count, Statistic, StatisticsConfig
from feature_store.config_types import duration_text, in_microseconds
from feature_store.engines import Engine
from feature_store.engines.sql_template import render_sql
from feature_store.features.asof_lookup import BEGINNING, Lookup
from feature_store.features.event_log import Log, LogFacts
from feature_store.features.histories import HISTORIES
from feature_store.features.keys import Keys
from feature_store.features.listwise_context import LISTWISE
from feature_store.features.statistics import ITEM, REQUEST_STATISTICS, compares_candidates, displaced, statistics_of
from feature_store.features.transitions import Transitions, transitions_of

Key = tuple[str, ...]
CLICKS_ALONE = 0.9  # share of clicks among rows alone in their request: more is a log that has clicks apart from their impressions
MANY = 1_000_000  # keys; fewer cost nothing worth a word


@dataclass
class _KeyLookups:
    """All that is looked up by one key, each with a table of its own or one that it shares.

    Attributes
    ----------
    number : int
        Of the key.
    by_item : bool
        The item, or an attribute of it, is in the key: it is looked up for each row, and else for each source of rows.
    windows : dict of str to list of timedelta
        By event: those of its counts. An event is in it also where all that was known is counted.
    ages : bool
        The times of the first and the last click are asked for.
    lookups : dict of str to Lookup
        By the column that they give; made by :meth:`make`.
    """

    number: int
    by_item: bool
    windows: dict[str, list[timedelta]] = field(default_factory=dict)
    ages: bool = False
    lookups: dict[str, Lookup] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return "row" if self.by_item else "source"

    @property
    def rows(self) -> str:
        """Table of what is looked up for the chunk."""
        return f"keyed_{self.id}s"

    @property
    def key(self) -> str:
        return f"key_{self.number}"

    def add(self, count: Count) -> None:
        windows = self.windows.setdefault(count.event, [])
        if count.window is not None and count.window not in windows:
            windows.append(count.window)

    def make(self, engine: Engine, delays: dict[str, int]) -> None:
        """Make the tables.

        Parameters
        ----------
        engine : Engine
            Holds ``keyed_EVENT`` for each event that is counted.
        delays : dict of str to int
            By event: the longest time until one became known, microseconds.
        """
        for event, windows in self.windows.items():
            name = f"{self.key}_{event}"
            ages = self.ages and event == "clicks"
            self._count(engine, name, event, "moment", ages)
            columns = ("n", "first_time", "last_time") if ages else ("n",)
            self.lookups[event] = self._lookup(name, columns)
            # An event leaves a window when it is older than that; one that arrives later than that was never in it. Where none does, those
            # that left are counted by their times, in one table for all windows.
            by_time = name if delays[event] == 0 else f"{name}_by_time"
            for window in map(in_microseconds, windows):
                left = self.left(event, window)
                if window < delays[event]:
                    self._count(engine, left, event, f"greatest(moment, timestamp + {window})")
                    self.lookups[left] = self._lookup(left)
                    continue
                if by_time != name and not any(lookup.table == by_time for lookup in self.lookups.values()):
                    self._count(engine, by_time, event, "timestamp")
                self.lookups[left] = self._lookup(left, table=by_time, later=window)

    def _count(self, engine: Engine, table: str, event: str, moment: str, ages: bool = False) -> None:
        columns = ", min(timestamp) over so_far as first_time, max(timestamp) over so_far as last_time" if ages else ""
        source = f"(select {self.key} as key, moment, timestamp from keyed_{event} where {self.key} is not null)"
        engine.table(table, "statistics/counts.sql", keys="key", moment=moment, source=source, columns=columns)

    def _lookup(self, name: str, columns: tuple[str, ...] = ("n",), table: str = "", later: int = 0) -> Lookup:
        asked = "" if self.number == 0 else f"{self.key}_asked"  # items are few, and candidates are drawn from all of them
        return Lookup(name, columns=columns, keys=("key",), asked=asked, table=table, later=later)

    def left(self, event: str, window: int) -> str:
        """Name of the lookup of the events that left a window of so many microseconds."""
        return f"{self.key}_{event}_left_{window}"

    def count(self, event: str, window: timedelta | None) -> str:
        """Expression of a count over what was found, 0 where nothing was."""
        alias, name = f"k{self.number}", f"{self.key}_{event}"
        known = f"coalesce({alias}.{name}_n, 0)"
        return known if window is None else f"{known} - coalesce({alias}.{self.left(event, in_microseconds(window))}_n, 0)"

    def joined(self) -> str:
        """Join of what is found by the key for each row ``r`` of the chunk."""
        names = {lookup.name: f"f{place}" for place, lookup in enumerate(self.lookups.values())}
        columns = "".join(
            f", {names[lookup.name]}.{column} as {lookup.name}_{column}" for lookup in self.lookups.values() for column in lookup.columns
        )
        lookups = "\n".join(
            f"asof left join {name}_span {alias} on {alias}.key = r.{self.key} and {alias}.moment < r.timestamp"
            for name, alias in names.items()
        )
        query = render_sql(
            "statistics/key_lookups.sql", {"id": self.id, "key": self.key, "rows": self.rows, "columns": columns, "lookups": lookups}
        )
        return f"left join (\n{query}) k{self.number} on k{self.number}.{self.id} = r.{self.id}\n"


@dataclass(frozen=True)
class _FactLookup:
    """What the table of items or users says of each row of the chunk."""

    facts: LogFacts

    @property
    def lookup(self) -> Lookup | None:
        """Of dated facts; one row of each holds always, and is joined as it is."""
        kind = self.facts.kind
        if not self.facts.dated:
            return None
        asked = "" if kind == "item" else "chunk_requests"
        return Lookup(f"{kind}_facts", columns=tuple(self.facts.columns), keys=(f"{kind}_code",), asked=asked)

    @property
    def alias(self) -> str:
        return f"{self.facts.kind}_said"

    def joined(self) -> str:
        """Join of the facts for each row ``r`` of the chunk."""
        kind, names = self.facts.kind, "".join(f", f.{name}" for name in self.facts.columns)
        asof, table, before = ("asof ", "facts_span", " and f.moment < r.timestamp") if self.facts.dated else ("", "facts", "")
        query = render_sql(
            "statistics/fact_lookups.sql",
            {"code": f"{kind}_code", "columns": names, "asof": asof, "table": f"{kind}_{table}", "before": before},
        )
        return f"left join (\n{query}) {self.alias} on {self.alias}.row = r.row\n"


def _inside(code: int) -> str:
    """The events of a type, as the SQL calls them."""
    return f"type_{code}"


def _by_codes(statistic: Statistic, codes: Mapping[str, int]) -> Statistic:
    """A statistic whose counts call the types of events as the SQL does, which sees no name from outside."""
    counts = (replace(one, event=_inside(codes[one.event])) if one.event in codes else one for one in statistic.counts)
    return replace(statistic, counts=tuple(counts))


@dataclass
class Timelines:
    """Lookup tables of a log, moved to a span of time.

    Parameters
    ----------
    engine : Engine
        Holds ``log``, ``shown`` (where there are impressions), ``clicks``, ``runs`` and ``histories``.
    config : StatisticsConfig
    log : Log
    source : str
        Column of ``requests`` that the ``source`` of a row names.
    pool_window : timedelta, optional
        Serve the clicks of an item in this window too (the sampler's own quantity), and the pool that it draws from.

    Attributes
    ----------
    statistics : list of Statistic
        What rows of the log have.
    columns : dict of str to str
        Name in the SQL of each statistic that :meth:`row_statistics` gives, by its name. Of the others, some are the same for all rows of
        a request: :meth:`see_users` gives them, under their own names. Listwise ones are made of these all, once they are fetched.
    categorical : dict of str to str
        The same of categorical facts, text.
    """

    engine: Engine
    config: StatisticsConfig
    log: Log
    source: str
    pool_window: timedelta | None = None
    statistics: list[Statistic] = field(init=False)
    columns: dict[str, str] = field(init=False)
    categorical: dict[str, str] = field(init=False)
    _facts: list[_FactLookup] = field(init=False)
    _by_key: dict[Key, _KeyLookups] = field(init=False)
    _keys: Keys = field(init=False)
    _lookups: list[Lookup] = field(init=False)
    _transitions: list[Transitions] = field(init=False)
    _start: int = field(init=False, default=BEGINNING)
    _end: int = field(init=False, default=BEGINNING)

    def __post_init__(self) -> None:
        engine = self.engine
        codes = self.log.event_codes()
        self.statistics = [_by_codes(one, codes) for one in statistics_of(self.config, self.log)]
        # the SQL sees no name from outside, and a declared key has some in it
        of_request = {one.name for one in self.statistics if one.name in REQUEST_STATISTICS and one.kind != "fact"}
        of_rows = [one.name for one in self.statistics if one.name not in of_request and one.kind not in LISTWISE]
        self.columns = {name: f"statistic_{n}" for n, name in enumerate(of_rows)}
        self.categorical = {name: f"categorical_{n}" for n, name in enumerate(self.log.categorical_facts)}
        self._facts = [_FactLookup(facts) for facts in self.log.facts]
        self._by_key = self._plan()
        self._keys = Keys(engine, self.log, list(self._by_key))
        self._transitions = transitions_of(self.config)
        self._count_by_key()
        by = "user_code, item_code"
        engine.table("user_item_clicks", "statistics/counts.sql", keys=by, moment="known_at", source=self.log.label_clicks, columns="")
        engine.table("transitions", "statistics/transitions.sql")
        for transitions in self._transitions:
            transitions.make(engine)
        engine.drop("transitions")
        self._lookups = [HISTORIES, *self._by_key[ITEM].lookups.values()]
        self._lookups += [one.lookup for one in self._facts if one.lookup is not None]
        if self.log.has_impressions:
            engine.table("impression_counts", "statistics/total_counts.sql", moment="moment", source="shown")
            self._lookups.append(Lookup("impression_counts", keys=()))
        if self.log.has_impressions or self.pool_window:
            known = f"(select * from {self.log.label_clicks} where time_known)"
            engine.table("click_counts", "statistics/total_counts.sql", moment="known_at", source=known)
            self._lookups.append(Lookup("click_counts", keys=()))
        if self.pool_window:
            engine.table("click_counts_left", f"select moment + {in_microseconds(self.pool_window)} as moment, n from click_counts")
            self._lookups.append(Lookup("click_counts_left", keys=()))
        self._restart()

    def _plan(self) -> dict[Key, _KeyLookups]:
        """What is looked up by each key, the item first."""
        counts = [Count(ITEM, "clicks", None), *(count for one in self.statistics for count in one.counts)]
        if self.pool_window is not None:
            counts.append(Count(ITEM, "clicks", self.pool_window))
        aged = [one.key for one in self.statistics if one.kind.startswith("age")]
        of_items = {"item", *self.log.item_attributes}
        planned: dict[Key, _KeyLookups] = {}
        for key in (ITEM, *(count.key for count in counts), *aged):
            planned.setdefault(key, _KeyLookups(len(planned), by_item=not of_items.isdisjoint(key)))
        for count in counts:
            planned[count.key].add(count)
        for key in aged:
            planned[key].ages = True
            planned[key].windows.setdefault("clicks", [])
        return planned

    def _count_by_key(self) -> None:
        """Tables of the running counts; of what they are made of nothing is left."""
        engine, keys, delays = self.engine, self._keys, {}
        read = {
            "clicks": "select *, known_at as moment from log where clicked = 1 and time_known",
            "impressions": "select * from shown",
        }
        read |= {
            _inside(code): f"select *, known_at as moment from log where type_code = {code} and time_known"
            for code in self.log.event_codes().values()
        }
        for event, source in read.items():
            counted = [key for key, lookups in self._by_key.items() if event in lookups.windows]
            if counted:
                numbers = "".join(f", {keys.number(key)} as {self._by_key[key].key}" for key in counted)
                engine.table(f"keyed_{event}", "statistics/keyed_events.sql", source=source, keys=numbers, joins=keys.joins(counted))
                delays[event] = engine.rows(f"select coalesce(max(moment - timestamp), 0) from keyed_{event}")[0][0]
        for lookups in self._by_key.values():
            lookups.make(engine, delays)
        engine.drop(*(f"keyed_{event}" for event in read))

    def said(self) -> Iterator[str]:
        """What to say of what is declared: names that are taken, windows beyond the log, keys of so many values that they cost room."""
        for name in displaced(self.config, self.log):
            yield f"statistics: {name} is a column of the log, which takes its place; rename the column to have both"
        yield from self._said_of_facts()
        oldest, newest = self.engine.rows("select min(moment), max(moment) from key_0_clicks")[0]
        for window in sorted({window for declared in self.config.of for window in declared.windows}):
            if oldest is not None and in_microseconds(window) > newest - oldest:
                length = duration_text(timedelta(hours=-(-(newest - oldest) // 3_600_000_000)))
                yield f"statistics.of: {duration_text(window)} is longer than the clicks of the log ({length}): it counts all of them"
        if compares_candidates(self.statistics):
            yield from self._said_of_requests()
        for key, lookups in self._by_key.items():
            for event in lookups.windows if key != ITEM else ():
                values, count = self.engine.rows(f"select approx_count_distinct(key), count(*) from {lookups.key}_{event}")[0]
                if values > MANY:
                    much = f"about {min(values, count):,} keys of {count:,} {event}"
                    yield f"statistics of {', '.join(key)}: {much}; time and scratch on disk grow with them"

    def _said_of_facts(self) -> Iterator[str]:
        """What to say of dated facts that begin after the log."""
        for facts in (facts for facts in self.log.facts if facts.dated):
            first = self.engine.rows(f"select min(moment) from {facts.kind}_facts")[0][0]
            before, count = self.engine.rows(f"select count(*) filter (where timestamp <= {first or 0}), count(*) from requests")[0]
            if first is not None and before > count / 2:
                yield (
                    f"warning: {before:,} of {count:,} rows of the log are before the first row of the table of {facts.kind}s, "
                    "and know nothing of it"
                )

    def _said_of_requests(self) -> Iterator[str]:
        """What to say of a log whose requests hold one row each, or a click apart from what was shown with it."""
        of_each = "select count(*) as n, sum(label) as clicked from requests group by request"
        of_size = f"select n > 1, sum(n), sum(clicked) from ({of_each}) sized group by n > 1"
        share = {several: (clicked / rows, rows) for several, rows, clicked in self.engine.rows(of_size)}
        if True not in share:
            yield "warning: statistics.listwise_context says nothing: no request has two candidates; does the log have a request_id?"
        elif False in share and share[False][0] >= CLICKS_ALONE > share[True][0]:
            yield (
                f"warning: {share[False][0]:.0%} of the {share[False][1]:,} rows that are alone in their request are clicked, so "
                "statistics.listwise_context tells the click; give clicks the time and the request_id of their impressions"
            )

    def _restart(self) -> None:
        self._start = BEGINNING
        for lookup in (*self._lookups, *self._declared()):
            lookup.start(self.engine)
        for transitions in self._transitions:
            transitions.start(self.engine)

    def _declared(self) -> Iterator[Lookup]:
        """Lookups of the keys but the item, of which a span is made only for what rows ask."""
        for key, lookups in self._by_key.items():
            if key != ITEM:
                yield from lookups.lookups.values()

    def left(self, window: timedelta) -> str:
        """Name of the lookup of an item's clicks that left a window."""
        return self._by_key[ITEM].left("clicks", in_microseconds(window))

    def move(self, start: int, end: int) -> None:
        """Move to a chunk of requests with times in [start, end], microseconds.

        Moving forward costs what lies between; moving back starts from the beginning of the log.
        """
        if start < self._start:
            self._restart()
        for lookup in self._lookups:
            lookup.carry(self.engine, self._start, start)
            lookup.cover(self.engine, start, end)
        for lookup in self._declared():
            lookup.carry(self.engine, self._start, start)
        for transitions in self._transitions:
            transitions.carry(self.engine, self._start, start)
        self._start, self._end = start, end

    def see_users(self, max_length: int) -> None:
        """Table ``seen_requests``: ``chunk_requests`` with the user's history and statistics."""
        rate, joins = "", ""
        if self.log.has_impressions:
            rate = ", cast(coalesce(k.n, 0) as double) / i.n as overall_rate"
            joins = """asof left join click_counts_span k on k.moment < q.timestamp
            asof left join impression_counts_span i on i.moment < q.timestamp"""
        self.engine.table("seen_requests", "statistics/request_state.sql", max_length=max_length, overall_rate=rate, overall_joins=joins)

    def row_statistics(self) -> tuple[str, dict[str, object]]:
        """Query (a file of ``sql/`` and its parameters) for the statistics of ``chunk_rows``."""
        engine = self.engine
        engine.table("user_item_clicks_span", "statistics/user_item_clicks_span.sql", until=self._end)
        engine.table("user_item_counts", "statistics/user_item_counts.sql")
        for transitions in self._transitions:
            transitions.count(engine, self._start, self._end)
        self._key_rows(by_item=True)
        self._key_rows(by_item=False)
        for key, lookups in self._by_key.items():
            if key != ITEM:
                engine.view(f"{lookups.key}_asked", f"select {lookups.key} as key from {lookups.rows}")
        for lookup in self._declared():
            lookup.cover(engine, self._start, self._end)
        return "statistics/row_statistics.sql", {
            "values": ",\n    ".join(self._values()),
            "pool_count": self._by_key[ITEM].count("clicks", self.pool_window) if self.pool_window else "0",
            "keys": "".join([*(lookups.joined() for lookups in self._by_key.values()), *(one.joined() for one in self._facts)]),
            "transitions": "\n".join(transitions.joined() for transitions in self._transitions),
        }

    def _key_rows(self, by_item: bool) -> None:
        """Table ``keyed_rows`` or ``keyed_sources``: the chunk's rows with the numbers of the keys that are looked up for them."""
        keys = [key for key, lookups in self._by_key.items() if lookups.by_item == by_item]
        if not keys:
            return
        engine, context, sources = self.engine, self._keys.context(keys), ""
        if context:
            first, last = engine.rows("select coalesce(min(request), 0), coalesce(max(request), 0) from chunk_rows")[0]
            columns = ", ".join((self.source, *context))
            here = f"select {columns} from requests where request >= {first} and request <= {last}"
            sources = f"left join ({here}) q on q.{self.source} = r.source"
        one = self._by_key[keys[0]]
        engine.table(
            one.rows,
            "statistics/keyed_rows.sql",
            id=one.id,
            distinct="" if by_item else "distinct",
            item="r.item_code," if by_item else "",
            context="".join(f", q.{name}" for name in context),
            sources=sources,
            keys="".join(f", {self._keys.number(key)} as {self._by_key[key].key}" for key in keys),
            joins=self._keys.joins(keys),
        )

    def _values(self) -> list[str]:
        """Expressions of the statistics over rows ``r`` of the chunk with what was found by each key."""
        own = {"user_item_clicks": "coalesce(u.n, 0)"}
        said = {outside: f"{one.alias}.{inside}" for one in self._facts for inside, outside in one.facts.columns.items()}
        for transitions in self._transitions:
            own |= transitions.values()
        values = []
        for one in self.statistics:
            if one.name not in self.columns:
                continue
            counts = [self._count(count) for count in one.counts]
            if one.kind == "own":
                value = own[one.name]
            elif one.kind == "fact":
                value = said[one.name]
            elif one.kind == "count":
                value = counts[0]
            elif one.kind == "ratio":
                value = f"cast({counts[0]} as double) / nullif({counts[1]}, 0)"
            elif one.kind == "rate":
                prior = repr(self.config.ctr_prior)
                value = f"({counts[0]} + {prior} * r.overall_rate) / ({counts[1]} + {prior})"
            else:
                lookups = self._by_key[one.key]
                time = "first_time" if one.kind == "age_of_first" else "last_time"
                value = f"(r.timestamp - k{lookups.number}.{lookups.key}_clicks_{time}) / 1e6"
            values.append(f"cast({value} as float) as {self.columns[one.name]}")
        return values + [f"{said[name]} as {inside}" for name, inside in self.categorical.items()]

    def _count(self, count: Count) -> str:
        lookups = self._by_key[count.key]
        value = lookups.count(count.event, count.window)
        # without an attribute or a context there is no key, and nothing is known of it
        return f"({value})" if set(count.key) <= {"user", "item"} else f"case when k{lookups.number}.key is not null then {value} end"
