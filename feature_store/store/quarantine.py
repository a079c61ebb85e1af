"""Rows that broke the contract: counted while they are found, kept with file, line, reason and text."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.store.manifests import MANIFEST, QuarantineManifest, write_sealed
from feature_store.store.merge import sorted_rows, write_rows
from feature_store.tables.contracts import Rejected
from feature_store.tables.files import sha256_of
from feature_store.tables.parquet_files import read_parquet

FILE = "quarantine.parquet"
REJECTED_ROWS = 50_000  # rejected rows held in memory before they go to disk

QUARANTINE = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("text", pa.string()),
        ("duplicate_of", pa.string()),  # file of the row that is stored instead: when it changes, this row's file is read again
    ]
)


class Rejects:
    """Rejected rows, counted by reason and written to scratch files.

    Attributes
    ----------
    reasons : Counter
        Rows by reason.
    """

    def __init__(self, folder: Path, limit: int = REJECTED_ROWS) -> None:
        self._folder = folder
        self._limit = limit
        self._held: list[tuple[Any, ...]] = []
        self._files: list[Path] = []
        self.reasons: Counter[str] = Counter()
        self._first: dict[str, tuple[str, int]] = {}

    def add(self, file: str, rejected: Iterable[Rejected], duplicate_of: str | None = None) -> None:
        for row in rejected:
            self._held.append((file, *row, duplicate_of))
            self.reasons[row.reason] += 1
            self._first[row.reason] = min(self._first.get(row.reason, (file, row.line)), (file, row.line))
        if len(self._held) >= self._limit:
            self.flush()

    @property
    def rows(self) -> int:
        return self.reasons.total()

    def commonest(self) -> str:
        """The reason of most rows, how many they are, and where the first one is."""
        reason, count = min(self.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        file, line = self._first[reason]
        return f"{reason} ({count:,} rows, first at {file}:{line})"

    def flush(self) -> None:
        if not self._held:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        columns = [pa.array(column, field.type) for column, field in zip(zip(*self._held, strict=True), QUARANTINE, strict=True)]
        path = self._folder / f"{len(self._files):06d}.parquet"
        pq.write_table(pa.table(columns, schema=QUARANTINE), path, compression="lz4")
        self._files.append(path)
        self._held.clear()

    def files(self) -> list[Path]:
        self.flush()
        return list(self._files)


def write_quarantine(engine: duckdb.DuckDBPyConnection, rejects: Rejects, folder: Path, stored: Path | None, reread: set[str]) -> int:
    """Write the rejected rows and those stored before, less the rows of the files that were read again; returns how many."""
    reasons: Counter[str] = Counter()

    def counted(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            for found in table["reason"].value_counts().to_pylist():
                reasons[found["values"]] += found["counts"]
            yield table

    files = rejects.files()
    rows = sorted_rows(engine, QUARANTINE, [files] if files else [], stored, without=("file", reread), order=QUARANTINE.names)
    write_rows(folder / FILE, QUARANTINE, counted(rows))
    manifest = QuarantineManifest(rows=reasons.total(), reasons=dict(reasons), sha256={FILE: sha256_of(folder / FILE)})
    write_sealed(folder / MANIFEST, manifest)
    return reasons.total()


def write_failed(engine: duckdb.DuckDBPyConnection, rejects: Rejects, failed: Path) -> None:
    """Leave the rejected rows of an ingestion that fails for them in a folder of their own, whole or not at all."""
    failed.parent.mkdir(parents=True, exist_ok=True)
    partial = failed.with_name(failed.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        write_quarantine(engine, rejects, partial, None, set())
        shutil.rmtree(failed, ignore_errors=True)
        partial.rename(failed)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def files_behind(quarantine: Path | None, changed: set[str]) -> set[str]:
    """Files with a row in quarantine that only a duplicate in a changed file keeps out of the store."""
    if not changed or quarantine is None:
        return set()
    rows = read_parquet(quarantine, columns=["file", "duplicate_of"])
    return set(rows.filter(pc.is_in(rows["duplicate_of"], pa.array(sorted(changed))))["file"].to_pylist())
