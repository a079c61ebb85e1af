"""What the files of a folder seem to hold: which of them are events, items and users, what their columns are, which windows fit.

Guesses are made of names and of the first rows of some files, and each says what it was made of: somebody who knows the log reads it over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.readers.base import ENDINGS, data_files, file_columns, partition_values, read_partitioned, relative
from feature_store.readers.proposed_inputs import AFTER, TIMES, Column, are_times, inputs_of, words_of
from feature_store.readers.proposed_split import propose_split
from feature_store.tables.casting import as_array, to_clicked, to_ids, to_text
from feature_store.tables.contracts import DataError, DataFolderError

FILES_READ = 3  # of each group, whose first rows are looked at
USERS = r"^(user|uid|usr|customer|client|visitor|member|account|buyer|reader|person|cookie)(_?(id|hash|key|no))?$"
ITEMS = (
    r"^(item|iid|product|article|click_article|news|ad|advert|content|movie|video|doc|document|sku|asin|listing|song|track|offer)"
    r"(_?(id|key|no))?$"
)
CLICKED = r"^(is_?)?(clicked|click|label|target|y|response|action)$"
REQUESTS = r"^(request|req|impression|imp|search|query|list|page_?view|session)(_?(id|key|no))?$"
INGESTED = r"^(ingested|ingest|received|arrived|loaded|processed)(_?(at|time|timestamp|on))?$"
BEGINS, ENDS = r"from|since|start|begin|effective|updated|changed", r"(^|_)(to|until|end|ends|ended|expir)"
LAYOUTS: dict[Literal["mind", "globo", "movielens"], str] = {  # a file that only one known layout has
    "mind": r"(^|/)behaviors\.tsv$",
    "globo": r"^clicks/clicks_hour_\d+\.csv(\.gz)?$",
    "movielens": r"^(ratings\.dat|u\.data|[^/]+\.inter)$",
}


@dataclass
class Table:
    """Files with the same columns, and what was seen of them.

    Attributes
    ----------
    pattern : str
        Names them all below the data folder.
    files : list of Path
    rows : pa.Table
        The first rows of some of them.
    roles : dict of str to Column
        What their columns would be if they held events.
    """

    pattern: str
    files: list[Path]
    rows: pa.Table
    roles: dict[str, Column]

    @property
    def lacks(self) -> list[str]:
        """What a table of events must have, and this has not."""
        return [role for role in ("user", "item", "time") if role not in self.roles]

    def values(self, name: str) -> pa.Array:
        """Ids of a column as text, null left out."""
        try:
            values, bad = to_ids(as_array(self.rows[name]))
        except TypeError:
            return pa.array([], pa.string())
        return values.filter(pa.array(~bad)).drop_null().cast(pa.string())


@dataclass
class Described:
    """A table of items or users.

    Attributes
    ----------
    table : Table
    key : Column
    time : Column, optional
        Where one id has several rows.
    categorical, multi, dense, vector : list of Column
    text : str, optional
        Titles.
    left : list of Column
        Columns that are not used.
    """

    table: Table
    key: Column
    time: Column | None
    categorical: list[Column] = field(default_factory=list)
    multi: list[Column] = field(default_factory=list)
    dense: list[Column] = field(default_factory=list)
    vector: list[Column] = field(default_factory=list)
    text: str | None = None
    left: list[Column] = field(default_factory=list)


@dataclass
class Proposal:
    """What a configuration may say of a folder.

    Attributes
    ----------
    events : Table
    roles : dict of str to Column
        ``user``, ``item``, ``time``, and where they were found ``clicked``, ``request``, ``ingested``.
    categorical, dense : list of Column
        Of the context.
    left : list of Column
        Columns of the events that are not used.
    items, users : Described, optional
    split : dict of str to str
        ``train``, ``validation`` and ``test``, or ``fractions``.
    split_why : str
    unknown : list of Column
        Patterns of files of which nothing is used, and why.
    no_clicks : list of str
        Columns that are called as clicks are and hold something else; with any, the log must not be taken for one of clicks only.
    """

    events: Table
    roles: dict[str, Column]
    categorical: list[Column] = field(default_factory=list)
    dense: list[Column] = field(default_factory=list)
    left: list[Column] = field(default_factory=list)
    items: Described | None = None
    users: Described | None = None
    split: dict[str, str] = field(default_factory=dict)
    split_why: str = ""
    unknown: list[Column] = field(default_factory=list)
    no_clicks: list[str] = field(default_factory=list)


def known_layout(data: Path) -> Literal["mind", "globo", "movielens"] | None:
    """The reader of a folder in one of the layouts that have a reader of their own."""
    names = [relative(path, data) for path in data_files(data, "**/*")]
    return next((reader for reader, pattern in LAYOUTS.items() if any(re.search(pattern, name) for name in names)), None)


def propose(data: Path, report: Callable[[str], object] = lambda line: None) -> Proposal:
    """Look at the files below a folder.

    Parameters
    ----------
    data : Path
    report : callable
        Takes a line at a time of what is being looked at.

    Raises
    ------
    DataError
        When no table of events is found, in a line that says what is lacking.
    """
    tables = list(_tables(data, report))
    if not tables:
        raise DataFolderError(f"{data}: holds no file that ends in {', '.join(ENDINGS)}")
    events = _events(tables, data)
    roles = events.roles
    proposal = Proposal(events, roles)
    taken = {column.name for column in roles.values()}
    inputs = inputs_of(events.rows, taken, _clicked(events.rows, roles))
    proposal.categorical, proposal.dense = inputs.categorical, inputs.dense
    if "clicked" not in roles:
        for columns in (inputs.categorical, inputs.dense, inputs.left):
            for column in [column for column in columns if re.search(CLICKED, words_of(column.name)) or "click" in words_of(column.name)]:
                columns.remove(column)
                proposal.no_clicks.append(column.name)
        roles.pop("request", None)  # what was shown beside a click is not in the log
    proposal.left += [
        *inputs.left,
        *(Column(column.name, f"{column.why}: tables of items and users may have such") for column in (*inputs.multi, *inputs.vector)),
    ]
    more_events = [table for table in tables if table is not events and not table.lacks]
    others = [table for table in tables if table.lacks]
    proposal.items, others = _described(others, events.values(roles["item"].name), "item", roles["item"].name)
    proposal.users, others = _described(others, events.values(roles["user"].name), "user", roles["user"].name)
    own = set(events.rows.column_names)
    for table in more_events:
        names = set(table.rows.column_names)
        lacks, more = (", ".join(sorted(found)) or "nothing" for found in (own - names, names - own))
        why = f"looks like events with other columns (lacks {lacks}; has {more} more): give all files of events the same, or name it apart"
        proposal.unknown.append(Column(table.pattern, why))
    described = [one.table for one in (proposal.items, proposal.users) if one is not None]
    for table in others:
        proposal.unknown.append(Column(table.pattern, _why_unknown(table, described)))
    _without_twins(proposal)
    report(f"counts the clicks of {len(events.files)} files by time")
    read = {"timestamp": roles["time"].name} | ({"clicked": roles["clicked"].name} if "clicked" in roles else {})
    batches = (batch for path in events.files for batch in read_partitioned(path, relative(path, data), "events", read))
    proposal.split, proposal.split_why = propose_split(batches)
    return proposal


def _why_unknown(table: Table, described: Sequence[Table]) -> str:
    names = set(table.rows.column_names)
    for other in described:
        if shared := sorted(names & set(other.rows.column_names)):
            return f"shares {shared[0]} with {other.pattern}, and only one table of each kind is read: join the two to have both"
    return "its ids are none of those that were looked at"


def _tables(data: Path, report: Callable[[str], object]) -> Iterator[Table]:
    """Files below a folder by their columns, in the order of their names."""
    groups: dict[frozenset[str], list[Path]] = {}
    order: dict[frozenset[str], list[str]] = {}
    for path in data_files(data, "**/*"):
        if path.name.endswith(ENDINGS):
            file = relative(path, data)
            columns = list(dict.fromkeys((*file_columns(path, file), *partition_values(file))))
            order.setdefault(frozenset(columns), columns)
            groups.setdefault(frozenset(columns), []).append(path)
    every = [path for paths in groups.values() for path in paths]
    for key, paths in groups.items():
        columns = order[key]
        report(f"looks at {relative(paths[0], data)}" + (f" and {len(paths) - 1} more with its columns" if len(paths) > 1 else ""))
        chosen = sorted({0, len(paths) // 2, len(paths) - 1})[:FILES_READ]
        batches = [
            next(read_partitioned(paths[n], relative(paths[n], data), "events", {name: name for name in columns}), None) for n in chosen
        ]
        tables = [pa.table({name: as_array(batch.table[name]) for name in columns}) for batch in batches if batch is not None]
        rows = _joined(tables)
        yield Table(_pattern(paths, data, every), paths, rows, _roles(rows))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of tables with the same columns, one after the other; where their types differ, as text."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in tables[0].column_names if tables else ():
        parts = [as_array(table[name]) for table in tables]
        if len({part.type for part in parts}) > 1 and not any(pa.types.is_nested(part.type) for part in parts):
            parts = [to_text(part)[0] for part in parts]
        if len({part.type for part in parts}) == 1:  # lists of different things cannot be looked at together
            columns[name] = pa.chunked_array(parts)
    return pa.table(columns)


def _pattern(paths: Sequence[Path], data: Path, every: Sequence[Path]) -> str:
    """A pattern below the data folder that names these files, and no other if one can be found."""
    names = [relative(path, data) for path in paths]
    if len(names) == 1:
        return names[0]
    ending = next(ending for ending in sorted(ENDINGS, key=len, reverse=True) if names[0].endswith(ending))
    folders = {name.rpartition("/")[0] for name in names}
    begin = next(iter(folders)) + "/" if len(folders) == 1 and "" not in folders else ""
    if len(folders) > 1:
        shared = [parts[0] for parts in zip(*(name.split("/")[:-1] for name in names), strict=False) if len(set(parts)) == 1]
        begin = "".join(f"{part}/" for part in shared) + "**/"
    stem = _common_beginning([name.rpartition("/")[2] for name in names])
    patterns = [f"{begin}*{ending}", f"{begin}{stem}*{ending}", f"{begin}*", f"{begin}{stem}*"]
    for pattern in patterns:
        found = set(data_files(data, pattern))
        if found.issuperset(paths) and not (found & set(every)) - set(paths):
            return pattern
    return next((pattern for pattern in patterns if set(data_files(data, pattern)).issuperset(paths)), patterns[-1])


def _common_beginning(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    same = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), min(len(first), len(last)))
    return first[:same]


def _events(tables: Sequence[Table], data: Path) -> Table:
    """The table with a user, an item and a time; of several the largest."""
    found = [table for table in tables if not table.lacks]
    if found:
        return max(found, key=lambda table: sum(path.stat().st_size for path in table.files))
    lacking = [f"{one.pattern} has no {' and no '.join(one.lacks)} ({', '.join(one.rows.column_names[:8])})" for one in tables[:4]]
    raise DataError(
        f"{data}: no table of events, which has a user, an item and a time, can be told by its names: {'; '.join(lacking)}; "
        "write source.events by hand (docs: your own log)"
    )


def _roles(rows: pa.Table) -> dict[str, Column]:
    """Columns of an event by their names, where what they hold agrees."""
    checks: dict[str, tuple[str, Callable[[pa.Array], bool]]] = {
        "time": (TIMES, are_times),
        "clicked": (CLICKED, _are_clicks),
        "ingested": (INGESTED, are_times),
        "user": (USERS, _are_ids),
        "item": (ITEMS, _are_ids),
        "request": (REQUESTS, _are_ids),
    }
    roles: dict[str, Column] = {}

    def free(fits: Callable[[pa.Array], bool], pattern: str = "") -> list[str]:
        """Columns without a role whose values fit, and whose names do."""
        taken = {column.name for column in roles.values()}
        named = (name for name in rows.column_names if name not in taken and re.search(pattern, words_of(name)))
        return [name for name in named if fits(as_array(rows[name]))]

    for role, (pattern, fits) in checks.items():
        if fitting := free(fits, pattern):
            order = pattern.strip("^$()?")
            roles[role] = Column(min(fitting, key=lambda name: (_place(order, name.lower()), len(name))), "by its name")
    if "clicked" not in roles:
        flags = free(_are_clicks)
        if len(flags) == 1 and not re.search(AFTER, flags[0].lower()):
            roles["clicked"] = Column(flags[0], "the only column of zeros and ones")
    if "time" not in roles:
        times = free(are_times)
        if len(times) == 1:
            roles["time"] = Column(times[0], "the only column of times")
    return {role: roles[role] for role in ("user", "item", "time", "clicked", "request", "ingested") if role in roles}


def _place(order: str, name: str) -> int:
    """Where a word of a pattern's alternatives occurs that a name begins with."""
    words = re.findall(r"[a-z]+", order)
    return min((n for n, word in enumerate(words) if name.startswith(word)), default=len(words))


