"""The store on disk: event partitions, items, users, and the commit that replaces them all or not at all.

    events/date=YYYY-MM-DD/events.parquet   sorted by (user_id, timestamp), with _manifest.json
    items/items.parquet, users/users.parquet, quarantine/quarantine.parquet, each with _manifest.json
    texts/split=NAME/texts.parquet          labelled texts in place of all these; resources/ holds the files that tokenizers need
    _contract.json, _ledger.json            what the log offers; which input files it was made of

A commit writes everything that is new below ``_next/``, then one record ``_commit.json`` that names the replacements, then
renames them into place. A process killed before the record leaves the store as it was; one killed after it leaves the
record, and the next ingestion finishes the renames. No store is read while there is a record.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow.compute as pc

from feature_store.store.manifests import (
    CONTRACT,
    LEDGER,
    MANIFEST,
    CommitRecord,
    FolderManifest,
    Ledger,
    PartitionManifest,
    QuarantineManifest,
    StoredLogContract,
    StoredTextContract,
    TextContract,
    read_sealed,
    write_sealed,
)
from feature_store.tables.contracts import DataError, Kind, NotIngested, StorageError
from feature_store.tables.files import UnsafeFile, sha256_of
from feature_store.tables.folders import below, regular_file
from feature_store.tables.json_files import spaced_digest_of
from feature_store.tables.json_models import JsonModel
from feature_store.tables.parquet_files import read_parquet

_RECORD, _NEXT, _OLD, _STAGING = "_commit.json", "_next", "_old", "_staging"
# What a commit may put in place or take away.
_PLACE = re.compile(
    rf"events/date=\d{{4}}-\d\d-\d\d|texts/split=\w+|items|users|quarantine|resources|{re.escape(CONTRACT)}|{re.escape(LEDGER)}"
)


class Store:
    """Reads what was ingested.

    Parameters
    ----------
    root : Path
        The folder ``store`` of a workspace; it need not exist before the first ingestion.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._verified: dict[Path, tuple[str, int, int, int]] = {}

    def _whole(self) -> None:
        if (self.root / _RECORD).exists():
            raise NotIngested(f"{self.root}: an ingestion was interrupted in its last step, which the next one finishes")

    @property
    def contract(self) -> StoredLogContract | StoredTextContract:
        """What the store holds. Raises DataError if nothing was ingested."""
        self._whole()
        if not (self.root / CONTRACT).is_file():
            raise NotIngested(f"{self.root}: nothing was ingested yet")
        if "texts" in read_sealed(self.root / CONTRACT, JsonModel).to_json():
            return read_sealed(self.root / CONTRACT, StoredTextContract)
        return read_sealed(self.root / CONTRACT, StoredLogContract)

    @property
    def log_contract(self) -> StoredLogContract:
        """What the log offers, and the types of its ids. Raises DataError if nothing was ingested, or texts."""
        contract = self.contract
        if isinstance(contract, StoredTextContract):
            raise DataError("the store holds texts, which have no users, candidates or histories")
        return contract

    @property
    def text_contract(self) -> TextContract:
        """Classes of the texts. Raises DataError if nothing was ingested, or a click log."""
        contract = self.contract
        if isinstance(contract, StoredTextContract):
            return contract.texts
        raise NotIngested(f"{self.root}: holds a click log, not texts; set source.reader: text, or use another store")

    @property
    def ledger(self) -> Ledger | None:
        """Input files by name with their sha256, as of the last ingestion; None before the first."""
        self._whole()
        return read_sealed(self.root / LEDGER, Ledger) if (self.root / LEDGER).is_file() else None

    def dates(self, until: datetime | None = None) -> list[str]:
        """Dates that have a partition, oldest first, up to and with the date of ``until``."""
        self._whole()
        last = until.astimezone(UTC).date().isoformat() if until is not None else "9999"
        found = (path.parent.name.removeprefix("date=") for path in (self.root / "events").glob(f"date=*/{MANIFEST}"))
        return sorted(date for date in found if date <= last)

    def manifest(self, date: str) -> PartitionManifest:
        """Rows, times, inputs and digests of one partition."""
        return read_sealed(self.root / "events" / f"date={date}" / MANIFEST, PartitionManifest)

    def event_files(self, until: datetime | None = None, since: datetime | None = None) -> list[Path]:
        """Files of :meth:`dates` from the date of ``since`` on; rows after ``until`` on its own date are for the reader to leave out."""
        first = since.astimezone(UTC).date().isoformat() if since is not None else ""
        return [self.root / "events" / f"date={date}" / "events.parquet" for date in self.dates(until) if date >= first]

    def partition_digests(self, until: datetime | None = None) -> dict[str, str]:
        """sha256 of each of :meth:`dates`' event files, by date, as the manifests have it."""
        return {date: _listed(self.root / "events" / f"date={date}", "events.parquet") for date in self.dates(until)}

    def known_until(self, until: datetime | None = None) -> datetime | None:
        """When the last row of :meth:`dates` became known, or happened; None where there is no row."""
        manifests = [self.manifest(date) for date in self.dates(until)]
        return max((time for manifest in manifests for time in (manifest.max_timestamp, manifest.max_ingested_at)), default=None)

    def users_digest(self) -> str | None:
        """sha256 of ``users.parquet`` as its manifest has it, or None for a log without users."""
        return None if self.users_file() is None else _listed(self.root / "users", "users.parquet")

    def described_digest(self, kind: Kind, until: datetime) -> str | None:
        """Digest of the items or users that rows before a time may read: of dated ones no later row; None where there are none."""
        file = self._entity_file(kind)
        if file is None:
            return None
        if not self.log_contract.facts(kind).dated:
            return _listed(self.root / kind, file.name)
        rows = read_parquet(file, filters=[("timestamp", "<", until)]).drop_columns(["source", "line"]).combine_chunks()
        hashed = hashlib.sha256()
        for name in rows.column_names:
            hashed.update("\0".join(map(repr, rows[name].to_pylist())).encode())
        return hashed.hexdigest()

    def items_file(self) -> Path | None:
        """``items.parquet``, or None for a log without items."""
        return self._entity_file("items")

    def users_file(self) -> Path | None:
        """``users.parquet``, or None for a log without users."""
        return self._entity_file("users")

    def _entity_file(self, kind: str) -> Path | None:
        self._whole()
        return self.root / kind / f"{kind}.parquet" if (self.root / kind / MANIFEST).is_file() else None

    def title_encoder(self) -> str | None:
        """Digest of what made the vectors of the items' titles, of all of them where there are several; None where nothing did."""
        ledger = self.ledger
        found = sorted({entry.encoder for entry in ledger.files.values() if entry.encoder is not None}) if ledger is not None else []
        return None if not found else found[0] if len(found) == 1 else spaced_digest_of(found)

    def text_file(self, split: str) -> Path | None:
        """``texts.parquet`` of a split, or None where the store holds none."""
        self._whole()
        folder = self.root / "texts" / f"split={split}"
        return folder / "texts.parquet" if (folder / MANIFEST).is_file() else None

    def resource(self, name: str) -> Path:
        """A file that tokenizers need, under the name that the configuration gives it. Raises DataError if it was not ingested."""
        self._whole()
        path = self.root / "resources" / name
        if not (self.root / "resources" / MANIFEST).is_file() or not path.is_file():
            raise NotIngested(f"{path}: was not ingested; put {name} into the data folder")
        return path

    def resource_digests(self, folder: str) -> dict[str, str]:
        """sha256 of the files under one folder of the resources, by their names in it, as the manifest has them."""
        digests = self._sha256("resources")
        return {name.removeprefix(f"{folder}/"): digest for name, digest in digests.items() if name.startswith(f"{folder}/")}

    def newest_event(self, as_of: datetime | None = None) -> datetime | None:
        """Time of the newest event that had happened and was known before a time; None where there is none.

        Parameters
        ----------
        as_of : datetime, optional
            None: every event is known.
        """
        for date in reversed(self.dates(as_of)):
            manifest = self.manifest(date)
            if as_of is None or max(manifest.max_timestamp, manifest.max_ingested_at) < as_of:
                return manifest.max_timestamp
            file = self.root / "events" / f"date={date}" / "events.parquet"
            self.verify_files([file])
            known = read_parquet(file, columns=["timestamp"], filters=[("timestamp", "<", as_of), ("ingested_at", "<", as_of)])
            if known.num_rows:
                newest: datetime = pc.max(known["timestamp"]).as_py()
                return newest
        return None

    def quarantined_rows(self) -> int:
        """Rows in quarantine."""
        self._whole()
        manifest = self.root / "quarantine" / MANIFEST
        return read_sealed(manifest, QuarantineManifest).rows if manifest.is_file() else 0

    def _sha256(self, folder: str) -> dict[str, str]:
        return read_sealed(self.root / folder / MANIFEST, FolderManifest).sha256

    def _digests(self, until: datetime | None = None) -> dict[str, str]:
        """sha256 by path of every file that readers use, as the manifests have it."""
        folders = [f"events/date={date}" for date in self.dates(until)]
        folders += [kind for kind in ("items", "users") if self._entity_file(kind) is not None]
        folders += [path.parent.relative_to(self.root).as_posix() for path in self.root.glob(f"texts/split=*/{MANIFEST}")]
        folders += ["resources"] if (self.root / "resources" / MANIFEST).is_file() else []
        return {f"{folder}/{name}": digest for folder in folders for name, digest in self._sha256(folder).items()}

    def digest(self, until: datetime | None = None) -> str:
        """Digest of everything that a reader sees up to the date of ``until``: partitions, items, users, texts and contract."""
        return spaced_digest_of([self.contract.to_json(), self._digests(until)])

    def verify(self, until: datetime | None = None) -> None:
        """:meth:`verify_files` for everything that a reader sees up to the date of ``until``."""
        self.verify_files(self.root / name for name in sorted(self._digests(until)))

    def verify_files(self, files: Iterable[Path]) -> None:
        """Compare files with the manifests of their folders, at the speed of sha256; each once per store as long as it is not touched.

        To be called before a file of the store is read.

        Raises
        ------
        DataError
            Names the first file that is missing or whose bytes are not those that were written.
        """
        repair = f"restore it from a backup, or delete {self.root} and ingest the whole raw log again"
        for path in files:
            try:
                status = regular_file(self.root, path.relative_to(self.root).as_posix()).stat()
            except FileNotFoundError:
                raise DataError(f"{path}: is missing, though its manifest lists it; {repair}") from None
            except UnsafeFile as error:
                raise DataError(f"{error}; {repair}") from None
            folder = path.parent
            while folder != self.root and not (folder / MANIFEST).is_file():  # a BERT is a folder among the resources
                folder = folder.parent
            digest = _listed(folder, path.relative_to(folder).as_posix())
            state = (digest, status.st_size, status.st_mtime_ns, status.st_ino)
            if self._verified.get(path) == state:
                continue
            if sha256_of(path) != digest:
                raise DataError(f"{path}: its sha256 is not that of its manifest, the file is damaged; {repair}")
            self._verified[path] = state


