"""What of a log will not fit its configuration, as far as the first rows of its files say; nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.config import SourceConfig, SplitConfig
from feature_store.config_types import duration_text
from feature_store.readers import log_reader
from feature_store.readers.base import relative
from feature_store.readers.proposed_inputs import TELLS, tells_click
from feature_store.readers.tabular import TabularReader
from feature_store.tables.casting import as_array
from feature_store.tables.column_names import check_names
from feature_store.tables.contracts import ContractCheck, DataError, Kind, LogContract, LogReader, Rejected

FILES_READ, BATCHES_READ = 3, 4  # files of each kind, and batches of each file
MANY = 1000  # values of a category, if it has so many in the first rows, of which nearly each is another


@dataclass
class Findings:
    """What looking at a log came to.

    Attributes
    ----------
    seen : list of str
        What was looked at.
    faults : list of str
        What will not fit.
    doubts : list of str
        What fits, but is probably not what was meant.
    """

    seen: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def check_log(source: SourceConfig, split: SplitConfig, data: Path | None, now: datetime | None = None) -> Findings:
    """Look at the names of all files' columns, and at the first rows of some files of each kind.

    Parameters
    ----------
    source : SourceConfig
    split : SplitConfig
    data : Path, optional
        The data folder; None for a log without files.
    now : datetime, optional
        Rows from a day later than this lie in the future; the wall clock by default.
    """
    found = Findings()
    try:
        reader = log_reader(source, data)
        files, contract = reader.files(), reader.contract()
        check_names(contract)
    except DataError as error:
        found.faults.append(str(error))
        return found
    found.seen.append(f"{len(files)} files" if files else "a log that needs no files")
    broken: set[Path] = set()
    if isinstance(reader, TabularReader):
        told: Counter[str] = Counter()
        for path, lacks in reader.lacking(files):
            broken |= {path} if lacks else set()
            for what in lacks:
                told[what] += 1
                if told[what] == 1:
                    found.faults.append(f"{relative(path, data) if data else path}: {what}")
        found.faults = [
            f"{line} (so in {told[line.partition(': ')[2]]} files)" if told[line.partition(": ")[2]] > 1 else line for line in found.faults
        ]
    rows = _first_rows(reader, [path for path in files if path not in broken], contract, source, found, now, data)
    if "events" in rows:
        _look_at_events(rows["events"], contract, split, found)
        for kind, key in (("items", "item_id"), ("users", "user_id")):
            if kind in rows:
                _look_at_described(rows["events"], rows[kind], key, found)
    elif not found.faults:
        found.faults.append("no row of an event was read; check `source` and the data folder")
    return found


def _first_rows(
    reader: LogReader,
    files: Sequence[Path],
    contract: LogContract,
    source: SourceConfig,
    found: Findings,
    now: datetime | None,
    data: Path | None,
) -> dict[Kind, pa.Table]:
    """The good first rows of some files of each kind, and what is wrong with the others."""
    check = ContractCheck(contract, now)
    tables: dict[Kind, list[pa.Table]] = {}
    for path in _some(reader, files) if files else [None]:
        name = "the log" if path is None or data is None else relative(path, data)
        try:
            rejected: list[Rejected] = []
            counts: Counter[Kind] = Counter()
            for batch in islice(reader.read([] if path is None else [path]), BATCHES_READ):
                rows, bad = check.split(batch)
                tables.setdefault(batch.kind, []).append(rows)
                counts[batch.kind] += rows.num_rows
                rejected += bad
        except DataError as error:
            found.faults.append(str(error))
            continue
        told = " and ".join(f"{count:,} {kind}" for kind, count in counts.items())
        found.seen.append(f"{name}: {told} looked at")
        few = len(rejected) <= source.bad_rows_limit * (counts.total() + len(rejected))
        (found.doubts if few else found.faults).extend(_rejected(name, counts.total(), rejected, source.bad_rows_limit))
    return {kind: pa.concat_tables([_text_ids(table) for table in some]) for kind, some in tables.items()}


def _some(reader: LogReader, files: Sequence[Path]) -> list[Path]:
    """First, middle and last file of each kind."""
    kinds = reader.kinds() if isinstance(reader, TabularReader) else {}
    groups: dict[Kind, list[Path]] = {}
    for path in files:
        groups.setdefault(kinds.get(path, "events"), []).append(path)
    if not isinstance(reader, TabularReader) and len(files) <= 2 * FILES_READ:
        return list(files)  # a file of each kind
    return [paths[n] for paths in groups.values() for n in sorted({0, len(paths) // 2, len(paths) - 1})[:FILES_READ]]


def _rejected(file: str, good: int, rejected: Sequence[Rejected], limit: float) -> Iterator[str]:
    """What breaks the contract, reason by reason, where it is more than is allowed."""
    rows = good + len(rejected)
    reasons = Counter(one.reason for one in rejected)
    first = {reason: next(one for one in rejected if one.reason == reason) for reason in reasons}
    for reason, count in reasons.most_common():
        allowed = f"source.bad_rows_limit allows {limit:.2%} of them"
        yield f"{file}: {reason} in {count:,} of {rows:,} rows, first in row {first[reason].line}; {allowed}"


def _text_ids(rows: pa.Table) -> pa.Table:
    for name in ("user_id", "item_id", "request_id"):
        if name in rows.column_names:
            rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.string()))
    return rows


def _look_at_events(events: pa.Table, contract: LogContract, split: SplitConfig, found: Findings) -> None:
    if not events.num_rows:
        return
    events = (
        events.filter(events["time_known"]) if pc.any(events["time_known"]).as_py() else events
    )  # listed histories are clicks by nature
    if contract.types is not None:
        codes = set(events["type_code"].to_pylist())
        named = contract.types.by_code
        found.doubts += [
            f"no event of type {name!r} is among the rows that were looked at; is it called so in source.events.type?"
            for code, name in named.items()
            if code not in codes
        ]
        events = events.filter(events["clicked"].is_valid())  # the others have no label
        if not events.num_rows:
            return
    clicked = events["clicked"].to_numpy()
    if contract.has_impressions and clicked.min() == clicked.max():
        repair = "leave source.events.clicked out where the log holds clicks only" if clicked.min() else "is it the right column?"
        found.faults.append(f"events: {'every' if clicked.min() else 'no'} row that was looked at is clicked; {repair}")
    first, last = (pc.min_max(events["timestamp"]).as_py()[end] for end in ("min", "max"))
    if not contract.has_impressions:
        found.seen.append("a log of clicks only: every row counts as a click (source.events.clicked names a column that says otherwise)")
    windows = [window for window in (split.train, split.validation, split.test) if window is not None]
    if windows and sum(windows, timedelta(0)) > (last - first) + timedelta(days=1):
        asked, there = duration_text(sum(windows, timedelta(0))), f"{(last - first).total_seconds() / 86_400:.1f} days"
        found.doubts.append(f"the windows of `split` are {asked} together, and the rows that were looked at cover {there}")
    found.seen.append(f"times from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {int(clicked.sum()):,} clicks")
    if split.test_until is not None and split.test_until <= first:
        found.faults.append(f"split.test_until ({split.test_until:%Y-%m-%d %H:%M}) is before the first event ({first:%Y-%m-%d %H:%M})")
    for name in contract.context.categorical:
        column = as_array(events[name])
        count = pc.count_distinct(column).as_py()
        if count > MANY and count > 0.5 * (len(column) - column.null_count):
            found.doubts.append(
                f"context column {name} has {count:,} different values in {len(column):,} rows: nothing can be learned of one"
            )
    for name in (*contract.context.categorical, *contract.context.dense):
        column = as_array(events[name])
        if column.null_count == len(column):
            found.doubts.append(f"context column {name} is null in all rows that were looked at")
        elif contract.has_impressions and column.null_count and np.array_equal(np.asarray(column.is_valid()), clicked == 1):
            found.faults.append(f"context column {name} is filled where a row was clicked and nowhere else: it knows the answer; remove it")
        elif contract.has_impressions and tells_click(column, clicked == 1) > TELLS:
            found.doubts.append(f"context column {name} tells clicked rows from the others all by itself: is it written after the click?")


def _look_at_described(events: pa.Table, described: pa.Table, key: str, found: Findings) -> None:
    known = pc.is_in(pc.unique(events[key]), value_set=as_array(described[key])).to_numpy(zero_copy_only=False)
    if len(known) and not known.any():
        of_log, of_file = (table[key][0].as_py() if table.num_rows else None for table in (events, described))
        found.doubts.append(
            f"none of the {len(known):,} {key} that were looked at is described: those of the log look like {of_log!r}, "
            f"those of the file like {of_file!r}"
        )