def _are_ids(column: pa.Array) -> bool:
    try:
        values, bad = to_ids(column)
    except TypeError:
        return False
    return bool(len(column)) and not bad.any() and values.null_count < len(column) / 2


def _are_clicks(column: pa.Array) -> bool:
    """Zeros and ones, both."""
    try:
        clicked, bad = to_clicked(column)
    except TypeError:
        return False
    return bool(len(column)) and not bad.any() and 0 < int(clicked.sum()) < len(clicked)


def _clicked(rows: pa.Table, roles: Mapping[str, Column]) -> np.ndarray | None:
    return to_clicked(as_array(rows[roles["clicked"].name]))[0] == 1 if "clicked" in roles else None


def _described(tables: Sequence[Table], ids: pa.Array, kind: str, column: str) -> tuple[Described | None, list[Table]]:
    """The table that describes most of some ids, which the events have in a column, and the others."""
    known = pc.unique(ids)
    own, other = (ITEMS, USERS) if kind == "item" else (USERS, ITEMS)
    found = []
    for place, table in enumerate(tables):
        for name in table.rows.column_names:
            values, lower = pc.unique(table.values(name)), name.lower()
            if len(values) < 2 or not len(known) or (re.search(other, lower) and name != column):
                continue  # small numbers are ids of anything: a name that says so decides
            share = pc.mean(pc.is_in(known, value_set=values).cast(pa.float64())).as_py()
            if share > 0.2:
                once = pc.count_distinct(table.values(name)).as_py() == len(table.values(name))
                found.append((name == column, bool(re.search(own, lower)), once, share, -place, name))
    if not found:
        return None, list(tables)
    *_, share, place, name = max(found)
    table = tables[-place]
    if not any(pa.types.is_nested(field.type) for field in table.rows.schema):
        table.rows = table.rows.group_by(table.rows.column_names).aggregate([])  # a row that is there twice says nothing twice
    values = table.values(name)
    several = pc.count_distinct(values).as_py() < len(values)
    times = [
        one for one in table.rows.column_names if one != name and not re.search(ENDS, one.lower()) and are_times(as_array(table.rows[one]))
    ]
    begins = [one for one in times if re.search(BEGINS, one.lower())]
    time = next(iter(begins or times), None) if several else None
    dated = None if time is None else Column(time, f"one {kind} has several rows: each holds from this time on")
    inputs = inputs_of(table.rows, {name} | ({time} if time else set()))
    if time is not None:  # when a row ends is known once the next one is there
        for columns in (inputs.categorical, inputs.dense):
            for one in [one for one in columns if are_times(as_array(table.rows[one.name]))]:
                columns.remove(one)
                inputs.left.append(Column(one.name, "is another time of the row: an end is not known before it comes"))
    categorical, multi, dense, vector, title, left = inputs
    if time is not None:
        left += [Column(column.name, f"{column.why}: only undated tables may have such") for column in (*multi, *vector)]
        multi, vector = [], []
    if several and time is None:
        left.append(Column(name, f"warning: one {kind} has several rows and no column says from when on; the last one of each counts"))
    key = Column(name, f"describes {share:.0%} of the {kind}s that were looked at")
    described = Described(table, key, dated, categorical, multi, dense, vector, title[0] if title else None, left)
    return described, [one for one in tables if one is not table]


def _without_twins(proposal: Proposal) -> None:
    """Of columns that are called the same, of the log and of its tables, one stays: no two may have one name."""
    seen = {column.name.lower() for column in (*proposal.categorical, *proposal.dense)}
    for described in (proposal.items, proposal.users):
        for columns in () if described is None else (described.categorical, described.multi, described.dense, described.vector):
            for column in [column for column in columns if column.name.lower() in seen]:
                columns.remove(column)
                assert described is not None  # noqa: S101
                described.left.append(Column(column.name, "is called as another column of the log; rename one of them to have both"))
            seen |= {column.name.lower() for column in columns}
