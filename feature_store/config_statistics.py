"""Typed settings of the as-of statistics: which are declared, over which windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from feature_store.config_types import Config, Duration, duration_text, parse_duration

EVENTS = ("clicks", "impressions")  # that every log may have; others are types of its events
Listwise = Literal["size", "share", "rank"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


OneOrMore = BeforeValidator(_listed)  # a single text need not stand in brackets
Key = Annotated[tuple[str, ...], OneOrMore, Field(min_length=1)]


def canonical(key: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a key in the one order that names are made in: the user, the item, then the others by name.

    Examples
    --------
    >>> canonical(("referrer", "item")), canonical(("item", "category", "user"))
    (('item', 'referrer'), ('user', 'item', 'category'))
    """
    first = {"user": 0, "item": 1}
    return tuple(sorted(key, key=lambda column: (first.get(column, 2), column)))


@dataclass(frozen=True)
class Count:
    """Events of a key in a window before the request.

    Attributes
    ----------
    key : tuple of str
        Columns, see :func:`canonical`.
    event : str
        ``clicks``, ``impressions``, or a further type of the log's events.
    window : timedelta, optional
        None: all that was known.
    """

    key: tuple[str, ...]
    event: str
    window: timedelta | None

    @property
    def name(self) -> str:
        """
        Examples
        --------
        >>> Count(("item", "referrer"), "clicks", timedelta(hours=1)).name, Count(("user",), "impressions", None).name
        ('item_referrer_clicks_1h', 'user_impressions')
        """
        return "_".join([*self.key, self.event, *_texts(self.window)])


@dataclass(frozen=True)
class Statistic:
    """What a declaration comes to: one column.

    Attributes
    ----------
    name : str
        By one rule: the key, what it is, the window, and of a share or trend what it is a share of.
    meaning : str
        In words.
    kind : str
        ``count`` of ``counts[0]``; ``ratio``, ``counts[0]`` over ``counts[1]``, null where that is 0; ``rate``, clicks ``counts[0]`` over
        impressions ``counts[1]``, smoothed; ``age_of_first`` and ``age_of_last``, seconds since a click; ``size``, ``share`` and ``rank``,
        of all candidates of a request (:mod:`feature_store.features.listwise_context`); ``fact``, what the table of items or users says;
        ``own``, none of these.
    key : tuple of str
        Columns of the row that it depends on. Null where one of them is, the item excepted.
    counts : tuple of Count
    of : str
        Of a share or a rank: the statistic that candidates are compared by.
    """

    name: str
    meaning: str
    kind: Literal["count", "ratio", "rate", "age_of_first", "age_of_last", "size", "share", "rank", "fact", "own"]
    key: tuple[str, ...]
    counts: tuple[Count, ...] = ()
    of: str = ""