def _listed(folder: Path, name: str) -> str:
    """sha256 of a file as the manifest of its folder has it."""
    digest = read_sealed(folder / MANIFEST, FolderManifest).sha256.get(name)
    if digest is None:
        raise DataError(f"{folder / MANIFEST}: is damaged (it does not list {name}); restore it, or ingest the whole raw log again")
    return digest


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into a one-line StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{root}: no space is left on the disk; the store is as it was: free space and run again") from error
        raise StorageError(f"{root}: cannot be brought up to date ({error}); the store is as it was") from error
    except duckdb.Error as error:
        if any(sign in str(error) for sign in ("No space left", "max_temp_directory_size")):
            raise StorageError(f"{root}: no space is left on the disk to sort; the store is as it was: free space and run again") from error
        raise


class Transaction:
    """Changes to a store that become visible together, by renames within its file system.

    Leaving the block without :meth:`commit` leaves the store as it was.

    Attributes
    ----------
    staging : Path
        Scratch space on the store's file system.
    """

    def __init__(self, store: Store) -> None:
        self._root = store.root
        self.staging = self._root / _STAGING
        self._removed: list[str] = []

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True)
        finish_commit(self._root)
        for name in (_STAGING, _NEXT, _OLD):
            if (self._root / name).is_symlink():  # what lies elsewhere is not ours to empty or fill
                (self._root / name).unlink()
            shutil.rmtree(self._root / name, ignore_errors=True)
        self.staging.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        if not (self._root / _RECORD).exists():  # else the commit is decided, and what it still has to rename must stay
            shutil.rmtree(self._root / _NEXT, ignore_errors=True)

    def new(self, name: str) -> Path:
        """Where to write the next state of a folder of the store, such as ``events/date=2024-01-01``."""
        path = self._root / _NEXT / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: JsonModel) -> None:
        """The next state of a JSON file of the store."""
        self.new(".")
        write_sealed(self._root / _NEXT / name, content)

    def discard(self, name: str) -> None:
        """Give up the next state of a folder: the present one is the same."""
        shutil.rmtree(self._root / _NEXT / name)

    def remove(self, names: Iterable[str]) -> None:
        """Folders of the store that the commit takes away."""
        self._removed += names

    def commit(self) -> None:
        """Decide, then rename. From the record on, the change happens even if this process dies, or the power fails."""
        staged = self._root / _NEXT
        replaced = [path.parent.relative_to(staged).as_posix() for path in staged.rglob(MANIFEST)]
        replaced += [path.name for path in staged.glob("_*.json")]
        shutil.rmtree(self.staging)
        for name in [*replaced, *self._removed]:  # what needs space is made before the decision, renames need none
            (self._root / name).parent.mkdir(parents=True, exist_ok=True)
            (self._root / _OLD / name).parent.mkdir(parents=True, exist_ok=True)
        record = staged / "_record"
        write_sealed(record, CommitRecord(replace=sorted(replaced), remove=sorted(self._removed)))
        for path in staged.rglob("*"):  # what the record decides about must be on the disk before it is
            if path.is_file():
                with open(path, "rb") as stream:
                    os.fsync(stream.fileno())
        rename(record, self._root / _RECORD)
        finish_commit(self._root)


