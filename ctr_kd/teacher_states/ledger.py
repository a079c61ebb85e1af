"""States as facts as of a time: a file for each time at which some were made, never changed.

    FOLDER/states.json           which there are, in order of time
    FOLDER/2017-10-10T00-00-00Z-3f9a….parquet    of users with clicks that became known since the one before: ``user_id`` and ``state``

Files are written before the list that names them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ctr_kd.teacher_states.encoder import StateEncoder
from feature_store.features.click_sequences import ClickSequences, PrefixDigest
from feature_store.features.time_split import utc
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of, sync
from feature_store.tables.json_files import load_json
from feature_store.tables.json_models import JsonFile, JsonModel
from feature_store.tables.parquet_files import read_parquet


class Made(JsonModel):
    """The states that were made at one time.

    Attributes
    ----------
    until : int
        The time (microseconds UTC): all clicks that became known before were read.
    users : int
        Of whom something new was known.
    clicks : int
        Clicks of the log that were known then.
    clicks_digest : str
        Of these; see :class:`feature_store.features.click_sequences.PrefixDigest`.
    file, sha256 : str
    """

    until: int
    users: int
    clicks: int
    clicks_digest: str
    file: str = Field(pattern=r"^[0-9TZ-]+-[0-9a-f]{12}\.parquet$")
    sha256: str


class StatesList(JsonFile):
    """Which states a folder holds.

    Attributes
    ----------
    every : int
        From one making to the next, microseconds.
    until : int
        The newest time (microseconds UTC) whose states are there. Where nothing was new since the entry before, it has none.
    entries : list of Made
        In order of time.
    """

    FILE: ClassVar[str] = "states.json"

    every: int
    until: int
    entries: list[Made]


@dataclass(frozen=True)
class StatesFolder:
    """The states that one encoder makes at one pace.

    Attributes
    ----------
    path : Path
    """

    path: Path

    def read(self) -> StatesList | None:
        """Which there are; None where none were ever made.

        Raises
        ------
        DataError
            When the list is damaged.
        """
        try:
            return StatesList.from_json(load_json(self.path / StatesList.FILE))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._damaged(StatesList.FILE, str(error)) from None

    def load(self, made: Made) -> tuple[pa.Array, np.ndarray]:
        """Users (text) and their states, float16 (users, width), of one time.

        Raises
        ------
        DataError
            When the file is missing or damaged.
        """
        file = self.path / made.file
        there = file.is_file() and not file.is_symlink()
        if not there or sha256_of(file) != made.sha256:
            raise self._damaged(made.file, "it is not what was written" if there else "missing")
        table = read_parquet(file)
        states = table["state"].combine_chunks()
        return table["user_id"].combine_chunks(), states.flatten().to_numpy().reshape(len(states), states.type.list_size)

    def write(self, until: int, users: pa.Array, states: np.ndarray, clicks: int, clicks_digest: str) -> Made:
        """Write the states of one time, which nobody reads before a list names them."""
        self.path.mkdir(parents=True, exist_ok=True)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel(), pa.float16()), states.shape[1])
        time = utc(until).strftime("%Y-%m-%dT%H-%M-%SZ")
        temporary = self.path / f".{time}.tmp"
        pq.write_table(pa.table({"user_id": users, "state": lists}), temporary, compression="zstd")
        sync(temporary)
        digest = sha256_of(temporary)
        name = f"{time}-{digest[:12]}.parquet"
        temporary.replace(self.path / name)
        return Made(until=until, users=len(users), clicks=clicks, clicks_digest=clicks_digest, file=name, sha256=digest)

    def write_list(self, states: StatesList) -> None:
        """Publish a list, whose files are there; files that it does not name are removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        states.write(self.path)
        named = {made.file for made in states.entries}
        for file in self.path.iterdir():
            if file.suffix in (".parquet", ".tmp") and file.name not in named:
                file.unlink(missing_ok=True)

    def _damaged(self, file: str, why: str) -> DataError:
        return DataError(f"{self.path / file} is damaged: {why}; delete {self.path}, and what reads it makes the states anew")


def make_states(
    folder: StatesFolder,
    encoder: StateEncoder,
    clicks: ClickSequences,
    *,
    every: int,
    since: int,
    now: int,
    advance: Callable[[int], object] = lambda users: None,
) -> tuple[StatesList, int]:
    """Make the states of all times that were not made yet; each is of the clicks that were known strictly before its time.

    What was made stays, unless the clicks of before its time are others now: then it is made anew, and all that is later.

    Parameters
    ----------
    folder : StatesFolder
    encoder : StateEncoder
    clicks : ClickSequences
    every : int
        From one time to the next, microseconds; times are multiples of it.
    since : int
        The first time is this (microseconds UTC) or the next that is a multiple: the encoder learned nothing later.
    now : int
        The last one is this or before.
    advance : callable
        Takes the users of each time.

    Returns
    -------
    states : StatesList
    made : int
        States that were made now.
    """
    first, last = -(-since // every) * every, now // every * every
    order = np.argsort(clicks.known_at, kind="stable")
    times = clicks.known_at[order]
    known, entries, made = folder.read(), [], 0
    if known is not None:
        entries = _standing(known.entries, PrefixDigest(clicks, order), times, last)
    intact = known is not None and len(entries) == len(known.entries)
    if known is not None and known.until <= last:  # clicks may have become known late, of times that had none
        intact &= int(np.searchsorted(times, known.until)) == (entries[-1].clicks if entries else 0)
    begin = known.until + every if known is not None and intact else entries[-1].until + every if entries else first
    until = known.until if known is not None and intact else begin - every
    digest = PrefixDigest(clicks, order)
    for moment in range(begin, last + 1, every):
        count = int(np.searchsorted(times, moment))
        before = entries[-1].clicks if entries else 0
        users = np.unique(clicks.user[order[before:count]])
        if len(users):
            of_users = np.flatnonzero(np.isin(clicks.user, users) & (clicks.known_at < moment))
            user, states = encoder.states(clicks, of_users)
            entries.append(folder.write(moment, clicks.users.take(pa.array(user)), states, count, digest.of(count)))
            made += len(user)
            advance(len(user))
        until = moment
    found = StatesList(every=every, until=max(until, first - every), entries=entries)
    if known is None or found.to_json() != known.to_json():
        folder.write_list(found)
    return found, made


def _standing(entries: list[Made], digest: PrefixDigest, times: np.ndarray, last: int) -> list[Made]:
    """The entries whose clicks are what they were; those after a logical time cannot be judged, and stay."""
    for place, entry in enumerate(entries):
        if entry.until > last:
            break
        if entry.clicks != np.searchsorted(times, entry.until) or entry.clicks_digest != digest.of(entry.clicks):
            return entries[:place]
    return list(entries)
