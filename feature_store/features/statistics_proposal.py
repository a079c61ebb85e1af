"""Statistics that a log may be worth: item and user crossed with every column of few values, in windows that fit the log's pace.

What of it tells is found by a trial: a proposal says on which rows, all of them before the test window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log as natural_log
from pathlib import Path

from feature_store.config import AssemblyConfig, FeatureStoreConfig, SplitConfig
from feature_store.config_statistics import DeclaredConfig
from feature_store.config_types import parse_duration
from feature_store.engines import Engine, open_engine
from feature_store.features.event_log import Log, load_log
from feature_store.features.requests import number_requests
from feature_store.features.time_split import Split, resolve_split, utc
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError

FEW_VALUES = 1000
WINDOWS = tuple(
    tuple(parse_duration(text) for text in windows)
    for windows in (("10m", "1h", "6h"), ("10m", "1h", "1d"), ("1h", "1d", "7d"), ("6h", "7d", "30d"))
)
LEARNED, JUDGED = 360_000, 100_000  # rows that a trial learns from, and those that it judges by, at most
NEEDED_CLICKS = 400  # of the rows that judge: fewer leave an AUC uncertain by .02 and more, and no key is worth that much by chance
_HELD_BACK = 6  # one in so many of those learned from is newer than all others, and says when to stop


@dataclass(frozen=True)
class Proposal:
    """Statistics to try, and on what.

    Attributes
    ----------
    declared : tuple of DeclaredConfig
        A key each.
    trial : AssemblyConfig
        Settings that declare them beside those of the log. Its ``train`` is the newest part of the training window but the end of
        it, its ``validation`` that end, and its ``test`` the beginning of the real validation window.
    """

    declared: tuple[DeclaredConfig, ...]
    trial: AssemblyConfig


def propose_statistics(
    store: Store, config: AssemblyConfig, engine_config: FeatureStoreConfig, as_of: datetime | None, scratch: Path
) -> Proposal | None:
    """What statistics to try; None where no column has few values.

    Parameters
    ----------
    store : Store
    config : AssemblyConfig
        A key that its ``statistics.of`` declares is not proposed.
    engine_config : FeatureStoreConfig
    as_of : datetime, optional
        Logical time of the run.
    scratch : Path
        Folder for what does not fit into memory; it is made, and removed at the end.

    Raises
    ------
    DataError
        When the windows of the split hold no rows at different times, or those that would judge hold too few clicks.
    """
    with open_engine(engine_config, scratch) as engine:
        log = load_log(engine, store, as_of)
        number_requests(engine, log)
        split = resolve_split(config.split, engine, as_of)
        declared = tuple(declarations(engine, log, split.train_until, {one.by for one in config.statistics.of}))
        if not declared:
            return None
        per_request = 1 if log.has_impressions else 1 + config.candidates.per_click
        windows = trial_windows(engine, log, split, LEARNED // per_request, JUDGED // per_request)
    # shares and ranks of what is tried would say the same again, and nothing would be lost by permuting it
    statistics = config.statistics.model_copy(update={"of": (*config.statistics.of, *declared), "listwise_context": ()})
    return Proposal(declared, config.model_copy(update={"split": windows, "statistics": statistics}))


def declarations(engine: Engine, log: Log, until: int, taken: Collection[tuple[str, ...]]) -> Iterator[DeclaredConfig]:
    """A declaration per key: the item by context and user attributes, the user by context and item attributes.

    Parameters
    ----------
    engine : Engine
        Holds ``items``, ``users``, ``log`` and ``clicks``.
    log : Log
    until : int
        Microseconds since 1970; later events are not looked at.
    taken : collection of tuple of str
        Keys that are declared already.
    """
    windows = windows_of_pace(median_age(engine, until))
    context = _of_few_values(engine, "log", {name: inside for inside, name in log.context.items() if name in log.categorical}, until)
    attributes = {
        kind: _of_few_values(engine, f"{kind}s", {name: f"attribute_{n}" for n, name in enumerate(names)})
        for kind, names in (("item", log.item_attributes), ("user", log.user_attributes))
    }
    for kind, other in (("item", "user"), ("user", "item")):
        for column in (*context, *attributes[other]):
            declared = DeclaredConfig(by=(kind, column), count=("clicks",), windows=windows, share_of=((kind,), (column,)))
            if declared.by not in taken:
                yield declared


def _of_few_values(engine: Engine, source: str, columns: dict[str, str], until: int | None = None) -> list[str]:
    """Names of the columns that tell rows apart and have few values, by their names in the SQL."""
    if not columns:
        return []
    counts = ", ".join(f"count(distinct {inside})" for inside in columns.values())
    before = "" if until is None else f"where timestamp < {until}"
    found = engine.rows(f"select {counts} from {source} {before}")[0]
    return [name for name, values in zip(columns, found, strict=True) if 1 < values <= FEW_VALUES]


def median_age(engine: Engine, until: int) -> timedelta:
    """How long the median click on an item comes after the item's first: how fast what is clicked changes."""
    age = engine.rows("statistics/median_age.sql", until=until)[0][0]
    return timedelta(microseconds=int(age or 0))


