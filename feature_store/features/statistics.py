"""Statistics of items, users and pairs at a point in time: what was known strictly before each request.

Every log has these; further ones are declared (:class:`feature_store.config_statistics.StatisticsConfig`, ``of`` and ``co_clicks``).

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

Where ``listwise_context`` asks for it, :mod:`feature_store.features.listwise_context` puts some of them beside those of the other
candidates of the request.

A click is in a window w at t if it was known before t and its time is t - w or later. Clicks at unknown times are in no
statistic but the two said above. An event is counted under the context that it had, and under the attributes that its item and its
user have in the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from feature_store.config_statistics import EVENTS, Count, Statistic, StatisticsConfig
from feature_store.config_types import duration_text
from feature_store.features.event_log import Log
from feature_store.features.listwise_context import LISTWISE, listwise_statistics
from feature_store.tables.contracts import DataError, nearest

PRODUCT, AGE = "embedding_product", "embedding_age"  # of vectors that are learned with the clicks, where ``embeddings`` are configured
STATE, VECTOR = "embedding_history", "embedding_item"  # with the place of a number behind it
TEACHER_STATE = "teacher_state"  # likewise, where ``teacher_state`` is configured
REQUEST_STATISTICS = ("user_clicks", "user_gap", "hour")  # the same for all rows of a request
ITEM, USER = ("item",), ("user",)


class UndeclarableStatistic(DataError):
    """A statistic is declared that this log cannot have."""


def click_counts(config: StatisticsConfig) -> list[str]:
    """Names of the windowed counts of an item's clicks, shortest window first.

    Examples
    --------
    >>> click_counts(StatisticsConfig(windows=("1d", "90m")))
    ['item_clicks_90m', 'item_clicks_1d']
    """
    return [f"item_clicks_{duration_text(window)}" for window in config.windows]


def statistic_names(config: StatisticsConfig, log: Log) -> list[str]:
    """The statistics that rows of a log have, in their order; see :func:`statistics_of`."""
    return [one.name for one in statistics_of(config, log)]


def statistics_of(config: StatisticsConfig, log: Log) -> list[Statistic]:
    """The statistics that rows of a log have, in their order: a column of the log takes the place of one that is called so.

    Raises
    ------
    UndeclarableStatistic
        When a key names no column of the log, or what is asked for needs impressions and the log has none.
    """
    taken = _names_of_columns(log)
    found = {one.name: one for one in _of_every_log(config, log.has_impressions)}
    columns = key_columns(log)
    for number, declared in enumerate(config.of):
        where = f"statistics.of[{number}]"
        unknown = next((column for column in declared.by if column not in columns), None)
        if unknown is not None:
            raise UndeclarableStatistic(f"{where}.by: {unknown} is no column of the log; {nearest(unknown, columns)}")
        events = [*EVENTS, *log.event_codes()]
        strange = next((event for event in declared.count if event not in events), None)
        if strange is not None:
            raise UndeclarableStatistic(
                f"{where}.count: {strange} is no type of event that source.events.type names; {nearest(strange, events)}"
            )
        if not log.has_impressions and (declared.rate or "impressions" in declared.count):
            what = "rate" if declared.rate else "count: [impressions]"
            raise UndeclarableStatistic(f"{where}.{what} needs rows that were not clicked, and this log holds clicks only: remove it")
    found |= {one.name: one for one in config.declared() if one.name not in found}
    found |= {one.name: one for one in facts_of(log)}
    if config.listwise_context and not log.has_impressions:
        what = "the candidates of a request are drawn by the sampler, and others are ranked in production"
        raise UndeclarableStatistic(f"statistics.listwise_context: this log holds clicks only, so {what}: remove it")
    rows = [one for one in found.values() if one.kind == "fact" or one.name.lower() not in taken]
    listwise = listwise_statistics(config.listwise_context, rows, {"item", *log.item_attributes})
    return rows + [one for one in listwise if one.name not in found and one.name.lower() not in taken]


def facts_of(log: Log) -> Iterator[Statistic]:
    """Numbers that the tables of items and users say, as of a request."""
    for facts in log.facts:
        since = ", of the newest row before the request" if facts.dated else ""
        for name in facts.dense:
            yield Statistic(name, f"{name} in the table of {facts.kind}s{since}; null where it says nothing", "fact", (facts.kind,))


def displaced(config: StatisticsConfig, log: Log) -> list[str]:
    """Names of the declared statistics, and of the listwise ones, whose place a column of the log takes."""
    taken, declared = _names_of_columns(log), list(config.declared())
    rows = [*declared, *_of_every_log(config, log.has_impressions)]
    listwise = listwise_statistics(config.listwise_context, rows, {"item", *log.item_attributes})
    return [one.name for one in (*declared, *listwise) if one.name.lower() in taken]


def compares_candidates(statistics: Iterable[Statistic]) -> bool:
    """Whether some of the statistics are of all candidates of a request, which then must be there together."""
    return any(one.kind in LISTWISE for one in statistics)


def statistic_meanings(config: StatisticsConfig) -> dict[str, str]:
    """What each statistic says, in words for people who did not write it, by name.

    Examples
    --------
    >>> statistic_meanings(StatisticsConfig(windows=("90m",)))["item_clicks_90m"]
    'clicks on the item in the 90m before the request'
    """
    known = [*config.declared(), *_of_every_log(config, has_impressions=True)]
    columns = {column for one in known for column in one.key}
    return {one.name: one.meaning for one in (*known, *listwise_statistics(config.listwise_context, known, columns))}


def vector_columns(width: int) -> dict[str, str]:
    """What vectors that are learned with the clicks say of rows: the columns in their order, and what each says, in words.

    Parameters
    ----------
    width : int
        Numbers of each vector that rows read; 0 where they read products alone.

    Examples
    --------
    >>> list(vector_columns(2))
    ['embedding_product', 'embedding_age', 'embedding_history_0', 'embedding_history_1', 'embedding_item_0', 'embedding_item_1']
    """
    columns = {
        PRODUCT: "product of the vectors of history and item, learned from the clicks before; null without a history",
        AGE: "seconds since the newest clicks were learned that these vectors know",
    }
    columns |= {f"{STATE}_{place}": f"number {place} of the state of the history; null without one" for place in range(width)}
    return columns | {f"{VECTOR}_{place}": f"number {place} of the vector of the item" for place in range(width)}


def state_columns(width: int) -> dict[str, str]:
    """The numbers of a teacher's state: the columns in their order, and what each says, in words.

    Parameters
    ----------
    width : int
        Numbers of a state.

    Examples
    --------
    >>> list(state_columns(2))
    ['teacher_state_0', 'teacher_state_1']
    """
    meaning = "number {} of what the teacher's encoder made of the user's history; null for users without one"
    return {f"{TEACHER_STATE}_{place}": meaning.format(place) for place in range(width)}


def key_columns(log: Log) -> list[str]:
    """What a declared key may name."""
    return ["user", "item", *log.item_attributes, *log.user_attributes, *log.context.values()]


def _of_every_log(config: StatisticsConfig, has_impressions: bool) -> Iterator[Statistic]:
    yield Statistic("item_age", "seconds since the item's first click; null before it", "age_of_first", ITEM)
    for name, window in zip(click_counts(config), config.windows, strict=True):
        meaning = f"clicks on the item in the {duration_text(window)} before the request"
        yield Statistic(name, meaning, "count", ITEM, (Count(ITEM, "clicks", window),))
    if has_impressions:
        meaning = f"click-through rate of the item, smoothed by {config.ctr_prior:g} impressions at the overall rate"
        yield Statistic("item_ctr", meaning, "rate", ITEM, (Count(ITEM, "clicks", None), Count(ITEM, "impressions", None)))
    longest = duration_text(config.windows[-1])
    yield Statistic("user_clicks", "clicks of the user so far", "own", USER)
    yield Statistic("user_gap", "seconds since the user's last click; null before the first", "own", USER)
    yield Statistic("user_item_clicks", "clicks of the user on this item so far", "own", ("user", "item"))
    after = f"clicks on the item in {longest} right after the last item of the history; null without a history"
    yield Statistic("transition_clicks", after, "own", ("user", "item"))
    yield Statistic("hour", "hour of the request, 0 to 23, UTC", "own", ())


def _names_of_columns(log: Log) -> set[str]:
    facts = (name for facts in log.facts for name in facts.columns.values())
    return {name.lower() for name in (*log.context.values(), *log.item_attributes, *log.user_attributes, *facts)}


def context_of_keys(config: StatisticsConfig, log: Log) -> list[str]:
    """Context columns that declared keys name."""
    named = {column for declared in config.of for column in declared.by}
    return [name for name in log.context.values() if name in named]