class DeclaredConfig(Config):
    """Statistics of one key, such as the clicks on an item by people who came from the same referrer."""

    by: Key = Field(description="the key: user, item, attributes of either and context columns, alone or crossed")
    count: Annotated[tuple[str, ...], OneOrMore] = Field(
        (),
        description="count these events of the key in each window: clicks, impressions, or further types that source.events.type names",
    )
    rate: bool = Field(False, description="clicks over impressions in each window, smoothed as item_ctr is; logs with impressions only")
    windows: Annotated[tuple[Duration, ...], OneOrMore] = Field((), description="windows before the request; none: all that was known")
    share_of: Annotated[tuple[Key, ...], OneOrMore] = Field(
        (), description="each count over that of these coarser keys, columns of `by`, in the same window"
    )
    trend: bool = Field(False, description="each count over that of the next longer window")
    age_of_first: bool = Field(False, description="seconds since the first click of the key")
    age_of_last: bool = Field(False, description="seconds since the last click of the key")

    @field_validator("windows")
    @classmethod
    def _ascending(cls, windows: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        return ascending(windows)

    @field_validator("by")
    @classmethod
    def _by_is_in_order(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(by)) < len(by):
            raise ValueError(f"names a column twice: {', '.join(by)}")
        return canonical(by)

    @field_validator("share_of")
    @classmethod
    def _share_of_is_in_order(cls, keys: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return tuple(canonical(key) for key in keys)

    @model_validator(mode="after")
    def _says_something(self) -> DeclaredConfig:
        if not (self.count or self.rate or self.age_of_first or self.age_of_last):
            raise ValueError("declares nothing: name count, rate, age_of_first or age_of_last")
        if (self.share_of or self.trend) and not self.count:
            raise ValueError("share_of and trend are of a count: add count: [clicks]")
        if self.trend and len(self.windows) < 2:
            raise ValueError("trend compares windows: name two or more")
        for key in self.share_of:
            if not set(key) < set(self.by):
                raise ValueError(
                    f"share_of: {', '.join(key)} is no coarser key: name some of the columns of by ({', '.join(self.by)}), not all"
                )
        return self

    def statistics(self) -> Iterator[Statistic]:
        """Its columns, in the order of the keys above.

        Examples
        --------
        >>> declared = DeclaredConfig(by=["referrer", "item"], count=["clicks"], windows=["1h", "10m"], share_of=["item"], trend=True)
        >>> [one.name for one in declared.statistics()][:3]
        ['item_referrer_clicks_10m', 'item_referrer_clicks_10m_of_item', 'item_referrer_clicks_1h']
        >>> [one.name for one in declared.statistics()][3:]
        ['item_referrer_clicks_1h_of_item', 'item_referrer_clicks_10m_of_1h']
        """
        by, windows = self.by, self.windows or (None,)
        key, named = " and ".join(by), "_".join(by)
        for event in self.count:
            for window in windows:
                count = Count(by, event, window)
                what = f"{event} of the same {key} {_before(window)}"
                yield Statistic(count.name, what, "count", by, (count,))
                for coarser in self.share_of:
                    name = f"{count.name}_of_{'_'.join(coarser)}"
                    meaning = f"{what}: share of these among the {event} of the same {' and '.join(coarser)}"
                    yield Statistic(name, meaning, "ratio", by, (count, Count(coarser, event, window)))
            for short, long in pairwise(self.windows) if self.trend else ():
                count, over = Count(by, event, short), Count(by, event, long)
                meaning = f"{event} of the same {key} {_before(short)}, over those {_before(long)}"
                yield Statistic(f"{count.name}_of_{duration_text(long)}", meaning, "ratio", by, (count, over))
        for window in windows if self.rate else ():
            meaning = f"click-through rate of the same {key} {_before(window)}, smoothed towards the overall rate"
            name = "_".join([named, "rate", *_texts(window)])
            yield Statistic(name, meaning, "rate", by, (Count(by, "clicks", window), Count(by, "impressions", window)))
        if self.age_of_first:
            yield Statistic(f"{named}_age_of_first", f"seconds since the first click of the same {key}", "age_of_first", by)
        if self.age_of_last:
            yield Statistic(f"{named}_age_of_last", f"seconds since the last click of the same {key}", "age_of_last", by)


def _texts(window: timedelta | None) -> list[str]:
    return [] if window is None else [duration_text(window)]


def _before(window: timedelta | None) -> str:
    return "before the request" if window is None else f"in the {duration_text(window)} before the request"


class CoClicksConfig(Config):
    """Clicks on the candidate that followed clicks on items of the history."""

    window: Duration = Field(parse_duration("1d"), description="what followed what is counted in this window before the request")
    history: int = Field(20, ge=1, le=100, description="newest clicks of the history that are looked at")

    def statistics(self) -> Iterator[Statistic]:
        """Its columns.

        Examples
        --------
        >>> [one.name for one in CoClicksConfig(window="12h").statistics()]
        ['co_clicks_12h', 'co_clicks_12h_recent']
        """
        window, key = duration_text(self.window), ("user", "item")
        meaning = f"clicks on the item in {window} right after any of the last {self.history} items of the history; null without a history"
        yield Statistic(f"co_clicks_{window}", meaning, "own", key)
        yield Statistic(f"co_clicks_{window}_recent", f"{meaning}; each weighted by 1/place, the newest item's place being 1", "own", key)


class StatisticsConfig(Config):
    windows: tuple[Duration, ...] = Field(
        (parse_duration("1h"), parse_duration("1d")),
        min_length=1,
        description="clicks on an item are counted in each of these; what followed what in the longest",
    )
    ctr_prior: float = Field(20.0, gt=0, description="impressions' worth of the overall rate that smooths click-through rates")
    of: tuple[DeclaredConfig, ...] = Field((), description="statistics of any key, beside those that every log has")
    auto: bool | None = Field(
        None,
        description="before the rows are made, try clicks of item and user crossed with context and attributes, and add those that boosted "
        "trees lose AUC without on validation; null: where nothing is declared",
    )
    co_clicks: CoClicksConfig | None = Field(None, description="clicks on the candidate that followed any item of the history")
    listwise_context: Annotated[tuple[Listwise, ...], OneOrMore] = Field(
        (),
        description="where all candidates of a request are known when it is scored: how many they are (size), and each statistic of a "
        "candidate as its share of the request's sum (share) or its place among them (rank)",
    )

    @field_validator("windows")
    @classmethod
    def _ascending(cls, windows: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        return ascending(windows)

    @field_validator("listwise_context")
    @classmethod
    def _in_order(cls, asked: tuple[Listwise, ...]) -> tuple[Listwise, ...]:
        if len(set(asked)) < len(asked):
            raise ValueError(f"names one of {', '.join(get_args(Listwise))} twice")
        return tuple(one for one in get_args(Listwise) if one in asked)

    def declared(self) -> Iterator[Statistic]:
        """The columns of ``of`` and ``co_clicks``."""
        for block in (*self.of, self.co_clicks):
            if block is not None:
                yield from block.statistics()

    @model_validator(mode="after")
    def _declared_once(self) -> StatisticsConfig:
        names = Counter(one.name for one in self.declared())
        twice = next((name for name, times in names.items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"of: {twice} is declared twice; remove one of the two")
        return self


def ascending(windows: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    """Windows, shortest first. Raises ValueError when one is named twice."""
    if len(set(windows)) < len(windows):
        twice = next(window for window in windows if windows.count(window) > 1)
        raise ValueError(f"the same window is named twice: {duration_text(twice)}")
    return tuple(sorted(windows))
