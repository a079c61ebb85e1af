"""Scored rows in parts: small files, complete by themselves, so that a killed scoring goes on and a long one needs little memory."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.export.scoring_statistics import ScoringCounts
from feature_store.features.listwise_context import request_codes
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of, sync
from feature_store.tables.folders import regular_file
from feature_store.tables.json_files import digest_of, load_json, write_json
from feature_store.tables.json_models import JsonModel
from feature_store.tables.parquet_columns import add_columns
from feature_store.tables.parquet_concat import concatenate
from feature_store.tables.seal import sealed, unsealed
from pipelines.registry.loaded_model import LoadedModel, completed
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.stopwatch import Stopwatch

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota or a limit that takes no more
_LAYOUT = 2  # raised when parts begin to be written in another way

Finished = tuple[int, ScoringCounts]  # number of a part, and what was counted of it


class ScoringStopped(Exception):
    """Scoring cannot go on, through no fault of the rows. The message is one line: why, what is kept, what to do."""


@dataclass(frozen=True)
class Part:
    """Rows to be scored together.

    Attributes
    ----------
    number : int
        From 0, in the order of the rows.
    first : int
        Place of its first row among all rows.
    rows : pa.Table (rows, columns)
        What is kept.
    features : pa.Table (rows, further columns) or None
        What the model reads besides.
    answers_alone : bool
        The file of the part holds what the model says of the rows, and not the rows, which lie in a file already.
    """

    number: int
    first: int
    rows: pa.Table
    features: pa.Table | None = None
    answers_alone: bool = False

    @property
    def complete(self) -> pa.Table:
        """All that the model reads."""
        return self.rows if self.features is None else completed(self.rows, self.features)


class PartFacts(JsonModel):
    """What is kept of a finished part, beside its file."""

    sha256: str
    counts: ScoringCounts


def write_part(model: LoadedModel, version: str, part: Part, folder: Path, stopwatch: Stopwatch) -> ScoringCounts:
    """Score a part into a file of its own, which appears complete or not at all; what was counted of it is written last."""
    tells_parts = model.time_by(stopwatch)
    answers, counts = model.answers_to(part.complete, version)
    stopwatch.lap("counting" if tells_parts else "scoring", answers)
    scored = answers if part.answers_alone else completed(part.rows, answers)
    path = folder / _name(part.number)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(scored, temporary, use_dictionary=_repeating(scored.schema))
        sync(temporary)
        digest = sha256_of(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(path.with_suffix(".json"), sealed(PartFacts(sha256=digest, counts=counts).to_json()))
    stopwatch.lap("writing", scored)
    return counts


def _repeating(schema: pa.Schema) -> list[str]:
    """Paths of the columns whose values are worth a dictionary: fractions and times differ so often that theirs is begun in vain."""
    described = pa.BufferOutputStream()
    pq.ParquetWriter(described, schema).close()
    leaves = pq.ParquetFile(described.getvalue()).schema
    ids = (leaf for leaf in map(leaves.column, range(len(leaves))) if leaf.physical_type not in ("FLOAT", "DOUBLE"))
    return [leaf.path for leaf in ids if leaf.logical_type.type != "TIMESTAMP"]


def _name(number: int) -> str:
    return f"part-{number:09d}.parquet"


class PartsFolder:
    """The finished parts of one scoring.

    Parameters
    ----------
    place : Path
        Folder for the parts of whatever scoring leads to one output. Those of another scoring than this are removed.
    made_from : mapping
        Everything that decides what the parts hold: where it is the same, finished parts are taken over.
    """

    def __init__(self, place: Path, made_from: Mapping[str, Any]) -> None:
        self.place = place
        self.path = place / digest_of({"layout": _LAYOUT, "pyarrow": pa.__version__, **made_from})[:16]
        if self.path.is_symlink():  # parts that lie elsewhere are not ours
            self.path.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        for other in place.iterdir():
            if other.is_dir() and other != self.path:
                shutil.rmtree(other)
        self.finished = dict(self._whole_parts())
        self.resumed = sum(counts.rows for counts in self.finished.values())

    def _whole_parts(self) -> Iterator[tuple[int, ScoringCounts]]:
        for file in self.path.glob("part-*.json"):
            part = file.with_suffix(".parquet")
            try:
                facts = PartFacts.from_json(unsealed(load_json(file)))
                if sha256_of(regular_file(self.path, part.name)) == facts.sha256:
                    yield int(file.stem.removeprefix("part-")), facts.counts
            except (AttributeError, FileNotFoundError, ValueError):
                continue  # half of it is there: it is scored again

    def counts(self) -> ScoringCounts:
        """Of all parts together; their sums do not depend on who scored which."""
        return sum((self.finished[number] for number in sorted(self.finished)), ScoringCounts())

    def join(self, target: Path) -> None:
        """Write the rows of all parts, in their order, into one file.

        Raises
        ------
        ArtifactError
            When a part lacks: they are numbered without a gap.
        ScoringStopped
            When the disk is full; nothing of the file is left.
        """
        if sorted(self.finished) != list(range(len(self.finished))):
            raise ArtifactError(f"{self.path}: parts are missing; delete it and run again")
        with self._complete_or_not(target):
            concatenate([self.path / _name(number) for number in range(len(self.finished))], target)

    def join_beside(self, source: Path, sizes: Sequence[int], target: Path) -> None:
        """As :meth:`join`, with the rows of a file, whose row groups have these ``sizes``, before the answers of the parts."""
        answers, grouped = (target.with_name(f".{target.name}.{name}") for name in ("answers", "grouped"))
        self.join(answers)
        try:
            with self._complete_or_not(target):
                regroup(answers, sizes, grouped)
                add_columns(source, grouped, target)
        finally:
            answers.unlink(missing_ok=True)
            grouped.unlink(missing_ok=True)

    @contextmanager
    def _complete_or_not(self, target: Path) -> Iterator[None]:
        """Leave nothing of a file that could not be written to its end, and say so where the disk is full."""
        try:
            yield
        except OSError as error:
            target.unlink(missing_ok=True)
            if error.errno in FULL:
                raise self.full(str(error)) from None
            raise

    def what_is_kept(self) -> str:
        """For messages: what a scoring that stopped has left, and that it goes on from there."""
        kept = f"{len(self.finished):,} finished parts stay in {self.path}" if self.finished else "no part was finished yet"
        return f"{kept}; give the same command again to go on"

    def full(self, text: str) -> ScoringStopped:
        """The disk of the parts takes no more."""
        return ScoringStopped(f"no space left on the disk of {self.place.parent} ({text}): free some; {self.what_is_kept()}")

    def remove(self) -> None:
        """The output is complete: nothing of this is needed any more."""
        shutil.rmtree(self.place, ignore_errors=True)

    def leave(self) -> None:
        """The scoring failed: what is finished stays for the next attempt, and where nothing is, nothing stays."""
        if not self.finished:
            self.remove()
        for path in self.path.glob("*"):
            if not path.name.startswith("part-"):
                path.unlink()


def regroup(source: Path, sizes: Sequence[int], target: Path) -> None:
    """Write the rows of a file in row groups of these sizes, which add up to all of them; those of one group are held at a time."""
    with pq.ParquetFile(source, pre_buffer=False) as file, pq.ParquetWriter(target, file.schema_arrow) as writer:
        batches, held = file.iter_batches(), file.schema_arrow.empty_table()
        for size in sizes:
            while held.num_rows < size:
                held = pa.concat_tables([held, pa.Table.from_batches([next(batches)])])
            writer.write_table(held.slice(0, size), row_group_size=max(size, 1))
            held = held.slice(size)


def in_parts(tables: Iterator[pa.Table], size: int, number: int = 0, whole_requests: bool = False) -> Iterator[Part]:
    """Rows of tables, however they were cut, in parts of so many rows; the last may be smaller, and there is at least one.

    Parameters
    ----------
    tables : iterator of pa.Table
        At least one, which may be empty.
    size : int
    number : int
        Of the first part.
    whole_requests : bool
        A request's rows, which stand together, come in one part, which is smaller or, for a request of more rows, larger; only with
        ``number`` 0.

    Examples
    --------
    >>> tables = [pa.table({"n": [0, 1, 2]}), pa.table({"n": [3]}), pa.table({"n": [4, 5]})]
    >>> [(part.number, part.first, part.rows["n"].to_pylist()) for part in in_parts(iter(tables), 4)]
    [(0, 0, [0, 1, 2, 3]), (1, 4, [4, 5])]
    """
    held: list[pa.Table] = []
    rows, first, begin = 0, number, number * size
    for table in tables:
        held.append(table)
        rows += table.num_rows
        while rows > size if whole_requests else rows >= size:  # one row more tells whether a request ends here
            whole = pa.concat_tables(held) if len(held) > 1 else held[0]
            held = [whole]
            here = _last_request(whole, size) if whole_requests else size
            if not here:
                break  # the request may go on in the next table
            yield Part(number, begin, whole.slice(0, here))
            number += 1
            rows -= here
            begin += here
            held = [whole.slice(here)]
    if rows or number == first:
        yield Part(number, begin, pa.concat_tables(held) if len(held) > 1 else held[0])


def _last_request(table: pa.Table, size: int) -> int:
    """Rows up to the end of the last request that ends within ``size`` rows, or else of the first; 0 where none is known to end."""
    ends = np.flatnonzero(np.diff(request_codes(table))) + 1
    within = ends[ends <= size]
    return int(within[-1] if len(within) else ends[0] if len(ends) else 0)


def stop(fault: str, text: str, name: str, first: int, folder: PartsFolder) -> NoReturn:
    """Raise what a fault of :func:`pipelines.scoring.worker.fault_of` means for the whole scoring."""
    if fault == "data":
        raise DataError(f"{name}, rows from {first + 1:,} on: {text}") from None
    if fault == "disk":
        raise folder.full(text) from None
    raise ScoringStopped(f"not enough memory ({text}); lower score.batch_rows or score.workers; {folder.what_is_kept()}") from None
