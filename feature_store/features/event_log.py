"""The log as tables of an engine: everything known as of a time, with dense codes in place of ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from feature_store.engines import Engine
from feature_store.store.store import Store
from feature_store.tables.column_names import check_names
from feature_store.tables.contracts import LogContract, NotIngested


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
    """

    has_impressions: bool
    categorical: tuple[str, ...]
    dense: tuple[str, ...]
    item_attributes: tuple[str, ...]
    user_attributes: tuple[str, ...]
    oracle: bool

    @property
    def context(self) -> dict[str, str]:
        """Name in the SQL -> name outside."""
        return {f"context_{n}": name for n, name in enumerate((*self.categorical, *self.dense))}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of an event besides those that every log has."""
        return (*self.context, "click_probability") if self.oracle else tuple(self.context)


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
    )


def load_log(
    engine: Engine,
    store: Store,
    as_of: datetime | None,
    *,
    context: bool = True,
    until: datetime | None = None,
    since: datetime | None = None,
) -> Log:
    """Make the tables ``items`` and ``users`` (codes, ids, attributes), ``log`` (all events) and ``clicks``.

    Parameters
    ----------
    engine : Engine
    store : Store
    as_of : datetime, optional
        Events with a time or an ``ingested_at`` at or after it are left out; None keeps all.
    context : bool
        Load the context columns too.
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
    if not context:
        log = replace(log, categorical=(), dense=(), oracle=False)
    before = None if as_of is None else as_of - timedelta(microseconds=1)  # at midnight the date that begins then is not read
    files = store.event_files(min((time for time in (before, until) if time is not None), default=None), since)
    files = files or store.event_files()[:1]  # one gives the types, even if none of its rows is old enough
    if not files:
        raise NotIngested(f"{store.root}: holds no event")
    store.verify_files([*files, *(file for file in (store.items_file(), store.users_file()) if file is not None)])
    engine.load_events(files, log.categorical, log.dense, log.oracle, None if as_of is None else microseconds(as_of))
    engine.load_entities("described_items", "item_id", store.items_file(), log.item_attributes)
    engine.load_entities("described_users", "user_id", store.users_file(), log.user_attributes)
    engine.table("items", "log/items.sql", attributes="".join(f", d.attribute_{n}" for n in range(len(log.item_attributes))))
    engine.table("users", "log/users.sql", attributes="".join(f", d.attribute_{n}" for n in range(len(log.user_attributes))))
    engine.table("log", "log/log.sql", columns="".join(f", e.{name}" for name in log.columns))
    engine.table("clicks", "log/clicks.sql")
    return log
