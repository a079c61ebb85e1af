"""What the files of a folder seem to hold: which of them are events, items and users, what their columns are, which windows fit.

Guesses are made of names and of the first rows of some files, and each says what it was made of: somebody who knows the log reads it over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.readers.base import ENDINGS, data_files, file_columns, partition_values, read_partitioned, relative
from feature_store.readers.proposed_split import propose_split
from feature_store.tables.casting import (
    EARLIEST,
    MICROSECOND,
    as_array,
    is_text,
    to_categories,
    to_clicked,
    to_ids,
    to_numbers,
    to_text,
    to_times,
)
from feature_store.tables.contracts import DataError, DataFolderError

FILES_READ = 3  # of each group, whose first rows are looked at
FEW = 200  # values that can be looked at one by one
NUMBERS = 40  # whole numbers, where more of them are different; fewer are names of categories
TELLS = 0.97  # AUC of one column above which it has probably seen the click
TITLES = 20  # titles, where more of them are different; fewer are names of categories
MANY = 2000  # values of a text that are too many for one
USERS = r"^(user|uid|usr|customer|client|visitor|member|account|buyer|reader|person|cookie)(_?(id|hash|key|no))?$"
ITEMS = (
    r"^(item|iid|product|article|click_article|news|ad|advert|content|movie|video|doc|document|sku|asin|listing|song|track|offer)"
    r"(_?(id|key|no))?$"
)
TIMES = r"^(timestamp|time|ts|event_?time|click_?time(stamp)?|click_timestamp|date_?time|created_?at|occurred_?at|logged_?at|date|day|dt)$"
CLICKED = r"^(is_?)?(clicked|click|label|target|y|response|action)$"
REQUESTS = r"^(request|req|impression|imp|search|query|list|page_?view|session)(_?(id|key|no))?$"
INGESTED = r"^(ingested|ingest|received|arrived|loaded|processed)(_?(at|time|timestamp|on))?$"
BEGINS, ENDS = r"from|since|start|begin|effective|updated|changed", r"(^|_)(to|until|end|ends|ended|expir)"
AFTER = r"dwell|duration|time_?spent|read_?time|revenue|purchas|convert|conversion|order|watch_?time|scroll|bounce|bought|paid"
_EARLIEST = pa.scalar(EARLIEST, MICROSECOND).value
LAYOUTS: dict[Literal["mind", "globo", "movielens"], str] = {  # a file that only one known layout has
    "mind": r"(^|/)behaviors\.tsv$",
    "globo": r"^clicks/clicks_hour_\d+\.csv(\.gz)?$",
    "movielens": r"^(ratings\.dat|u\.data|[^/]+\.inter)$",
}


class Column(NamedTuple):
    """A column that has a role, and why."""

    name: str
    why: str


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
    """

    pattern: str
    files: list[Path]
    rows: pa.Table

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
    categorical, multi, dense : list of Column
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
    events, roles = _events(tables, data)
    proposal = Proposal(events, roles)
    taken = {column.name for column in roles.values()}
    inputs = _inputs(events.rows, taken, _clicked(events.rows, roles))
    proposal.categorical, proposal.dense = inputs.categorical, inputs.dense
    if "clicked" not in roles:
        for columns in (inputs.categorical, inputs.dense, inputs.left):
            for column in [column for column in columns if re.search(CLICKED, _words(column.name)) or "click" in _words(column.name)]:
                columns.remove(column)
                proposal.no_clicks.append(column.name)
        roles.pop("request", None)  # what was shown beside a click is not in the log
    proposal.left += [
        *inputs.left,
        *(Column(column.name, f"{column.why}: tables of items and users may have such") for column in inputs.multi),
    ]
    others: list[Table] = []
    twins: list[Table] = []
    for table in tables:
        if table is not events:
            (twins if {"user", "item", "time"} <= _roles(table.rows).keys() else others).append(table)
    proposal.items, others = _described(others, events.values(roles["item"].name), "item", roles["item"].name)
    proposal.users, others = _described(others, events.values(roles["user"].name), "user", roles["user"].name)
    own = set(events.rows.column_names)
    for table in twins:
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
        yield Table(_pattern(paths, data, every), paths, rows)


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


def _events(tables: Sequence[Table], data: Path) -> tuple[Table, dict[str, Column]]:
    """The table with a user, an item and a time; of several the largest."""
    found: list[tuple[int, Table, dict[str, Column]]] = []
    lacking = []
    for table in tables:
        roles = _roles(table.rows)
        missing = [role for role in ("user", "item", "time") if role not in roles]
        if missing:
            lacking.append(f"{table.pattern} has no {' and no '.join(missing)} ({', '.join(table.rows.column_names[:8])})")
        else:
            found.append((sum(path.stat().st_size for path in table.files), table, roles))
    if not found:
        raise DataError(
            f"{data}: no table of events, which has a user, an item and a time, can be told by its names: {'; '.join(lacking[:4])}; "
            "write source.events by hand (docs: your own log)"
        )
    _, table, roles = max(found, key=lambda one: one[0])
    return table, roles


