"""Vectors as facts as of a time: files of what each block of time changed, and of all vectors now and then.

    FOLDER/facts.json            settings, and one entry per file in order of time
    FOLDER/2017-10-10T14-30-00Z-changed-3f9a….parquet    what was learned until 14:30, since the entry before
    FOLDER/2017-10-10T00-00-00Z-all-8c01….parquet        all vectors as of midnight

A row of a file is a key (an item, or a value of an attribute), its two vectors in half precision, and what learning goes on from. The
parameters of the encoder are in the file's metadata. Files are written before the list that names them, and never changed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ctr_kd.embeddings.vectors import VectorRows
from feature_store.features.time_split import utc
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of, sync
from feature_store.tables.json_files import load_json
from feature_store.tables.json_models import JsonFile, JsonModel
from feature_store.tables.parquet_files import read_parquet

PARAMETERS = b"encoder"  # key of a file's metadata
NEWEST = "newest/newest.json"  # in a folder: which file beside it holds the newest vectors, for a model that was loaded alone


class Entry(JsonModel):
    """One file of facts.

    Attributes
    ----------
    until : int
        What became known before this time (microseconds UTC) was learned.
    kind : "all" or "changed"
        All vectors, or those that changed since the entry before.
    clicks : int
        How many clicks were learned until then, from the beginning of the log.
    clicks_digest : str
        Of these clicks; see :class:`feature_store.features.click_sequences.PrefixDigest`.
    file, sha256 : str
    """

    until: int
    kind: Literal["all", "changed"]
    clicks: int
    clicks_digest: str
    file: str = Field(pattern=r"^[0-9TZ-]+-(all|changed)-[0-9a-f]{12}\.parquet$")
    sha256: str


class FactsList(JsonFile):
    """What a folder of facts holds.

    Attributes
    ----------
    settings : str
        Digest of what they were learned by.
    block : int
        Length of a block, microseconds.
    until : int
        All that became known before (microseconds UTC) was learned.
    changes_from : int
        From this time on (microseconds UTC) the newest entry is of the newest block with clicks; before, it may be older.
    entries : list of Entry
        In order of time.
    """

    FILE: ClassVar[str] = "facts.json"

    settings: str
    block: int
    until: int
    changes_from: int
    entries: list[Entry]


class Facts(NamedTuple):
    """The content of one file.

    Attributes
    ----------
    rows : VectorRows
    parameters : float32 array (parameters,)
        Of the encoder and of its optimizer.
    """

    rows: VectorRows
    parameters: np.ndarray


def time_name(moment: int) -> str:
    """A time (microseconds UTC) as file names have it.

    Examples
    --------
    >>> time_name(1_507_645_800_000_000)
    '2017-10-10T14-30-00Z'
    """
    return utc(moment).strftime("%Y-%m-%dT%H-%M-%SZ")


@dataclass(frozen=True)
class FactsFolder:
    """A folder of facts that were all learned by the same settings.

    Attributes
    ----------
    path : Path
    settings : str
        Digest of the settings.
    """

    path: Path
    settings: str

    def read(self) -> FactsList | None:
        """What the folder holds; None where nothing was ever learned.

        Raises
        ------
        DataError
            When the list is damaged, or of other settings.
        """
        try:
            known = FactsList.from_json(load_json(self.path / FactsList.FILE))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._damaged(FactsList.FILE, str(error)) from None
        if known.settings != self.settings:
            raise self._damaged(FactsList.FILE, "it is of other settings")
        return known

    def write_list(self, facts: FactsList) -> None:
        """Publish a list, whose files are there; files that it does not name are removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        facts.write(self.path)
        named = {entry.file for entry in facts.entries}
        for file in self.path.iterdir():
            if file.suffix in (".parquet", ".tmp") and file.name not in named:
                file.unlink(missing_ok=True)

    def write(self, until: int, kind: Literal["all", "changed"], facts: Facts, clicks: int, clicks_digest: str) -> Entry:
        """Write one file, which nobody reads before a list names it."""
        rows = facts.rows
        table = pa.table(
            {
                "feature": pa.array([feature for feature, _ in rows.keys], pa.string()).dictionary_encode(),
                "value": pa.array([value for _, value in rows.keys], pa.string()),
                "read": _vectors(rows.read),
                "target": _vectors(rows.target),
                "read_power": rows.read_power,
                "target_power": rows.target_power,
                "clicked": rows.clicked,
            }
        )
        parameters = base64.b64encode(facts.parameters.astype("<f4").tobytes())
        table = table.replace_schema_metadata({PARAMETERS: parameters})
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{time_name(until)}-{kind}.tmp"
        pq.write_table(table, temporary, compression="zstd")
        sync(temporary)
        digest = sha256_of(temporary)
        name = f"{time_name(until)}-{kind}-{digest[:12]}.parquet"
        temporary.replace(self.path / name)
        return Entry(until=until, kind=kind, clicks=clicks, clicks_digest=clicks_digest, file=name, sha256=digest)

    def load(self, entry: Entry) -> Facts:
        """Read one file.

        Raises
        ------
        DataError
            When it is missing or damaged.
        """
        file = self.path / entry.file
        there = file.is_file() and not file.is_symlink()
        if not there or sha256_of(file) != entry.sha256:
            raise self._damaged(entry.file, "it is not what was written" if there else "missing")
        table = read_parquet(file)
        keys = list(zip(table["feature"].to_pylist(), table["value"].to_pylist(), strict=True))
        halves = (_halves(table[name]) for name in ("read", "target"))
        rows = VectorRows(keys, *halves, *(table[name].to_numpy().copy() for name in ("read_power", "target_power", "clicked")))
        parameters = np.frombuffer(base64.b64decode((table.schema.metadata or {})[PARAMETERS]), "<f4").copy()
        return Facts(rows, parameters)

    def _damaged(self, file: str, why: str) -> DataError:
        return DataError(f"{self.path / file} is damaged: {why}; delete {self.path}, and what reads it learns the vectors anew")


def since_all(entries: Sequence[Entry], until: int) -> Iterator[Entry]:
    """The entries that make up the vectors as of a time (microseconds UTC): the newest one with all of them, and what changed after it."""
    known = [entry for entry in entries if entry.until <= until]
    begin = max((n for n, entry in enumerate(known) if entry.kind == "all"), default=0)
    yield from known[begin:]


def _vectors(halves: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(halves.ravel(), pa.float16()), halves.shape[1])


def _halves(column: pa.ChunkedArray) -> np.ndarray:
    vectors = column.combine_chunks()
    return vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size).copy()