def windows_of_pace(age: timedelta) -> tuple[timedelta, ...]:
    """Three windows: the longest is about the median age of an item at its clicks, the others about a tenth and a hundredth of that.

    They are of 10m, 1h, 6h, 1d, 7d and 30d, so that names stay the same while a log grows; the longest is the nearest to the age by
    its logarithm, from 6h on.

    Examples
    --------
    >>> [str(window) for window in windows_of_pace(timedelta(hours=20))]
    ['0:10:00', '1:00:00', '1 day, 0:00:00']
    """
    seconds = max(age.total_seconds(), 1.0)
    return min(WINDOWS, key=lambda windows: abs(natural_log(windows[-1].total_seconds() / seconds)))


def trial_windows(engine: Engine, log: Log, split: Split, learned: int, judged: int) -> SplitConfig:
    """Windows of a trial before the test window, whose rows are nobody's business yet.

    Parameters
    ----------
    engine : Engine
        Holds ``requests``.
    log : Log
    split : Split
        The real one.
    learned : int
        Newest rows of the training window.
    judged : int
        Oldest rows of the validation window.

    Raises
    ------
    DataError
        When one of the two has no row, or those that judge hold fewer than :data:`NEEDED_CLICKS`.
    """
    newest, oldest = "order by timestamp desc", "order by timestamp"
    rows = engine.rows(f"select count(*) from requests where {_within(split, 'train')}")[0][0]
    learned = min(learned, rows)
    start = _last_time(engine, split, "train", newest, learned)
    stop = _last_time(engine, split, "train", newest, max(1, learned // _HELD_BACK))
    end = _last_time(engine, split, "validation", oldest, judged)
    if start is None or stop is None or end is None:
        raise DataError(f"{split.describe('train' if start is None else 'validation')} has no row")
    clicked = "count(*) filter (label = 1)" if log.has_impressions else "count(*)"
    clicks = engine.rows(f"select {clicked} from requests where timestamp >= {split.train_until} and timestamp <= {end}")[0][0]
    if clicks < NEEDED_CLICKS:
        raise DataError(f"the rows of validation that would judge hold {clicks} clicks, fewer than {NEEDED_CLICKS}")
    return SplitConfig(train_from=utc(start), train_until=utc(stop), validate_until=utc(split.train_until), test_until=utc(end + 1))


def _within(split: Split, name: str) -> str:
    start, end = split.bounds(name)
    return f"timestamp < {end}" + ("" if start is None else f" and timestamp >= {start}")


def _last_time(engine: Engine, split: Split, name: str, order: str, rows: int) -> int | None:
    """Time of the last of the first so many rows of a split in an order; None where there are none."""
    times = f"select timestamp from requests where {_within(split, name)} {order} limit {rows}"
    extreme = "min" if order.endswith("desc") else "max"
    time: int | None = engine.rows(f"select {extreme}(timestamp) from ({times}) found")[0][0]
    return time