def _roles(rows: pa.Table) -> dict[str, Column]:
    """Columns of an event by their names, where what they hold agrees."""
    checks: dict[str, tuple[str, Callable[[pa.Array], bool]]] = {
        "time": (TIMES, _are_times),
        "clicked": (CLICKED, _are_clicks),
        "ingested": (INGESTED, _are_times),
        "user": (USERS, _are_ids),
        "item": (ITEMS, _are_ids),
        "request": (REQUESTS, _are_ids),
    }
    roles: dict[str, Column] = {}
    for role, (pattern, fits) in checks.items():
        names = [name for name in rows.column_names if re.search(pattern, _words(name)) and name not in {c.name for c in roles.values()}]
        fitting = [name for name in names if fits(as_array(rows[name]))]
        if fitting:
            order = pattern.strip("^$()?")
            name = min(fitting, key=lambda name: (_place(order, name.lower()), len(name)))
            roles[role] = Column(name, "by its name")
    if "clicked" not in roles:
        flags = [name for name in rows.column_names if name not in {c.name for c in roles.values()} and _are_clicks(as_array(rows[name]))]
        if len(flags) == 1 and not re.search(AFTER, flags[0].lower()):
            roles["clicked"] = Column(flags[0], "the only column of zeros and ones")
    if "time" not in roles:
        times = [name for name in rows.column_names if name not in {c.name for c in roles.values()} and _are_times(as_array(rows[name]))]
        if len(times) == 1:
            roles["time"] = Column(times[0], "the only column of times")
    return {role: roles[role] for role in ("user", "item", "time", "clicked", "request", "ingested") if role in roles}


def _words(name: str) -> str:
    """A name in small letters, its words joined by one sign.

    Examples
    --------
    >>> _words("Is Click?")
    'is_click'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


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


def _are_times(column: pa.Array) -> bool:
    try:
        time, empty, bad = to_times(column)
    except TypeError:
        return False
    wrong = empty | bad | (time < _EARLIEST)  # a number may be a price
    return bool(len(column)) and bool(wrong.mean() < 0.01)


def _are_clicks(column: pa.Array) -> bool:
    """Zeros and ones, both."""
    try:
        clicked, bad = to_clicked(column)
    except TypeError:
        return False
    return bool(len(column)) and not bad.any() and 0 < int(clicked.sum()) < len(clicked)


def _clicked(rows: pa.Table, roles: Mapping[str, Column]) -> np.ndarray | None:
    return to_clicked(as_array(rows[roles["clicked"].name]))[0] == 1 if "clicked" in roles else None


class _Inputs(NamedTuple):
    """Columns by what they could be an input as, each with the reason; ``title`` holds one name at most."""

    categorical: list[Column]
    multi: list[Column]
    dense: list[Column]
    title: list[str]
    left: list[Column]


def _inputs(rows: pa.Table, taken: set[str], clicked: np.ndarray | None = None) -> _Inputs:
    """What the columns of a table could be an input as; ``clicked`` (rows,) says what none of them may know."""
    found = _Inputs([], [], [], [], [])
    for name in rows.column_names:
        if name in taken:
            continue
        column, lower = as_array(rows[name]), name.lower()
        kind = column.type
        if re.fullmatch(r"|__index_level_\d+__|unnamed: ?\d+", lower):
            found.left.append(Column(name or "a column without a name", "is the number of the row, as pandas writes it"))
            continue
        if re.search(TIMES, lower) and _are_times(column):
            found.left.append(Column(name, "is another time: what it holds never comes again"))
            continue
        pieces = _pieces(column)
        if pieces is not None and pieces <= MANY:
            found.multi.append(Column(name, f"several values a row, {pieces:,} different ones in {rows.num_rows:,} rows"))
            continue
        if pa.types.is_nested(kind):
            found.left.append(Column(name, f"holds {kind}, which no model reads"))
            continue
        if re.search(AFTER, lower):
            found.left.append(
                Column(name, "looks like something that is known after the click only; what is not known at a request must not be read")
            )
            continue
        if clicked is not None and 0 < column.null_count < len(column) and np.array_equal(np.asarray(column.is_valid()), clicked):
            found.left.append(Column(name, "is filled where a row was clicked and nowhere else: it knows the answer"))
            continue
        text, bad = to_categories(column)
        values = text.filter(pa.array(~bad)).drop_null()
        count = pc.count_distinct(values).as_py()
        if clicked is not None and tells_click(column, clicked) > TELLS:
            found.left.append(Column(name, "tells clicked rows from the others all by itself: is it written after the click?"))
            continue
        if count < 2:
            found.left.append(Column(name, "has one value or none in the rows that were looked at"))
        elif not found.title and count > TITLES and re.search(r"title|name|headline", lower) and not _is_number(column):
            found.title.append(name)
        elif _is_number(column) and (count > NUMBERS or _has_fractions(column)):
            (found.left if _is_unique(count, len(values)) and pa.types.is_integer(kind) else found.dense).append(
                Column(name, f"numbers, {count:,} different ones in {rows.num_rows:,} rows")
            )
        elif count <= MANY and count <= max(2, len(values) / 2):
            found.categorical.append(Column(name, f"{count:,} different values in {rows.num_rows:,} rows"))
        elif _is_number(column) and not _is_unique(count, len(values)):
            found.dense.append(Column(name, f"numbers, {count:,} different ones in {rows.num_rows:,} rows"))
        else:
            found.left.append(
                Column(name, f"{count:,} different values in {rows.num_rows:,} rows: too many to learn from, too few rows of each")
            )
    return found


def tells_click(column: pa.Array, clicked: np.ndarray) -> float:
    """AUC of a column's values, by their numbers or by the share of clicked rows of each; .5 for a column of too many values.

    Examples
    --------
    >>> tells_click(pa.array(["landed", "bounced", "landed"]), np.array([True, False, True]))
    1.0
    """
    scores = [to_numbers(column)[0].fill_null(0).to_numpy(zero_copy_only=False)] if _is_number(column) else []
    code = to_categories(column)[0].fill_null("").dictionary_encode().indices.to_numpy(zero_copy_only=False)
    shown = np.bincount(code)
    if len(shown) <= min(FEW, len(clicked) / 20 + 2):
        scores.append((np.bincount(code, clicked) / shown)[code])
    return max((_auc(score, clicked) for score in scores), default=0.5)


def _auc(score: np.ndarray, clicked: np.ndarray) -> float:
    """Of a score or its reverse (Mann-Whitney, ties by half); .5 where all rows are alike."""
    positive = int(clicked.sum())
    if not 0 < positive < len(clicked):
        return 0.5
    _, rank, ties = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(ties) - (ties - 1) / 2
    auc = (middle[rank][clicked].sum() - positive * (positive + 1) / 2) / (positive * (len(clicked) - positive))
    return float(max(auc, 1 - auc))


def _is_number(column: pa.Array) -> bool:
    if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        return False
    try:
        _, bad = to_numbers(column)
    except TypeError:
        return False
    return not bad.any()


def _pieces(column: pa.Array) -> int | None:
    """How many different values the lists of a column, or its texts between bars, hold; None where it holds neither."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if not (is_text(kind.value_type) or pa.types.is_integer(kind.value_type)):
            return None
        return int(pc.count_distinct(pc.list_flatten(column)).as_py())
    try:
        text = to_text(column)[0].drop_null()
    except TypeError:
        return None
    if not len(text) or pc.mean(pc.match_substring(text, "|").cast(pa.float64())).as_py() < 0.1:
        return None
    return int(pc.count_distinct(pc.list_flatten(pc.split_pattern(text, "|"))).as_py())


