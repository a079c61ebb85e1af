"""Small stores written by hand, and a second, naive implementation of what an assembly computes from one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from feature_store.config import AssemblyConfig
from feature_store.config_statistics import Count, Statistic
from feature_store.features.statistics import click_counts
from feature_store.store.manifests import PartitionManifest, StoredLogContract, TableManifest, write_sealed
from feature_store.store.store import Store
from feature_store.tables.contracts import ContextNames, EntityFacts
from feature_store.tables.files import sha256_of

START = int(datetime(2024, 1, 1, 6, tzinfo=UTC).timestamp()) * 10**6  # microseconds
MINUTE = 60 * 10**6
# What one log costs is the engine's statements, however many rows it has: few logs, and half of them long.
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@dataclass(frozen=True)
class Event:
    """One row of a log; times in minutes after ``START``."""

    user: int
    item: int
    minute: int
    clicked: int = 1
    delay: int = 0  # minutes until it is known
    request: int | None = None
    time_known: bool = True
    device: str | None = None
    weight: float = 1.0
    bought: int | None = None

    @property
    def time(self) -> int:
        return START + self.minute * MINUTE

    @property
    def known(self) -> int:
        return self.time + self.delay * MINUTE


def at(minute: int) -> datetime:
    """A time of a log as the configuration has it."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START + minute * MINUTE)


def random_event(has_impressions: bool, users: int, items: int, times: int, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    """Events of few users, items and times, 20 minutes apart, so that ties, repeats and late ones meet."""
    return st.builds(
        Event,
        user=st.integers(0, users - 1),
        item=st.integers(0, items - 1),
        minute=st.integers(0, times - 1).map(lambda n: 20 * n),
        clicked=st.sampled_from([0, 1]) if has_impressions else st.just(1),
        delay=st.sampled_from([0, 0, 0, 20, 30, 200]),
        request=st.sampled_from([None, 1, 2]) if has_impressions else st.none(),
        device=st.sampled_from([None, "a", "b"]),
        **more,
    )


def with_listed(log: st.SearchStrategy[list[Event]], users: int, items: int) -> st.SearchStrategy[list[Event]]:
    """Logs with up to four more clicks at unknown times, as a list of histories has them."""
    listed = st.builds(
        Event, user=st.integers(0, users - 1), item=st.integers(0, items - 1), minute=st.integers(-30, 10), time_known=st.just(False)
    )
    return st.builds(lambda known, unknown: known + unknown, log, st.lists(listed, max_size=4))


def short_or_long(event: st.SearchStrategy[Event]) -> st.SearchStrategy[list[Event]]:
    """Logs, by half short ones, in which much is absent; they also say in few events what is wrong."""
    return st.lists(event, min_size=8, max_size=24) | st.lists(event, min_size=50, max_size=90)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of a folder's tables, as a manifest has them."""
    return {file.name: sha256_of(file) for file in folder.glob("*.parquet")}


def write_store(
    root: Path,
    events: Sequence[Event],
    has_impressions: bool,
    items: pa.Table | None = None,
    users: pa.Table | None = None,
    ids: Any = int,
    dense: Sequence[str] = (),
    item_facts: EntityFacts | None = None,
    user_facts: EntityFacts | None = None,
    weighted: bool = False,
    labelled: bool = False,
) -> Store:
    """Event partitions as an ingestion leaves them, with the categorical context ``device`` and, where asked, weights and a label."""
    ids_type = pa.int64() if ids is int else pa.string()
    stamp = pa.timestamp("us", "UTC")
    days: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda e: (e.user, e.time)):
        days.setdefault((datetime(1970, 1, 1) + timedelta(microseconds=event.time)).date().isoformat(), []).append(event)
    for day, rows in days.items():
        folder = root / "events" / f"date={day}"
        folder.mkdir(parents=True)
        columns = {
            "user_id": pa.array([ids(e.user) for e in rows], ids_type),
            "item_id": pa.array([ids(e.item) for e in rows], ids_type),
            "timestamp": pa.array([e.time for e in rows], pa.int64()).cast(stamp),
            "clicked": pa.array([e.clicked for e in rows], pa.int8()),
            "request_id": pa.array([e.request for e in rows], pa.int64()),
            "ingested_at": pa.array([e.known for e in rows], pa.int64()).cast(stamp),
            "time_known": pa.array([e.time_known for e in rows], pa.bool_()),
            "device": pa.array([e.device for e in rows], pa.string()),
            **{name: pa.array([float(e.minute) for e in rows], pa.float64()) for name in dense},
            **({"row_weight": pa.array([e.weight for e in rows], pa.float64())} if weighted else {}),
            **({"label_bought": pa.array([e.bought for e in rows], pa.int8())} if labelled else {}),
        }
        pq.write_table(pa.table(columns), folder / "events.parquet")
        oldest, newest, known = (
            datetime.fromtimestamp(time / 1e6, UTC)
            for time in (min(e.time for e in rows), max(e.time for e in rows), max(e.known for e in rows))
        )
        manifest = PartitionManifest(
            rows=len(rows),
            columns="",
            inputs={},
            sha256=digests(folder),
            min_timestamp=oldest,
            max_timestamp=newest,
            max_ingested_at=known,
        )
        write_sealed(folder / "_manifest.json", manifest)
    for name, table in (("items", items), ("users", users)):
        if table is not None:
            (root / name).mkdir()
            pq.write_table(table, root / name / f"{name}.parquet")
            manifest = TableManifest(rows=table.num_rows, columns="", inputs={}, sha256=digests(root / name))
            write_sealed(root / name / "_manifest.json", manifest)
    facts = {name: of for name, of in (("item_facts", item_facts), ("user_facts", user_facts)) if of is not None}
    looked_up = {"timestamp"} | {column for of in facts.values() for column in (*of.categorical, *of.dense)}
    contract = StoredLogContract(
        **facts,
        **({"weighted": True} if weighted else {}),
        **({"labels": ["bought"]} if labelled else {}),
        user_id=str(ids_type),
        item_id=str(ids_type),
        request_id="int64",
        has_impressions=has_impressions,
        context=ContextNames(categorical=["device"], dense=list(dense)),
        item_attributes=[]
        if items is None
        else [name for name in items.column_names if name not in ("item_id", "title") and name not in looked_up],
        user_attributes=[] if users is None else [name for name in users.column_names if name != "user_id" and name not in looked_up],
        oracle=False,
    )
    write_sealed(root / "_contract.json", contract)
    return Store(root)


