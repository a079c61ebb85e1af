"""Ingestion: raw files into partitions by event date, all of them or none.

A run reads the files that are new or changed, types their rows, stages them by date, merges each affected date with the
partition that is stored, and commits everything at once. What results is a function of the input files alone: not of the
order in which they arrived, nor of how often or when this ran. Files that vanished keep their rows: raw logs are rotated. Only a table
of a lake is as its version says: where a later one has other files in place of some, their rows are replaced.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from feature_store.config import SourceConfig
from feature_store.readers import log_reader
from feature_store.readers.base import relative
from feature_store.readers.lake_tables import TableVersion
from feature_store.readers.tabular import TabularReader
from feature_store.store.manifests import CONTRACT, LEDGER, MANIFEST, InputFile, Ledger, StoredLogContract, TableManifest, read_sealed
from feature_store.store.merge import key_of, merge_part, sort_engine
from feature_store.store.quarantine import FILE, Rejects, files_behind, write_failed, write_quarantine
from feature_store.store.staging import Part, Staging
from feature_store.store.store import Store, Transaction, finish_commit, storage_errors
from feature_store.tables.casting import as_array, to_text
from feature_store.tables.column_names import check_names
from feature_store.tables.contracts import (
    ID_COLUMNS,
    ContractCheck,
    DataError,
    DataFolderError,
    Kind,
    LogContract,
    LogReader,
    RawBatch,
    Rejected,
    latest_time,
    row_text,
    schema,
)
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import spaced_digest_of
from feature_store.tables.vectors import TITLE_VECTOR, stored_widths

FORMAT = 1  # of the store; another number makes every store be built anew
VALUES = 2  # what raw values mean; another number makes every file that is still there be read again
_IDS = ("user_id", "item_id", "request_id")
_SILENCE = 5  # seconds without a word at most
Report = Callable[[str], None]


@dataclass(frozen=True)
class IngestSummary:
    """What one ingestion did.

    Parameters
    ----------
    files : int
        Input files that were read; 0 when everything was known already.
    rows_read, rows_stored, rows_quarantined : int
        All rows of these files; of them those that entered the store; those that were rejected.
    reasons : dict of str to int
        Rejected rows by reason.
    partitions_written : list of str
        Dates whose partition was written or taken away.
    partitions_unchanged : int
    seconds : float
    """

    files: int = 0
    rows_read: int = 0
    rows_stored: int = 0
    rows_quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    partitions_written: list[str] = field(default_factory=list)
    partitions_unchanged: int = 0
    seconds: float = 0.0


class TitleVectors(Protocol):
    """What makes vectors of titles.

    Attributes
    ----------
    digest : str
        Of all that decides the vectors: with another one the files of items are read again.
    """

    digest: str

    def of(self, titles: pa.Array) -> pa.Array:
        """Lists of numbers, all of one length, of texts; null of null."""


@dataclass(frozen=True)
class _Plan:
    """What to read, and what the store has."""

    contract: LogContract
    identity: str  # of the reader, its settings and the contract: a store holds one log
    digests: dict[str, str]  # sha256 of every input
    read: list[Path]
    reread: set[str]  # names of the files whose rows leave the store: those read again, and those that a table has no more
    kept: dict[str, InputFile]  # ledger entries of the other files
    fresh: bool  # nothing of the present store is used
    encoder: str | None  # digest of what makes vectors of titles
    table: TableVersion | None  # of which the events are


def ingest(
    source: SourceConfig,
    data: Path | None,
    store: Store,
    failed: Path,
    report: Report = lambda line: None,
    *,
    now: datetime | None = None,
    titles: TitleVectors | None = None,
) -> IngestSummary:
    """Bring the store up to date with the input files.

    Parameters
    ----------
    source : SourceConfig
        Reader and its settings.
    data : Path or None
        The data folder; None for the simulated log.
    store : Store
        Is created when absent. When another reader or other settings made it, it is replaced.
    failed : Path
        Folder for the rejected rows of an ingestion that fails for them.
    report : callable
        Takes one line at a time of what is going on.
    now : datetime, optional
        Rows from a day later than this lie in the future; the wall clock by default.
    titles : TitleVectors, optional
        Makes the vectors of items' titles, where the settings ask for them.

    Raises
    ------
    DataError
        When inputs are missing or damaged, or more rows than ``source.bad_rows_limit`` are rejected. The store is as it was.
    StorageError
        When the disk is full or refuses. The store is as it was.
    """
    started = time.monotonic()
    with storage_errors(store.root):
        finish_commit(store.root)  # first of all: an interrupted store is whole again even if the input is not
        data = Path(data) if data is not None else None
        reader = log_reader(source, data)
        paths = reader.files()
    with storage_errors(store.root), Transaction(store) as transaction:
        plan = _plan(reader, paths, data, store, latest_time(now), None if titles is None else titles.digest)
        _tell_changes(plan, store, report)
        if not plan.read and not plan.reread and plan.kept:
            report(f"nothing new: {len(plan.digests) or 1} inputs are as they were")
            return IngestSummary(partitions_unchanged=len(store.dates()), seconds=time.monotonic() - started)
        with closing(_Run(plan, store, transaction, limit=source.bad_rows_limit, failed=Path(failed), report=report)) as run:
            run.stage(_with_title_vectors(reader.read(plan.read), titles), ContractCheck(plan.contract, now, _stored_widths(plan, store)))
            summary = run.merge()
        transaction.commit()
        shutil.rmtree(failed, ignore_errors=True)  # what an earlier failure left there is settled
    seconds = time.monotonic() - started
    counts = f"{summary.rows_stored:,} rows stored, {summary.rows_quarantined:,} in quarantine"
    report(f"{counts}, {len(summary.partitions_written)} partitions written in {seconds:.1f} s")
    return replace(summary, seconds=seconds)


def _tell_changes(plan: _Plan, store: Store, report: Report) -> None:
    ledger = store.ledger
    gone = plan.kept.keys() - plan.digests.keys() if plan.digests else ()
    replaced = plan.reread - plan.digests.keys()
    if plan.table is not None:
        report(f"the events are {plan.table.name}, {len(plan.table.files)} files")
    if plan.fresh and ledger is not None:
        report("the store was made by another reader, or of other columns or settings: it is replaced")
    elif ledger is not None and ledger.values != VALUES and plan.reread:
        report("values are read by other rules than in the release before (12.0 is 12, True is true): all files are read again")
    if replaced:
        report(f"{len(replaced)} files of earlier ingestions are not of this version; their rows go")
    if gone:
        report(f"{len(gone)} files of earlier ingestions are not there any more; their rows stay")


def _plan(reader: LogReader, paths: list[Path], data: Path | None, store: Store, latest: int, encoder: str | None) -> _Plan:
    contract = reader.contract()
    check_names(contract)
    identity = spaced_digest_of([FORMAT, reader.fingerprint(), contract.to_json()])
    names = {relative(path, data): path for path in paths}
    digests = {name: sha256_of(path) for name, path in names.items()}
    ledger = store.ledger
    fresh = ledger is None or ledger.source != identity
    known = {} if ledger is None or fresh else ledger.files
    other_rules = ledger is not None and ledger.values != VALUES
    changed = {name for name, digest in digests.items() if name in known and (other_rules or known[name].sha256 != digest)}
    changed |= {name for name in digests if name in known and "items" in known[name].kinds and known[name].encoder != encoder}
    table = reader.table if isinstance(reader, TabularReader) else None
    if table is not None:
        changed |= {name for name, entry in known.items() if "events" in entry.kinds and name not in names}
    # A row that a changed file's row kept out may have to come back: rows in quarantine, and rows of an older catalogue.
    behind = files_behind(_stored_quarantine(store), changed)
    kinds = {kind for name in changed for kind in known[name].kinds if kind != "events"}
    behind |= {name for name in known if kinds.intersection(known[name].kinds)}
    behind |= {name for name, entry in known.items() if entry.future is not None and entry.future <= latest}  # what was to come has come
    reread = changed | (behind & digests.keys())
    read = [path for name, path in names.items() if name not in known or name in reread]
    kept = {name: entry for name, entry in known.items() if name not in reread}
    return _Plan(contract, identity, digests, read, reread, kept, fresh, encoder, table)


@dataclass
class _FileFacts:
    """What one input file turned out to hold."""

    sha256: str
    encoder: str | None = None
    kinds: set[Kind] = field(default_factory=set)
    text_ids: set[str] = field(default_factory=set)  # id columns with a value that is no canonical integer
    rows: int = 0
    good: int = 0
    first_fault: Rejected | None = None
    future: int | None = None  # earliest of its times that lay in the future, microseconds

    def take(self, kind: Kind, rows: pa.Table, rejected: list[Rejected]) -> None:
        self.kinds.add(kind)
        self.rows += rows.num_rows + len(rejected)
        self.good += rows.num_rows
        self.first_fault = self.first_fault or next(iter(rejected), None)
        if rows.num_rows:
            self.text_ids.update(name for name in ID_COLUMNS[kind] if pa.types.is_string(rows.schema.field(name).type))

    def entry(self) -> InputFile:
        """Of the ledger."""
        entry = InputFile(sha256=self.sha256, kinds=sorted(self.kinds), rows=self.rows, text_ids=sorted(self.text_ids))
        rarer = {"future": self.future, "encoder": self.encoder if "items" in self.kinds else None}
        return entry.model_copy(update={name: value for name, value in rarer.items() if value is not None})


class _Run:
    """One ingestion inside its transaction."""

    def __init__(self, plan: _Plan, store: Store, transaction: Transaction, *, limit: float, failed: Path, report: Report) -> None:
        self._plan, self._store, self._transaction = plan, store, transaction
        self._limit, self._failed, self._report = limit, failed, report
        self._staging = Staging(transaction.staging / "rows")
        self._rejects = Rejects(transaction.staging / "rejected")
        self._entries: dict[str, InputFile] = {}  # the next ledger
        self._rows_read = 0
        self._engine = sort_engine(transaction.staging / "engine")

    def close(self) -> None:
        """Let go of the engine's scratch files."""
        self._engine.close()

    def stage(self, batches: Iterable[RawBatch], check: ContractCheck) -> None:
        """Read, type and stage the rows; refuse when too many are rejected, or a file holds no good one."""
        plan = self._plan
        self._report(f"reading {len(plan.read)} of {len(plan.digests)} input files" if plan.digests else "making the log")
        told = time.monotonic()
        files: dict[str, _FileFacts] = {}
        for batch in batches:
            rows, rejected = check.split(batch)
            if batch.file not in files:
                files[batch.file] = _FileFacts(plan.digests.get(batch.file, plan.identity), plan.encoder)
            files[batch.file].take(batch.kind, rows, rejected)
            self._rows_read += rows.num_rows + len(rejected)
            self._rejects.add(batch.file, rejected)
            self._staging.add(batch.kind, rows)
            if time.monotonic() - told > _SILENCE:
                told = time.monotonic()
                self._report(f"read {len(files)} files, {self._rows_read:,} rows")
        for name, file in files.items():
            file.future = check.future.get(name)
        self._entries = {**plan.kept, **{name: file.entry() for name, file in files.items()}}
        self._require_rows()
        for name, file in sorted(files.items()):
            if file.first_fault is not None and file.good == 0:
                self._refuse(
                    f"{name}: none of its {file.rows:,} rows can be used ({file.first_fault.reason} at {name}:{file.first_fault.line})"
                )
        self._check_limit()

    def _require_rows(self) -> None:
        """A file may be a quiet hour; a log, a catalogue or a list of users without any row is a mistake."""
        entries = self._entries
        if not any("events" in entry.kinds for entry in entries.values()):
            raise DataFolderError("the input holds no events; check `source` and the data folder")
        for kind in sorted({kind for entry in entries.values() for kind in entry.kinds}):
            files = sorted(name for name, entry in entries.items() if kind in entry.kinds)
            if not any(entries[name].rows for name in files):
                raise DataFolderError(f"{files[0]}: holds a header and no rows, and no other file holds {kind}; fill it")

    def _check_limit(self) -> None:
        if self._rejects.rows > self._limit * self._rows_read:
            share = self._rejects.rows / self._rows_read
            self._refuse(
                f"{self._rejects.rows:,} of {self._rows_read:,} rows ({share:.2%}) break the contract and "
                f"source.bad_rows_limit allows {self._limit:.2%}"
            )

    def _refuse(self, what: str) -> None:
        write_failed(self._engine, self._rejects, self._failed)
        raise DataError(f"{what}; commonest: {self._rejects.commonest()}; the rejected rows are in {self._failed}")

    def merge(self) -> IngestSummary:
        """Write the next state of every affected part, the quarantine, the contract and the ledger."""
        plan, store, transaction = self._plan, self._store, self._transaction
        text_ids = {name for entry in self._entries.values() for name in entry.text_ids}
        ids = {name: pa.string() if name in text_ids else pa.int64() for name in _IDS}
        contract = StoredLogContract(**plan.contract.to_json(), **{name: str(kind) for name, kind in ids.items()})
        retyped = not plan.fresh and store.log_contract.id_types != contract.id_types
        staged = self._staging.parts()
        stored = _stored_parts(store)
        affected = {part for part, folder in stored.items() if retyped or self._holds_reread(folder)} if not plan.fresh else set()
        written: list[str] = []
        removed = [] if not plan.fresh else [part for part in stored if part not in staged]
        digests = {name: entry.sha256 for name, entry in self._entries.items()}
        for part in sorted({*staged, *affected}):
            kind, date = part
            before = None if plan.fresh else stored.get(part)
            folder = transaction.new(_folder(part))
            file = before / f"{kind}.parquet" if before else None
            if file is not None:  # else a damaged row would get a manifest that vouches for it
                store.verify_files([file])
            wanted = schema(kind, plan.contract, ids)
            duplicates = self._on_duplicates(kind)
            manifest = merge_part(
                self._engine,
                kind,
                wanted,
                staged=staged.get(part, []),
                stored=file,
                reread=plan.reread,
                digests=digests,
                folder=folder,
                on_duplicates=duplicates,
            )
            if manifest is None or _same_manifest(stored.get(part), folder):
                transaction.discard(_folder(part))
            if manifest is None:
                removed.append(part)
            elif kind == "events" and folder.exists():
                written.append(date)
        self._check_limit()
        transaction.remove(_folder(part) for part in removed if part in stored)
        dates = {date for kind, date in {*stored, *staged} - set(removed) if kind == "events"}
        self._replace_quarantine()
        transaction.write(CONTRACT, contract)
        version = {} if plan.table is None else {"version": plan.table.version}
        transaction.write(LEDGER, Ledger(source=plan.identity, files=self._entries, values=VALUES, **version))
        return IngestSummary(
            files=len(self._entries) - len(plan.kept),
            rows_read=self._rows_read,
            rows_stored=self._rows_read - self._rejects.rows,
            rows_quarantined=self._rejects.rows,
            reasons=dict(sorted(self._rejects.reasons.items())),
            partitions_written=sorted({*written, *(date for kind, date in removed if kind == "events")}),
            partitions_unchanged=len(dates - set(written)),
        )

    def _holds_reread(self, folder: Path) -> bool:
        return not self._plan.reread.isdisjoint(read_sealed(folder / MANIFEST, TableManifest).inputs)

    def _on_duplicates(self, kind: Kind) -> Callable[[pa.Table, list[str]], None]:
        def quarantine(rows: pa.Table, stored: list[str]) -> None:
            key = key_of(kind, rows.schema)
            shown = rows.select(key).to_pylist()
            found = zip(rows["source"].to_pylist(), rows["line"].to_pylist(), shown, stored, strict=True)
            for file, line, row, other in found:
                if kind == "events":
                    self._rejects.add(file, [Rejected(line, "duplicate row", row_text(row))], duplicate_of=other)
                elif file == other:  # the same item in a later file is a newer catalogue, not an error
                    self._rejects.add(file, [Rejected(line, f"duplicate {' and '.join(key)}", row_text(row))], duplicate_of=other)

        return quarantine

    def _replace_quarantine(self) -> None:
        before = _stored_quarantine(self._store)
        stored = before if not self._plan.fresh else None
        folder = self._transaction.new("quarantine")
        if write_quarantine(self._engine, self._rejects, folder, stored, self._plan.reread) == 0:
            self._transaction.discard("quarantine")
            self._transaction.remove(["quarantine"] if before is not None else [])


