"""Transitions: clicks on a candidate that directly followed one on an item of the history, in the sequence of any user.

They are counted by pair of items in a window before the request, as all statistics are: what happened and was known by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from feature_store.config_statistics import StatisticsConfig
from feature_store.config_types import in_microseconds
from feature_store.engines import Engine
from feature_store.features.asof_lookup import BEGINNING

_LAST_ITEMS = "select row, last_item as previous_item, item_code, timestamp, 1 as place from chunk_rows"
_ALL_ITEMS = """
    select r.row, h.item_code as previous_item, r.item_code, r.timestamp, h.place
    from chunk_rows r
    join seen_requests q on q.request = r.request
    join history_items h on h.history_end = q.history_end
"""


@dataclass(frozen=True)
class Transitions:
    """Transitions in one window from the newest clicks of a history to a candidate.

    Attributes
    ----------
    name : str
        Of its tables.
    window : int
        Microseconds.
    history : int
        Newest clicks of the history that are looked at. For more than one the engine must hold ``positions``.
    sums : mapping of str to str
        For each statistic that it gives, the column of ``statistics/transition_counts.sql``.
    """

    name: str
    window: int
    history: int
    sums: Mapping[str, str]

    def make(self, engine: Engine) -> None:
        """Make its table of changes from ``transitions``."""
        engine.table(f"{self.name}_changes", "statistics/transition_changes.sql", window=self.window)

    def start(self, engine: Engine) -> None:
        """Forget what was carried."""
        engine.table(f"{self.name}_state", f"select previous_item, item_code, change as n from {self.name}_changes where false")

    def carry(self, engine: Engine, since: int, start: int) -> None:
        """Carry the counts on to a chunk; the times are those of :meth:`feature_store.features.asof_lookup.Lookup.carry`."""
        engine.renew(f"{self.name}_state", "statistics/transition_state.sql", name=self.name, since=since, until=start)

    def count(self, engine: Engine, start: int, end: int) -> None:
        """Count for ``chunk_rows`` of a chunk with times in [start, end], to which the counts were carried."""
        if self.history > 1:
            engine.table("history_items", "statistics/history_items.sql", history=self.history)
        items = _ALL_ITEMS if self.history > 1 else _LAST_ITEMS
        chunk = {"name": self.name, "start": start, "until": end}
        engine.table(f"{self.name}_asked", "statistics/transition_asked.sql", items=items, **chunk)
        engine.table(f"{self.name}_span", "statistics/transition_span.sql", beginning=BEGINNING, **chunk)
        engine.table(f"{self.name}_counts", "statistics/transition_counts.sql", name=self.name)

    def joined(self) -> str:
        """Join of the counts for each row ``r`` of the chunk."""
        return f"left join {self.name}_counts {self.name} on {self.name}.row = r.row"

    def values(self) -> dict[str, str]:
        """Expression of each statistic; null where there is no history."""
        return {name: f"case when r.last_item is not null then coalesce({self.name}.{column}, 0) end" for name, column in self.sums.items()}


def transitions_of(config: StatisticsConfig) -> list[Transitions]:
    """What is counted for ``transition_clicks`` and ``co_clicks``: of one window, once for both."""
    longest, co_clicks = in_microseconds(config.windows[-1]), config.co_clicks
    after_last = {"transition_clicks": "after_last"}
    if co_clicks is None:
        return [Transitions("transition", longest, 1, after_last)]
    window = in_microseconds(co_clicks.window)
    after_any = dict(zip((one.name for one in co_clicks.statistics()), ("after_any", "by_recency"), strict=True))
    if window == longest:
        return [Transitions("transition", window, co_clicks.history, after_last | after_any)]
    return [Transitions("transition", longest, 1, after_last), Transitions("co_click", window, co_clicks.history, after_any)]
