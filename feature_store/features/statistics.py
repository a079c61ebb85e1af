"""Statistics of items, users and pairs at a point in time: what was known strictly before each request.

=======================  ====================================================================================================
item_age                 seconds since the item's first click (by time) among those known; null if there is none
item_clicks_WINDOW       clicks on the item in that window, for each of ``windows``, such as ``item_clicks_10m``
item_ctr                 (clicks + prior * overall rate) / (impressions + prior), all of them known; logs of impressions only.
                         The overall rate is that of all impressions known before the request: nothing later is in it
user_clicks              clicks of the user, those at unknown times included
user_gap                 seconds since the user's last click at a known time; null if there is none
user_item_clicks         clicks of the user on the item, those at unknown times included
transition_clicks        clicks on the item in the longest window that directly followed, in any user's sequence, the last item
                         of this history; null for an empty history
hour                     hour of the request, 0 to 23, UTC
=======================  ====================================================================================================

A click is in a window w at t if it was known before t and its time is t - w or later. Clicks at unknown times are in no
statistic but the two said above.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from feature_store.config import StatisticsConfig, duration_text
from feature_store.engines import Engine
from feature_store.features.asof_lookup import BEGINNING, Lookup
from feature_store.features.event_log import Log
from feature_store.features.histories import HISTORIES

REQUEST_STATISTICS = ("user_clicks", "user_gap", "hour")  # the same for all rows of a request


def click_counts(config: StatisticsConfig) -> list[str]:
    """Names of the windowed counts of an item's clicks, shortest window first.

    Examples
    --------
    >>> click_counts(StatisticsConfig(windows=("1d", "90m")))
    ['item_clicks_90m', 'item_clicks_1d']
    """
    return [f"item_clicks_{duration_text(window)}" for window in config.windows]


def statistic_names(config: StatisticsConfig, log: Log) -> list[str]:
    """The statistics that rows of a log have, in their order: a column of the log takes the place of one that is called so."""
    rate = ["item_ctr"] if log.has_impressions else []
    of_pair = ["user_item_clicks", "transition_clicks"]
    own = {name.lower() for name in (*log.context.values(), *log.user_attributes)}
    names = ["item_age", *click_counts(config), *rate, "user_clicks", "user_gap", *of_pair, "hour"]
    return [name for name in names if name not in own]


def in_microseconds(window: timedelta) -> int:
    return window // timedelta(microseconds=1)


@dataclass
class Timelines:
    """Lookup tables of a log, moved to a span of time.

    Parameters
    ----------
    engine : Engine
        Holds ``shown`` (where there are impressions), ``clicks``, ``runs`` and ``histories``.
    config : StatisticsConfig
    has_impressions : bool
        Serve ``item_ctr`` too.
    pool_window : timedelta, optional
        Serve the clicks of an item in this window too (the sampler's own quantity), and the pool that it draws from.
    """

    engine: Engine
    config: StatisticsConfig
    has_impressions: bool
    pool_window: timedelta | None = None
    _lookups: list[Lookup] = field(init=False)
    _start: int = field(init=False, default=BEGINNING)
    _end: int = field(init=False, default=BEGINNING)

    def __post_init__(self) -> None:
        engine = self.engine
        known = "(select * from clicks where time_known)"
        engine.table("item_first_clicks", "statistics/item_first_clicks.sql")
        engine.table("item_clicks", "statistics/counts.sql", keys="item_code", moment="known_at", source=known)
        engine.table("user_item_clicks", "statistics/counts.sql", keys="user_code, item_code", moment="known_at", source="clicks")
        engine.table("transitions", "statistics/transitions.sql")
        engine.table("transition_changes", "statistics/transition_changes.sql", window=in_microseconds(self.config.windows[-1]))
        engine.drop("transitions")
        self._lookups = [HISTORIES, Lookup("item_clicks")]
        for window in {in_microseconds(w): None for w in (*self.config.windows, self.pool_window) if w}:
            # a click leaves a window when it is older than that; one that arrives later than that was never in it
            left = f"greatest(known_at, timestamp + {window})"
            engine.table(self._left(window), "statistics/counts.sql", keys="item_code", moment=left, source=known)
            self._lookups.append(Lookup(self._left(window)))
        if self.has_impressions:
            engine.table("item_impressions", "statistics/counts.sql", keys="item_code", moment="moment", source="shown")
            engine.table("impression_counts", "statistics/total_counts.sql", moment="moment", source="shown")
            self._lookups += [Lookup("item_impressions"), Lookup("impression_counts", keys=())]
        if self.has_impressions or self.pool_window:
            engine.table("click_counts", "statistics/total_counts.sql", moment="known_at", source=known)
            self._lookups.append(Lookup("click_counts", keys=()))
        if self.pool_window:
            engine.table("click_counts_left", f"select moment + {in_microseconds(self.pool_window)} as moment, n from click_counts")
            self._lookups.append(Lookup("click_counts_left", keys=()))
        self._restart()

    def _restart(self) -> None:
        self._start = BEGINNING
        for lookup in self._lookups:
            lookup.start(self.engine)
        self.engine.table("transition_state", "select previous_item, item_code, change as n from transition_changes where false")

    @staticmethod
    def _left(window: int) -> str:
        return f"item_clicks_left_{window}"

    def left(self, window: timedelta) -> str:
        """Table of the clicks that left a window."""
        return self._left(in_microseconds(window))

    def move(self, start: int, end: int) -> None:
        """Move to a chunk of requests with times in [start, end], microseconds.

        Moving forward costs what lies between; moving back starts from the beginning of the log.
        """
        if start < self._start:
            self._restart()
        for lookup in self._lookups:
            lookup.move(self.engine, self._start, start, end)
        self.engine.renew("transition_state", "statistics/transition_state.sql", since=self._start, until=start)
        self._start, self._end = start, end

    def see_users(self, max_length: int) -> None:
        """Table ``seen_requests``: ``chunk_requests`` with the user's history and statistics."""
        rate, joins = "", ""
        if self.has_impressions:
            rate = ", cast(coalesce(k.n, 0) as double) / i.n as overall_rate"
            joins = """asof left join click_counts_span k on k.moment < q.timestamp
            asof left join impression_counts_span i on i.moment < q.timestamp"""
        self.engine.table("seen_requests", "statistics/request_state.sql", max_length=max_length, overall_rate=rate, overall_joins=joins)

    def row_statistics(self) -> tuple[str, dict[str, object]]:
        """Query (a file of ``sql/`` and its parameters) for the statistics of ``chunk_rows``."""
        engine, config = self.engine, self.config
        engine.table("user_item_clicks_span", "statistics/user_item_clicks_span.sql", until=self._end)
        engine.table("user_item_counts", "statistics/user_item_counts.sql")
        engine.table("transitions_span", "statistics/transitions_span.sql", beginning=BEGINNING, start=self._start, until=self._end)
        engine.table("transition_counts", "statistics/transition_counts.sql")
        counts, columns, joins, ctr, pool = "", "", "", "", "0"
        for place, (window, name) in enumerate(zip(config.windows, click_counts(config), strict=True)):
            counts += f'cast(i.clicks - i.left_{place} as float) as "{name}", '
            columns += f", coalesce(w{place}.n, 0) as left_{place}"
            joins += self._counted(window, f"w{place}")
            if self.pool_window == window:
                pool = f"i.clicks - i.left_{place}"
        if self.pool_window is not None and self.pool_window not in config.windows:
            pool, columns = "i.clicks - i.left_pool", columns + ", coalesce(p.n, 0) as left_pool"
            joins += self._counted(self.pool_window, "p")
        if self.has_impressions:
            prior = repr(config.ctr_prior)
            ctr = f"cast((i.clicks + {prior} * i.overall_rate) / (i.impressions + {prior}) as float) as item_ctr,"
            columns += ", r.overall_rate, coalesce(m.n, 0) as impressions"
            joins += "asof left join item_impressions_span m on m.item_code = r.item_code and m.moment < r.timestamp"
        return "statistics/row_statistics.sql", {"counts": counts, "columns": columns, "joins": joins, "ctr": ctr, "pool_count": pool}

    def _counted(self, window: timedelta, alias: str) -> str:
        return f"asof left join {self.left(window)}_span {alias} on {alias}.item_code = r.item_code and {alias}.moment < r.timestamp\n"