def _folder(part: Part) -> str:
    kind, date = part
    return f"events/date={date}" if kind == "events" else kind


def _stored_parts(store: Store) -> dict[Part, Path]:
    parts: dict[Part, Path] = {("events", date): store.root / "events" / f"date={date}" for date in store.dates()}
    for kind, file in (("items", store.items_file()), ("users", store.users_file())):
        if file is not None:
            parts[kind, ""] = file.parent  # type: ignore[index]
    return parts


def _with_title_vectors(batches: Iterable[RawBatch], titles: TitleVectors | None) -> Iterator[RawBatch]:
    """Batches of which those of items hold vectors of their titles, where something makes them."""
    for batch in batches:
        if titles is not None and batch.kind == "items" and "title" in batch.table.column_names:
            vectors = titles.of(to_text(as_array(batch.table["title"]))[0])
            batch = batch._replace(table=batch.table.append_column(TITLE_VECTOR, vectors))
        yield batch


def _stored_widths(plan: _Plan, store: Store) -> dict[str, int]:
    """Of the columns of vectors that stay; where all files of a table are read again, vectors of another width may take their place."""
    kept = {kind for entry in plan.kept.values() for kind in entry.kinds} if not plan.fresh else set()
    widths: dict[str, int] = {}
    for kind, file in (("items", store.items_file()), ("users", store.users_file())) if kept else ():
        if file is not None and kind in kept:
            widths |= stored_widths(file, plan.contract.vectors(kind))
    return widths


def _stored_quarantine(store: Store) -> Path | None:
    folder = store.root / "quarantine"
    if not (folder / MANIFEST).is_file():
        return None
    store.verify_files([folder / FILE])
    return folder / FILE


def _same_manifest(stored: Path | None, folder: Path) -> bool:
    return stored is not None and (stored / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