def rename(old: Path, new: Path) -> None:
    """One step of a commit."""
    old.replace(new)


def finish_commit(root: Path) -> None:
    """Do the renames that a decided commit still lacks; nothing if there is no record. Repeating it is harmless."""
    record = root / _RECORD
    if not record.exists():
        return
    steps = read_sealed(record, CommitRecord)
    for name in (*steps.replace, *steps.remove):
        _require_place(root, name)
    for name in steps.replace:
        if (root / _NEXT / name).exists():  # else this step was done before the interruption
            _put_aside(root, name)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            rename(root / _NEXT / name, root / name)
    for name in steps.remove:
        _put_aside(root, name)
    record.unlink()
    for name in (_OLD, _NEXT):
        shutil.rmtree(root / name, ignore_errors=True)


def _require_place(root: Path, name: str) -> None:
    """Raise DataError unless a record names a place of a store: its seal is no signature, and it may come from elsewhere."""
    repair = f"remove {root / _RECORD}, or delete the store and ingest the whole raw log again"
    if _PLACE.fullmatch(name) is None:
        raise DataError(f"{root / _RECORD}: {name!r} is no folder or file of a store, so nothing is moved; {repair}")
    for whole in (name, f"{_NEXT}/{name}", f"{_OLD}/{name}"):
        try:
            below(root, whole)
        except UnsafeFile as error:
            raise DataError(f"{root / _RECORD}: {error}, so nothing is moved; {repair}") from None


def _put_aside(root: Path, name: str) -> None:
    if (root / name).is_dir():  # a folder cannot be renamed over a full one; a file can
        (root / _OLD / name).parent.mkdir(parents=True, exist_ok=True)
        rename(root / name, root / _OLD / name)
