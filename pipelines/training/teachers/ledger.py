"""The ledger: what teachers said of rows, by the teacher's digest and the row's, for all students and nights of a workspace.

teachers/DIGEST/_manifest.json   whose scores they are, and what is known of that teacher
teachers/DIGEST/NUMBER.parquet   a digest of each row in two halves, and its logits; each file is whole or not there
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.tables.json_models import IsoTime, JsonFile
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.row_digests import Digests, row_digests
from pipelines.training.facts import TeacherFacts
from pipelines.workspace.retention import TEACHERS

HALVES = ("row_0", "row_1")


class LedgerManifest(JsonFile):
    """Whose scores they are.

    Attributes
    ----------
    name : str
        Of the teacher, in the configuration that asked it first.
    made : datetime
        When it was asked first.
    facts : TeacherFacts
    """

    FILE: ClassVar[str] = "_manifest.json"

    name: str
    made: IsoTime
    facts: TeacherFacts


class Ledger:
    """What one teacher said.

    Parameters
    ----------
    workspace : Path
    digest : str
        Of the teacher.
    report : callable
        Takes one line, where a file is damaged.
    """

    def __init__(self, workspace: Path, digest: str, report: Callable[[str], None] = lambda text: None) -> None:
        self.folder, self._report = workspace / TEACHERS / digest, report

    @property
    def manifest(self) -> LedgerManifest | None:
        """Of the teacher; None where nothing of it is kept."""
        file = self.folder / LedgerManifest.FILE
        try:
            return LedgerManifest.read(self.folder) if file.is_file() else None
        except ValueError:  # no JSON, or of another release
            self._report(f"warning: {file} is damaged and is removed; its rows are labelled again")
            file.unlink(missing_ok=True)
            return None

    def look_up(self, read: pa.Table) -> NDArray | None:
        """Logits (rows, outputs) of rows, NaN where the teacher never saw the like; None where it saw nothing.

        Parameters
        ----------
        read : Table
            What of the rows the teacher reads.
        """
        if self.manifest is None:
            return None
        asked = row_digests(read)
        found: NDArray | None = None
        for file in list(self._ring):
            known = self._read(file)
            if known is None:
                self._ring.remove(file)
                continue
            rows, logits = known
            order = np.argsort(rows[:, 0])
            place = order[np.searchsorted(rows[order, 0], asked[:, 0]).clip(max=len(rows) - 1)]
            found = np.full((len(asked), logits.shape[1]), np.nan, logits.dtype) if found is None else found
            new = (rows[place] == asked).all(axis=1) & np.isnan(found).any(axis=1)
            found[new] = logits[place[new]]
            if not np.isnan(found).any():
                break  # rows are asked about in one order every night: the next ones lie in this file, or behind it
            self._ring.rotate(-1)
        if found is not None:
            os.utime(self.folder)  # what is read is not old, see `pipelines.workspace.retention`
        return found

    def add(self, read: pa.Table, logits: NDArray, manifest: LedgerManifest) -> None:
        """Keep logits (rows, outputs) of rows that the teacher was asked about.

        The scores are kept before the manifest: without one they are an orphan that is never read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        digests = row_digests(read)
        columns = {name: pa.array(digests[:, place]) for place, name in enumerate(HALVES)}
        columns |= {f"logit_{place}": pa.array(logits[:, place].astype(np.float32)) for place in range(logits.shape[1])}
        number = 1 + max((int(file.stem) for file in self.folder.glob("*.parquet") if file.stem.isdecimal()), default=-1)
        target = self.folder / f"{number}.parquet"
        partial = self.folder / f".{number}.partial"
        try:
            pq.write_table(pa.table(columns), partial, compression="zstd")
            Path(partial).replace(target)
        finally:
            partial.unlink(missing_ok=True)
        if self.manifest is None:
            manifest.write(self.folder)

    @cached_property
    def _ring(self) -> deque[Path]:
        """The files that were there at the first look, in their order, in a ring that is turned as they are read: the next one is first."""
        files = (file for file in self.folder.glob("*.parquet") if file.stem.isdecimal())
        return deque(sorted(files, key=lambda file: int(file.stem)))

    def _read(self, file: Path) -> tuple[Digests, NDArray] | None:
        """Digests and logits of a file; None where it has none, or is damaged, and so removed. All files may be more than memory holds."""
        try:
            table = read_parquet(file)
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            self._report(f"warning: {file} is damaged ({reason}) and is removed; its rows are labelled again")
            file.unlink(missing_ok=True)
            return None
        if not table.num_rows:
            return None
        names = [name for name in table.column_names if name.startswith("logit_")]
        digests, logits = (np.stack([table[name].to_numpy() for name in own], axis=1) for own in (HALVES, names))
        return digests, logits