def _has_fractions(numbers: pa.Array) -> bool:
    values = to_numbers(numbers)[0].drop_null().to_numpy(zero_copy_only=False)
    return bool((values != np.floor(values)).any())


def _is_unique(count: int, rows: int) -> bool:
    return rows > 20 and count > 0.95 * rows


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
        one for one in table.rows.column_names if one != name and not re.search(ENDS, one.lower()) and _are_times(as_array(table.rows[one]))
    ]
    begins = [one for one in times if re.search(BEGINS, one.lower())]
    time = next(iter(begins or times), None) if several else None
    dated = None if time is None else Column(time, f"one {kind} has several rows: each holds from this time on")
    inputs = _inputs(table.rows, {name} | ({time} if time else set()))
    if time is not None:  # when a row ends is known once the next one is there
        for columns in (inputs.categorical, inputs.dense):
            for one in [one for one in columns if _are_times(as_array(table.rows[one.name]))]:
                columns.remove(one)
                inputs.left.append(Column(one.name, "is another time of the row: an end is not known before it comes"))
    categorical, multi, dense, title, left = inputs
    if time is not None:
        left += [Column(column.name, f"{column.why}: only undated tables may have such") for column in multi]
        multi = []
    if several and time is None:
        left.append(Column(name, f"warning: one {kind} has several rows and no column says from when on; the last one of each counts"))
    key = Column(name, f"describes {share:.0%} of the {kind}s that were looked at")
    described = Described(table, key, dated, categorical, multi, dense, title[0] if title else None, left)
    return described, [one for one in tables if one is not table]


def _without_twins(proposal: Proposal) -> None:
    """Of columns that are called the same, of the log and of its tables, one stays: no two may have one name."""
    seen = {column.name.lower() for column in (*proposal.categorical, *proposal.dense)}
    for described in (proposal.items, proposal.users):
        for columns in () if described is None else (described.categorical, described.multi, described.dense):
            for column in [column for column in columns if column.name.lower() in seen]:
                columns.remove(column)
                assert described is not None  # noqa: S101
                described.left.append(Column(column.name, "is called as another column of the log; rename one of them to have both"))
            seen |= {column.name.lower() for column in columns}