def by_moment(events: Sequence[Event]) -> dict[Any, list[Event]]:
    """Events of one user, item, time and request, as they became known; one whose time is unknown is alone."""
    found: dict[Any, list[Event]] = {}
    for number, e in enumerate(sorted(events, key=lambda e: e.known)):
        found.setdefault((e.user, e.item, e.time, e.request, None if e.time_known else number), []).append(e)
    return found


class Naive:
    """The point-in-time rules, written down a second time: plain loops over the events that are visible."""

    def __init__(
        self,
        events: Sequence[Event],
        config: AssemblyConfig,
        has_impressions: bool,
        category: Mapping[int, str | None] | None = None,
        segment: Mapping[int, str | None] | None = None,
    ) -> None:
        self.config, self.has_impressions = config, has_impressions
        self.category, self.segment = category or {}, segment or {}
        self.events: list[Event] = []
        self.impressions: list[tuple[Event, int]] = []  # with the moment from which on each counts
        for same in by_moment(events).values():
            shown, clicked = ([e for e in same if e.clicked == value] for value in (0, 1))
            for impression, click in zip_longest(shown, clicked):  # of one moment and request: one row, in the order of arrival
                event = click or impression
                first = impression if click is None or (impression and impression.known <= click.known) else click
                event = replace(event, device=(first or event).device)
                self.events.append(event)
                self.impressions.append((event, min(e.known for e in (impression, click) if e)))

    def visible(self, t: int) -> list[Event]:
        return [e for e in self.events if e.time < t and e.known < t]

    @staticmethod
    def clicks(events: Sequence[Event], user: int | None = None) -> list[Event]:
        """Clicks in the order of a history."""
        chosen = [e for e in events if e.clicked and user in (None, e.user)]
        return sorted(chosen, key=lambda e: (e.time, e.item, e.known, e.time_known))

    def history(self, user: int, t: int) -> list[Event]:
        return self.clicks(self.visible(t), user)[-self.config.history.max_length :]

    def transitions(self, events: Sequence[Event]) -> list[tuple[int, Event]]:
        """(previous item, click) for each click, the previous one as known when the click arrived."""
        found = []
        of_user: dict[int, list[Event]] = {}
        for event in events:
            of_user.setdefault(event.user, []).append(event)
        for mine in of_user.values():
            ordered = list(enumerate(self.clicks(mine)))
            for place, click in ordered:
                before = [e for p, e in ordered if p < place and (e.known, p) < (click.known, place)]
                if before and click.time_known and before[-1].time_known:
                    found.append((before[-1].item, click))
        return found

    def statistics(self, user: int, item: int, t: int) -> dict[str, float | None]:
        visible = self.visible(t)
        mine = self.clicks(visible, user)
        on_item = [e for e in self.clicks(visible) if e.item == item and e.time_known]
        windows = [window // timedelta(microseconds=1) for window in self.config.statistics.windows]
        timed = [e.time for e in mine if e.time_known]
        followed = [c for previous, c in self.transitions(visible) if mine and previous == mine[-1].item and c.item == item]
        values: dict[str, float | None] = {
            "item_age": (t - min(e.time for e in on_item)) / 1e6 if on_item else None,
            **{name: sum(e.time >= t - w for e in on_item) for name, w in zip(click_counts(self.config.statistics), windows, strict=True)},
            "user_clicks": len(mine),
            "user_gap": (t - max(timed)) / 1e6 if timed else None,
            "user_item_clicks": sum(e.item == item for e in mine),
            "transition_clicks": sum(c.time >= t - windows[-1] for c in followed) if mine else None,
            "hour": datetime.fromtimestamp(t / 1e6, UTC).hour,
            **self.co_clicks(user, item, t),
        }
        if self.has_impressions:
            shown = [e for e, moment in self.impressions if e.time_known and e.time < t and moment < t]
            rate = sum(e.clicked for e in visible if e.time_known) / len(shown) if shown else None
            prior = self.config.statistics.ctr_prior
            impressions = sum(e.item == item for e in shown)
            values["item_ctr"] = None if rate is None else (len(on_item) + prior * rate) / (impressions + prior)
        return values

    def co_clicks(self, user: int, item: int, t: int) -> dict[str, float | None]:
        """Clicks on the item right after any of the newest items of the history, plain and by recency; none where not declared."""
        declared = self.config.statistics.co_clicks
        if declared is None:
            return {}
        plain, recent = (one.name for one in declared.statistics())
        newest_first = [e.item for e in reversed(self.history(user, t))][: declared.history]
        if not newest_first:
            return {plain: None, recent: None}
        since = t - declared.window // timedelta(microseconds=1)
        previous = [before for before, c in self.transitions(self.visible(t)) if c.item == item and c.time >= since]
        followed = {a: previous.count(a) for a in newest_first}
        return {plain: sum(followed.values()), recent: sum(n / (1 + newest_first.index(a)) for a, n in followed.items())}

    def key(self, columns: Sequence[str], e: Event) -> tuple[object, ...] | None:
        """What an event, or a row, is counted under; None where an attribute or the context is missing."""
        known = {"user": e.user, "item": e.item, "device": e.device, "minutes": float(e.minute)}
        known |= {"category": self.category.get(e.item), "segment": self.segment.get(e.user)}
        values = tuple(known[column] for column in columns)
        return None if None in values else values

    def declared(self, one: Statistic, row: Event) -> float | None:
        """A declared statistic of a row: of an event that has not happened yet."""
        t = row.time
        if one.kind == "own":
            return self.co_clicks(row.user, row.item, t)[one.name]
        shown = [e for e, moment in self.impressions if e.time_known and e.time < t and moment < t]
        events = {"clicks": [e for e in self.visible(t) if e.clicked and e.time_known], "impressions": shown}

        def of_key(columns: Sequence[str], event: str) -> list[Event] | None:
            key = self.key(columns, row)
            return None if key is None else [e for e in events[event] if self.key(columns, e) == key]

        def counted(count: Count) -> int | None:
            found = of_key(count.key, count.event)
            since = None if count.window is None else t - count.window // timedelta(microseconds=1)
            return None if found is None else sum(since is None or e.time >= since for e in found)

        if one.kind.startswith("age"):
            times = [e.time for e in of_key(one.key, "clicks") or []]
            return (t - (min(times) if one.kind == "age_of_first" else max(times))) / 1e6 if times else None
        first, *second = [counted(count) for count in one.counts]
        if not second or first is None or second[0] is None:
            return first
        if one.kind == "ratio":
            return first / second[0] if second[0] else None
        if not shown:
            return None
        prior = self.config.statistics.ctr_prior
        return (first + prior * len(events["clicks"]) / len(shown)) / (second[0] + prior)

    def in_window(self, item: int, t: int) -> int:
        """Clicks on an item in the candidates' window."""
        window = self.config.candidates.window // timedelta(microseconds=1)
        return sum(e.item == item and e.time_known and e.time >= t - window for e in self.clicks(self.visible(t)))
