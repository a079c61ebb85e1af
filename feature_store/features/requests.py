"""Requests: the moments at which something was shown, chunk by chunk, with the rows (request, candidate) of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from feature_store.config import AssemblyConfig
from feature_store.engines import Engine
from feature_store.features.event_log import Log
from feature_store.features.negative_sampling import Sampler
from feature_store.features.timelines import Timelines


def number_requests(engine: Engine, log: Log) -> None:
    """Table ``requests``, numbered from 0 in order of time: a row per click, or per impression where the log has them."""
    columns = "".join(f", {name}" for name in log.columns)
    query = "rows/requests_impressions.sql" if log.has_impressions else "rows/requests_clicks.sql"
    order = "".join(f", {name} nulls last" for name in log.columns)
    engine.table("requests", query, columns=columns, order=order)


def request_range(engine: Engine, start: int | None, end: int) -> tuple[int, int]:
    """First request (inclusive) and last (exclusive) with a time in [start, end), microseconds."""
    since = "" if start is None else f"and timestamp >= {start}"
    first, last = engine.rows(f"select min(request), max(request) + 1 from requests where timestamp < {end} {since}")[0]
    return (0, 0) if first is None else (first, last)


@dataclass
class RowMaker:
    """Makes the rows of a range of requests, ``engine_config.chunk`` requests at a time.

    For each chunk it leaves behind the tables ``kept_requests`` (with history and user statistics) and ``chunk_rows``.

    Attributes
    ----------
    wanted : str, optional
        SQL over ``requests``: which of them get rows; None for all.
    excluded : dict of int
        Requests left out, by reason.
    requests_short : int
        Requests with fewer sampled candidates than asked for.
    """

    engine: Engine
    log: Log
    config: AssemblyConfig
    chunk: int
    wanted: str | None = None
    timelines: Timelines = field(init=False)
    excluded: dict[str, int] = field(init=False)
    _sampler: Sampler | None = field(init=False, default=None)
    _items: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        sampled = not self.log.has_impressions
        window = self.config.candidates.window if sampled else None
        self.timelines = Timelines(self.engine, self.config.statistics, self.log, self.log.number, window)
        self.engine.drop("log")
        self.excluded = {"short_history": 0} | ({} if self.wanted is None else {"not_replayed": 0})
        if sampled:
            self._sampler = Sampler(self.engine, self.config.candidates, self.timelines)
            self.excluded["item_not_live"] = 0
            self._items = self.engine.rows("select count(*) from items")[0][0]
        self.engine.drop("clicks", "label_clicks", "runs")  # what is looked up from here on has tables of its own, in order of time

    @property
    def requests_short(self) -> int:
        return 0 if self._sampler is None else self._sampler.requests_short

    def chunks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the first and the last (exclusive) request of each chunk of [first, last), its tables made."""
        for start in range(first, last, self.chunk):
            end = min(start + self.chunk, last)
            here = f"request >= {start} and request < {end}"
            if self.wanted is not None:
                here = f"{here} and {self.wanted}"
                kept = self.engine.rows(f"select count(distinct request) from requests where {here}")[0][0]
                self.excluded["not_replayed"] += end - start - kept  # requests are numbered without gaps
                if not kept:
                    continue
            self._make(here)
            yield start, end

    def _make(self, here: str) -> None:
        engine = self.engine
        columns = "request, user_code, timestamp" + (", tie, item_code" if self._sampler else "")
        engine.table("chunk_requests", f"select distinct {columns} from requests where {here}")
        self.timelines.move(*engine.rows("select min(timestamp), max(timestamp) from chunk_requests")[0])
        self.timelines.see_users(self.config.history.max_length)
        shortest = self.config.history.min_length
        if shortest > 0:
            self.excluded["short_history"] += engine.rows(f"select count(*) from seen_requests where user_clicks < {shortest}")[0][0]
            engine.table("kept_requests", f"select * from seen_requests where user_clicks >= {shortest}")
            engine.table("seen_requests", "select * from kept_requests")
        if self._sampler:
            seen = engine.rows("select count(*) from seen_requests")[0][0]
            self._sampler.keep_live()
            self.excluded["item_not_live"] += seen - engine.rows("select count(*) from kept_requests")[0][0]
            self._sampler.sample()
            engine.table("chunk_rows", "rows/rows_sampled.sql", items=self._items)
        else:
            engine.table("kept_requests", "select * from seen_requests")
            engine.table("chunk_rows", "rows/rows_impressions.sql", here=here)
